"""The warehouse in Dagster: `dagster dev -m crmcom_pipelines.orchestration.dagster`.

Each raw table and each dbt model is an asset, in one lineage graph. One step loads, builds, tests
and publishes, as `crmcom sync` does, since readers are to see all of it or nothing; what is
selected decides which part of that is done:

    raw tables and models    `sync`: load, build, test, publish once
    raw tables alone         `sync` without the marts, of the resources whose tables they are
    models alone             `rebuild`: build and test all of them, publish

What a run came to, by the exit code that `crmcom sync` would end with:

    0        everything that was loaded and built is materialised
    5        the same, and the check `proven` of the resource warns and says why
    7        nothing is materialised or published; each failed test is a failed check
    2, 3     the step fails with the reason, and is not tried again
    4, 6     the step fails with the reason, after it was tried again
"""

# No `from __future__ import annotations`: Dagster reads the annotations of a step's parameters.

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Self

import dagster as dg
import dlt
import duckdb

from crmcom import Range, Run, settings_from_config
from crmcom.errors import CrmcomError, SettingsError
from crmcom.settings import RESOURCES
from crmcom_pipelines import load
from crmcom_pipelines.config import dbt_vars
from crmcom_pipelines.ledger import status
from crmcom_pipelines.orchestration.lineage import Lineage, Model, lineage, resource_of
from crmcom_pipelines.publish import Workspace

_WORTH_ANOTHER_TRY = (4, 6)
_TRIES = 3
Clock = Callable[[], datetime]


@dataclass(frozen=True, slots=True)
class Warehouse:
    """What Dagster has to know: `[orchestration.crmcom]` in dlt's configuration.

    `schedule`: a cron line, UTC. `first_day`: where a backfill can begin. `fresh_for_s`: how old
    the last complete run of a resource may be. `retry_wait_s`: before the first further try; each
    wait is twice the one before.
    """

    database: Path = Path("warehouse.duckdb")
    dataset: str = "crmcom"
    schedule: str = "15 5 * * *"
    first_day: date = date(2015, 1, 1)
    fresh_for_s: int = 36 * 3600
    retry_wait_s: int = 300

    @classmethod
    def from_config(cls) -> Self:
        """As dlt's providers say: `ORCHESTRATION__CRMCOM__DATABASE` and so on.

        Raises `SettingsError`, which names the setting, for a value that makes no sense.
        """
        given: dict[str, Any] = {
            f.name: dlt.config.get(f"orchestration.crmcom.{f.name}") for f in fields(cls)
        }
        kinds: dict[str, Callable[[Any], Any]] = {
            "database": Path,
            "first_day": lambda day: date.fromisoformat(str(day)),
            "fresh_for_s": _seconds,
            "retry_wait_s": _seconds,
        }
        found: dict[str, Any] = {}
        for name, value in given.items():
            if value is None:
                continue
            try:
                found[name] = kinds.get(name, str)(value)
            except (TypeError, ValueError) as error:
                raise SettingsError(f"orchestration.crmcom.{name} = {value!r}: {error}") from None
        return cls(**found)


def _seconds(value: Any) -> int:
    if (seconds := int(value)) < 0:
        raise ValueError("seconds are not negative")
    return seconds


class Sync(dg.Config):
    """What the launchpad offers for one run. `reconcile`: list everything, and find what is gone.
    `accept_deletions`: mark deletions, however many they are."""

    reconcile: bool = False
    accept_deletions: bool = False


@dg.definitions
def defs() -> dg.Definitions:
    """Read when Dagster loads the code location, from the folder in which it was started."""
    return definitions(Warehouse.from_config())


