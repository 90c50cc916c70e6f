"""What the runs of a warehouse came to, and what became of one record: read from the ledger."""


# ruff: noqa: S608 - the only names put into SQL are those of `TABLES`

from __future__ import annotations

import base64
import zlib
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from crmcom.errors import SettingsError
from crmcom_pipelines import attempt, profile
from crmcom_pipelines.marts import connect
from crmcom_pipelines.publish import Workspace

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from duckdb import DuckDBPyConnection

Kind = Literal["contact", "account", "activity"]
Row = dict[str, Any]

TABLES: dict[Kind, str] = {
    "contact": "contacts",
    "account": "accounts",
    "activity": "activities",
}

_NOTHING: dict[str, list[Row]] = {
    part: []
    for part in (
        *("runs", "bookmarks", "freshness", "reconciled", "rows", "open", "held_back", "rejects"),
        "may_miss",
    )
}

MAY_MISS = (
    "Edits of completed and cancelled activities",
    (
        "A completed activity that is cancelled, or a cancelled one that is completed with a "
        "completion date in the past"
    ),
    "Deletions of contacts, and of activities that are not open",
    "Edits of contacts that a later bulk update covers",
    "Any edit of a contact, on a server that does not honour `sort=UPDATED_DATE`",
    "An account that was added to a contact",
    "Records that commit more than a day late",
)
"""What a plain sync can miss until the next reconcile. `docs/completeness.md` explains each."""


def status(
    database: Path,
    dataset: str,
    *,
    runs: int = 5,
    folder: Path | None = None,
    tenant: str = "",
) -> dict[str, Any]:
    """The state of a warehouse, as JSON-able values; times are UTC.

    `runs`: the latest ones, newest first. `freshness`: per resource the end of the last complete
    run and its age on the server's clock, which is that of the newest run. `reconciled`: when
    everything was last listed, for the first time or again. `open`: windows of each resource's
    latest run that are not proven. `held_back`: deletions that its latest run did not mark.
    `behaviour`: how the tenant's API is known to behave, and what changed in that.
    `last_attempt`: the last run that was begun, whatever became of it; where it published nothing
    it is not among `runs`. Where nothing was ever published, it is all there is. `folder` is where
    runs keep notes, if not beside the file; `tenant` the dataset, where it is one of several
    tenants.
    """
    workspace = Workspace(database, dataset)
    folder = folder or workspace.folder
    behaviour: Row = msgspec.to_builtins(profile.read(folder, dataset))
    begun = attempt.last(folder, tenant)
    if begun and not workspace.published.exists():
        return {
            "database": str(database.resolve()),
            "last_attempt": begun,
            "behaviour": behaviour,
            **_NOTHING,
        }
    with _reading(database, dataset) as ask:
        newest = ask("select max(finished_at) as at from _sync_runs")[0]["at"]
        return {
            "database": str(database.resolve()),
            "last_attempt": begun,
            "runs": ask(
                "select * exclude (_synced_at, _dlt_load_id) from _sync_runs where run_id in "
                "(select distinct run_id from _sync_runs order by run_id desc limit ?) "
                "order by run_id desc, resource",
                runs,
            ),
            "bookmarks": list(_bookmarks(ask)),
            "freshness": ask(
                "select resource, max(finished_at) as complete_at, "
                "date_diff('second', max(finished_at), ?::timestamp) as behind_newest_s "
                "from _sync_runs where scope = 'complete' and verdict <> 'failed' "
                "group by resource order by resource",
                newest,
            ),
            "reconciled": ask(
                "select resource, max(_synced_at) as reconciled_at from _sync_windows w "
                "where listed in ('reconcile', 'full scan') or (listed = 'created_on' and run_id = "
                "(select min(run_id) from _sync_windows where resource = w.resource)) "
                "group by resource order by resource"
            ),
            "rows": [_count(ask, kind, table) for kind, table in TABLES.items()],
            "open": ask(
                "select w.run_id, w.resource, w.listed, w.window_start, w.window_end, "
                "w.api_total, w.distinct_ids, w.reason from _sync_windows w "
                "join (select resource, max(run_id) as run_id from _sync_runs group by resource) l "
                "using (resource, run_id) where w.verdict <> 'proven' "
                "order by w.resource, w.position"
            ),
            "held_back": ask(
                "select resource, max_by(run_id, run_id) as run_id, regexp_extract("
                "max_by(coalesce(reason, ''), run_id), '[^;]*--accept-deletions[^;]*') as reason "
                "from _sync_runs group by resource having reason <> '' order by resource"
            ),
            "rejects": ask(
                "select run_id, resource, record_id, reason from _rejects "
                "order by run_id desc, resource, position limit 20"
            ),
            "may_miss": list(MAY_MISS),
            "behaviour": behaviour,
        }


