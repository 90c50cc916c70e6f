"""What the next run will ask, told from what the warehouse holds and a handful of requests.

The decisions are those of the run itself: the same `due` window, the same choice of accounts, the
same walk and the same details, asked of the first page of each list instead of all of them. What
lies behind a first page is told by its total.
"""

from __future__ import annotations

import contextlib
import copy
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from crmcom.accounts import accounts_of, due_accounts, pending
from crmcom.activities import (
    OPEN_ONLY,
    completed_windows,
    half_merged,
    must_be_open,
    to_detail,
    was_open,
)
from crmcom.contacts import HEAD, UNMOVED, Walk
from crmcom.endpoints import GET_ACCOUNT, LIST_ACTIVITIES, LIST_CONTACTS
from crmcom.errors import (
    Answered,
    BrokenReply,
    CrmcomError,
    LoginRefused,
    SettingsError,
    Unavailable,
    Unproven,
    Unreachable,
)
from crmcom.feed import Feed, raws
from crmcom.listing import CAP, Window, cost, first_page, must_have_ids, newest_updated, probe
from crmcom.protocol import has_next
from crmcom.resources import READERS, same_tenant
from crmcom.retrying import Patience
from crmcom.run import at_epoch, epoch_s
from crmcom.settings import Login
from crmcom.windows import due

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from datetime import datetime

    import pyarrow as pa

    from crmcom.client import Client
    from crmcom.endpoints import Endpoint
    from crmcom.protocol import Page, Row
    from crmcom.run import Run
    from crmcom.stored import Stored
    from crmcom.windows import Plan

MAX_ASKED = 8
"""Requests of a plan where nothing fails; what would be nice to know is not asked beyond."""

PATIENCE = Patience(tries=2, misrouted=2, longest_wait_s=2, total_s=20)
"""Who asks for a plan is waiting for it, and wants to know of a server that fails."""

TIMEOUT_S = 20
"""The longest that a plan waits for one reply: a run may wait longer."""

SAMPLE = 3
"""Contacts whose accounts are counted where the warehouse holds none. As many more are taken to
have one account each, as most have: so few tell little."""

