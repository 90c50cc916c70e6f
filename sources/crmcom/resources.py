"""Tables to dlt resources: the only place where async meets dlt.

Each resource is one task that reads and a bounded queue that dlt empties, so that reading
waits for a slow destination and never piles up in memory.
"""

from __future__ import annotations

import asyncio
import copy
import logging
import time
from typing import TYPE_CHECKING, Any

import dlt
from dlt.common.configuration.container import Container
from dlt.extract.source import SourceInjectableContext

from crmcom.accounts import read_accounts
from crmcom.activities import read_activities
from crmcom.contacts import read_contacts
from crmcom.drift import Drift
from crmcom.errors import CrmcomError, FilterIgnored, LoginRefused, SettingsError
from crmcom.facts import IGNORED
from crmcom.feed import Feed, from_rows
from crmcom.records import ACCOUNT, ACTIVITY, CONTACT
from crmcom.schema import RAW_TABLES
from crmcom.settings import setting
from crmcom.stored import Destination

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence

    import pyarrow as pa
    from dlt.extract import DltResource

    from crmcom.records import Record
    from crmcom.run import Result, Run

QUEUED_TABLES = 8

READERS: dict[str, tuple[Record, Callable[[Feed], Awaitable[None]]]] = {
    "contacts": (CONTACT, read_contacts),
    "accounts": (ACCOUNT, read_accounts),
    "activities": (ACTIVITY, read_activities),
}

MERGE = {"disposition": "merge", "strategy": "delete-insert"}
"""The one way of writing that a repeated load cannot double (measured with dlt 1.31). Where none is
repeated, a table that holds no rows is appended to, which takes a fifth off a first load."""

NO_DOUBLES = "x-stage-data-deduplicated"
"""dlt's word for a table in which a merge need not look for doubles. To look, it holds all rows at
once: 40,000 of 24 kB were more than DuckDB's gigabyte."""


def resource(name: str, run: Run) -> DltResource:
    """The dlt resource that reads `contacts`, `accounts` or `activities` and their children."""
    key = RAW_TABLES[name].primary_key

    async def read() -> AsyncIterator[Any]:
        _begin_slice(name, run, dlt.current.source_state().get("resources", {}))
        state = dlt.current.resource_state()
        queue: asyncio.Queue[Any] = asyncio.Queue(QUEUED_TABLES)
        reading = asyncio.create_task(_read(name, run, state, queue, _missing_tables(name)))
        try:
            while (item := await queue.get()) is not None:
                yield item
            await reading
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    return dlt.resource(  # type: ignore[call-overload,no-any-return]
        read, name=name, primary_key=key, write_disposition=MERGE
    )


def _begin_slice(name: str, run: Run, states: Mapping[str, Any]) -> None:
    """The first resource of a source that dlt reads makes the run ready for the slice."""
    source = Container()[SourceInjectableContext].source
    if run.slice_of is source and name in run.begun:
        run.start_anew()  # somebody gives the same source to dlt once more
    if run.slice_of is not source:
        _merge_safely()
        same_tenant(run, states.values())
        _same_privacy(run, states)
        run.slice_of = source
        run.next_slice(
            set(source.resources.selected),
            after_us=max((s.get("synced_us", 0) for s in states.values()), default=0),
        )
    run.begun.add(name)


def _merge_safely() -> None:
    """dlt would append where it cannot merge, and each run would double the last one's rows."""
    destination = dlt.current.pipeline().destination
    if MERGE["strategy"] not in (destination.capabilities().supported_merge_strategies or ()):
        raise SettingsError(
            f"{destination.destination_name} cannot replace rows (delete-insert), so every run "
            "would double them: name another --destination, such as duckdb or postgres"
        )
    # dlt 1.31 does not say of DuckDB that it has transactions, so its merges have none: a kill
    # between a merge's delete and its insert would cost all of those rows.
    if destination.capabilities().supports_ddl_transactions:
        destination.caps_params["supports_transactions"] = True


def same_tenant(run: Run, states: Iterable[Mapping[str, Any]]) -> None:
    """A dataset holds one tenant: two would overwrite each other's records."""
    here = run.settings.base_url
    for there in {s["tenant"] for s in states if "tenant" in s} - {here}:
        raise SettingsError(
            f"this dataset holds the data of {there}, and {setting('base_url')} is {here}: "
            "name another --dataset or --database for it"
        )


def _same_privacy(run: Run, states: Mapping[str, Any]) -> None:
    before = [s.get("privacy", {}) for s in states.values()]
    run.privacy.same_key(before)
    known = [Drift.recall(frozenset(), s.get("columns", {})) for s in states.values()]
    notices = [*run.privacy.unknown(known), *run.privacy.ended(before)]
    if any(map(run.privacy.is_new, before)):
        notices.append(
            "privacy has changed: what was loaded before stays as it is until its records are "
            "read again; to be sure, name another dataset, which is loaded anew"
        )
    run.notices += [n for n in notices if n not in run.notices]


