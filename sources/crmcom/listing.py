"""A complete, verified listing of a range. Asks; what the answers prove is `proof.py`'s.

A window that the API cannot list at once (its total stands at the cap, or its pages end before
it does) is cut in two by time, at a row's created date where rows carry one.
"""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from crmcom.counting import Extent
from crmcom.errors import BadRequest, BrokenReply, Evidence, FilterIgnored, Unproven
from crmcom.proof import (
    Listing,
    Pass,
    Proof,
    Window,
    ascending,
    is_snapshot,
    orders,
    shards,
    snapshot,
    untold,
)
from crmcom.protocol import MAX_PAGE_SIZE, OTHER, Request, has_next, range_params, read_page

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence

    from crmcom.endpoints import Endpoint
    from crmcom.protocol import Page, Params, Reply, Row

__all__ = [
    "Asker",
    "Listing",
    "Window",
    "ask_page",
    "cost",
    "first_page",
    "listing",
    "listings",
    "must_have_ids",
    "newest_updated",
    "probe",
]

CAP = 10_000
"""`total` is "accurate up to 10K" on the live API: larger lists report 10000."""

_YEAR_S = 366 * 86_400
_AT_ONCE = 64
_MAX_PAGES = 100_000
_BROKEN_TRIES = 3
_REPEATED_PAGES = 3
_COUNT = (("include_total", "true"),)

Order = tuple[str, str, int]
Found = Listing | list[int]


class Asker(Protocol):
    """Whatever brings replies; it retries by itself and bounds how much is asked at once.

    `saw` is told of each page that was read, for what it shows of the server.
    """

    async def get(self, request: Request) -> Reply: ...

    def saw(self, request: Request, page: Page) -> None: ...


async def probe(
    asker: Asker, endpoint: Endpoint, field: str, now_s: int, params: Params = ()
) -> None:
    """Ask for what lies a year ahead of `now_s`: nothing should. Raises `FilterIgnored`, and
    `BrokenReply` where what is found is no record of this API.

    A record whose date is in milliseconds, or far ahead, does. Where anything is found that does
    not show by its own date that it was not asked for, one second of that range is asked for.
    """
    ahead_s = now_s + _YEAR_S
    for end_s in (None, ahead_s + 1):
        ahead = range_params(field, ahead_s, end_s)
        paging = _paging("CREATED_DATE", "ASC", 1, 1)
        page = await ask_page(asker, Request(endpoint, params=(*params, *ahead, *paging, *_COUNT)))
        if not page.rows and (page.total or 0) == 0:
            return
        if not all(Window(ahead_s, end_s, field).holds(r) for r in page.rows):
            break
    must_have_ids(page, endpoint)
    raise FilterIgnored(
        f"the endpoint ignores the filter {field}[gte]: it finds records a year ahead",
        Evidence(endpoint.name, endpoint.path, 200),
        filter=field,
    )


async def first_page(
    asker: Asker,
    endpoint: Endpoint,
    window: Window,
    *,
    params: Params = (),
    page_size: int = MAX_PAGE_SIZE,
) -> Page:
    """The page that a listing of this window begins with, with a total where there is one.

    Raises `FilterIgnored` where it shows rows that lie outside.
    """
    paging = _paging("CREATED_DATE", "ASC", page_size, 1)
    request = Request(endpoint, params=(*params, *window.params, *paging, *_COUNT))
    page = await ask_page(asker, request)
    if not all(window.holds(row) for row in page.rows):
        raise FilterIgnored(
            f"the endpoint ignores the filter {window.field}: it sends rows of other times",
            Evidence(endpoint.name, endpoint.path, 200),
        )
    return page


def must_have_ids(page: Page, endpoint: Endpoint) -> None:
    """Raises `BrokenReply` where no record has one: another product may use the same envelope."""
    if page.rows and not page.ids:
        raise BrokenReply(
            f"no record of the list has an id, {OTHER}", Evidence(endpoint.name, endpoint.path, 200)
        )


