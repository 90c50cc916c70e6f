"""How a command is watched: what it says meanwhile, and who is told what it came to.

The options are read before click reads the command line, so that they hold for wrong usage, too.
"""

# ruff: noqa: PLC0415 - dlt, dbt and their kin take seconds to import: `--help` must not wait

from __future__ import annotations

import logging
import os
import socket
import sys
import threading
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Self

import click

from crmcom_pipelines.cli.options import configured, options
from crmcom_pipelines.cli.stopping import EXIT_CODES
from crmcom_pipelines.logs import Context, Format, logging_to_stderr

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from crmcom import Run
    from crmcom_pipelines.load import Outcome
    from crmcom_pipelines.progress import Progress
    from crmcom_pipelines.several import Failure, Outcomes
    from crmcom_pipelines.telemetry import Telemetry

log = logging.getLogger("crmcom")

CLEAR_S, STOP_S = 0.5, 1.2
"""How long a command that was told to end waits for its display, and for those who are told."""

# What they are set to is read by `Watch`; click declares, checks and documents them.
log_options = options(
    click.option("--quiet", is_flag=True, expose_value=False, help="Show problems alone."),
    click.option(
        "--verbose", is_flag=True, expose_value=False, help="Show events, one line for each."
    ),
    click.option(
        "--log-format",
        type=click.Choice(["text", "json"]),
        default="text",
        show_default=True,
        envvar="CRMCOM_LOG_FORMAT",
        show_envvar=True,
        expose_value=False,
        help="json: one object for each line of stderr.",
    ),
)

hook_options = options(
    click.option(
        "--on-failure",
        metavar="COMMAND|URL",
        envvar="CRMCOM_ON_FAILURE",
        show_envvar=True,
        expose_value=False,
        help="Tell it when the exit code is not 0.",
    ),
    click.option(
        "--on-success",
        metavar="COMMAND|URL",
        envvar="CRMCOM_ON_SUCCESS",
        show_envvar=True,
        expose_value=False,
        help="Tell it when the exit code is 0.",
    ),
)