def _bookmarks(ask: Any) -> Iterator[Row]:
    """Where the next windows begin, before they reach back: as dlt remembers it."""
    found = ask(
        "select state from _dlt_pipeline_state s join _dlt_loads l on l.load_id = s._dlt_load_id "
        "where l.status = 0 order by l.load_id desc limit 1"
    )
    for row in found:
        state = msgspec.json.decode(zlib.decompress(base64.b64decode(row["state"])))
        resources = state.get("sources", {}).get("crmcom", {}).get("resources", {})
        for name, kept in sorted(resources.items()):
            at_s = kept.get("reached_s", kept.get("bookmark_s"))
            if at_s is not None:
                yield {
                    "resource": name,
                    "bookmark": datetime(1970, 1, 1) + timedelta(seconds=at_s),  # noqa: DTZ001
                }


def _count(ask: Any, kind: Kind, table: str) -> Row:
    found: Row = ask(
        f"select count(*) as rows, count(_deleted_at) as deleted, max(_synced_at) as synced_at "
        f"from {table}"
    )[0]
    return {"kind": kind} | found


def explain(database: Path, dataset: str, kind: Kind, record_id: str) -> dict[str, Any]:
    """What the ledger knows of one record: the row, who loaded it last, its history, rejects.

    `summary`: what became of it, in a sentence. `loaded_by`: the run that wrote the row last;
    `deleted_by` instead, where that was to mark it as deleted. `seen_in`: the windows of the slice
    that loaded the row; all rows of a slice bear its time. What is gone was seen in none.
    """
    table = TABLES[kind]
    with _reading(database, dataset) as ask:
        rows = ask(f"select * from {table} where id = ?", record_id)
        row = rows[0] if rows else None
        at = row["_synced_at"] if row else None
        is_gone = row is not None and row["_deleted_at"] is not None
        # A run's resources share the times of its slices, and begin one after the other.
        written_by = ask(
            "select run_id, started_at, finished_at, verdict from _sync_runs r "
            "where resource = ? and _synced_at >= ? and ? >= "
            "(select min(started_at) from _sync_runs where run_id = r.run_id) "
            "order by run_id limit 1",
            table,
            at,
            at,
        )
        rejects = ask(
            "select run_id, resource, reason, payload from _rejects where record_id = ? "
            "order by run_id, position",
            record_id,
        )
        by = f"by run {written_by[0]['run_id']}" if written_by else "by a run that did not end"
        if is_gone:
            summary = f"deleted {by}: no longer in the API (404)"
        elif row is not None:
            summary = f"last loaded {by}"
        elif rejects:
            summary = f"never loaded: rejected by run {rejects[-1]['run_id']}"
        else:
            summary = f"unknown: no run has seen a {kind} with this id"
        return {
            "kind": kind,
            "id": record_id,
            "summary": summary,
            "row": row,
            "loaded_by": [] if is_gone else written_by,
            "deleted_by": written_by if is_gone else [],
            "seen_in": []
            if is_gone
            else ask(
                "select run_id, listed, window_start, window_end, verdict, reason "
                "from _sync_windows where resource = ? and _synced_at = ? "
                "order by run_id, position",
                table,
                at,
            ),
            "history": _history(ask, kind, record_id),
            "rejects": rejects,
        }


def _history(ask: Any, kind: Kind, record_id: str) -> list[Row]:
    """An activity's versions; an account's readings that differ from the one before."""
    if kind == "activity":
        found: list[Row] = ask(
            "select * exclude (activity_id, _synced_at, _dlt_load_id) from activity_versions "
            "where activity_id = ? order by observed_at, run_id",
            record_id,
        )
        return found
    if kind == "contact":
        return []
    readings = ask(
        "select * exclude (account_id, _synced_at, _dlt_load_id) from account_observations "
        "where account_id = ? order by observed_at, run_id",
        record_id,
    )
    changes: list[Row] = []
    for reading in readings:
        what = {k: v for k, v in reading.items() if k not in {"observed_at", "run_id"}}
        if not changes or what != {k: changes[-1][k] for k in what}:
            changes.append(reading)
    return changes


@contextmanager
def _reading(database: Path, dataset: str) -> Iterator[Any]:
    """A function that asks the published file a question and returns rows as dicts."""
    connection = connect(database)
    try:
        _use(connection, dataset, database)

        def ask(sql: str, *values: object) -> list[Row]:
            cursor = connection.execute(sql, values)
            names = [c[0] for c in cursor.description or ()]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

        yield ask
    finally:
        connection.close()


def _use(connection: DuckDBPyConnection, dataset: str, database: Path) -> None:
    found = connection.execute(
        "select 1 from information_schema.tables where table_schema = ? and table_name = ?",
        [dataset, "_sync_runs"],
    ).fetchone()
    if found is None:
        raise SettingsError(
            f"{database} has no dataset {dataset}: name it with --dataset, or run `crmcom sync`"
        )
    connection.execute(f'use "{dataset}"')


def plain(value: object) -> object:
    """A value as JSON and people read it: times in ISO, UTC; amounts digit for digit."""
    if isinstance(value, datetime):
        return value.isoformat(sep=" ")
    return value if isinstance(value, bool | int | str | None) else str(value)