def cost(page: Page, size: int) -> int | None:
    """Requests for the quiet listing that `page` begins; None where the page does not tell."""
    if page.total is not None and page.total >= CAP:
        return None
    if is_snapshot(page, size, len(page.rows)):
        return 1
    if page.total is not None and page.rows:
        return -(-page.total // len(page.rows)) + 1  # the total is asked for once more
    ends = page.has_more is None and len(page.rows) < size
    return 2 if ends else None


async def listings(
    asker: Asker,
    endpoint: Endpoint,
    window: Window,
    *,
    params: Params = (),
    page_size: int = MAX_PAGE_SIZE,
    limit_rows: int | None = None,
    limit_bytes: int | None = None,
    divisible: bool | None = None,
    cap: int = CAP,
    extent: Extent | None = None,
) -> AsyncIterator[Listing]:
    """Yields listings, oldest first, of windows that together are exactly `window`.

    Lazy: nothing is asked for after the caller stops, or after `limit_rows` rows or `limit_bytes`
    bytes of them have come; the last listing's `window.end_s` is the bookmark. `divisible`: whether
    the window may be cut by time, by default where the endpoint documents the filter; False for a
    filter that is known not to work. A total of `cap` or more is no count, and a window that holds
    more is cut. `extent` is told how far it is.
    """
    if divisible is None:
        divisible = window.field in endpoint.filters
    lister = _Lister(
        asker,
        endpoint,
        params=params,
        record_id=None,
        page_size=page_size,
        cap=cap,
        divisible=divisible,
        lively=bool(params) or window.end_s is None,
        extent=extent,
    )
    waiting, rows, size = [window], 0, 0
    max_rows, max_size = limit_rows or math.inf, limit_bytes or math.inf
    while waiting and rows < max_rows and size < max_size:
        asked = waiting.pop()
        found = await lister.read(asked, last=not waiting)
        if isinstance(found, list):
            waiting += reversed(asked.parts(found))
            continue
        done_s = found.window.end_s
        if done_s is not None and done_s != asked.end_s:
            waiting.append(Window(done_s, asked.end_s, asked.field))
        rows += len(found.rows)
        size += sum(len(row.raw) for row in found.rows)
        if extent is not None:
            extent.ends(len(found.rows))
        yield found


async def listing(
    asker: Asker, endpoint: Endpoint, record_id: str, *, page_size: int = MAX_PAGE_SIZE
) -> Listing:
    """All that belongs to one record. Such a list knows no filters, and is not cut."""
    lister = _Lister(
        asker,
        endpoint,
        params=(),
        record_id=record_id,
        page_size=page_size,
        cap=CAP,
        divisible=False,
        lively=True,
    )
    found = await lister.read(Window())
    assert isinstance(found, Listing)  # noqa: S101  only a divisible window is cut
    return found


async def newest_updated(
    asker: Asker,
    endpoint: Endpoint,
    *,
    params: Params = (),
    page_size: int = MAX_PAGE_SIZE,
    cap: int = CAP,
) -> AsyncIterator[Page]:
    """Yields pages, latest update first; lazy, so stop it where the last walk began.

    Coming to its end means that the list was walked to its end. Raises `Unproven` where the
    server gives no more before that: it refuses or empties a page that should be there, or
    repeats pages (a few in a row are records that were updated meanwhile).
    """
    size, number, served, repeated, due = page_size, 1, 0, 0, False
    seen: set[str] = set()
    while True:
        paging = _paging("UPDATED_DATE", "DESC", size, number)
        request = Request(endpoint, params=(*params, *paging))
        try:
            page = await ask_page(asker, request)
        except BadRequest as error:
            if number == 1:
                raise
            raise Unproven(f"no page {number} of the latest updates", error.evidence) from error
        missing = not page.rows and due
        repeated = 0 if page.ids - seen else repeated + 1
        if missing or repeated > _REPEATED_PAGES:
            what = "an empty page" if missing else "known rows again"
            raise Unproven(
                f"page {number} of the latest updates is {what}, and more should follow",
                Evidence(endpoint.name, request.path, 200),
            )
        yield page
        seen |= page.ids
        served = served or len(page.rows)
        told = page.total is not None and page.total < cap
        if not has_next(page if told else untold(page), number, served):
            return
        due = bool(page.has_more) and len(page.rows) >= served
        number += 1


class _Lister:
    """Lists one window after another, and keeps what it learns of the server meanwhile.

    `cap`: the total from which on it is no count. `counts`: whether totals are worth anything.
    `reach`: how many rows deep one may page.
    `served`: the most rows that ever were on a page. `lively`: records may enter a window as well
    as leave it, which two totals cannot tell apart; then every page is asked for its total.
    """

    def __init__(
        self,
        asker: Asker,
        endpoint: Endpoint,
        *,
        params: Params,
        record_id: str | None,
        page_size: int,
        cap: int,
        divisible: bool,
        lively: bool,
        extent: Extent | None = None,
    ) -> None:
        self._asker = asker
        self._endpoint = endpoint
        self._params = params
        self._record_id = record_id
        self._size = page_size
        self._in_time: Order = ("CREATED_DATE", "ASC", page_size)
        self._cap = self._reach = cap
        self._counts = True
        self._served = 0
        self._divisible = divisible
        self._lively = lively
        self._extent = extent or Extent()

    async def read(self, window: Window, *, last: bool = True) -> Found:
        """A listing of the window or of its beginning, or the seconds at which to cut it.

        `last`: no other window waits.
        """
        self._extent.reading = 0
        first = await self._page(window, self._in_time, 1, count=True)
        fits = first.total is not None and first.total < self._cap
        self._extent.begins(first.total if fits else None, last=last)
        if self._is_snapshot(first):
            return snapshot(window, first.rows, first.total, "one reply holds it all")
        if first.total is None and first.has_more is None and len(first.rows) < self._size:
            # Not told of any more, it may be all, or all that the server puts on a page.
            second = await self._deep_page(window, self._in_time, 2)
            if second is not None and not second.rows:
                return snapshot(window, first.rows, None, "a short page, and nothing after it")
        found: Found = []
        if first.total is None and self._dated(window, first):
            found = await self._chain(window, first)
        if not found and self._divisible:
            found = await self._oversized(window, first)
        return found or await self._passes(window, first, last=last)

    async def _chain(self, window: Window, page: Page) -> Found:
        """Each reply is a snapshot of all before its last second; the next begins there.

        So no change in between can hide a row, and no total is needed. Covers the window or
        its beginning, or says where to cut it; nothing where the dates are no help.
        """
        rows: list[Row] = []
        at_s = window.start_s
        why = "each reply begins where the one before it ends"
        while len(rows) < self._cap:
            if self._is_snapshot(page):
                return snapshot(window, [*rows, *page.rows], None, why)
            if not ascending(page):
                break
            at_s = page.rows[-1].created_on or 0
            rows += [r for r in page.rows if (r.created_on or 0) < at_s]
            page = await self._page(Window(at_s, window.end_s, window.field), self._in_time, 1)
        if at_s is not None and at_s != window.start_s:
            return snapshot(Window(window.start_s, at_s, window.field), rows, None, why)
        dates = {r.created_on for r in page.rows}
        return window.cut(dates.pop()) if len(dates) == 1 else []

    async def _oversized(self, window: Window, first: Page) -> list[int]:
        """Where to cut a window that holds more than can be listed at once; nothing if it fits.

        The deepest page that can be had tells the date before which as much as possible lies;
        where there is no total, it also tells whether the window is that large.
        """
        total, served = first.total, max(1, len(first.rows))
        if total is not None and total < self._cap and total <= self._reach:
            return []
        dated = self._dated(window, first)
        if total is not None and not dated and window.start_s is None and window.end_s == 0:
            raise self._ignored(window, f"it counts {total} records before 1970")
        number = self._reach // served
        while number > 1 and (total is None or dated):
            page = await self._deep_page(window, self._in_time, number)
            if page is not None and page.ids - first.ids:
                return window.cut(_latest(page.rows))
            if total is None:
                return []  # it is not; or the walk will find how deep one may go
            number //= 2
            self._reach = max(1, number) * served
        return [] if total is None else window.cut(_latest(first.rows))

    async def _passes(self, window: Window, first: Page, *, last: bool) -> Found:
        """Passes that differ, until they prove the window or cannot, or show where to cut it."""
        trusted = self._cap, self._counts
        done = await self._walk(window, self._in_time, first)
        if trusted != (self._cap, self._counts):
            return await self.read(window, last=last)
        if done.stopped and self._divisible:
            cuts = window.cut(_latest(done.rows.values()))
            if cuts:
                return cuts
        proof = Proof(window, at_least=first.total or 0)
        proof.add(done)
        doubtful = done.doubtful
        one_page = len(done) <= len(first.rows) and (first.total or 0) <= self._served
        for order in orders(self._size if one_page else len(first.rows), len(done)):
            if proof.finished:
                break
            if proof.passes == 2 and proof.moving and not one_page and self._dated(window, first):
                # What fits on one page cannot move.
                cuts = shards(window, proof.rows, len(first.rows), first.total or 0)
                if cuts:
                    return cuts
            try:
                again = await self._page(window, order, 1, count=True)
            except BadRequest:
                continue  # this endpoint does not take this sort
            done = await self._walk(window, order, again)
            proof.add(done)
            doubtful &= done.doubtful
        # All passes ended with a full page, whatever its size: hardly the list's own end.
        cuts = window.cut() if doubtful and self._divisible else []
        return cuts or proof.listing()

    async def _walk(self, window: Window, order: Order, first: Page) -> Pass:
        """One pass: the pages that the total announces at once, others as they follow."""
        done = Pass(counted=first.total is not None and first.total < self._cap)
        done.add(first)
        served = len(first.rows) or order[2]
        announced = -(-(first.total or 0) // served)
        pages = await self._pages(window, order, range(2, announced + 1))
        page, number, taken, beyond = first, 1, len(first.rows), False
        while number < announced or has_next(untold(page), number, served):
            number += 1
            if number not in pages:
                # Ahead by a twentieth of what was walked: at most so much is asked in vain.
                ahead = min(_AT_ONCE, max(1, number // 20))
                pages = await self._pages(window, order, range(number, number + ahead))
            following = pages.pop(number)
            if following is None or not following.rows:
                told = page.has_more
                if told is None and (done.counted or number <= announced):
                    told = number <= announced
                full = len(page.rows) >= (order[2] if number == 2 else served)
                done.stopped = following is None or (full and told is True)
                done.doubtful = full and told is None
                done.whole = not (done.stopped or done.doubtful)
                if following is None or (done.stopped and number <= announced):
                    self._reach = min(self._reach, (number - 1) * served)
                if done.stopped and len(done) == first.total:
                    done.counted = False  # a total that only says how deep one may go
                break
            fresh, page, taken = done.add(following), following, taken + len(following.rows)
            if number > announced and following.ids == first.ids:
                # It begins anew: a list without an end, of which a total can tell the length.
                done.whole = done.counted
                break
            beyond = done.counted and taken > (first.total or 0)
            if beyond or (number > announced and not fresh) or number >= _MAX_PAGES:
                break  # a total that is none, or a page that repeats
        else:
            done.whole = True
        if done.counted:
            last = await self._page(window, (*order[:2], 1), 1, count=True)
            done.totals.append(last.total)
            if beyond and done.steady:
                self._refuted(first.total or 0, ends=not has_next(untold(page), number, served))
        return done

    def _refuted(self, total: int, *, ends: bool) -> None:
        """More rows came than a total that did not grow: it stops counting there, or is wrong."""
        if ends:
            self._counts = False
        else:
            self._cap = total
            self._reach = min(self._reach, max(total, self._served))

    def _dated(self, window: Window, page: Page) -> bool:
        """Whether the window may be cut at its rows' dates."""
        return (
            self._divisible
            and window.field == "created_on"
            and any(r.created_on is not None for r in page.rows)
        )

    def _is_snapshot(self, page: Page) -> bool:
        capped = page.total is not None and page.total >= self._cap
        return is_snapshot(untold(page) if capped else page, self._size, self._served)

    async def _pages(
        self, window: Window, order: Order, numbers: Sequence[int]
    ) -> dict[int, Page | None]:
        found: dict[int, Page | None] = {}
        waiting = iter(numbers)

        async def work() -> None:
            for number in waiting:
                refused = None in found.values()
                found[number] = None if refused else await self._deep_page(window, order, number)

        workers = [asyncio.create_task(work()) for _ in range(min(_AT_ONCE, len(numbers)))]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
        return found

    async def _deep_page(self, window: Window, order: Order, number: int) -> Page | None:
        """A page after the first; None where the server refuses to go so deep."""
        try:
            return await self._page(window, order, number, count=self._lively)
        except BadRequest:
            return None

    async def _page(
        self, window: Window, order: Order, number: int, *, count: bool = False
    ) -> Page:
        paging = _paging(*order, number)
        params = (*self._params, *window.params, *paging, *(_COUNT if count else ()))
        request = Request(self._endpoint, self._record_id, params)
        page = await ask_page(self._asker, request)
        stray = next((r for r in page.rows if not window.holds(r)), None)
        if stray is not None:
            raise self._ignored(window, f"it sent {stray.id} of {stray.created_on}")
        self._served = max(self._served, len(page.rows))
        self._extent.reading += len(page.rows)
        counted = self._counts and page.total is not None and page.total >= len(page.rows)
        return page if counted else untold(page)

    def _ignored(self, window: Window, instead: str) -> FilterIgnored:
        return FilterIgnored(
            f"the endpoint ignores the filter {window.field}: asked for "
            f"[{window.start_s}, {window.end_s}), {instead}",
            Evidence(self._endpoint.name, self._endpoint.path, 200),
            filter=window.field,
        )


def _paging(sort: str, order: str, size: int, number: int) -> Params:
    return (("sort", sort), ("order", order), ("page", str(number)), ("size", str(size)))


async def ask_page(asker: Asker, request: Request) -> Page:
    """Ask again where a reply is JSON and no list: the client cannot know that one was due."""
    for _ in range(_BROKEN_TRIES - 1):
        try:
            return await _seen(asker, request)
        except BrokenReply:
            continue
        except BadRequest:
            if not set(_COUNT) <= set(request.params):
                raise
            # `include_total` is not in the reference: a strict server may refuse it.
            request = replace(request, params=tuple(p for p in request.params if p not in _COUNT))
    return await _seen(asker, request)


async def _seen(asker: Asker, request: Request) -> Page:
    page = read_page(await asker.get(request))
    asker.saw(request, page)
    return page


def _latest(rows: Iterable[Row]) -> int | None:
    return max((r.created_on for r in rows if r.created_on is not None), default=None)
