"""The state of a warehouse, as people read it: what `ledger.status` found, as tables."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from crmcom_pipelines.render import plain_table
from crmcom_pipelines.views import Column

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from crmcom_pipelines.ledger import Row


def overview(found: dict[str, Any], database: Path) -> Iterator[str]:
    """Lines. `database` is the file that `found` was read from.

    Ages are on the server's clock, which is that of the newest run; how long ago the file was
    published is on this machine's. The two never meet: they may be years apart.
    """
    if not found["runs"]:
        yield f"{found['database']}: nothing was published yet."
        yield from attempted(found["last_attempt"])
        return
    now = max((r["finished_at"] for r in found["runs"] if r["finished_at"]), default=None)
    published = datetime.fromtimestamp(database.stat().st_mtime, UTC)
    yield f"{found['database']}, published {_span(datetime.now(UTC), published)} ago"
    yield f"The newest run ended {_time(now)}. Times are UTC, by the server's clock."
    shown = {r["run_id"] for r in found["runs"]}
    last = found["last_attempt"]
    if last and (last["run_id"] not in shown or last["state"] != "ended"):
        yield from attempted(last)
    yield from _table("Runs", _RUNS, found["runs"])
    for run in found["runs"]:
        if run["reason"]:
            yield f"{run['run_id']} {run['resource']}: {run['reason']}"
    yield from _table("Bookmarks", _BOOKMARKS, _resources(found, now))
    yield from _table("Tables", _TABLES, found["rows"])
    yield from _table("Windows of the latest runs that are not proven", _OPEN, found["open"])
    yield from _table("Rejects, the latest", _REJECTS, found["rejects"])
    yield from _list("Deletions held back", (r["reason"] for r in found["held_back"]))
    behaviour = found["behaviour"]
    facts = (f"{name}: {value}" for name, value in sorted(behaviour["facts"].items()))
    yield from _list("How the API behaves", facts)
    yield from _list("What changed in that, by this machine's clock", _changes(behaviour))
    yield from _list("What a plain sync may miss until the next reconcile", found["may_miss"])


def attempted(last: dict[str, Any]) -> Iterator[str]:
    """The last run that was begun, by this machine's clock: the ledger may not have it."""
    how = f"ended with exit {last['exit_code']}" if last["state"] == "ended" else last["state"]
    yield f"The last attempt, run {last['run_id']} of {_time(last['started_at'])}: {how}."
    yield from (f"- {cause}" for cause in last["causes"])
    if last["next"]:
        yield f"Next: {last['next']}."


def _resources(found: dict[str, Any], now: datetime | None) -> list[Row]:
    """One row for each resource, of what the parts of `found` say about it."""
    known: dict[str, Row] = {}
    for part in ("bookmarks", "freshness", "reconciled"):
        for row in found[part]:
            known.setdefault(row["resource"], {"now": now}).update(row)
    return [known[resource] for resource in sorted(known)]


def _changes(behaviour: Row) -> Iterator[str]:
    for change in behaviour["changes"]:
        yield "{at} by {by}: {name} was {was}, is {now}".format(**change)


def _table(title: str, columns: tuple[Column, ...], rows: list[Row]) -> Iterator[str]:
    yield ""
    yield title if rows else f"{title}: none"
    if rows:
        yield from plain_table(columns, rows)


def _list(title: str, items: Iterable[str]) -> Iterator[str]:
    lines = [f"- {item}" for item in items]
    yield ""
    yield f"{title}:" if lines else f"{title}: none"
    yield from lines


# --- cells -------------------------------------------------------------------------------


def _text(name: str) -> Column:
    return Column(name.replace("_", " "), lambda row: str(row.get(name) or "-"))


def _count(name: str) -> Column:
    heading = name.replace("_", " ")
    return Column(
        heading, lambda row: "-" if row[name] is None else f"{row[name]:,}", is_number=True
    )


def _at(heading: str, name: str) -> Column:
    return Column(heading, lambda row: _time(row.get(name)))


def _age(name: str) -> Column:
    return Column("age", lambda row: _span(row["now"], row.get(name)), is_number=True)


def _time(at: datetime | None) -> str:
    return "-" if at is None else f"{at.replace(microsecond=0).isoformat()}Z"


def _span(until: datetime | None, since: datetime | None) -> str:
    """How long, in the largest unit of which there are two."""
    if until is None or since is None:
        return "-"
    seconds = max(0, int((until - since).total_seconds()))
    for unit, size in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


_RUNS = (
    *(_text("run_id"), _text("resource"), _at("started", "started_at")),
    Column("took", lambda row: _span(row["finished_at"], row["started_at"]), is_number=True),
    *(_text("scope"), _text("verdict")),
    *(_count("rows"), _count("requests"), _count("retries"), _count("rejected")),
)
_BOOKMARKS = (
    _text("resource"),
    *(_at("read up to", "bookmark"), _age("bookmark")),
    *(_at("complete run", "complete_at"), _age("complete_at")),
    *(_at("reconciled", "reconciled_at"), _age("reconciled_at")),
)
_TABLES = (_text("kind"), _count("rows"), _count("deleted"), _at("loaded", "synced_at"))
_OPEN = (
    *(_text("resource"), _text("listed"), _at("from", "window_start"), _at("to", "window_end")),
    *(_count("api_total"), _count("distinct_ids"), _text("reason")),
)
_REJECTS = (_text("run_id"), _text("resource"), _text("record_id"), _text("reason"))
