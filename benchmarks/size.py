"""What a day and a full rebuild cost, in a warehouse of a year: `make bench-size`.

A year of readings is written straight into the raw tables, which a load without rows has made. Then
each step runs in a process of its own: a full rebuild of the marts; the readings of one more day
through the load path of a sync, 20,000 rows at a time; the daily build with its tests; publishing.
Once with 20,000 accounts and once with 200,000. Writes docs/size.md after each step: what was not
reached is not in it.
"""

# ruff: noqa: PLC0415 - a step imports what it needs, and its memory is its own

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    import duckdb
    import pyarrow as pa
    from dlt import Pipeline

    from crmcom_pipelines.publish import Draft, Workspace

REPORT = Path(__file__).parent.parent / "docs" / "size.md"
BEGIN, END = "<!-- figures: written by `make bench-size` -->", "<!-- end of figures -->"
DATASET = "crmcom"
START = datetime(2025, 1, 1, 2)  # noqa: DTZ001 - as the warehouse holds times
STEPS = ("rebuild", "append", "daily build", "publish")
Figures = dict[str, Any]

# What one account is like, all its life: most are quiet for weeks, some are terminated, some go.
WORLD = """
    create or replace temp macro drawn(n, what, choices) as cast(hash(n, what) % choices as bigint);
    create or replace temp table world as
    select
        n,
        md5('account ' || n) as account_id,
        md5('contact ' || (n * 5 // 6)) as contact_id,
        ['EUR', 'EUR', 'EUR', 'USD', 'GBP', 'KWD', null][1 + drawn(n, 'currency', 7)]
            as currency_code,
        ['Residential', 'Business', 'Key'][1 + drawn(n, 'kind', 3)] as classification,
        'Net ' || (15 * (1 + drawn(n, 'terms', 4))) as payment_terms,
        -- Days between two changes of its amounts.
        10 + drawn(n, 'period', 50) as period,
        drawn(n, 'phase', 60) as phase,
        drawn(n, 'payer', 10) as payer,
        case when drawn(n, 'end', 40) = 0 then drawn(n, 'when', 365) end as terminated_on,
        case when drawn(n, 'end', 400) = 1 then drawn(n, 'when', 365) end as gone_on
    from range({accounts}) as numbers (n)
"""

# What a run reads of them on one day: one in 50 is not reached, one amount in 1,000 is null.
READINGS = """
    select
        account_id,
        case when not is_missing then contact_id end as contact_id,
        {at} + interval 1 millisecond * n as observed_at,
        '{run_id}' as run_id,
        case
            when is_missing then null
            when {day} >= terminated_on then 'TERMINATED'
            when payer = 0 and level % 3 = 0 then 'SUSPENDED'
            else 'ACTIVE'
        end as state,
        case when not is_missing then currency_code end as currency_code,
        case when not is_missing then classification end as classification__name,
        case when not is_missing then payment_terms end as payment_terms__name,
        case
            when is_missing or hash(n, {day}, 'null') % 1000 = 0 then null
            else cast(cents as decimal(12, 0)) * cast(0.01 as decimal(3, 2))
        end as balance,
        case
            when is_missing then null
            when cents > 0 and payer < 3
                then cast(cents // (1 + drawn(n, level, 3)) as decimal(12, 0))
                    * cast(0.01 as decimal(3, 2))
            else 0
        end as overdue_amount,
        case when not is_missing and n % 3 = 0 then 500 end as credit_limit,
        is_missing,
        {at} + interval 1 hour as _synced_at
    from (
        select
            *,
            ({day} + phase) // period as level,
            {day} >= coalesce(gone_on, 1000000) as is_missing,
            cast(hash(n, ({day} + phase) // period, 'cents') % 60000 as bigint) - 9000 as cents
        from world
    ) as today
    where
        {day} <= coalesce(gone_on, 1000000)
        and hash(n, {day}, 'gap') % 50 > 0
"""


def readings(day: int) -> str:
    at = START + timedelta(days=day)
    return READINGS.format(day=day, at=f"timestamp '{at}'", run_id=f"{at:%Y%m%dT%H%M%SZ}-size")


