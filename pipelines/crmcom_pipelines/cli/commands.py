"""What every command has in common: how it ends."""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Sequence

EXIT_CODES = """\b
Exit codes:
  0  ok
  1  unexpected
  2  usage or settings
  3  the API refused us
  4  a resource stayed unavailable; the others are loaded, nothing is lost, run again
  5  loaded, but something could not be proven or was rejected
  6  another process holds the lock or the file
  7  loaded, but a transform or its test failed; the last good file is kept
Where several apply, the first of 3, 4, 7, 5 wins."""


class Commands(click.Group):
    """Turns whatever ends a command into a line that says what to do next, an exit code and,
    where `--json` was asked for, an object."""

    def main(self, args: Sequence[str] | None = None, **extra: Any) -> Any:  # type: ignore[override]
        args = sys.argv[1:] if args is None else args
        started_s = time.monotonic()
        # dlt tells its makers of each run as soon as it is imported.
        os.environ.setdefault("RUNTIME__DLTHUB_TELEMETRY", "false")
        try:
            sys.exit(super().main(args, **{**extra, "standalone_mode": False, "obj": list(args)}))
        except click.ClickException as error:
            error.show()
            what, code = error.format_message(), error.exit_code
        except click.Abort:
            what, code = "stopped", 130
            click.echo(
                "Stopped. What was committed is kept; run the same command to go on.", err=True
            )
        except Exception as error:
            if hasattr(error, "exit_code"):
                what, code = str(error), error.exit_code
            else:
                what, code = f"{type(error).__name__}: {error}", 1
                if "--debug" in args:
                    traceback.print_exc()
            click.echo(f"Error: {what}", err=True)
        if "--json" in args:
            seconds = round(time.monotonic() - started_s, 3)
            result: dict[str, Any] = {"run_id": None, "exit_code": code, "seconds": seconds}
            click.echo(json.dumps({**result, "resources": {}, "error": what}))
        sys.exit(code)
