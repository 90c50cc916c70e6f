"""Source to destination, slice by slice; then the marts, then the file that readers open."""

# ruff: noqa: PLC0415 - dlt costs a second to import, and `crmcom --help` must not pay for it

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from crmcom.errors import CrmcomError, LoginRefused, SettingsError
from crmcom_pipelines.publish import NoSpace, StorageFailed, chain, is_full
from crmcom_pipelines.warehouse import STAGING, warehouse_at

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from dlt import Pipeline

    from crmcom import Result, Run
    from crmcom_pipelines.transform import TransformResult
    from crmcom_pipelines.warehouse import Draft

PIPELINE = "crmcom"
SLICE_ROWS = 20_000
"""Rows of one resource in one load, which costs about a second whatever it holds. Measured on
activities: the peak of memory is 330 MB with 20,000, and 630 MB with 50,000."""

TRANSFORM_FAILED = 7
_PRECEDENCE = (2, 3, 4, TRANSFORM_FAILED, 5, 1)
"""Where several exit codes apply, the first of these wins."""


@dataclass(slots=True)
class Outcome:
    """What a run came to. `notes`: for people, in the order they came up."""

    run_id: str
    resources: dict[str, Result]
    seconds: float = 0.0
    slices: int = 0
    published: bool = False
    transformed: TransformResult | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        codes = {r.exit_code for r in self.resources.values()} - {0}
        if self.transformed is not None and not self.transformed.ok:
            codes.add(TRANSFORM_FAILED)
        return next((c for c in _PRECEDENCE if c in codes), 0)

    def as_json(self) -> dict[str, Any]:
        """The machine-readable result; its keys are part of the interface."""
        return {
            "run_id": self.run_id,
            "exit_code": self.exit_code,
            "seconds": round(self.seconds, 3),
            "slices": self.slices,
            "published": self.published,
            "resources": {
                name: {
                    "rows": r.rows,
                    "requests": r.requests,
                    "retries": r.retries,
                    "rejected": r.rejected,
                    "deleted": r.deleted,
                    "windows": r.windows,
                    "verdict": r.verdict,
                    "scope": r.scope,
                    "new_columns": r.new_columns,
                    "reason": r.reason,
                }
                for name, r in self.resources.items()
            },
            "transform": None
            if self.transformed is None
            else {"ok": self.transformed.ok, "summary": self.transformed.summary},
            "notes": self.notes,
        }


def sync(
    run: Run,
    *,
    database: Path,
    dataset: str = "crmcom",
    destination: str = "duckdb",
    transform: bool = True,
    vars: Mapping[str, object] | None = None,  # noqa: A002 - dbt's own word
    on_step: Callable[[str], None] | None = None,
) -> Outcome:
    """One run: load what is new, changed and gone; build the marts; publish the file.

    Safe to repeat and to kill at any moment. Raises a `CrmcomError` where nothing could be done
    at all; what one resource came to stands in the outcome. `on_step` is told what begins.
    """
    step = on_step or (lambda _: None)
    started_s = time.monotonic()
    outcome = Outcome(run.run_id, run.results)
    warehouse = warehouse_at(destination, database, dataset)
    with warehouse.draft(f"crmcom sync into {warehouse.name}") as draft:
        if draft.note:
            outcome.notes.append(draft.note)
        step("load")
        _load(run, outcome, draft, dataset)
        outcome.notes += run.notices
        if warehouse.has_marts and _any_loaded(run):
            built = not transform or _build(outcome, draft, vars or {}, step)
            if built:
                step("publish")
                outcome.published = draft.publish()
        elif not warehouse.has_marts and transform:
            outcome.notes.append(f"marts are built on duckdb and postgres, not on {destination}")
    outcome.seconds = time.monotonic() - started_s
    return outcome


def rebuild(
    *,
    database: Path,
    dataset: str = "crmcom",
    destination: str = "duckdb",
    vars: Mapping[str, object] | None = None,  # noqa: A002 - dbt's own word
    full_refresh: bool = False,
) -> Outcome:
    """Build the marts alone, from what is loaded, and publish them."""
    started_s = time.monotonic()
    outcome = Outcome("", {})
    warehouse = warehouse_at(destination, database, dataset)
    with warehouse.draft(f"crmcom transform of {warehouse.name}") as draft:
        if draft.note:
            outcome.notes.append(draft.note)
        outcome.transformed = draft.build(vars or {}, full_refresh=full_refresh)
        if outcome.transformed.ok:
            outcome.published = draft.publish()
    outcome.seconds = time.monotonic() - started_s
    return outcome


def _build(
    outcome: Outcome, draft: Draft, variables: Mapping[str, object], step: Callable[[str], None]
) -> bool:
    step("transform")
    outcome.transformed = draft.build(variables)
    if not outcome.transformed.ok:
        outcome.notes.append("the marts were not built: the last good ones are kept")
    return outcome.transformed.ok