def insert(table: str, query: str) -> str:
    """The rows of a query, with a load's id, as a load would have left them."""
    return f"insert into {DATASET}.\"{table}\" by name select *, '0' as _dlt_load_id from ({query})"


def generate(path: Path, accounts: int, days: int) -> Figures:
    """The raw tables with all readings of so many days."""
    import duckdb

    with _at_work(path) as (workspace, draft):
        _load(_pipeline_of(workspace, draft), [{}])
        with duckdb.connect(draft.path) as db:
            db.execute(WORLD.format(accounts=accounts))
            synced = f"timestamp '{START}' as _synced_at"
            db.execute(
                insert(
                    "accounts",
                    "select account_id as id, contact_id, currency_code, 'A-' || n as number,"
                    f" {synced} from world",
                )
            )
            db.execute(
                insert(
                    "contacts",
                    "select contact_id as id, 'PERSON' as type, 'Person ' || any_value(n) as name,"
                    f" {synced} from world group by contact_id",
                )
            )
            activity = (
                "md5('activity ' || n) as {id}, contact_id as contact__id,"
                " case when n % 3 = 0 then 'PENDING' else 'COMPLETED' end as state,"
                f" 'Call' as type__name, timestamp '{START}' + interval 1 day * (n % {days + 7})"
            )
            db.execute(
                insert(
                    "activities",
                    f"select {activity.format(id='id')} as key_dates__scheduled_on__from_date,"
                    f" {synced} from world where n % 4 = 0",
                )
            )
            db.execute(
                insert(
                    "activity_versions",
                    f"select {activity.format(id='activity_id')} as scheduled_from, {synced},"
                    f" timestamp '{START}' as observed_at, 'first' as run_id, false as is_deleted"
                    " from world where n % 4 = 0",
                )
            )
            for day in range(days):
                db.execute(insert("account_observations", readings(day)))
            rows = db.execute(f"select count(*) from {DATASET}.account_observations").fetchone()
        return {"rows": rows[0] if rows else 0}


def append(path: Path, accounts: int, day: int) -> Figures:
    """The readings of one more day, and the accounts as they now are, as a sync loads them."""
    import duckdb

    with duckdb.connect() as db:
        db.execute(WORLD.format(accounts=accounts))
        observed = _arrow(
            db,
            # As a sync does; numbers that were lost would be a change of number on every day.
            f"select observed.*, 'A-' || world.n as number from ({readings(day)}) as observed"
            " inner join world on observed.account_id = world.account_id",
        )
    with _at_work(path) as (workspace, draft):
        started_s = time.monotonic()
        _load(_pipeline_of(workspace, draft), _slices(observed))
        return {"rows": len(observed), "seconds": time.monotonic() - started_s}


def build(path: Path, *, full_refresh: bool) -> Figures:
    from crmcom_pipelines.transform import transform

    with _at_work(path) as (workspace, draft):
        started_s = time.monotonic()
        result = transform(draft.path, full_refresh=full_refresh, work_dir=workspace.dbt_dir)
        if not result.ok:
            raise SystemExit(result.summary)
        slowest = sorted(result.nodes, key=lambda n: -n.seconds)[:12]
        return {
            "seconds": time.monotonic() - started_s,
            "slowest": {n.name: round(n.seconds, 1) for n in slowest},
        }


def publish(path: Path) -> Figures:
    with _at_work(path) as (_, draft):
        started_s = time.monotonic()
        draft.publish()
        return {"seconds": time.monotonic() - started_s}


# --- the load path of a sync, without its reading ---


def _at_work(path: Path) -> Any:
    from contextlib import contextmanager

    from crmcom_pipelines.publish import Workspace

    @contextmanager
    def held() -> Iterator[tuple[Workspace, Draft]]:
        workspace = Workspace(path, DATASET)
        with workspace.draft("a benchmark") as draft:
            yield workspace, draft

    return held()


def _pipeline_of(workspace: Workspace, draft: Draft) -> Pipeline:
    from crmcom_pipelines.load import pipeline_on
    from crmcom_pipelines.warehouse import duckdb_target

    pipeline = pipeline_on(duckdb_target(draft.path), workspace.pipelines_dir, DATASET)
    pipeline.sync_destination()
    return pipeline


