"""What an API allows us and how it behaves, asked on purpose with a few dozen requests.

Each question says what came of it, or honestly that it cannot tell: an empty tenant shows nothing
of its filters, and one with a single page nothing of its paging.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from crmcom.client import CLOCK_TOLERANCE_S, Client
from crmcom.endpoints import (
    GET_ACCOUNT,
    GET_ACTIVITY,
    GET_ACTIVITY_TAGS,
    GET_CONTACT,
    LIST_ACTIVITIES,
    LIST_CONTACT_ACCOUNTS,
    LIST_CONTACTS,
)
from crmcom.errors import (
    BadRequest,
    BrokenReply,
    CrmcomError,
    Evidence,
    FilterIgnored,
    Forbidden,
    LoginRefused,
    NotFound,
    SettingsError,
    Unavailable,
    Unproven,
)
from crmcom.facts import (
    EXACT,
    HONOURED,
    IGNORED,
    MILLISECONDS,
    NONE,
    RIGHT,
    WRONG,
    Facts,
    epoch_unit,
    fact,
)
from crmcom.listing import Window, ask_page, probe
from crmcom.protocol import Request, range_params, read_page
from crmcom.retrying import Patience
from crmcom.settings import ApiKey, Token

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    from crmcom.endpoints import Endpoint
    from crmcom.protocol import Page, Row
    from crmcom.settings import Settings

LIMIT_S = 90
"""For all questions together."""

TIMEOUT_S = 20
"""For one try: the API's slowest answers take 16 s."""

PATIENCE = Patience(tries=3, first_wait_s=0.3, longest_wait_s=2, total_s=20)
"""A person waits for the answer: an endpoint that fails is said to fail within seconds."""

LARGE = 200
"""More rows than the live API puts on a page."""

MANY = 100
FEW_CONTACTS = 5
"""Contacts asked for an account: most have one."""

NEVER_S = 253_402_300_800
UNPROVABLE = Unproven.exit_code


@dataclass(frozen=True, slots=True)
class Finding:
    """What came of one question.

    `ok`: None where it could not be told. `message`: one line, with what to do where `ok` is
    False. `value`: what was found, for machines. `exit_code`: what `crmcom check` ends with
    because of it, unless something worse is found.
    """

    name: str
    ok: bool | None
    message: str
    value: str | int | float | None = None
    exit_code: int = 0

    def as_json(self) -> dict[str, Any]:
        return {"name": self.name, "ok": self.ok, "message": self.message, "value": self.value}


def facts_of(findings: Sequence[Finding]) -> Facts:
    """What was learned of the API's behaviour: the part that is worth remembering."""
    return {f.name: f.value for f in findings if ": " in f.name and isinstance(f.value, int | str)}


def said(error: CrmcomError) -> str:
    """An error as one line: what it is, and what the server answered."""
    evidence = error.evidence or Evidence("")
    came = " ".join(x for x in (str(evidence.status or ""), evidence.message) if x)
    return " ".join(f"{error.message} ({came})".split()) if came else error.message


def failed(name: str, error: CrmcomError) -> Finding:
    """The finding for what an error ended, with its cause."""
    status = error.evidence.status if error.evidence else None
    return Finding(name, ok=False, message=said(error), value=status, exit_code=error.exit_code)


async def examine(
    settings: Settings, resources: Sequence[str], found: list[Finding], **client: Any
) -> None:
    """Ask all that a sync of `resources` relies on, and add what comes of it to `found`.

    Takes `LIMIT_S` at most and raises nothing that the API or the network does. `client` are
    options of `Client`.
    """
    hurried = replace(settings, request_timeout_s=min(TIMEOUT_S, settings.request_timeout_s))
    try:
        async with (
            asyncio.timeout(LIMIT_S),
            Client(hurried, **{"patience": PATIENCE, **client}) as asker,
        ):
            await _Examination(asker, resources, found).run()
    except TimeoutError:
        found.append(
            Finding(
                "time",
                ok=False,
                message=f"the API did not answer all questions in {LIMIT_S} s: run again later",
                exit_code=Unavailable.exit_code,
            )
        )
    except CrmcomError as error:  # the environment's proxy or certificates, say
        found.append(failed("connection", error))


@dataclass(slots=True)
class _List:
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

    @property
    def one_page(self) -> bool:
        """Whether the server says that this page is all."""
        page = self.page
        if page.has_more is not None:
            return not page.has_more
        return page.total is not None and page.total <= len(page.rows)

    def name(self, what: str) -> str:
        return fact(self.resource, what)