def definitions(warehouse: Warehouse, *, now: Clock = lambda: datetime.now(UTC)) -> dg.Definitions:
    """Assets, checks, jobs and schedules of one warehouse.

    Raises `SettingsError` where the dbt project cannot be parsed with the variables that are set.
    """
    workspace = Workspace(warehouse.database, warehouse.dataset)
    graph = lineage(workspace.dbt_dir, dataset=warehouse.dataset, variables=dbt_vars())
    assets = _Assets(warehouse, graph)
    tables, history = _load_and_build(assets), _history(assets)
    freshness = _freshness(assets, now)
    name = warehouse.dataset
    daily = dg.define_asset_job(
        f"{name}_daily",
        selection=dg.AssetSelection.assets(tables),
        description="Load what is new, changed and gone; build, test and publish the marts.",
    )
    check = dg.define_asset_job(
        f"{name}_freshness",
        selection=dg.AssetSelection.checks(*freshness.check_keys),
        description="Say which resource has not been loaded completely for too long.",
    )
    backfill = dg.define_asset_job(
        f"{name}_backfill",
        selection=dg.AssetSelection.assets(history),
        description="Load records that were created on the days that are chosen.",
    )
    return dg.Definitions(
        assets=[tables, history],
        asset_checks=[freshness],
        jobs=[daily, check, backfill],
        schedules=[
            dg.ScheduleDefinition(
                name=f"{name}_every_day", job=daily, cron_schedule=warehouse.schedule
            ),
            # A sync that never starts fails no step: its absence is found by the hour.
            dg.ScheduleDefinition(
                name=f"{name}_freshness_every_hour", job=check, cron_schedule="45 * * * *"
            ),
        ],
    )


@dataclass(frozen=True, slots=True)
class _Assets:
    """Names: an asset's key is the schema in which it is, and its name."""

    warehouse: Warehouse
    graph: Lineage

    def table(self, name: str) -> dg.AssetKey:
        return dg.AssetKey([self.warehouse.dataset, name])

    @staticmethod
    def model(model: Model) -> dg.AssetKey:
        return dg.AssetKey([model.schema, model.name])

    @property
    def models(self) -> dict[str, dg.AssetKey]:
        return {model.name: self.model(model) for model in self.graph.models}

    @property
    def history(self) -> dg.AssetKey:
        return self.table("history")

    def specs(self) -> Iterator[dg.AssetSpec]:
        """`skippable`: of a resource that failed, nothing is materialised."""
        for table, description in self.graph.tables.items():
            yield dg.AssetSpec(
                self.table(table),
                description=description,
                group_name=self.warehouse.dataset,
                kinds={"dlt", "duckdb"},
                skippable=True,
            )
        models = self.models
        for model in self.graph.models:
            yield dg.AssetSpec(
                self.model(model),
                deps=[
                    *map(self.table, model.reads_tables),
                    *(models[m] for m in model.reads_models),
                ],
                description=model.description,
                group_name=model.schema,
                kinds={"dbt", "duckdb"},
                metadata={"materialized": model.materialized, "relation": model.relation},
                skippable=True,
            )

    def check_specs(self) -> Iterator[dg.AssetCheckSpec]:
        for resource in RESOURCES:
            yield dg.AssetCheckSpec(
                "proven",
                asset=self.table(resource),
                description="The last run has shown that it read everything.",
            )
        models = self.models
        for test in self.graph.tests:
            yield dg.AssetCheckSpec(
                test.name, asset=models[test.model], description=test.description
            )

    @property
    def pool(self) -> str:
        """For one writer at a time, where its limit is 1; without, the second one tries again."""
        return f"{self.warehouse.dataset}_warehouse"

    @property
    def retry_policy(self) -> dg.RetryPolicy:
        return dg.RetryPolicy(
            max_retries=_TRIES - 1,
            delay=self.warehouse.retry_wait_s,
            backoff=dg.Backoff.EXPONENTIAL,
        )


# --- load, build, test, publish ---


def _load_and_build(assets: _Assets) -> dg.AssetsDefinition:
    @dg.multi_asset(
        name=f"{assets.warehouse.dataset}_load_and_build",
        specs=list(assets.specs()),
        check_specs=list(assets.check_specs()),
        can_subset=True,
        pool=assets.pool,
        retry_policy=assets.retry_policy,
    )
    def load_and_build(context: dg.AssetExecutionContext, config: Sync) -> Iterator[Any]:
        checks = context.selected_asset_check_keys
        # A check can be chosen alone; its answer comes from making its asset anew.
        wanted = context.selected_asset_keys | {check.asset_key for check in checks}
        tables = [t for t in assets.graph.tables if assets.table(t) in wanted]
        build = any(key in wanted for key in assets.models.values())
        with _told_as_failure():
            if tables:
                run = _run(_resources(tables), config)
                outcome = _sync(context, assets.warehouse, run, transform=build)
            else:
                outcome = load.rebuild(
                    database=assets.warehouse.database,
                    dataset=assets.warehouse.dataset,
                    vars=dbt_vars(),
                )
        for key, metadata in _materialised(assets, outcome):
            if key in context.selected_asset_keys:
                yield dg.MaterializeResult(key, metadata=metadata)
            else:
                context.log_event(dg.AssetMaterialization(key, metadata=metadata))
        for check, result in _checked(assets, outcome):
            if check in checks:
                yield result
        _fail_unless_done(outcome)

    return load_and_build