def _load(pipeline: Pipeline, slices: Any) -> None:
    import dlt

    from crmcom.feed import from_rows
    from crmcom.resources import MERGE, _marked, _merge_safely
    from crmcom.schema import RAW_TABLES
    from crmcom.source import CONTRACT
    from crmcom_pipelines.around_dlt import quiet_dlt

    for tables in slices:

        @dlt.source(name="crmcom", section="crmcom", schema_contract=CONTRACT)
        def one_slice(tables: dict[str, pa.Table] = tables) -> Any:
            def read() -> Iterator[Any]:
                _merge_safely()
                for name in RAW_TABLES:
                    if not tables:
                        yield _marked(name, from_rows(name, []))
                for name, rows in tables.items():
                    yield _marked(name, rows)

            return dlt.resource(read, name="accounts", primary_key="id", write_disposition=MERGE)

        with quiet_dlt():
            pipeline.extract(one_slice(), loader_file_format="parquet")
            pipeline.normalize()
            pipeline.load()


def _slices(observed: pa.Table) -> Iterator[dict[str, pa.Table]]:
    from crmcom_pipelines.load import SLICE_ROWS

    same = {
        "account_id": "id",
        **{
            c: c
            for c in ("number", "contact_id", "state", "currency_code", "balance", "_synced_at")
        },
    }
    accounts = observed.select(list(same)).rename_columns(list(same.values()))
    observed = observed.drop_columns("number")
    for at in range(0, len(observed), SLICE_ROWS):
        yield {
            "accounts": accounts.slice(at, SLICE_ROWS),
            "account_observations": observed.slice(at, SLICE_ROWS),
        }


def _arrow(db: duckdb.DuckDBPyConnection, query: str) -> pa.Table:
    return db.execute(query).arrow().read_all()


# --- running and reporting ---


def measured(step: str, path: Path, accounts: int, days: int) -> Figures:
    """One step in a process of its own, with the most memory that it held."""
    command = [sys.executable, __file__, "--step", step, "--folder", str(path.parent)]
    command += ["--accounts", str(accounts), "--days", str(days)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    said = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{step} ended with {process.returncode}")
    cpu_s = used.ru_utime + used.ru_stime
    figures = json.loads(said) | {"cpu_s": cpu_s, "peak_mb": used.ru_maxrss // 1024}
    print(f"{accounts:,} accounts, {step}: {figures}", file=sys.stderr, flush=True)
    return figures


def run_step(step: str, path: Path, accounts: int, days: int) -> Figures:
    if step == "generate":
        return generate(path, accounts, days)
    if step == "append":
        return append(path, accounts, days)
    if step == "publish":
        return publish(path)
    return build(path, full_refresh=step == "rebuild")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--accounts", type=int, nargs="+", default=[20_000, 200_000])
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--folder", type=Path, help="keep the files there")
    parser.add_argument("--step", help="this step alone, in this process")
    given = parser.parse_args()
    if given.step:
        path = given.folder / "warehouse.duckdb"
        print(json.dumps(run_step(given.step, path, given.accounts[0], given.days)))
        return
    rows = []
    for accounts in given.accounts:
        with tempfile.TemporaryDirectory(dir=given.folder) as folder:
            path = Path(folder) / "warehouse.duckdb"
            held = measured("generate", path, accounts, given.days)["rows"]
            for step in STEPS:
                rows.append((accounts, held, step, measured(step, path, accounts, given.days)))
                write_report(rows, given.days)


def write_report(rows: list[tuple[int, int, str, Figures]], days: int) -> None:
    lines = [
        "| accounts | readings | step | seconds | CPU seconds | peak MB |",
        "|---|---|---|---|---|---|",
        *(
            f"| {accounts:,} | {held:,} | {step} | {f['seconds']:.0f} | {f['cpu_s']:.0f}"
            f" | {f['peak_mb']:,} |"
            for accounts, held, step, f in rows
        ),
        "",
        (
            f"{days} days; {platform.machine()}, {os.cpu_count()} cores, "
            f"Python {platform.python_version()}."
        ),
    ]
    figures = "\n".join([BEGIN, *lines, END])
    text = REPORT.read_text()
    before, rest = text.split(BEGIN)
    REPORT.write_text(before + figures + rest.split(END)[1])


if __name__ == "__main__":
    main()
