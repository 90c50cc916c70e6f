"""Source to destination, slice by slice; then the marts, then the file that readers open."""

# ruff: noqa: PLC0415 - dlt costs a second to import, and `crmcom --help` must not pay for it

from __future__ import annotations

import contextlib
import gc
import logging
import shutil
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from crmcom.errors import CrmcomError, LoginRefused, SettingsError
from crmcom.events import tell
from crmcom_pipelines import profile
from crmcom_pipelines.around_dlt import quiet_dlt, without_extras
from crmcom_pipelines.attempt import recorded
from crmcom_pipelines.publish import NoSpace, StorageFailed, chain, is_full
from crmcom_pipelines.warehouse import STAGING, WITH_MARTS, warehouse_at

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from dlt import Pipeline

    from crmcom import Result, Run
    from crmcom_pipelines.transform import TransformResult
    from crmcom_pipelines.union import Union
    from crmcom_pipelines.warehouse import Draft

PIPELINE = "crmcom"
SLICE_ROWS = 100_000
"""Rows of one resource in one load, of contacts fewer. A load costs half a second whatever it
holds, and is merged into all that is there: a first load of 250,000 activities took 22.5 s in loads
of 20,000 and 14.2 s in these, with 436 and 424 MB at the peak."""

_HIDDEN = (
    "privacy has changed: what was loaded before follows it now, and the marts were built anew. "
    "Copies of the file, exported reports and readers that have the former file open do not"
)

TRANSFORM_FAILED = 7
STOPPED = 130
"""Ctrl-C or a request to end; what a shell says of a program that SIGINT has ended."""
_PRECEDENCE = (2, 3, 4, TRANSFORM_FAILED, 5, 6, 1)
"""Where several exit codes apply, the first of these wins."""


def exit_code_of(codes: Iterable[int]) -> int:
    """The one of several that a command ends with; 0 where none applies."""
    found = set(codes)
    return next((c for c in _PRECEDENCE if c in found), 0)


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
        codes = {r.exit_code for r in self.resources.values()}
        if self.transformed is not None and not self.transformed.ok:
            codes.add(TRANSFORM_FAILED)
        return exit_code_of(codes)

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
            else {
                "ok": self.transformed.ok,
                "summary": self.transformed.summary,
                "failed": [node.name for node in self.transformed.failed],
            },
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
    union: Union | None = None,
) -> Outcome:
    """One run: load what is new, changed and gone; build the marts; publish the file.

    Safe to repeat and to kill at any moment. Raises a `CrmcomError` where nothing could be done
    at all; what one resource came to stands in the outcome. `on_step` is told what begins.
    `union`: the tenants that this dataset is one of.
    """
    step = on_step or (lambda _: None)
    outcome = Outcome(run.run_id, run.results)
    warehouse = warehouse_at(destination, database, dataset, union)
    about = {"database": str(database), "dataset": dataset, "destination": destination}
    told = _told(outcome, **about, resources=list(run.resources))
    work = "backfill" if run.backfill else "sync"
    draft_of = warehouse.draft(f"crmcom {work} into {warehouse.name}", work=work)
    with told, draft_of as draft, recorded(draft.folder, outcome, dataset if union else ""):
        if draft.note:
            outcome.notes.append(draft.note)
        if draft.hide(run.settings):
            outcome.notes.append(_HIDDEN)
            transform = True  # the marts that were there hold what is hidden now
        step("load")
        _load(run, outcome, draft, dataset, destination)
        outcome.notes += run.notices
        tenant, facts = run.settings.base_url, run.learned.facts
        changes = profile.learn(draft.folder, dataset, tenant, facts, by=run.run_id)
        outcome.notes += map(str, changes)
        if warehouse.has_marts and _any_loaded(run):
            built = not transform or _build(outcome, draft, vars or {}, step)
            if built:
                step("publish")
                _publish(outcome, draft)
        elif not warehouse.has_marts and transform:
            outcome.notes.append(
                f"marts are built on {' and '.join(WITH_MARTS)}, not on {destination}"
            )
    return outcome


def rebuild(
    *,
    database: Path,
    dataset: str = "crmcom",
    destination: str = "duckdb",
    vars: Mapping[str, object] | None = None,  # noqa: A002 - dbt's own word
    full_refresh: bool = False,
    on_step: Callable[[str], None] | None = None,
    union: Union | None = None,
) -> Outcome:
    """Build the marts alone, from what is loaded, and publish them."""
    step = on_step or (lambda _: None)
    outcome = Outcome("", {})
    warehouse = warehouse_at(destination, database, dataset, union)
    draft_of = warehouse.draft(f"crmcom transform of {warehouse.name}", work="transform")
    about = {"database": str(database), "dataset": dataset, "destination": destination}
    with _told(outcome, **about), draft_of as draft:
        if draft.note:
            outcome.notes.append(draft.note)
        step("transform")
        outcome.transformed = draft.build(vars or {}, full_refresh=full_refresh)
        _tell_transform(outcome.run_id, outcome.transformed)
        if outcome.transformed.ok:
            step("publish")
            _publish(outcome, draft)
    return outcome


@contextlib.contextmanager
def _told(outcome: Outcome, **about: Any) -> Iterator[None]:
    """Measures a run; tells of its beginning, and of its end whichever that is."""
    began_s = time.monotonic()
    tell("run_started", run_id=outcome.run_id, **about)
    error: BaseException | None = None
    try:
        yield
    except BaseException as ended:
        error = ended
        raise
    finally:
        outcome.seconds = time.monotonic() - began_s
        for note in outcome.notes:
            tell("note", run_id=outcome.run_id, text=note)
        code = outcome.exit_code if error is None else _code_of(error)
        tell(
            "run_finished",
            level=logging.ERROR if code else logging.INFO,
            run_id=outcome.run_id,
            exit_code=code,
            seconds=round(outcome.seconds, 3),
            slices=outcome.slices,
            published=outcome.published,
            rows=sum(r.rows for r in outcome.resources.values()),
            requests=sum(r.requests for r in outcome.resources.values()),
            retries=sum(r.retries for r in outcome.resources.values()),
            reason=_reason(error, code),
        )


