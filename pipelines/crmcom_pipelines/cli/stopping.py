"""Ctrl-C and SIGTERM: a command that may be killed at any moment ends at once, and says so.

Such a command needs no unwinding: what was committed is on the disk, and the next run clears up
what is half done, as it does after a kill. So nobody waits for a slow server, for a merge or for
threads that do not listen: another thread, which Python's own signal handler wakes even while the
main one is inside a library, says what is kept and ends the process.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import socket
import sys
import threading
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Iterator

    from crmcom_pipelines.cli.watching import Watch

EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}


class Stopped(click.Abort):
    """Stopped by its user, with something done by then. The text says what, and how to go on."""


class Terminated(KeyboardInterrupt):
    """SIGTERM, where a command ends as by Ctrl-C."""


KEPT = "What was committed is kept, and readers still have the last whole file"


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM unwinds a command as Ctrl-C does, unless whoever started us has other plans."""
    is_ours = threading.current_thread() is threading.main_thread()
    if not is_ours or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def terminate(*_: object) -> None:
        raise Terminated

    signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def stopped_code(error: BaseException) -> int:
    """The exit code of a command that a signal has ended; click wraps what it was."""
    number = signal.SIGTERM if isinstance(error.__cause__ or error, Terminated) else signal.SIGINT
    return EXIT_CODES[number]


@contextlib.contextmanager
def stoppable(ctx: click.Context) -> Iterator[None]:
    """Ctrl-C and SIGTERM end the process while the block runs: within it, all may be killed.

    A signal that whoever started us has told us to ignore stays ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the main thread's business
        return
    # A process that Python starts beside dbt would complain of what an abrupt end leaves to it.
    sys.warnoptions.append("ignore:resource_tracker:UserWarning")
    begun_s = time.monotonic()
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)  # noqa: FBT003 - the socket's own
    told = threading.Thread(target=_wait, args=(ours, ctx, begun_s), daemon=True)
    before = {s: signal.getsignal(s) for s in EXIT_CODES}
    wakened = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, _leave_it_to_the_thread)
    told.start()
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(wakened)
        theirs.close()
        told.join()
        ours.close()


def _leave_it_to_the_thread(*_: object) -> None:
    """Python wakes the thread; a handler of its own would unwind the main one meanwhile."""


def _wait(ours: socket.socket, ctx: click.Context, begun_s: float) -> None:
    while got := ours.recv(1):  # empty when the block has ended
        if got[0] in EXIT_CODES:
            _end(got[0], ctx, time.monotonic() - begun_s)


def _end(number: int, ctx: click.Context, seconds: float) -> None:
    """Past all buffers and locks: the main thread may hold them."""
    code = EXIT_CODES[signal.Signals(number)]
    again = command(ctx)
    watch: Watch = ctx.find_root().obj
    found: dict[str, object] = {
        "run_id": watch.run_id,
        "exit_code": code,
        "seconds": round(seconds, 3),
        "resources": {},
        "error": "stopped",
        "next": again,
    }
    if watch.log_format == "json":
        at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        said = {"time": at, "level": "error", "event": "error", "resource": None, **found}
        _write(2, f"{json.dumps(said)}\n")
    else:
        # A live line hides the cursor.
        shown = "" if watch.clear() or not sys.stderr.isatty() else "\r\x1b[2K\x1b[?25h"
        _write(2, f"{shown}Stopped. {KEPT}. To go on: {again}\n")
    if ctx.params.get("as_json"):
        _write(1, f"{json.dumps(found)}\n")
    watch.tell_stopped(found, code)
    os._exit(code)


def _write(descriptor: int, text: str) -> None:
    with contextlib.suppress(OSError):  # nobody listens any more
        os.write(descriptor, text.encode())


def command(ctx: click.Context) -> str:
    """The command line that was given, to be repeated."""
    watch: Watch = ctx.find_root().obj
    return shlex.join(["crmcom", *watch.args])
