"""A server in memory that answers in bytes, and does whatever a real one was seen to do."""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from dataclasses import dataclass, field
from datetime import UTC, datetime
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from crmcom.endpoints import LIST_ACTIVITIES
from crmcom.listing import Listing, Window, listings
from crmcom.protocol import Page, Reply, Request, judge

if TYPE_CHECKING:
    import random
    from collections.abc import Callable


@dataclass(slots=True)
class Thing:
    """A record; `raw` is sent instead of it."""

    id: str
    created: int
    updated: int = 0
    completed: int | None = None
    state: str = "PENDING"
    raw: bytes | None = None


def things(dates: list[int], first: int = 0) -> list[Thing]:
    """One record per date. Their names sort otherwise than their dates and ids."""
    numbered = enumerate(dates, start=first)
    return [Thing(f"t{n:06}", at, updated=at + n * 7919 % 1000) for n, at in numbered]


@dataclass
class Server:
    """Answers `get` from `table`.

    `totals`: in every reply, where asked for, or never. `cap`: where they stop counting.
    `serves`: rows on a page at most. `depth`: how many rows deep one may page, and what comes
    beyond. `shuffles`: rows of one second change places at every request, except by name.
    `dated`: rows carry a created date. `repeats`: every page is the first. `endless`: it begins
    anew after its last page. `always_more`: `has_more` is never false. `before`: called before
    each answer, to change the table.
    """

    table: list[Thing]
    totals: Literal["always", "asked", "never"] = "always"
    has_more: bool = True
    cap: int | None = 10_000
    serves: int = 100
    depth: int | None = None
    deep: Literal["refused", "empty"] = "refused"
    shuffles: random.Random | None = None
    dated: bool = True
    ignores: frozenset[str] = frozenset()
    refuses_sorts: frozenset[str] = frozenset()
    repeats: bool = False
    endless: bool = False
    always_more: bool = False
    total_error: int = 0
    before: Callable[[Server], None] | None = None
    log: list[dict[str, str]] = field(default_factory=list)
    known: dict[str, Any] = field(default_factory=dict, repr=False)
    sorted: dict[str, list[Thing]] = field(default_factory=dict, repr=False)

    async def get(self, request: Request) -> Reply:
        await asyncio.sleep(0)
        if self.before is not None:
            self.before(self)
        query = dict(request.query)
        self.log.append(query)
        status, body = self.answer(query)
        return judge(request, status, {}, body, datetime(2026, 1, 1, tzinfo=UTC))

    def saw(self, request: Request, page: Page) -> None:
        """The client's part."""

    def answer(self, query: dict[str, str]) -> tuple[int, bytes]:
        number, size = int(query["page"]), min(int(query["size"]), self.serves)
        if query["sort"] in self.refuses_sorts:
            return 400, b'{"status": 400, "message": "sort"}'
        rows = self.found(query)
        if self.repeats:
            number = 1
        if self.endless and rows:
            number = 1 + (number - 1) % -(-len(rows) // size)
        page = rows[(number - 1) * size : number * size]
        if self.depth is not None and number * size > self.depth:
            if self.deep == "refused":
                return 400, b'{"status": 400, "message": "too deep"}'
            page = []
        paging: dict[str, object] = {"page": number, "size": len(page), "total": None}
        if self.totals == "always" or (self.totals == "asked" and "include_total" in query):
            paging["total"] = min(len(rows), self.cap or len(rows)) + self.total_error
        if self.has_more:
            more = self.always_more or self.repeats or self.endless
            paging["has_more"] = (more and bool(rows)) or number * size < len(rows)
        content = [msgspec.Raw(self.body(t)) for t in page]
        return 200, msgspec.json.encode({"content": content or None, "paging": paging})

    def found(self, query: dict[str, str]) -> list[Thing]:
        """The rows that match, in order; remembered while nothing moves."""
        filters = [(k, v) for k, v in query.items() if "[" in k or k == "states"]
        sort, descending = query["sort"], query["order"] == "DESC"
        if self.before is not None or self.known.get("filters") != filters:
            self.known = {"filters": filters, "rows": self.matching(filters)}
        by = f"{sort} {descending}"
        if self.shuffles is not None and sort != "NAME":
            rows = list(self.known["rows"])
            self.shuffles.shuffle(rows)
            return arranged(rows, sort, descending=descending)
        if by == "CREATED_DATE False":
            return self.known["rows"]
        if by not in self.known:
            self.known[by] = arranged(self.known["rows"], sort, descending=descending)
        return self.known[by]

    def matching(self, filters: list[tuple[str, str]]) -> list[Thing]:
        if self.before is not None or "table" not in self.sorted:
            self.sorted = {"table": sorted(self.table, key=KEYS["CREATED_DATE"])}
        rows = self.sorted["table"]
        for name, value in filters:
            what = name.partition("[")[0]
            if what in self.ignores:
                continue
            if what == "states":
                rows = [t for t in rows if t.state in value.split(",")]
                continue
            bound = int(value)
            if what == "created_on":
                at = bisect_left(rows, bound, key=KEYS["CREATED_DATE"])
                rows = rows[at:] if name.endswith("[gte]") else rows[:at]
                continue
            of = attrgetter(what.removesuffix("_on"))
            known = [(t, at) for t in rows if (at := of(t)) is not None]
            if name.endswith("[gte]"):
                rows = [t for t, at in known if at >= bound]
            else:
                rows = [t for t, at in known if at < bound]
        return rows

    def body(self, thing: Thing) -> bytes:
        if thing.raw is not None:
            return thing.raw
        row: dict[str, object] = {"id": thing.id, "name": thing.id[::-1]}
        if self.dated:
            row["key_dates"] = {"created_on": thing.created}
        return msgspec.json.encode(row)


KEYS: dict[str, Callable[[Thing], Any]] = {
    "NAME": lambda t: t.id[::-1],
    "CREATED_DATE": lambda t: t.created,
    "UPDATED_DATE": lambda t: t.updated,
}


def arranged(rows: list[Thing], sort: str, *, descending: bool) -> list[Thing]:
    return sorted(rows, key=KEYS[sort], reverse=descending)


def listed(server: Server, window: Window, **options: Any) -> list[Listing]:
    """All listings of a window, which must follow each other without a gap or an overlap."""

    async def collect() -> list[Listing]:
        return [one async for one in listings(server, LIST_ACTIVITIES, window, **options)]

    found = asyncio.run(collect())
    starts = [window.start_s, *(one.window.end_s for one in found)]
    assert [one.window.start_s for one in found] == starts[:-1]
    assert starts[-1] == window.end_s
    return found


def ids_in(table: list[Thing], window: Window) -> set[str]:
    """The truth: what a listing of the window has to hold."""
    low, high = window.start_s, window.end_s
    return {
        t.id
        for t in table
        if (low is None or t.created >= low) and (high is None or t.created < high)
    }


def ids(found: list[Listing]) -> list[str]:
    return sorted(row.id or "" for one in found for row in one.rows)
