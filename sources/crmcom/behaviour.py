"""How one list behaves, asked on purpose: its pages, its totals, its filters and sorts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from crmcom.endpoints import LIST_ACTIVITIES, LIST_CONTACTS
from crmcom.errors import (
    BadRequest,
    BrokenReply,
    FilterIgnored,
    Forbidden,
    NotFound,
    Unavailable,
)
from crmcom.facts import (
    EXACT,
    HONOURED,
    IGNORED,
    MILLISECONDS,
    NONE,
    RIGHT,
    WRONG,
    epoch_unit,
    fact,
)
from crmcom.findings import Finding, lie, said, untold
from crmcom.listing import Window, ask_page, probe
from crmcom.protocol import Request, range_params

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from crmcom.client import Client
    from crmcom.endpoints import Endpoint
    from crmcom.protocol import Page, Row

LARGE = 200
"""More rows than the live API puts on a page."""

MANY = 100
NEVER_S = 253_402_300_800


async def page(  # noqa: PLR0917 - as a list's own parameters
    client: Client, endpoint: Endpoint, sort: str, order: str, size: int, number: int = 1
) -> Page:
    """A page of the whole list, with its total."""
    params = (
        *(("sort", sort), ("order", order), ("page", str(number)), ("size", str(size))),
        ("include_total", "true"),
    )
    return await ask_page(client, Request(endpoint, params=params))


@dataclass(slots=True)
class Listed:
    """A list and its first page, newest first, asked with `LARGE` rows."""

    endpoint: Endpoint
    page: Page
    seconds: float
    served: int = field(init=False)

    def __post_init__(self) -> None:
        self.served = max(1, len(self.page.rows))

    @property
    def resource(self) -> str:
        return self.endpoint.record.table

    def name(self, what: str) -> str:
        return fact(self.resource, what)


class Behaviour:
    """What is to be asked of a list that has answered, and what comes of it."""

    def __init__(self, client: Client, found: list[Finding]) -> None:
        self._client = client
        self._found = found

    async def ask(self, one: Listed) -> None:
        if not one.page.rows:
            for what in ("page size cap", "totals", "has_more", "filter created_on"):
                self._found.append(untold(one.name(what), f"there are no {one.resource}"))
            return
        dated = self._epoch_unit(one)
        for what, ask in self._questions(one, dated=dated):
            try:
                findings = await ask()
            except (Forbidden, Unavailable, BrokenReply, NotFound, BadRequest) as error:
                self._found.append(untold(one.name(what), said(error)))
            else:
                self._found += findings

    def _questions(
        self, one: Listed, *, dated: bool
    ) -> Iterator[tuple[str, Callable[[], Awaitable[list[Finding]]]]]:
        yield "totals", lambda: self._paging(one)
        yield "filter created_on", lambda: self._created_on(one, dated=dated)
        yield "sort CREATED_DATE", lambda: self._sort_created(one, dated=dated)
        if one.endpoint is LIST_CONTACTS:
            yield "sort UPDATED_DATE", lambda: self._sort_updated(one)
        else:
            yield "filter states", lambda: self._states(one)
            yield "filter completed_on", lambda: self._completed_on(one)

    def _epoch_unit(self, one: Listed) -> bool:
        """Whether rows carry created dates that can be used."""
        unit = next((u for u in map(epoch_unit, one.page.rows) if u), None)
        if unit is None:
            if one.endpoint is LIST_ACTIVITIES:
                self._found.append(untold(one.name("epoch unit"), "no row has a created date"))
            return False
        if unit == MILLISECONDS:
            self._found.append(
                lie(
                    one.name("epoch unit"),
                    "created dates are in milliseconds, and filters are asked in seconds: rows are "
                    "rejected; ask CRM.COM's support",
                    unit,
                )
            )
            return False
        self._found.append(
            Finding(one.name("epoch unit"), ok=True, message=f"dates are in {unit}", value=unit)
        )
        return True

    async def _paging(self, one: Listed) -> list[Finding]:
        """Page size, totals and `has_more`, by the last page and the one after it."""
        first, total = one.page, one.page.total
        if total is None:
            second = await self._page(one, "CREATED_DATE", "DESC", LARGE, 2)
            beyond = bool(second.ids - first.ids)
            repeats = bool(second.rows) and not beyond
            whole = not second.rows
            return [
                self._cap(one, more=beyond),
                Finding(
                    one.name("totals"),
                    ok=True,
                    message="not counted: a listing is proven by passes that agree, which costs "
                    "requests",
                    value=NONE,
                ),
                self._has_more(one, told=first.has_more, more=not whole, repeats=repeats),
            ]
        served, number = one.served, max(1, -(-total // one.served))
        last = first if number == 1 else await self._deep(one, number)
        after = await self._deep(one, number + 1)
        if last is None or after is None:
            untold = Finding(
                one.name("totals"),
                ok=None,
                message=f"could not tell: {total:,}, and the server refuses to page so deep",
            )
            return [self._cap(one, more=True), untold]
        again = await self._page(one, "CREATED_DATE", "DESC", 1)
        shown = (number - 1) * served + len(last.rows)
        repeats = number > 1 and bool(last.rows) and last.ids == first.ids
        more = total > len(first.rows) or bool(after.rows)
        return [
            self._cap(one, more=more),
            _totals(
                one,
                total,
                again=again.total,
                counted_older=await self._counted_older(one) if after.rows else None,
                shown=shown,
                beyond=bool(after.rows),
                repeats=repeats,
            ),
            self._has_more(one, told=first.has_more, more=more, repeats=repeats),
        ]

    async def _counted_older(self, one: Listed) -> int | None:
        newest_s = max((r.created_on for r in one.page.rows if r.created_on), default=None)
        if newest_s is None:
            return None
        older = Window(None, newest_s).params
        params = (*older, ("page", "1"), ("size", "1"), ("include_total", "true"))
        return (await ask_page(self._client, Request(one.endpoint, params=params))).total

    def _cap(self, one: Listed, *, more: bool) -> Finding:
        name, rows = one.name("page size cap"), len(one.page.rows)
        if rows >= LARGE:
            return Finding(name, ok=True, message=f"none up to {LARGE} rows", value=rows)
        if not more:
            return Finding(name, ok=None, message=f"could not tell: one page holds all {rows}")
        message = f"{rows} rows on a page at most"
        if rows < self._client.settings.page_size:
            message += ", fewer than sources.crmcom.page_size: listings take more requests"
        return Finding(name, ok=True, message=message, value=rows)

    def _has_more(self, one: Listed, *, told: bool | None, more: bool, repeats: bool) -> Finding:
        name = one.name("has_more")
        if repeats:
            return lie(name, "a later page repeats the first: lists cannot be read whole", WRONG)
        if told is None:
            other = "totals tell" if one.page.total is not None else "a short page tells"
            return Finding(
                name, ok=True, message=f"not told: {other} where a list ends", value=NONE
            )
        if told != more:
            wrong = "says that more follows, and nothing does"
            if more:
                wrong = "says that nothing follows, and more does"
            return lie(name, f"the first page {wrong}", WRONG)
        return Finding(name, ok=True, message="tells where a list ends", value=RIGHT)

    async def _created_on(self, one: Listed, *, dated: bool) -> list[Finding]:
        name, rows = one.name("filter created_on"), one.page.rows
        if ignored := await self._ignores(one, "created_on"):
            return [ignored]
        if dated:
            # The oldest that is shown: what is newer comes too where only one end works.
            at = [r for r in rows if r.created_on is not None][-1]
            second = Window(at.created_on, (at.created_on or 0) + 1)
            page = await self._window(one, second)
            if not all(second.holds(r) for r in page.rows):
                return [self._ignored(one, "created_on", "its upper end")]
            if at.id not in page.ids and not page.has_more:
                return [untold(name, f"it does not find {at.id} by its created date")]
            return [Finding(name, ok=True, message="honoured", value=HONOURED)]
        before = await self._window(one, Window(None, 0))
        if before.rows and before.ids >= {r.id for r in rows[: len(before.rows)]}:
            return [self._ignored(one, "created_on", "its upper end")]
        everything = await self._window(one, Window(0, NEVER_S))
        if not everything.rows:
            return [untold(name, "it finds nothing, whatever the range: a sync lists by it")]
        return [Finding(name, ok=True, message="honoured", value=HONOURED)]

    async def _ignores(self, one: Listed, what: str) -> Finding | None:
        """What a range finds in which nothing should be."""
        now_s = int(self._client.server_now().timestamp())
        try:
            await probe(self._client, one.endpoint, what, now_s)
        except FilterIgnored:
            return self._ignored(one, what)
        except BadRequest as error:
            return lie(one.name(f"filter {what}"), f"refused: {said(error)}", "refused")
        return None

    def _ignored(self, one: Listed, what: str, part: str = "") -> Finding:
        name = one.name(f"filter {what}")
        which = f"ignored ({part})" if part else "ignored"
        if one.resource in self._client.settings.full_scan:
            message = f"{which}; full_scan lists {one.resource} whole instead"
            return Finding(name, ok=True, message=message, value=IGNORED)
        return lie(
            name,
            f"{which}: nothing would be loaded; set sources.crmcom.full_scan = "
            f'["{one.resource}"], or pass --full-scan',
            IGNORED,
        )

    async def _states(self, one: Listed) -> list[Finding]:
        name = one.name("filter states")
        found: dict[str, list[str | None]] = {}
        for state in ("PENDING", "COMPLETED"):
            page = await self._filtered(one, (("states", state),))
            found[state] = [_state(r) for r in page.rows]
        for state, states in found.items():
            stray = next((s for s in states if s not in (state, None)), None)
            if stray is not None:
                return [self._ignored(one, "states", f"asked for {state}, it sent {stray}")]
        shown = {_state(r) for r in one.page.rows}
        missing = [s for s, states in found.items() if s in shown and not states]
        if missing:
            return [lie(name, f"it finds none of the {missing[0]} ones that there are", WRONG)]
        if not shown - {None}:
            return [untold(name, "no row has a state")]
        return [Finding(name, ok=True, message="honoured", value=HONOURED)]

    async def _completed_on(self, one: Listed) -> list[Finding]:
        name = one.name("filter completed_on")
        if ignored := await self._ignores(one, "completed_on"):
            return [ignored]
        before = await self._window(one, Window(None, 0, "completed_on"))
        if before.rows:
            return [self._ignored(one, "completed_on", "its upper end")]
        ever = await self._window(one, Window(0, NEVER_S, "completed_on"))
        if not ever.rows:
            return [untold(name, "it finds nothing: perhaps none is completed")]
        return [Finding(name, ok=True, message="honoured", value=HONOURED)]

    async def _sort_created(self, one: Listed, *, dated: bool) -> list[Finding]:
        name = one.name("sort CREATED_DATE")
        oldest = await self._page(one, "CREATED_DATE", "ASC", LARGE)
        if len(one.page.rows) < 2:
            return [untold(name, "there are fewer than two rows")]
        if dated:
            newest_first = [r.created_on for r in one.page.rows if r.created_on is not None]
            oldest_first = [r.created_on for r in oldest.rows if r.created_on is not None]
            obeyed = newest_first == sorted(newest_first, reverse=True) and oldest_first == sorted(
                oldest_first
            )
        else:
            obeyed = _order(one.page) != _order(oldest)
        if obeyed:
            return [Finding(name, ok=True, message="honoured", value=HONOURED)]
        if one.page.total is not None:
            message = "ignored: listings are proven by their totals"
            return [Finding(name, ok=True, message=message, value=IGNORED)]
        return [lie(name, "ignored, and nothing is counted: see docs/completeness.md", IGNORED)]

    async def _sort_updated(self, one: Listed) -> list[Finding]:
        name = one.name("sort UPDATED_DATE")
        newest = await self._page(one, "UPDATED_DATE", "DESC", MANY)
        oldest = await self._page(one, "UPDATED_DATE", "ASC", MANY)
        if len(newest.rows) < 2:
            return [untold(name, "there are fewer than two rows")]
        if _order(newest) == _order(oldest):
            return [
                lie(
                    name,
                    "ignored: edits of contacts are found by full listings alone; set "
                    "sources.crmcom.reconcile_every_days = 0 to have one in each run",
                    IGNORED,
                )
            ]
        if _order(newest) == _order(one.page)[: len(newest.rows)]:
            return [untold(name, "the latest updates stand in the order of creation")]
        return [Finding(name, ok=True, message="honoured", value=HONOURED)]

    # --- asking ---

    async def _page(self, one: Listed, sort: str, order: str, size: int, number: int = 1) -> Page:
        return await page(self._client, one.endpoint, sort, order, size, number)

    async def _deep(self, one: Listed, number: int) -> Page | None:
        """A later page, newest first; None where the server refuses to go so deep."""
        try:
            return await self._page(one, "CREATED_DATE", "DESC", one.served, number)
        except BadRequest:
            return None

    async def _window(self, one: Listed, window: Window) -> Page:
        params = tuple(range_params(window.field, window.start_s, window.end_s))
        return await self._filtered(one, params)

    async def _filtered(self, one: Listed, params: tuple[tuple[str, str], ...]) -> Page:
        paging = (("page", "1"), ("size", str(MANY)))
        return await ask_page(self._client, Request(one.endpoint, params=(*params, *paging)))


def _totals(
    one: Listed,
    total: int,
    *,
    again: int | None,
    counted_older: int | None,
    shown: int,
    beyond: bool,
    repeats: bool,
) -> Finding:
    """`again`: the total, asked last. `counted_older`: that of the rows that are older than the
    newest; as many, where the count stops at a cap. `shown`: rows up to the last page that the
    total announces. `beyond`: whether the next page has more."""
    name = one.name("totals")
    if repeats:
        return untold(name, "a later page repeats the first")
    if again != total:
        return untold(name, "the number of rows changes while it is asked")
    if beyond and counted_older in (None, total):
        message = f"counts to {total:,} and no further: windows that hold more are cut"
        return Finding(name, ok=True, message=message, value=f"capped at {total}")
    if beyond or shown != total:
        rows = "more" if beyond else f"{shown:,}"
        message = f"counts {total:,}, and {rows} rows are shown: a sync cannot prove its listings"
        return lie(name, message, WRONG)
    return Finding(name, ok=True, message=f"exact: {total:,}", value=EXACT)


def _order(page: Page) -> list[str | None]:
    return [r.id for r in page.rows]


class _Stated(msgspec.Struct):
    state: Any = None


def _state(row: Row) -> str | None:
    try:
        state = msgspec.json.decode(row.raw, type=_Stated).state
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return state if isinstance(state, str) else None