async def _read(
    name: str,
    run: Run,
    state: dict[str, Any],
    queue: asyncio.Queue[Any],
    missing: Sequence[str],
) -> None:
    """`missing`: tables that are to exist, rows or no rows."""
    try:
        await _attempt(name, run, state, queue, missing)
    finally:
        if name == "contacts":
            run.fan_out.close()
        await queue.put(None)


async def _attempt(
    name: str,
    run: Run,
    state: dict[str, Any],
    queue: asyncio.Queue[Any],
    missing: Sequence[str],
) -> None:
    """One slice of one resource.

    A failure is kept in its result and stops no other; a login that is refused ends the run.
    """
    result = run.result(name)
    if result.is_finished:
        return  # an earlier slice of this run came to its end
    record, read = READERS[name]

    async def put(table: str, rows: pa.Table) -> None:
        append = run.loads_once and await stored.is_empty(table)
        await queue.put(_marked(table, rows, append=append, once=run.loads_once))

    client = await run.enter()
    # A copy: what a slice that fails has written of its bookmarks must not be kept.
    after = copy.deepcopy(dict(state))
    result.caught_up = False
    result.begun_s = result.begun_s or time.monotonic()
    try:
        stored = Destination(dlt.current.pipeline(), run.work)
        for table in missing:
            await put(table, from_rows(table, []))
        feed = Feed(
            run, client, stored, record, state=after, put=put, forgotten=await stored.forgotten()
        )
        with client.counting(result.count):
            try:
                await read(feed)
            except CrmcomError as error:
                result.error = error
                if isinstance(error, FilterIgnored):
                    feed.learn_filter(error.filter, IGNORED)
                if run.raises or isinstance(error, LoginRefused | SettingsError):
                    raise
                feed.remember(state)
            else:
                feed.remember(after)
                state.clear()
                state.update(after)
        feed.tell_retries()
        result.started_at = result.started_at or feed.now
        result.finished_at = feed.now
        await feed.put("_sync_runs", from_rows("_sync_runs", [_ledger_row(run, result)]))
    finally:
        await run.leave()
        if result.caught_up or result.error is not None:
            _tell_finished(run, result)


def _tell_finished(run: Run, result: Result) -> None:
    run.tell(
        "resource_finished",
        level=logging.WARNING if result.exit_code else logging.INFO,
        resource=result.resource,
        verdict=result.verdict,
        scope=result.scope,
        rows=result.rows,
        requests=result.requests,
        retries=result.retries,
        rejected=result.rejected,
        deleted=result.deleted,
        windows=result.windows,
        seconds=round(time.monotonic() - (result.begun_s or 0), 3),
        reason=result.reason,
    )


def _ledger_row(run: Run, result: Result) -> dict[str, Any]:
    return {
        "run_id": run.run_id,
        "resource": result.resource,
        "started_at": result.started_at,
        "finished_at": result.finished_at,
        "scope": result.scope,
        "verdict": result.verdict,
        "reason": result.reason,
        "requests": result.requests,
        "retries": result.retries,
        "rows": result.rows,
        "rejected": result.rejected,
    }


def _missing_tables(name: str) -> list[str]:
    """The tables that are to exist from the first load on, rows or no rows, and lack columns."""
    have = dlt.current.source_schema().tables

    def lacks(table: str) -> bool:
        known = have[table]["columns"] if table in have else {}
        return not set(RAW_TABLES[table].schema.names) <= set(known)

    return [table for table in _own_tables(name) if lacks(table)]


def _own_tables(name: str) -> list[str]:
    record, _ = READERS[name]
    extra = {"accounts": ["account_observations"], "activities": ["activity_versions"]}
    ledger = ["_sync_runs", "_sync_windows", "_rejects"]
    return [record.table, *(c.table for c in record.children), *extra.get(name, []), *ledger]


def _marked(table: str, rows: pa.Table, *, append: bool, once: bool) -> Any:
    """`once`: no load is ever repeated, so that none can hold a row twice."""
    raw = RAW_TABLES[table]
    rows = raw.conform(rows)
    scope = {"destination_scope": raw.replaced} if raw.replaced else {}
    hints = dlt.mark.make_hints(
        table_name=table,
        primary_key=raw.primary_key,
        merge_key=raw.merge_key,
        write_disposition="append" if append else MERGE | scope,  # type: ignore[arg-type]
        columns=raw.hints(rows),
        additional_table_hints={NO_DOUBLES: once},
    )
    if append:
        rows = raw.present(rows)
    return dlt.mark.with_hints(rows, hints, create_table_variant=True)