class _Examination:
    def __init__(self, client: Client, resources: Sequence[str], found: list[Finding]) -> None:
        self._client = client
        self._resources = resources
        self._full_scan = tuple(client.settings.full_scan)
        self._found = found

    async def run(self) -> None:
        wanted = [
            endpoint
            for endpoint, needed_by in (
                (LIST_CONTACTS, {"contacts", "accounts"}),
                (LIST_ACTIVITIES, {"activities"}),
            )
            if needed_by & set(self._resources)
        ]
        lists, errors = await self._first_pages(wanted)
        if not self._connected(lists, errors):
            return
        for endpoint, error in errors.items():
            self._found.append(failed(endpoint.name, error))
        for one in lists:
            total = one.page.total
            rows = "rows not counted" if total is None else f"{total:,} rows"
            answered = f"answers ({rows}, {one.seconds:.1f} s)"
            self._found.append(Finding(one.endpoint.name, ok=True, message=answered, value=200))
        await self._records({one.resource: one.page for one in lists})
        for one in lists:
            if one.resource in self._resources:
                await self._behaviour(one)

    # --- who we are, and whether anybody answers ---

    async def _first_pages(
        self, endpoints: Sequence[Endpoint]
    ) -> tuple[list[_List], dict[Endpoint, CrmcomError]]:
        lists: list[_List] = []
        errors: dict[Endpoint, CrmcomError] = {}
        for endpoint in endpoints:
            began_s = time.monotonic()
            try:
                page = await self._page(endpoint, "CREATED_DATE", "DESC", LARGE)
            except CrmcomError as error:
                errors[endpoint] = error
                if isinstance(error, LoginRefused | SettingsError):
                    break
            else:
                lists.append(_List(endpoint, page, time.monotonic() - began_s))
        return lists, errors

    def _connected(self, lists: list[_List], errors: dict[Endpoint, CrmcomError]) -> bool:
        """Says who we are to the API and how its clock stands, or why nothing can be asked."""
        add = self._found.append
        for error in errors.values():
            if isinstance(error, LoginRefused):
                add(failed("credentials", error))
                return False
            if isinstance(error, SettingsError):
                add(failed("connection", error))
                return False
        known = lists or any(isinstance(e, Forbidden) for e in errors.values())
        if not known:
            add(self._unreached(list(errors.values())))
            return False
        if lists:
            add(Finding("credentials", ok=True, message=self._credentials(), value=self._way()))
        else:
            add(_untold("credentials", "every list refuses us"))
        add(self._clock([one.page.answered_at for one in lists]))
        return True

    def _unreached(self, errors: list[CrmcomError]) -> Finding:
        """One line for one cause: no list answers as the API does."""
        first = errors[0]
        if isinstance(first, NotFound):
            return replace(failed("connection", first), exit_code=SettingsError.exit_code)
        return failed("connection", first)

    def _way(self) -> str:
        who = self._client.settings.credentials
        return {ApiKey: "api_key", Token: "access_token"}.get(type(who), "login")

    def _credentials(self) -> str:
        told = {
            "api_key": "the API accepts the key",
            "access_token": "the API accepts the token; it cannot be renewed from here",
            "login": "the API accepts the login",
        }[self._way()]
        more = self._client.learned.notices.get("password")
        return f"{told}; {more}" if more else told

    def _clock(self, told: list[datetime | None]) -> Finding:
        at = next((t for t in told if t is not None), None)
        if at is None:
            return Finding(
                "clock",
                ok=None,
                message="could not tell: replies have no Date, so this machine's clock counts",
            )
        ahead_s = round((at - datetime.now(UTC)).total_seconds())
        told_s = f"the server's clock is {abs(ahead_s):,} s {'ahead' if ahead_s > 0 else 'behind'}"
        if abs(ahead_s) <= CLOCK_TOLERANCE_S:
            return Finding("clock", ok=True, message=told_s, value=ahead_s)
        message = (
            f"{told_s}; a sync goes by the server's, so nothing is lost: set this machine's if it "
            "is the wrong one"
        )
        return Finding("clock", ok=True, message=message, value=ahead_s)

    # --- single records ---

    async def _records(self, pages: dict[str, Page]) -> None:
        """Asks each endpoint of one record about one that the lists show."""
        contacts = _ids(pages.get("contacts"))
        if "contacts" in self._resources:
            await self._record(GET_CONTACT, contacts[:1], "contact")
        if "accounts" in self._resources:
            accounts = await self._accounts(contacts[:FEW_CONTACTS])
            await self._record(GET_ACCOUNT, accounts[:1], "account")
        if "activities" in self._resources:
            activities = _ids(pages.get("activities"))
            await self._record(GET_ACTIVITY, activities[:1], "activity")
            await self._record(GET_ACTIVITY_TAGS, activities[:1], "activity")

    async def _record(self, endpoint: Endpoint, ids: list[str], kind: str) -> None:
        if not ids:
            self._untold(endpoint.name, f"there is no {kind} to ask about")
            return
        try:
            reply = await self._client.get(Request(endpoint, ids[0]))
            if endpoint.sender == "list":
                read_page(reply)
            elif not _has_id(reply.body):
                raise BrokenReply(
                    f"the reply is no {kind}: it has no id",
                    Evidence(endpoint.name, reply.request.path, 200),
                )
        except CrmcomError as error:
            self._found.append(failed(endpoint.name, _of_shown(error, ids[0])))
        else:
            self._found.append(Finding(endpoint.name, ok=True, message="answers", value=200))

    async def _accounts(self, contacts: list[str]) -> list[str]:
        """The first account that one of these contacts has."""
        name = LIST_CONTACT_ACCOUNTS.name
        for contact in contacts:
            params = (("page", "1"), ("size", "1"))
            try:
                page = await ask_page(self._client, Request(LIST_CONTACT_ACCOUNTS, contact, params))
            except CrmcomError as error:
                self._found.append(failed(name, _of_shown(error, contact)))
                return []
            if page.rows or contact == contacts[-1]:
                self._found.append(Finding(name, ok=True, message="answers", value=200))
                return _ids(page)
        self._untold(name, "there is no contact to ask about")
        return []

    # --- behaviour ---

    async def _behaviour(self, one: _List) -> None:
        if not one.page.rows:
            for what in ("page size cap", "totals", "has_more", "filter created_on"):
                self._untold(one.name(what), f"there are no {one.resource}")
            return
        dated = self._epoch_unit(one)
        for what, ask in self._questions(one, dated=dated):
            try:
                findings = await ask()
            except (Forbidden, Unavailable, BrokenReply, NotFound, BadRequest) as error:
                self._untold(one.name(what), said(error))
            else:
                self._found += findings

    def _questions(
        self, one: _List, *, dated: bool
    ) -> Iterator[tuple[str, Callable[[], Awaitable[list[Finding]]]]]:
        yield "totals", lambda: self._paging(one)
        yield "filter created_on", lambda: self._created_on(one, dated=dated)
        yield "sort CREATED_DATE", lambda: self._sort_created(one, dated=dated)
        if one.endpoint is LIST_CONTACTS:
            yield "sort UPDATED_DATE", lambda: self._sort_updated(one)
        else:
            yield "filter states", lambda: self._states(one)
            yield "filter completed_on", lambda: self._completed_on(one)

    def _epoch_unit(self, one: _List) -> bool:
        """Whether rows carry created dates that can be used."""
        unit = next((u for u in map(epoch_unit, one.page.rows) if u), None)
        if unit is None:
            if one.endpoint is LIST_ACTIVITIES:
                self._untold(one.name("epoch unit"), "no row has a created date")
            return False
        if unit == MILLISECONDS:
            self._lies(
                one.name("epoch unit"),
                "created dates are in milliseconds, and filters are asked in seconds: rows are "
                "rejected; ask CRM.COM's support",
                unit,
            )
            return False
        self._found.append(
            Finding(one.name("epoch unit"), ok=True, message=f"dates are in {unit}", value=unit)
        )
        return True

    async def _paging(self, one: _List) -> list[Finding]:
        """Page size, totals and `has_more`, by the last page and the one after it."""
        page, total = one.page, one.page.total
        if total is None:
            second = await self._page(one.endpoint, "CREATED_DATE", "DESC", LARGE, 2)
            beyond = bool(second.ids - page.ids)
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
                self._has_more(one, told=page.has_more, more=not whole, repeats=repeats),
            ]
        served, number = one.served, max(1, -(-total // one.served))
        last = page if number == 1 else await self._deep(one, number)
        after = await self._deep(one, number + 1)
        if last is None or after is None:
            untold = Finding(
                one.name("totals"),
                ok=None,
                message=f"could not tell: {total:,}, and the server refuses to page so deep",
            )
            return [self._cap(one, more=True), untold]
        again = await self._page(one.endpoint, "CREATED_DATE", "DESC", 1)
        shown = (number - 1) * served + len(last.rows)
        repeats = number > 1 and bool(last.rows) and last.ids == page.ids
        more = total > len(page.rows)
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
            self._has_more(one, told=page.has_more, more=more or bool(after.rows), repeats=repeats),
        ]

    async def _counted_older(self, one: _List) -> int | None:
        newest_s = max((r.created_on for r in one.page.rows if r.created_on), default=None)
        if newest_s is None:
            return None
        older = Window(None, newest_s).params
        params = (*older, ("page", "1"), ("size", "1"), ("include_total", "true"))
        return (await ask_page(self._client, Request(one.endpoint, params=params))).total

    def _cap(self, one: _List, *, more: bool) -> Finding:
        name, rows = one.name("page size cap"), len(one.page.rows)
        if rows >= LARGE:
            return Finding(name, ok=True, message=f"none up to {LARGE} rows", value=rows)
        if not more:
            return Finding(name, ok=None, message=f"could not tell: one page holds all {rows}")
        message = f"{rows} rows on a page at most"
        if rows < self._client.settings.page_size:
            message += ", fewer than sources.crmcom.page_size: listings take more requests"
        return Finding(name, ok=True, message=message, value=rows)

    def _has_more(self, one: _List, *, told: bool | None, more: bool, repeats: bool) -> Finding:
        name = one.name("has_more")
        if repeats:
            return _lie(name, "a later page repeats the first: lists cannot be read whole", WRONG)
        if told is None:
            other = "totals tell" if one.page.total is not None else "a short page tells"
            return Finding(
                name, ok=True, message=f"not told: {other} where a list ends", value=NONE
            )
        if told != more:
            wrong = "says that more follows, and nothing does"
            if more:
                wrong = "says that nothing follows, and more does"
            return _lie(name, f"the first page {wrong}", WRONG)
        return Finding(name, ok=True, message="tells where a list ends", value=RIGHT)

    async def _created_on(self, one: _List, *, dated: bool) -> list[Finding]:
        name, rows = one.name("filter created_on"), one.page.rows
        if ignored := await self._ignores(one, "created_on"):
            return [ignored]
        if dated:
            at = next(r for r in rows if r.created_on is not None)
            second = Window(at.created_on, (at.created_on or 0) + 1)
            page = await self._window(one, second)
            if not all(second.holds(r) for r in page.rows):
                return [self._ignored(one, "created_on", "its upper end")]
            if at.id not in page.ids and not page.has_more:
                return [_untold(name, f"it does not find {at.id} by its created date")]
            return [Finding(name, ok=True, message="honoured", value=HONOURED)]
        before = await self._window(one, Window(None, 0))
        if before.rows and before.ids >= {r.id for r in rows[: len(before.rows)]}:
            return [self._ignored(one, "created_on", "its upper end")]
        everything = await self._window(one, Window(0, NEVER_S))
        if not everything.rows:
            return [_untold(name, "it finds nothing, whatever the range: a sync lists by it")]
        return [Finding(name, ok=True, message="honoured", value=HONOURED)]

    async def _ignores(self, one: _List, what: str) -> Finding | None:
        """What a range finds in which nothing should be."""
        now_s = int(self._client.server_now().timestamp())
        try:
            await probe(self._client, one.endpoint, what, now_s)
        except FilterIgnored:
            return self._ignored(one, what)
        except BadRequest as error:
            return _lie(one.name(f"filter {what}"), f"refused: {said(error)}", "refused")
        return None

    def _ignored(self, one: _List, what: str, part: str = "") -> Finding:
        name = one.name(f"filter {what}")
        which = f"ignored ({part})" if part else "ignored"
        if one.resource in self._full_scan:
            message = f"{which}; full_scan lists {one.resource} whole instead"
            return Finding(name, ok=True, message=message, value=IGNORED)
        return _lie(
            name,
            f"{which}: nothing would be loaded; set sources.crmcom.full_scan = "
            f'["{one.resource}"], or pass --full-scan',
            IGNORED,
        )

    async def _states(self, one: _List) -> list[Finding]:
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
            return [_lie(name, f"it finds none of the {missing[0]} ones that there are", WRONG)]
        if not shown - {None}:
            return [_untold(name, "no row has a state")]
        return [Finding(name, ok=True, message="honoured", value=HONOURED)]

    async def _completed_on(self, one: _List) -> list[Finding]:
        name = one.name("filter completed_on")
        if ignored := await self._ignores(one, "completed_on"):
            return [ignored]
        ever = await self._window(one, Window(0, NEVER_S, "completed_on"))
        if not ever.rows:
            return [_untold(name, "it finds nothing: perhaps none is completed")]
        return [Finding(name, ok=True, message="honoured", value=HONOURED)]

    async def _sort_created(self, one: _List, *, dated: bool) -> list[Finding]:
        name = one.name("sort CREATED_DATE")
        oldest = await self._page(one.endpoint, "CREATED_DATE", "ASC", LARGE)
        if len(one.page.rows) < 2:
            return [_untold(name, "there are fewer than two rows")]
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
        return [_lie(name, "ignored, and nothing is counted: see docs/completeness.md", IGNORED)]

    async def _sort_updated(self, one: _List) -> list[Finding]:
        name = one.name("sort UPDATED_DATE")
        newest = await self._page(one.endpoint, "UPDATED_DATE", "DESC", MANY)
        oldest = await self._page(one.endpoint, "UPDATED_DATE", "ASC", MANY)
        if len(newest.rows) < 2:
            return [_untold(name, "there are fewer than two rows")]
        if _order(newest) == _order(oldest):
            return [
                _lie(
                    name,
                    "ignored: edits of contacts are found by full listings alone; set "
                    "sources.crmcom.reconcile_every_days = 0 to have one in each run",
                    IGNORED,
                )
            ]
        if _order(newest) == _order(one.page)[: len(newest.rows)]:
            return [_untold(name, "the latest updates stand in the order of creation")]
        return [Finding(name, ok=True, message="honoured", value=HONOURED)]

    # --- asking ---

    async def _page(
        self, endpoint: Endpoint, sort: str, order: str, size: int, number: int = 1
    ) -> Page:
        params = (
            *(("sort", sort), ("order", order), ("page", str(number)), ("size", str(size))),
            ("include_total", "true"),
        )
        return await ask_page(self._client, Request(endpoint, params=params))

    async def _deep(self, one: _List, number: int) -> Page | None:
        """A later page, newest first; None where the server refuses to go so deep."""
        try:
            return await self._page(one.endpoint, "CREATED_DATE", "DESC", one.served, number)
        except BadRequest:
            return None

    async def _window(self, one: _List, window: Window) -> Page:
        params = tuple(range_params(window.field, window.start_s, window.end_s))
        return await self._filtered(one, params)

    async def _filtered(self, one: _List, params: tuple[tuple[str, str], ...]) -> Page:
        paging = (("page", "1"), ("size", str(MANY)))
        return await ask_page(self._client, Request(one.endpoint, params=(*params, *paging)))

    def _untold(self, name: str, why: str) -> None:
        self._found.append(_untold(name, why))

    def _lies(self, name: str, message: str, value: str) -> None:
        self._found.append(_lie(name, message, value))


def _totals(
    one: _List,
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
        return _untold(name, "a later page repeats the first")
    if again != total:
        return _untold(name, "the number of rows changes while it is asked")
    if beyond and counted_older in (None, total):
        message = f"counts to {total:,} and no further: windows that hold more are cut"
        return Finding(name, ok=True, message=message, value=f"capped at {total}")
    if beyond or shown != total:
        rows = "more" if beyond else f"{shown:,}"
        message = f"counts {total:,}, and {rows} rows are shown: a sync cannot prove its listings"
        return _lie(name, message, WRONG)
    return Finding(name, ok=True, message=f"exact: {total:,}", value=EXACT)


def _untold(name: str, why: str) -> Finding:
    return Finding(name, ok=None, message=f"could not tell: {why}")


def _lie(name: str, message: str, value: str) -> Finding:
    return Finding(name, ok=False, message=message, value=value, exit_code=UNPROVABLE)


def _of_shown(error: CrmcomError, record_id: str) -> CrmcomError:
    """A 404 for a record that a list has just shown says something of the endpoint."""
    if not isinstance(error, NotFound):
        return error
    return NotFound(
        f"not found, although its list shows {record_id}: the endpoint is missing here, or the "
        "record was deleted this moment",
        error.evidence,
    )


def _ids(page: Page | None) -> list[str]:
    return [r.id for r in page.rows if r.id is not None] if page else []


def _order(page: Page) -> list[str | None]:
    return [r.id for r in page.rows]


class _Identified(msgspec.Struct):
    id: Any = None


class _Stated(msgspec.Struct):
    state: Any = None


def _has_id(body: bytes) -> bool:
    return msgspec.json.decode(body, type=_Identified).id is not None


def _state(row: Row) -> str | None:
    try:
        state = msgspec.json.decode(row.raw, type=_Stated).state
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return state if isinstance(state, str) else None