def _history(assets: _Assets) -> dg.AssetsDefinition:
    @dg.asset(
        key=assets.history,
        description="Days of creation that have been read again. The rows are in the raw tables.",
        group_name=assets.warehouse.dataset,
        kinds={"dlt", "duckdb"},
        partitions_def=dg.DailyPartitionsDefinition(
            start_date=datetime.combine(assets.warehouse.first_day, datetime.min.time(), UTC)
        ),
        # A load cuts a range into slices by itself, and goes on after the last one.
        backfill_policy=dg.BackfillPolicy.single_run(),
        check_specs=[
            dg.AssetCheckSpec(
                "proven",
                asset=assets.history,
                description="The last backfill has shown that it read everything.",
            )
        ],
        pool=assets.pool,
        retry_policy=assets.retry_policy,
    )
    def history(context: dg.AssetExecutionContext) -> Iterator[Any]:
        window = context.partition_time_window
        days = Range(int(window.start.timestamp()), int(window.end.timestamp()))
        with _told_as_failure():
            run = _run(RESOURCES, Sync(), backfill=days)
            outcome = _sync(context, assets.warehouse, run, transform=True)
        for key, metadata in _materialised(assets, outcome):
            context.log_event(dg.AssetMaterialization(key, metadata=metadata))
        _fail_unless_done(outcome)
        reasons = [f"{name}: {r.reason}" for name, r in outcome.resources.items() if r.reason]
        yield dg.MaterializeResult(
            metadata={
                "run_id": outcome.run_id,
                "rows": sum(r.rows for r in outcome.resources.values()),
            },
            check_results=[
                dg.AssetCheckResult(
                    passed=outcome.exit_code == 0,
                    severity=dg.AssetCheckSeverity.WARN,
                    metadata={"reason": "; ".join(reasons)},
                )
            ],
        )

    return history


def _run(resources: tuple[str, ...], config: Sync, *, backfill: Range | None = None) -> Run:
    return Run(
        settings_from_config(),
        resources=resources,
        reconcile=config.reconcile,
        accept_deletions=config.accept_deletions,
        backfill=backfill,
        slice_rows=load.SLICE_ROWS,
    )


def _resources(tables: list[str]) -> tuple[str, ...]:
    """Those that fill these tables; all of them for the ledger's alone."""
    named = {resource_of(table) for table in tables}
    return tuple(r for r in RESOURCES if r in named) or RESOURCES


def _sync(
    context: dg.AssetExecutionContext, warehouse: Warehouse, run: Run, *, transform: bool
) -> load.Outcome:
    return load.sync(
        run,
        database=warehouse.database,
        dataset=warehouse.dataset,
        transform=transform,
        vars=dbt_vars(),
        on_step=context.log.info,
    )


# --- what came of it ---


@contextmanager
def _told_as_failure() -> Iterator[None]:
    """What could not be done at all, as Dagster tells it."""
    try:
        yield
    except CrmcomError as error:
        raise _failure(error.exit_code, str(error)) from None


def _fail_unless_done(outcome: load.Outcome) -> None:
    code = outcome.exit_code
    if code in (0, 5):
        return
    said = [f"{name}: {r.reason}" for name, r in outcome.resources.items() if r.reason]
    if outcome.transformed is not None and not outcome.transformed.ok:
        said.append(outcome.transformed.summary)
    raise _failure(code, "\n".join([*said, *outcome.notes]))


def _failure(code: int, reason: str) -> dg.Failure:
    return dg.Failure(
        reason, metadata={"exit_code": code}, allow_retries=code in _WORTH_ANOTHER_TRY
    )


