"""What every command has in common: how it ends."""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click

from crmcom_pipelines.cli.stopping import Stopped, stopped_code, terminable
from crmcom_pipelines.cli.watching import Watch

if TYPE_CHECKING:
    from collections.abc import Sequence

MEANINGS = {
    0: "ok",
    1: "unexpected",
    2: "usage or settings",
    3: "the API refused us",
    4: "a resource stayed unavailable; the others are loaded, nothing is lost, run again",
    5: "loaded, but something could not be proven or was rejected",
    6: "another process holds the lock or the file",
    7: "loaded, but a transform or its test failed; the last good file is kept",
}
EXIT_CODES = "\n".join(
    (
        "\b",
        "Exit codes:",
        *(f"  {code}  {meaning}" for code, meaning in MEANINGS.items()),
        "Where several apply, the first of 3, 4, 7, 5 wins.",
    )
)


class Commands(click.Group):
    """Turns whatever ends a command into a line that says what to do next, an exit code and,
    where `--json` was asked for, an object; then tells those who asked to be told."""

    def main(self, args: Sequence[str] | None = None, **extra: Any) -> Any:  # type: ignore[override]
        args = list(sys.argv[1:] if args is None else args)
        # dlt reads these as soon as it is imported: it would tell its makers of each run, and
        # people what is of no use to them.
        os.environ.setdefault("RUNTIME__DLTHUB_TELEMETRY", "false")
        os.environ.setdefault("RUNTIME__LOG_LEVEL", "CRITICAL")
        name = next((arg for arg in args if arg in self.commands), None)
        knows = {str(p.name) for p in self.commands[name].params} if name else set()
        with terminable(), Watch(args, name, knows) as watch:
            failure: dict[str, Any] | None = None
            try:
                code = super().main(args, **{**extra, "standalone_mode": False, "obj": watch}) or 0
            except BaseException as error:
                if isinstance(error, SystemExit):
                    raise
                what, code = _told(watch, error)
                failure = {
                    "run_id": None,
                    "exit_code": code,
                    "seconds": watch.seconds,
                    "resources": {},
                    "error": what,
                }
                if "--json" in args:
                    with suppress(OSError):  # stdout may be why it ended: a full disk, say
                        click.echo(json.dumps(failure))
            if failure is not None and code not in MEANINGS:
                watch.tell_stopped(failure, code)
            else:
                watch.tell_hooks(failure, code, MEANINGS.get(code, "stopped"))
        sys.exit(code)


def _told(watch: Watch, error: BaseException) -> tuple[str, int]:
    """Says why a command ended. Returns the same as text, and the exit code."""
    if isinstance(error, click.ClickException):
        what, code = error.format_message(), error.exit_code
        if watch.log_format == "json":
            watch.says(what, code)
        else:
            error.show()
    elif isinstance(error, click.Abort | KeyboardInterrupt):
        what, code = "stopped", stopped_code(error)
        done = str(error) if isinstance(error, Stopped) else "Nothing was changed."
        watch.says(f"Stopped. {done}", code)
    elif hasattr(error, "exit_code"):
        what, code = str(error), error.exit_code
        watch.says(what, code)
    else:
        what, code = f"{type(error).__name__}: {error}", 1
        watch.says(what, code, error)
    return what, code