class Watch:
    """What a command is watched by, from its first word to its exit code.

    `command` is None where the command line names none that is known; `knows` are the names of
    its parameters.
    """

    def __init__(self, args: Sequence[str], command: str | None, knows: set[str]) -> None:
        self.args = list(args)
        self._knows = knows
        self._command = command
        self._began_s = time.monotonic()
        self._stack = ExitStack()
        self._context = Context()
        self._display: Progress | None = None
        self._telemetry: Telemetry | None = None
        self._result: dict[str, Any] | None = None
        self.run_id: str | None = None
        self.log_format: Format = "json" if self._value("--log-format") == "json" else "text"
        self.quiet = "--quiet" in args
        self.verbose = "--verbose" in args
        self.debug = "--debug" in args

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            logs = logging_to_stderr(
                self.log_format, verbose=self.verbose, quiet=self.quiet, debug=self.debug
            )
            self._context = stack.enter_context(logs)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def seconds(self) -> float:
        return round(time.monotonic() - self._began_s, 3)

    # --- while the command runs ---

    def progress(self) -> Progress:
        from crmcom_pipelines.progress import Progress

        if self.quiet and self.verbose:
            raise click.UsageError("--quiet and --verbose are opposites: leave one out")
        self._start_telemetry()
        quiet = self.quiet or sys.stderr is None  # closed by the caller
        self._display = Progress(sys.stderr, quiet=quiet, as_json=self.log_format == "json")
        return self._display

    def begins(self, run: Run) -> None:
        """From now on all that is said belongs to this run."""
        self.run_id = self._context.run_id = run.run_id
        self._context.scrub = run.settings.scrub
        if self._telemetry is not None:
            self._telemetry.follow(run)

    def ends(self, outcome: Outcome | Outcomes) -> None:
        """What the run came to, or each tenant's, for people; events have told it to programs."""
        from crmcom_pipelines.several import Outcomes

        self._result = outcome.as_json()
        if not isinstance(outcome, Outcomes):
            self._summarise(outcome)
            return
        self.run_id = self._context.run_id = None  # each tenant had its own
        for tenant, found in outcome.by_tenant.items():
            self._summarise(found, tenant)

    def _summarise(self, found: Outcome | Failure, tenant: str = "") -> None:
        from crmcom_pipelines.cli.summary import summarise
        from crmcom_pipelines.several import Failure

        if isinstance(found, Failure):
            self.says(f"tenant {tenant}: {found.error}", found.exit_code, found.cause)
        elif self.log_format == "text" and (found.exit_code or not self.quiet):
            if tenant:
                click.echo(f"tenant {tenant}", err=True)
            summarise(found)

    def says(self, error: str, code: int, cause: BaseException | None = None) -> None:
        """Why a command ended. `cause`: of what was not expected."""
        trace = None if cause is None else (type(cause), cause, cause.__traceback__)
        if self.log_format == "json":
            extra = {"event": "error", "fields": {"message": error, "exit_code": code}}
            log.error("%s", error, extra=extra, exc_info=trace)
        else:
            click.echo(error if code in EXIT_CODES.values() else f"Error: {error}", err=True)
            if trace is not None and self.debug:
                log.error("", exc_info=trace)

    def _start_telemetry(self) -> None:
        from crmcom_pipelines import telemetry

        self._telemetry = telemetry.start()
        if self._telemetry is not None:
            self._stack.callback(self._telemetry.finish)

    # --- when it has ended ---

    def clear(self) -> bool:
        """Takes the progress off the terminal; says whether that was done at once. The thread
        that draws it may be held up."""
        if self._display is None:
            return True
        clearing = threading.Thread(target=self._display.__exit__, daemon=True)
        clearing.start()
        clearing.join(CLEAR_S)
        return not clearing.is_alive()

    def tell_stopped(self, failure: Mapping[str, Any], code: int) -> None:
        """Tell who asked for it of a command whose process is about to end; `STOP_S` at most. A
        command that is told goes on by itself."""
        tellings = [lambda: self.tell_hooks(failure, code, "stopped")]
        if self._telemetry is not None:
            tellings.append(self._telemetry.finish)
        threads = [threading.Thread(target=tell, daemon=True) for tell in tellings]
        for thread in threads:
            thread.start()
        until_s = time.monotonic() + STOP_S
        for thread in threads:
            thread.join(max(0.0, until_s - time.monotonic()))

    def tell_hooks(self, failure: Mapping[str, Any] | None, code: int, meaning: str) -> None:
        """Tell who asked for it. `failure`: the result of a command that ended without a run's."""
        from crmcom_pipelines.hooks import Hook, HookFailed, summary_of

        result = failure or self._result
        option = "--on-failure" if code else "--on-success"
        target = self._value(option)
        if not target or result is None or "on_failure" not in self._knows:
            return
        usual = {"database": "warehouse.duckdb", "dataset": "crmcom", "destination": "duckdb"}
        places = usual | configured()
        about = {
            "run_id": self.run_id,
            "command": self._command,
            **{name: self._value(f"--{name}") or default for name, default in places.items()},
            "host": socket.gethostname(),
        }
        try:
            Hook(option, target).run(summary_of(dict(result), about, meaning))
        except HookFailed as failed:
            log.warning("%s", failed)
        except KeyboardInterrupt:
            log.warning("%s: stopped before it was done", option)
        except Exception as error:
            log.warning("%s: %s", option, type(error).__name__)

    def _value(self, option: str) -> str | None:
        """What an option was last given, else what the environment says."""
        name = option.removeprefix("--").replace("-", "_")
        for at in range(len(self.args) - 1, -1, -1):
            given, equals, value = self.args[at].partition("=")
            if given == option and equals:
                return value
            if given == option and at + 1 < len(self.args):
                return self.args[at + 1]
        return os.environ.get(f"CRMCOM_{name.upper()}") if name in self._knows else None