def _materialised(
    assets: _Assets, outcome: load.Outcome
) -> Iterator[tuple[dg.AssetKey, dict[str, Any]]]:
    """What readers now find, with its rows: nothing, where nothing was published."""
    if not outcome.published:
        return
    rows = _row_counts(assets.warehouse.database)
    loaded = {n: r for n, r in outcome.resources.items() if r.verdict != "failed"}
    for table in assets.graph.tables if loaded else ():
        resource = resource_of(table)
        if resource is None or resource in loaded:
            yield (
                assets.table(table),
                {
                    "dagster/row_count": rows.get((assets.warehouse.dataset, table), 0),
                    "run_id": outcome.run_id,
                },
            )
    for model in assets.graph.models if outcome.transformed else ():
        counted = rows.get((model.schema, model.relation))
        yield assets.model(model), {} if counted is None else {"dagster/row_count": counted}


def _row_counts(database: Path) -> dict[tuple[str, str], int]:
    """Of each table, by schema and name. Views are not asked: they work when they are read."""
    with duckdb.connect(str(database), read_only=True) as connection:
        tables = connection.sql("select schema_name, table_name from duckdb_tables()").fetchall()
        counts = {}
        for schema, name in tables:
            relation = connection.sql(f'select count(*) from "{schema}"."{name}"')  # noqa: S608 - the file's own names
            counts[schema, name] = int((relation.fetchone() or (0,))[0])
        return counts


def _checked(
    assets: _Assets, outcome: load.Outcome
) -> Iterator[tuple[dg.AssetCheckKey, dg.AssetCheckResult]]:
    """What each resource could show, and what each test of the project found."""
    for name, result in outcome.resources.items():
        # What could not be read fails the step; what could not be proven is loaded.
        yield _check(
            dg.AssetCheckKey(assets.table(name), "proven"),
            passed=result.verdict == "proven",
            is_error=result.verdict == "failed",
            metadata={
                "reason": result.reason or "",
                "scope": result.scope,
                "rows": result.rows,
                "rejected": result.rejected,
                "deleted": result.deleted,
                "requests": result.requests,
            },
        )
    models = assets.models
    tested = {test.name: models[test.model] for test in assets.graph.tests}
    for node in outcome.transformed.nodes if outcome.transformed else ():
        if node.name in tested:
            yield _check(
                dg.AssetCheckKey(tested[node.name], node.name),
                passed=node.status == "ok",
                is_error=node.status in ("fail", "error"),
                metadata={"status": node.status, "found": node.message},
            )


def _check(
    key: dg.AssetCheckKey, *, passed: bool, is_error: bool, metadata: dict[str, Any]
) -> tuple[dg.AssetCheckKey, dg.AssetCheckResult]:
    severity = dg.AssetCheckSeverity.ERROR if is_error else dg.AssetCheckSeverity.WARN
    return key, dg.AssetCheckResult(
        asset_key=key.asset_key,
        check_name=key.name,
        passed=passed,
        severity=severity,
        metadata=metadata,
    )


# --- freshness ---


def _freshness(assets: _Assets, now: Clock) -> dg.AssetChecksDefinition:
    allowed = timedelta(seconds=assets.warehouse.fresh_for_s)

    @dg.multi_asset_check(
        name=f"{assets.warehouse.dataset}_look_at_the_ledger",
        specs=[
            dg.AssetCheckSpec(
                "fresh",
                asset=assets.table(resource),
                description=f"The last complete run ended less than {allowed} ago.",
            )
            for resource in RESOURCES
        ],
        can_subset=True,
    )
    def look_at_the_ledger(context: dg.AssetCheckExecutionContext) -> Iterator[Any]:
        complete_at: dict[str, datetime] = {}
        missing = "no run of it has been complete yet: materialize it, or run `crmcom sync`"
        try:
            found = status(assets.warehouse.database, assets.warehouse.dataset)["freshness"]
        except SettingsError as error:
            missing = str(error)
        else:
            complete_at = {row["resource"]: row["complete_at"] for row in found}
        for resource in RESOURCES:
            key = dg.AssetCheckKey(assets.table(resource), "fresh")
            if key not in context.selected_asset_check_keys:
                continue
            at = complete_at.get(resource)
            age = now() - at.replace(tzinfo=UTC) if at else None
            yield dg.AssetCheckResult(
                asset_key=key.asset_key,
                check_name=key.name,
                passed=age is not None and age <= allowed,
                metadata={
                    "last_complete_run": f"{at} UTC" if at else missing,
                    "allowed_s": assets.warehouse.fresh_for_s,
                    **({"age_s": int(age.total_seconds())} if age is not None else {}),
                },
            )

    return look_at_the_ledger
