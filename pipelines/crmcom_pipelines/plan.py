"""What the next sync will ask of the API and how long it will take; nothing is written."""

# ruff: noqa: PLC0415 - dlt costs a second to import, and `crmcom --help` must not pay for it

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crmcom.errors import CrmcomError
from crmcom_pipelines.around_dlt import quiet_dlt, without_extras
from crmcom_pipelines.load import exit_code_of, pipeline_on
from crmcom_pipelines.marts import connect
from crmcom_pipelines.publish import Workspace, chain
from crmcom_pipelines.refusals import refusal
from crmcom_pipelines.warehouse import duckdb_target

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from dlt import Pipeline

    from crmcom import Run
    from crmcom.listing import Window
    from crmcom.planning import Forecast, Forecasts, Step

AT_ONCE = 8
"""Requests in flight that a rate is reckoned with where no run has shown one: the client begins
with so many."""

MIN_OBSERVED_S = 10
"""The ledger counts whole seconds: less of them says little about a rate."""

RUNS = 20
"""The latest runs, whose rate is the expected one."""


@dataclass(frozen=True, slots=True)
class Rate:
    """Requests per second, and for people where that comes from."""

    per_s: float
    source: str


@dataclass(slots=True)
class Outlook:
    """What the next run will ask. `asked`: the requests that it took to know."""

    resources: dict[str, Forecast]
    rate: Rate
    asked: int
    notes: list[str] = field(default_factory=list)

    @property
    def requests(self) -> int:
        return sum(found.requests for found in self.resources.values())

    @property
    def at_least(self) -> bool:
        return any(found.at_least for found in self.resources.values())

    @property
    def seconds(self) -> float:
        return self.requests / self.rate.per_s

    @property
    def exit_code(self) -> int:
        return exit_code_of(f.error.exit_code for f in self.resources.values() if f.error)

    def as_json(self) -> dict[str, Any]:
        """The machine-readable plan; its keys are part of the interface."""
        return {
            "exit_code": self.exit_code,
            "requests": self.requests,
            "at_least": self.at_least,
            "estimated_seconds": round(self.seconds, 1),
            "requests_per_second": round(self.rate.per_s, 1),
            "rate_from": self.rate.source,
            "reconcile_due": any(f.mode == "reconcile" for f in self.resources.values()),
            "asked": self.asked,
            "resources": {
                name: {
                    "mode": found.mode,
                    "why": found.why or None,
                    "requests": found.requests,
                    "at_least": found.at_least,
                    "reconciled_at": _time(found.reconciled_at),
                    "reconcile_due_at": _time(found.reconcile_due_at),
                    "steps": [_step(step) for step in found.steps],
                    "reason": str(found.error) if found.error else None,
                }
                for name, found in self.resources.items()
            },
            "notes": self.notes,
        }


def _step(step: Step) -> dict[str, Any]:
    window: dict[str, Any] = {}
    if step.window is not None:
        start, end = window_ends(step.window)
        window = {"window_start": _time(start), "window_end": _time(end)}
    return {
        "what": step.what,
        "requests": step.requests,
        "rows": step.rows,
        "at_least": step.at_least,
        **window,
    }


def window_ends(window: Window) -> tuple[datetime | None, datetime | None]:
    """Naive UTC; None for an open end."""
    from crmcom.run import at_epoch

    start, end = (None if s is None else at_epoch(s) for s in (window.start_s, window.end_s))
    return start, end


def _time(at: datetime | None) -> str | None:
    return None if at is None else f"{at.isoformat()}Z"


