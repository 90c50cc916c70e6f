"""The program `crmcom`, which a signal ends quietly even before it has begun, and then at once."""

import os
import signal
import sys


def main() -> None:
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:  # there is nothing to unwind, and nothing to tell
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from crmcom_pipelines import cli  # noqa: PLC0415

    if before is signal.default_int_handler:
        signal.signal(signal.SIGINT, before)
    try:
        cli.main()
    except SystemExit as ended:
        if isinstance(ended.code, int) and ended.code in cli.STOPPED:
            # All is unwound and told. Python would take seconds to leave large libraries.
            for stream in (sys.stdout, sys.stderr):
                if stream is not None:
                    stream.flush()
            os._exit(ended.code)
        raise


if __name__ == "__main__":
    main()
