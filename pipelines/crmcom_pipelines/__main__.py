"""The program `crmcom`, which a signal ends quietly even before it has begun, and then at once."""

import atexit
import contextlib
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
        if isinstance(ended.code, int):
            with contextlib.suppress(OSError):  # nobody may read any more: Python says so itself
                _leave(ended.code)
        raise


def _leave(code: int) -> None:
    """All is unwound, told and closed. Python would take large libraries apart, for a third of a
    second after each command, and for several where it was stopped."""
    atexit._run_exitfuncs()  # noqa: SLF001 - as Python does when it ends by itself
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and not stream.closed:
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