def plan(
    run: Run, *, database: Path, dataset: str = "crmcom", destination: str = "duckdb"
) -> Outlook:
    """What `run` would ask if it were to start now. Needs no lock, and leaves every file alone.

    Raises a `CrmcomError` where the run could do nothing at all.
    """
    workspace = Workspace(database, dataset)
    notes: list[str] = []
    holder = workspace.holder()
    if holder is not None:
        notes.append(
            f"{holder} is at work on this warehouse: this plan is what it would be without that"
        )
    with quiet_dlt(), without_extras(destination):
        failure: CrmcomError | None = None
        try:
            with _pipeline(workspace, dataset, destination) as pipeline:
                pipeline.sync_destination()
                found = asyncio.run(_forecast(run, pipeline))
                rate = _observed(pipeline) or _assumed(run, found)
                loaded = bool(pipeline.state.get("sources"))
        except CrmcomError:
            raise
        except Exception as error:
            failure = refusal(destination, chain(error))
            if failure is None:
                raise
        if failure is not None:
            raise failure
    if not loaded and workspace.published.exists():
        notes.append(
            f"{database} has no dataset {dataset}, so the next sync would begin with nothing: "
            "name another with --dataset if that is not meant"
        )
    return Outlook(found.resources, rate, found.asked, [*notes, *found.notices])


@contextlib.contextmanager
def _pipeline(workspace: Workspace, dataset: str, destination: str) -> Iterator[Pipeline]:
    """A pipeline on what the next run goes on from; its working directory is thrown away."""
    with tempfile.TemporaryDirectory(prefix="crmcom-plan-") as folder:
        file = workspace.next_start() if destination == "duckdb" else None
        if file is not None:
            connect(file).close()  # so that what is no database is refused in plain words
        nothing = Path(folder) / workspace.published.name
        target: Any = destination
        with contextlib.ExitStack() as opened:
            if destination == "ducklake":
                target = opened.enter_context(_lake(nothing))
            elif destination == "duckdb":
                target = duckdb_target(file or nothing, read_only=file is not None)
            yield pipeline_on(target, Path(folder) / "pipelines", dataset)


@contextlib.contextmanager
def _lake(nothing: Path) -> Iterator[Any]:
    """A lake to be read; where there is none yet, `nothing`."""
    from crmcom_pipelines.lake import Lake, NoLake

    lake = Lake()
    with contextlib.ExitStack() as opened:
        try:
            connection = opened.enter_context(
                lake.connected(nothing.with_name("spill"), read_only=True)
            )
        except NoLake:
            yield duckdb_target(nothing)
        else:
            yield lake.target(connection)


async def _forecast(run: Run, pipeline: Pipeline) -> Forecasts:
    from crmcom.planning import forecast
    from crmcom.stored import Destination

    states = pipeline.state.get("sources", {}).get("crmcom", {}).get("resources", {})
    return await forecast(run, states, Destination(pipeline, run.work))


def _observed(pipeline: Pipeline) -> Rate | None:
    """The rate of the latest runs, by the server's clock; large ones count for more."""
    from dlt.destinations.exceptions import DatabaseUndefinedRelation

    with pipeline.sql_client() as client:
        table = client.make_qualified_table_name("_sync_runs")
        try:
            rows = client.execute_sql(
                f"select run_id, sum(requests), min(started_at), max(finished_at) from {table} "  # noqa: S608
                f"group by run_id order by run_id desc limit {RUNS}"
            )
        except DatabaseUndefinedRelation:
            return None
    spans = [(n, (end - start).total_seconds()) for _, n, start, end in rows or () if start and end]
    requests = sum(n for n, s in spans if s > 0)
    seconds = sum(s for _, s in spans if s > 0)
    if seconds < MIN_OBSERVED_S or not requests:
        return None
    return Rate(float(requests) / seconds, "the latest runs")


def _assumed(run: Run, found: Forecasts) -> Rate:
    """As many requests in flight as the client begins with, each as slow as the plan's own."""
    at_once = min(AT_ONCE, run.settings.max_concurrency)
    per_s = at_once / max(found.latency_s, 0.001)
    pace = run.settings.max_requests_per_second
    return Rate(min(per_s, pace) if pace else per_s, "the answers to this plan")