def _reason(error: BaseException | None, code: int) -> str | None:
    """Why a run ended early. Of what nobody expected only the kind: its text may quote a record,
    and this is sent to collectors."""
    if error is None:
        return None
    return str(error) if code not in (1, STOPPED) else type(error).__name__


def _code_of(error: BaseException) -> int:
    """What the command line ends with because of an error."""
    return STOPPED if isinstance(error, KeyboardInterrupt) else getattr(error, "exit_code", 1)


def _publish(outcome: Outcome, draft: Draft) -> None:
    began_s = time.monotonic()
    outcome.published = draft.publish()
    seconds = round(time.monotonic() - began_s, 3)
    tell("publish", run_id=outcome.run_id, published=outcome.published, seconds=seconds)


def _tell_transform(run_id: str, found: TransformResult) -> None:
    """Names what failed, and no row of it: that is for those who may read the warehouse."""
    tell(
        "transform",
        level=logging.INFO if found.ok else logging.WARNING,
        run_id=run_id,
        ok=found.ok,
        failed=[node.name for node in found.failed],
        seconds=round(found.seconds, 3),
    )


def _build(
    outcome: Outcome, draft: Draft, variables: Mapping[str, object], step: Callable[[str], None]
) -> bool:
    step("transform")
    outcome.transformed = draft.build(variables)
    _tell_transform(outcome.run_id, outcome.transformed)
    if not outcome.transformed.ok:
        outcome.notes.append("the marts were not built: the last good ones are kept")
    return outcome.transformed.ok


def _any_loaded(run: Run) -> bool:
    """Whether there is anything to publish: a run in which all that came failed is not."""
    results = run.results.values()
    return any(r.rows for r in results) or all(r.error is None for r in results)


def _load(run: Run, outcome: Outcome, draft: Draft, dataset: str, destination: str) -> None:
    error: CrmcomError | None = None
    with quiet_dlt(), without_extras(destination):
        import duckdb
        from dlt.pipeline.exceptions import PipelineStepFailed

        # What is imported stays: to look through it at each collection took a twentieth of the
        # time. Thawed again, since a scheduler's process lives on, with what this run leaves.
        gc.freeze()
        try:
            _load_slices(run, outcome, draft, dataset)
        except Exception as failed:
            known = draft.cause(chain(failed)) or any(map(is_full, chain(failed)))
            if not isinstance(failed, PipelineStepFailed | duckdb.Error) and not known:
                raise
            # dlt's exception holds our source, and so our settings: it ends here.
            error = _cause(failed, run, draft)
        finally:
            gc.unfreeze()
    if error is not None:
        raise error


def _load_slices(run: Run, outcome: Outcome, draft: Draft, dataset: str) -> None:
    import pyarrow as pa

    # Arrow's own allocator keeps what it has once taken: 90 MB more at the peak.
    pa.set_memory_pool(pa.system_memory_pool())
    pipeline: Pipeline | None = None
    run.loads_once = draft.loads_once
    with draft.target() as target:
        while True:
            with draft.turn() as others_loaded:
                if pipeline is None or others_loaded:
                    pipeline = _as_stored(target, draft, dataset)
                _load_slice(pipeline, run, outcome, draft)
                if run.caught_up:
                    break
        with draft.turn():
            draft.loaded(name for name, result in run.results.items() if result.error is None)
            if pipeline.destination.destination_name in WITH_MARTS:
                # The last load once more, which readers would find beside the dataset.
                staging = STAGING % pipeline.dataset_name
                with pipeline.sql_client() as client:
                    client.execute_sql(f'drop schema if exists "{staging}" cascade')


def _as_stored(target: Any, draft: Draft, dataset: str) -> Pipeline:
    """The destination is the only truth. dlt's working directory may hold a package of a run that
    was killed, which would be loaded instead of new data, or a state that a restored file does not
    have, or that another process has moved on from."""
    shutil.rmtree(draft.pipelines_dir, ignore_errors=True)
    pipeline = pipeline_on(target, draft.pipelines_dir, dataset)
    pipeline.sync_destination()
    return pipeline


def _load_slice(pipeline: Pipeline, run: Run, outcome: Outcome, draft: Draft) -> None:
    from crmcom import slice_of

    began_s, rows = time.monotonic(), sum(r.rows for r in run.results.values())
    pipeline.extract(slice_of(run), loader_file_format="parquet")
    _to_the_system()
    pipeline.normalize()
    with draft.loading(pipeline, run.resources):
        pipeline.load()
    _to_the_system()
    outcome.slices += 1
    run.tell(
        "slice_committed",
        slice=outcome.slices,
        rows=sum(r.rows for r in run.results.values()) - rows,
        seconds=round(time.monotonic() - began_s, 3),
    )


def _to_the_system() -> None:
    """Gives back what was freed: of what was read, and of what was loaded, 50 MB each."""
    import pyarrow as pa

    pa.default_memory_pool().release_unused()


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


def pipeline_on(target: Any, folder: Path, dataset: str) -> Pipeline:
    """The pipeline into a destination, as dlt takes it; `folder` is for dlt to work in."""
    import dlt

    with quiet_dlt():
        pipeline = dlt.pipeline(
            PIPELINE, destination=target, dataset_name=dataset, pipelines_dir=str(folder)
        )
    pipeline.config.restore_from_destination = True  # nobody may have turned it off
    return pipeline