Mode = Literal["unknown", "first load", "incremental", "reconcile", "full scan", "refresh"]


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that a resource will ask. `rows`: what it will find, None where it has none.

    `at_least`: the server does not tell how many, so there may be more.
    """

    what: str
    requests: int
    rows: int | None = None
    window: Window | None = None
    at_least: bool = False


@dataclass(slots=True)
class Forecast:
    """What one resource will ask. `why`: the reason of its mode.

    `reconciled_at`, `reconcile_due_at`: naive UTC; when everything was listed, and is to be again.
    """

    resource: str
    mode: Mode = "unknown"
    why: str = ""
    steps: list[Step] = field(default_factory=list)
    reconciled_at: datetime | None = None
    reconcile_due_at: datetime | None = None
    error: CrmcomError | None = None

    @property
    def requests(self) -> int:
        return sum(step.requests for step in self.steps)

    @property
    def at_least(self) -> bool:
        return self.error is not None or any(step.at_least for step in self.steps)


@dataclass(slots=True)
class Forecasts:
    """`asked`: what the plan itself has asked; `latency_s`: how long a request took, on average."""

    resources: dict[str, Forecast]
    notices: list[str]
    asked: int
    latency_s: float


async def forecast(run: Run, states: Mapping[str, Any], stored: Stored) -> Forecasts:
    """What `run` would ask. `states`: what each resource remembers.

    Raises `SettingsError` and `LoginRefused` as the run would, and `Unavailable` where the server
    cannot be reached; what one resource meets stands in its forecast.
    """
    same_tenant(run, states.values())
    client = await run.enter()
    begun_s = time.monotonic()
    try:
        planner = _Planner(run, client, states, stored)
        # Accounts follow from contacts, and what they sample is what is left to be asked.
        for name in sorted(run.resources, key=lambda name: name == "accounts"):
            await planner.plan(name)
        took_s = time.monotonic() - begun_s
        asked = client.stats.requests
    finally:
        await run.leave()
    found = {name: planner.found[name] for name in run.resources}
    _refuse_if_nothing_is_known(found)
    return Forecasts(found, list(dict.fromkeys(run.notices)), asked, took_s / max(1, asked))


def _refuse_if_nothing_is_known(found: Mapping[str, Forecast]) -> None:
    """One cause where no list could be read: that of the first."""
    lists = [f for name, f in found.items() if name != "accounts"] or list(found.values())
    errors = [f.error for f in lists if f.error is not None]
    if not errors or len(errors) < len(lists):
        return
    first = errors[0]
    cause = first.last if isinstance(first, Unavailable) else first
    if isinstance(cause, BrokenReply):
        raise BrokenReply(f"this does not answer as CRM.COM does: {cause.message}", cause.evidence)
    raise first


async def _nowhere(_: str, __: pa.Table) -> None:
    """A plan writes nothing."""


class _Planner:
    def __init__(self, run: Run, client: Client, states: Mapping[str, Any], stored: Stored) -> None:
        self._run, self._client, self._states, self._stored = run, client, states, stored
        self.found: dict[str, Forecast] = {}
        self._to_list: set[str] = set()
        """Contacts whose accounts will be listed, as far as they are known by name."""
        self._more_to_list = 0
        """How many there are beside them."""
        self._everyone: int | None = None
        """How many contacts there are, where the accounts of all will be listed."""
        self._new = 0
        """How many of them the warehouse does not hold."""

    async def plan(self, name: str) -> None:
        found = self.found[name] = Forecast(name)
        record, _ = READERS[name]
        state = copy.deepcopy(dict(self._states.get(name, {})))
        feed = Feed(
            self._run,
            self._client,
            self._stored,
            record,
            state=state,
            put=_nowhere,
            forgotten=await self._stored.forgotten(),
        )
        try:
            await getattr(self, f"_{name}")(feed, found)
        except (LoginRefused, SettingsError):
            raise
        except Unavailable as error:
            if isinstance(error.last, Unreachable) and not self._client.stats.body_bytes:
                raise  # nothing will answer
            found.error = error
        except CrmcomError as error:
            found.error = error
        if len(self.found) == 1 and isinstance(self._run.settings.credentials, Login):
            found.steps.insert(0, Step("login", 1))

    # --- contacts ------------------------------------------------------------------------

    async def _contacts(self, feed: Feed, found: Forecast) -> None:
        walk = None if due(feed).first else await self._walk(feed)
        plan, page = await self._window(feed, LIST_CONTACTS)
        _tell(feed, plan, found)
        known = set(await feed.stored.ids("contacts"))
        everything = plan.first or plan.is_full
        found.steps.append(Step("proof that the filter works", 1))
        head = _head(page)
        if walk is None:
            if plan.from_scratch or "head" not in feed.state:
                found.steps.append(head)
        else:
            ended = walk if everything and walk.requests == 1 else None
            found.steps.append(ended or (head if everything else walk))
        total = self._listed(feed, plan, page, known, found)
        newly = len((page.ids | self._to_list) - known)
        missing = self._missing(page, known, newly) if _covers_all(plan) else 0
        if missing:
            found.steps.append(Step("contacts that are gone", missing, missing))
        if everything:
            self._to_list = set(page.ids)
            self._everyone = total + missing
            self._new = max(0, total - len(known))
            return
        self._to_list |= page.ids - known
        self._new = len(self._to_list - known)
        unseen = total - len(page.rows)
        # All that is new is among the latest updates, unless those are too many for a page.
        if unseen > 0 and walk is not None and walk.at_least:
            newer = await self._newer(feed, LIST_CONTACTS, plan, unseen)
            self._more_to_list = max(0, newer - self._new)
            self._new += self._more_to_list

    async def _walk(self, feed: Feed) -> Step:
        """The first page of the walk through the latest updates, and what it says of the rest."""
        walk = Walk(feed.state.get("head", []), feed.run.privacy.digest)
        size = feed.run.settings.page_size
        try:
            page = await anext(newest_updated(self._client, LIST_CONTACTS))
        except (Answered, Unproven) as error:
            feed.run.notices.append(f"changed contacts cannot be followed: {error}")
            return Step("latest updates", 1)
        walk.add(feed.forgotten.others(page.rows))
        self._to_list |= {r.id for r in walk.news if r.id is not None}
        follows = has_next(page, 1, len(page.rows))
        served = max(1, min(size, len(page.rows)) if follows else size)
        to_the_end = follows and not walk.ended and not feed.state.get("head")
        if to_the_end:
            rows = len(await self._known("contacts"))
        else:
            rows = len(walk.news) + (UNMOVED if walk.ended else served if follows else 0)
        pages = max(1, -(-rows // served))
        # What takes several pages is walked again.
        again = -(-rows // max(1, served - 1)) if pages > 1 else 0
        return Step(
            "latest updates", pages + again, len(walk.news), at_least=follows and not walk.ended
        )

    # --- accounts ------------------------------------------------------------------------

    async def _accounts(self, feed: Feed, found: Forecast) -> None:
        self._to_list |= await pending(feed)
        lists = self._everyone or len(self._to_list) + self._more_to_list
        known = await self._known("accounts")
        contacts = self.found.get("contacts")
        unsure = contacts is not None and contacts.at_least
        found.mode = "refresh" if known else "first load"
        sample = await self._sample(feed, known)
        each = sample.each(known, await self._known("contacts"))
        asked = round(lists * sample.requests_each)
        fresh = round(each * self._new)
        again = round(each * lists) - fresh
        due_now = await due_accounts(feed, frozenset())
        known_reads = min(len(known), max(len(due_now) + again, again))
        found.steps.append(Step("accounts of contacts", asked, lists, at_least=unsure))
        found.steps.append(
            Step("amounts of accounts", known_reads + fresh, known_reads + fresh, at_least=unsure)
        )
        budget = feed.run.settings.account_budget
        if budget is not None and len(due_now) < len(known):
            found.why = f"account_refresh allows {budget:,} of {len(known):,} known accounts"
        await self._may_read(feed, known or sample.accounts)

    async def _sample(self, feed: Feed, known: Collection[str]) -> _Sample:
        """The accounts of a few contacts; of one where the warehouse tells how many they have."""
        sample = _Sample()
        before = self._client.stats.requests
        for contact_id in sorted(self._to_list)[: 1 if known else SAMPLE]:
            if self._client.stats.requests >= MAX_ASKED - 1:
                break
            with contextlib.suppress(Answered):  # of this one contact
                listed = await accounts_of(feed, contact_id)
                sample.accounts += [row.id for row in listed.rows if row.id is not None]
                sample.contacts += 1
                sample.requests = self._client.stats.requests - before
        return sample

    async def _may_read(self, feed: Feed, known: Collection[str]) -> None:
        """One account, to see whether the API lets us."""
        for account_id in sorted(known)[:1] if self._client.stats.requests < MAX_ASKED else ():
            try:
                await feed.get(GET_ACCOUNT, account_id)
            except Answered:
                continue  # of this one account
            except Unavailable as error:
                feed.run.notices.append(f"one account was tried, and could not be read: {error}")

    # --- activities ----------------------------------------------------------------------

    async def _activities(self, feed: Feed, found: Forecast) -> None:
        feed.half_merged |= await half_merged(feed)
        plan, page = await self._window(feed, LIST_ACTIVITIES)
        _tell(feed, plan, found)
        follow = not plan.first
        known = await self._known("activities")
        found.steps.append(Step("proof that the filter works", 1))
        total = self._listed(feed, plan, page, known, found)
        lists = _Lists(page, total)
        if follow and feed.result.resource not in feed.run.settings.full_scan:
            await self._changed(feed, plan, lists, found)
        before = await was_open(feed) if follow else set()
        newly = await self._newly(feed, plan, lists, known)
        reopened = lists.reopened(before, known)
        ended = lists.ended(before, newly + reopened)
        await self._details(feed, plan, lists, found, changed=ended + reopened, follow=follow)
        # A full listing shows whatever has ended.
        not_shown = max(0, ended - lists.completed_rows)
        left = self._missing(page, known, newly) if _covers_all(plan) else not_shown
        if left:
            found.steps.append(Step("activities that left the lists, with tags", 2 * left, left))

    async def _newly(self, feed: Feed, plan: Plan, lists: _Lists, known: Collection[str]) -> int:
        """Activities that the warehouse does not hold."""
        if plan.first:
            return max(0, lists.window_rows - len(known))
        unseen = lists.window_rows - len(lists.window.rows)
        if unseen > 0 and self._client.stats.requests < MAX_ASKED:
            return await self._newer(feed, LIST_ACTIVITIES, plan, unseen)
        if plan.is_full:
            return max(0, lists.window_rows - len(known))
        return len(lists.window.ids.difference(known)) + self._share(feed, plan, unseen)

    async def _changed(self, feed: Feed, plan: Plan, lists: _Lists, found: Forecast) -> None:
        since_s: int | None = feed.state.get("completed_s")
        if since_s is not None:
            found.steps.append(Step("proof that the filter completed_on works", 1))
            lookback, recent = completed_windows(feed, plan, since_s)
            found.steps.append(Step("completed_on", 1, window=lookback))
            lists.completed = await self._page(feed, LIST_ACTIVITIES, recent)
            found.steps.append(_listing_step(feed, "completed_on", recent, lists.completed))
        everywhen = Window(None, None)
        lists.open = await self._page(feed, LIST_ACTIVITIES, everywhen, OPEN_ONLY)
        await must_be_open(feed, lists.open.rows)
        found.steps.append(_listing_step(feed, "open", everywhen, lists.open))

    async def _details(
        self,
        feed: Feed,
        plan: Plan,
        lists: _Lists,
        found: Forecast,
        *,
        changed: int,
        follow: bool,
    ) -> None:
        rows = [r for r in lists.rows.values() if plan.wants(r)]
        shaped = await feed.shape(raws(rows), "list")
        stored = await feed.stored.rows("activities", shaped.rows.column("id").to_pylist())
        seen = await to_detail(feed, shaped.rows, stored, lists.completed_ids, follow=follow)
        mode = feed.run.settings.activity_details
        number = len(seen)
        if mode == "all":
            everything = plan.is_full or plan.first
            number = lists.window_rows if everything else number + lists.unseen
        elif mode == "changed" and follow:
            number += _behind(lists.completed)
            number = max(number, changed) if plan.is_full else number
        if number:
            capped = mode == "all" and any(step.at_least for step in found.steps)
            found.steps.append(Step("details of activities", number, number, at_least=capped))

    # --- what they share -----------------------------------------------------------------

    async def _known(self, table: str) -> list[str]:
        return await self._stored.ids(table)

    async def _page(self, feed: Feed, endpoint: Endpoint, window: Window, params: Any = ()) -> Page:
        size = feed.run.settings.page_size
        page = await first_page(self._client, endpoint, window, params=params, page_size=size)
        must_have_ids(page, endpoint)
        return page

    async def _window(self, feed: Feed, endpoint: Endpoint) -> tuple[Plan, Page]:
        """The window that is due, and the first page of it and of what is younger.

        The first answer brings the server's clock, by which another window may be due.
        """
        plan = due(feed)
        page = await self._page(feed, endpoint, Window(plan.window.start_s, None))
        if plan.window.start_s is None and plan.divisible is not False:
            # No row can lie outside, so nothing shows yet whether the filter works.
            await probe(self._client, endpoint, "created_on", epoch_s(feed.now))
        by_its_clock = due(feed)
        if by_its_clock.window.start_s != plan.window.start_s:
            page = await self._page(feed, endpoint, Window(by_its_clock.window.start_s, None))
        return by_its_clock, page

    def _listed(
        self, feed: Feed, plan: Plan, page: Page, known: Collection[str], found: Forecast
    ) -> int:
        """Adds the steps of the listing itself. Returns how many rows it will bring."""
        main = _listing_step(feed, plan.listed, plan.window, page, len(known))
        rows = main.rows or 0
        found.steps.append(main)
        slices = -(-rows // plan.limit_rows) if plan.limit_rows else 1
        if slices > 1:
            found.steps.append(Step("the same proof in further slices", slices - 1))
        if plan.asks_younger:
            found.steps.append(Step("younger than lag_s", 1, window=Window(plan.end_s, None)))
        if _covers_all(plan) and plan.asks_undated:
            found.steps.append(Step("totals, for records without a date", 2))
        return rows

    async def _newer(self, feed: Feed, endpoint: Endpoint, plan: Plan, unseen: int) -> int:
        """How much of a window came after the last one; it reaches back over that."""
        after = await self._page(feed, endpoint, Window(_bookmark_s(feed), None))
        return self._share(feed, plan, unseen) if after.total is None else after.total

    @staticmethod
    def _share(feed: Feed, plan: Plan, rows: int) -> int:
        """The same where no total tells: as much of `rows` as it is of the window's time."""
        start_s, bookmark_s = plan.window.start_s, _bookmark_s(feed)
        if start_s is None or bookmark_s is None:
            return max(0, rows)
        share = (plan.end_s - bookmark_s) / max(1, plan.end_s - start_s)
        return max(0, round(rows * min(1, share)))

    @staticmethod
    def _missing(page: Page, known: Collection[str], newly: int) -> int:
        """Known records that a full listing will not show, as far as totals tell."""
        if page.total is None or page.total >= CAP:
            return 0
        return max(0, len(known) + newly - page.total)


