"""The program `crmcom`, which a signal ends quietly even before it has begun, and then at once."""

import atexit
import contextlib
import gc
import os
import signal
import sys

GC_THRESHOLD = 50_000
"""New objects after which Python looks for rubbish. What is imported is none: to look through it
after each 700 took a quarter of the start."""


def main() -> None:
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:  # there is nothing to unwind, and nothing to tell
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    gc.set_threshold(GC_THRESHOLD)
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
    """All is unwound and told. Python would take large libraries apart, for a third of a second
    after each command, and for several where it was stopped."""
    atexit._run_exitfuncs()  # noqa: SLF001 - what Python does first, too
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