def _any_loaded(run: Run) -> bool:
    """Whether there is anything to publish: a run in which all that came failed is not."""
    results = run.results.values()
    return any(r.rows for r in results) or all(r.error is None for r in results)


def _load(run: Run, outcome: Outcome, draft: Draft, dataset: str) -> None:
    error: CrmcomError | None = None
    with quiet_dlt(), _without_pandas():
        from dlt.pipeline.exceptions import PipelineStepFailed

        try:
            _load_slices(_pipeline(draft, dataset), run, outcome, draft)
        except Exception as failed:
            known = draft.cause(chain(failed)) or any(map(is_full, chain(failed)))
            if not isinstance(failed, PipelineStepFailed) and not known:
                raise
            # dlt's exception holds our source, and so our settings: it ends here.
            error = _cause(failed, run, draft)
    if error is not None:
        raise error


def _load_slices(pipeline: Pipeline, run: Run, outcome: Outcome, draft: Draft) -> None:
    import pyarrow as pa

    from crmcom import slice_of

    # Arrow's own allocator keeps what it has once taken: 90 MB more at the peak.
    pa.set_memory_pool(pa.system_memory_pool())
    pipeline.sync_destination()
    while True:
        with draft.asking():
            pipeline.extract(slice_of(run), loader_file_format="parquet")
        pipeline.normalize()
        with draft.loading(run.resources):
            pipeline.load()
        outcome.slices += 1
        if run.caught_up:
            break
    draft.loaded(name for name, result in run.results.items() if result.error is None)
    if pipeline.destination.destination_name in ("duckdb", "postgres"):
        # The last load once more, which readers would find beside the dataset.
        with pipeline.sql_client() as client:
            client.execute_sql(f'drop schema if exists "{STAGING % pipeline.dataset_name}" cascade')


def _cause(failed: BaseException, run: Run, draft: Draft) -> CrmcomError:
    """What really ended the load, without the exception chain that leads to it."""
    for result in run.results.values():
        if isinstance(result.error, LoginRefused | SettingsError):
            return result.error
    errors = chain(failed)
    if any(isinstance(e, KeyboardInterrupt) for e in errors):
        raise KeyboardInterrupt from None
    if full := [e for e in errors if is_full(e)]:
        return NoSpace(run.settings.scrub(f"The load could not be written: {full[-1]}"))
    for error in errors:
        if isinstance(error, CrmcomError):
            return error
    if cause := draft.cause(errors):
        return cause
    text = run.settings.scrub(f"{type(errors[-1]).__name__}: {errors[-1]}")
    if isinstance(errors[-1], OSError):
        return StorageFailed(f"the load could not be written: {text}")
    return CrmcomError(f"the load failed: {text}")


def _pipeline(draft: Draft, dataset: str) -> Pipeline:
    import dlt

    # The destination is to be the only truth. dlt's working directory may hold a package of a
    # run that was killed, which would be loaded instead of new data, or a state that a restored
    # file does not have.
    shutil.rmtree(draft.pipelines_dir, ignore_errors=True)
    with quiet_dlt():
        pipeline = dlt.pipeline(
            PIPELINE,
            destination=draft.target(),
            dataset_name=dataset,
            pipelines_dir=str(draft.pipelines_dir),
        )
    pipeline.config.restore_from_destination = True  # nobody may have turned it off
    return pipeline


_ENVIRONMENT = {
    "RUNTIME__DLTHUB_TELEMETRY": "false",
    # What ends a load is raised, and told in a line; dlt would tell of each try, with its stack.
    "RUNTIME__LOG_LEVEL": "CRITICAL",
    # Arrow tables get the id of their load only when asked.
    "NORMALIZE__PARQUET_NORMALIZER__ADD_DLT_LOAD_ID": "true",
    # People's data stays in the warehouse alone, not in files beside it.
    "LOAD__DELETE_COMPLETED_JOBS": "true",
    # One table at a time: 20 at once, as dlt would, took 100 MB more at the peak, and on DuckDB
    # no less time where there is much to load.
    "LOAD__WORKERS": "1",
}


@contextlib.contextmanager
def quiet_dlt() -> Iterator[None]:
    """dlt's options that are ours to set, unless the user has set them.

    It tells of a run as soon as it is imported.
    """
    added = {k: v for k, v in _ENVIRONMENT.items() if k not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for key in added:
            os.environ.pop(key, None)


@contextlib.contextmanager
def _without_pandas() -> Iterator[None]:
    """DuckDB imports pandas to see whether a query's parameter is one of its values: half a
    second and 32 MB, in each sync. Where it cannot be found, nothing can be."""
    sys.meta_path.insert(0, _NoPandas)
    try:
        yield
    finally:
        sys.meta_path.remove(_NoPandas)


class _NoPandas:
    @staticmethod
    def find_spec(name: str, *_: object) -> None:
        if name == "pandas":
            raise ModuleNotFoundError(f"{name} is not needed to load", name=name)