@dataclass(slots=True)
class _Sample:
    """Contacts whose accounts were listed, what they have, and the requests that it took."""

    contacts: int = 0
    accounts: list[str] = field(default_factory=list)
    requests: int = 0

    @property
    def requests_each(self) -> float:
        return self.requests / self.contacts if self.contacts else 1

    def each(self, known: Collection[str], contacts: Collection[str]) -> float:
        """Accounts of a contact, as the warehouse has them or this sample."""
        if known and contacts:
            return len(known) / len(contacts)
        return (len(self.accounts) + SAMPLE) / (self.contacts + SAMPLE)


@dataclass(slots=True)
class _Lists:
    """The first pages of the lists of activities."""

    window: Page
    window_rows: int
    open: Page | None = None
    completed: Page | None = None

    @property
    def rows(self) -> dict[str, Row]:
        pages = [p for p in (self.window, self.completed, self.open) if p is not None]
        return {r.id: r for page in pages for r in page.rows if r.id is not None}

    @property
    def completed_ids(self) -> set[str]:
        return set(self.completed.ids) if self.completed else set()

    @property
    def completed_rows(self) -> int:
        return len(self.completed_ids) + _behind(self.completed)

    @property
    def unseen(self) -> int:
        window = max(0, self.window_rows - len(self.window.rows))
        return window + _behind(self.completed) + _behind(self.open)

    def reopened(self, open_before: set[str], known: Collection[str]) -> int:
        """Open ones that were not, as many as the first page of them makes likely."""
        if self.open is None or not self.open.rows:
            return 0
        seen = len(self.open.ids.intersection(known) - open_before)
        return round(seen * (1 + _behind(self.open) / len(self.open.rows)))

    def ended(self, open_before: set[str], newly: int) -> int:
        """How many were open, or have opened since, and are not open now."""
        if self.open is None:
            return 0
        if not self.unseen:
            # By name, as the run will do it: those that no list shows, and the completed ones.
            return len(open_before - self.rows.keys()) + self.completed_rows
        still_open = len(self.open.rows) + _behind(self.open)
        return max(0, len(open_before) + newly - still_open)


def _behind(page: Page | None) -> int:
    """Rows that the total announces behind a first page."""
    return 0 if page is None or page.total is None else max(0, page.total - len(page.rows))


def _listing_step(
    feed: Feed, what: str, window: Window, page: Page, at_least_rows: int = 0
) -> Step:
    told = cost(page, feed.run.settings.page_size)
    if told is not None:
        rows = len(page.rows) if page.total is None else page.total
        # A short page may be the last one, or all that the server puts on a page.
        unsure = bool(page.rows) and page.total is None and page.has_more is None
        return Step(what, told, rows, window, at_least=unsure)
    # The warehouse holds what the server does not count.
    whole = at_least_rows if window.start_s is None else 0
    rows = max(page.total or 0, len(page.rows), whole)
    served = max(1, len(page.rows))
    # Each part that is cut off costs its first page, the page where it is cut, and its total.
    return Step(what, -(-rows // served) + 3 * -(-rows // CAP), rows, window, at_least=True)


def _covers_all(plan: Plan) -> bool:
    """Whether the run will have listed all that there is, where one slice is enough."""
    return plan.is_full or plan.from_scratch


def _bookmark_s(feed: Feed) -> int | None:
    bookmark_s: int | None = feed.state.get("bookmark_s")
    return bookmark_s


def _head(page: Page) -> Step:
    """The head of the walk, noted so that the next run knows where to stop."""
    served = max(1, len(page.rows))
    follows = page.total is None and has_next(page, 1, served)
    rows = HEAD if follows else min(HEAD, page.total or len(page.rows))
    return Step("latest updates", max(1, -(-rows // served)), rows)


def _tell(feed: Feed, plan: Plan, found: Forecast) -> None:
    """What kind of run it will be, and why."""
    reconciled_s: int | None = feed.state.get("reconciled_s")
    days = feed.run.settings.reconcile_every_days
    if reconciled_s is not None:
        found.reconciled_at = at_epoch(reconciled_s) if reconciled_s else None
        found.reconcile_due_at = at_epoch(int(reconciled_s + days * 86_400))
    if plan.listed == "full scan":
        found.mode, found.why = "full scan", "as full_scan asks"
    elif plan.is_full:
        found.mode = "reconcile"
        found.why = "as --reconcile asks" if feed.run.reconcile else "due"
        if not feed.run.reconcile and reconciled_s:
            found.why = f"due since {found.reconcile_due_at} UTC"
    elif not plan.first:
        found.mode = "incremental"
    else:
        found.mode = "first load"
        if not plan.from_scratch:
            found.why = f"goes on from {at_epoch(plan.window.start_s or 0)} UTC"
