"""Which range of `created_on` a slice asks for, and how far it has come."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from crmcom.errors import BadRequest
from crmcom.listing import CAP, Window
from crmcom.protocol import Request, read_page
from crmcom.records import CONTACT
from crmcom.run import at_epoch, epoch_s

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from collections.abc import Set as AbstractSet

    from crmcom.endpoints import Endpoint
    from crmcom.feed import Feed
    from crmcom.listing import Listing
    from crmcom.protocol import Row

SLICE_BYTES = 100_000_000
"""Of records, after which a slice ends, however few they are: a hundred thousand of the usual size.
A load of 960 MB failed where DuckDB may take a gigabyte."""

CONTACT_WEIGHT = 5
"""Other rows in a slice for each contact. One brings two or more requests for its accounts, where a
hundred activities come with one; and what a slice has asked for, a kill of it has to ask again."""

NEVER_S = 253_402_300_800
"""The year 10000: every record with a created date lies before it."""


@dataclass(slots=True)
class Plan:
    """A slice's window.

    `first`: this resource has never been read to its end. `from_scratch`: nor was it begun.
    `is_full`: the window is all that there is. `end_s`: where the run's windows end.
    """

    window: Window
    end_s: int
    start_date_s: int | None
    first: bool
    is_full: bool
    listed: str
    limit_rows: int | None
    divisible: bool | None = None
    from_scratch: bool = False
    reached_s: int | None = None

    @property
    def limit_bytes(self) -> int | None:
        return None if self.limit_rows is None else SLICE_BYTES

    @property
    def covers_all(self) -> bool:
        """Whether this slice alone has listed all that there is, so that the rest is gone."""
        return self.is_full or (self.from_scratch and self.caught_up)

    @property
    def caught_up(self) -> bool:
        return self.reached_s is None or self.reached_s >= self.end_s

    @property
    def asks_younger(self) -> bool:
        """Whether what is younger than `lag_s`, or dated in the future, is asked for too."""
        return self.divisible is not False and self.listed != "backfill"

    @property
    def asks_undated(self) -> bool:
        """Whether records may be missing only because they have no created date."""
        return self.start_date_s is None and self.divisible is not False

    def wants(self, row: Row) -> bool:
        """Whether a row belongs to the load: a full scan is filtered on our side."""
        at = row.created_on
        return self.start_date_s is None or at is None or at >= self.start_date_s

    def reached(self, window: Window) -> None:
        self.reached_s = window.end_s

    def commit(self, feed: Feed) -> None:
        """Move the bookmark: the end of the last window listed, never a date seen in a row."""
        feed.result.caught_up = self.caught_up
        if feed.run.backfill is not None:
            feed.result.partial = True
            asked = [feed.run.backfill.start_s, feed.run.backfill.end_s]
            _keep(feed, "backfill", None if self.caught_up else [*asked, self.reached_s])
            return
        _keep(feed, "reached_s", None if self.caught_up else self.reached_s)
        if not self.caught_up:
            return
        feed.state["bookmark_s"] = self.end_s
        if self.covers_all or self.first:
            # What was held back is looked for again in each run, until somebody accepts it.
            feed.state["reconciled_s"] = 0 if feed.result.held_back else epoch_s(feed.now)
        # A first load in slices has not seen what was deleted meanwhile.
        feed.result.caught_up = self.covers_all or not (self.first and feed.run.reconcile)


def _keep(feed: Feed, name: str, value: Any) -> None:
    if value is None:
        feed.state.pop(name, None)
    else:
        feed.state[name] = value


def due(feed: Feed) -> Plan:
    """The window that the next slice of this resource has to ask for.

    `bookmark_s`: where the windows of the last run that came to its end ended. `reached_s`: how
    far one has come that did not.
    """
    run, state = feed.run, feed.state
    start_s = None if run.settings.start is None else epoch_s(run.settings.start)
    end_s = feed.end_s
    if run.backfill is not None:
        return _backfill(feed, end_s)
    bookmark_s: int | None = state.get("bookmark_s")
    reached_s: int | None = state.get("reached_s")
    first = bookmark_s is None
    if feed.result.resource in run.settings.full_scan:
        note = f"{feed.result.resource} are listed whole in each run, as full_scan asks"
        run.notices += [note] if note not in run.notices else []
        return Plan(
            Window(None, None),
            end_s,
            start_s,
            first,
            is_full=True,
            listed="full scan",
            limit_rows=None,
            divisible=False,
        )
    set_back = bookmark_s is not None and bookmark_s - run.settings.lookback_s > end_s
    if bookmark_s is not None and set_back:
        run.notices.append(
            f"the server's clock was set back behind the end of the last run, "
            f"{at_epoch(bookmark_s)} UTC, so all {feed.record.table} are listed"
        )
    if not first and (run.reconcile or set_back or _is_overdue(feed)):
        window = Window(start_s, end_s)
        return Plan(
            window, end_s, start_s, first, is_full=True, listed="reconcile", limit_rows=None
        )
    if reached_s is not None:
        from_s: int | None = reached_s
    elif bookmark_s is None:
        from_s = start_s
    else:
        from_s = bookmark_s - run.settings.lookback_s
        if start_s is not None:
            from_s = max(from_s, start_s)
    # A server whose clock was set back must not make a window that ends before it begins.
    end_s = end_s if from_s is None else max(end_s, from_s)
    return Plan(
        Window(from_s, end_s),
        end_s,
        start_s,
        first,
        is_full=False,
        listed="created_on",
        limit_rows=_limit_rows(feed),
        from_scratch=first and reached_s is None,
    )


def _limit_rows(feed: Feed) -> int | None:
    rows = feed.run.slice_rows
    return -(-rows // CONTACT_WEIGHT) if rows and feed.record is CONTACT else rows


def _is_overdue(feed: Feed) -> bool:
    """Whether the last full listing is `reconcile_every_days` ago."""
    last_s: int | None = feed.state.get("reconciled_s")
    settings = feed.run.settings
    if last_s is None:
        return False
    ago_s = epoch_s(feed.now) - last_s
    # In the future: the server's clock was ahead when it was written.
    return ago_s >= settings.reconcile_every_days * 86_400 or ago_s < -settings.lookback_s


def _backfill(feed: Feed, now_s: int) -> Plan:
    asked = feed.run.backfill
    assert asked is not None  # noqa: S101  # the caller has just looked
    start_s, end_s = asked.start_s, min(asked.end_s, now_s)
    match feed.state.get("backfill"):
        case [asked.start_s, asked.end_s, int(reached_s)]:
            start_s = reached_s
    return Plan(
        Window(start_s, max(start_s, end_s)),
        end_s,
        None,
        first=True,
        is_full=False,
        listed="backfill",
        limit_rows=_limit_rows(feed),
    )


async def planned(feed: Feed, endpoint: Endpoint, plan: Plan) -> AsyncIterator[Listing]:
    """The listings of the plan's window, each counted as reached when the next is asked for.

    Then, in the slice that comes to the end, what lies after it: younger than `lag_s`, or dated
    in the future. No bookmark moves because of that: some of it may still be on its way, and the
    next run asks for this time once more.
    """
    async for found in feed.listings(
        endpoint,
        plan.window,
        plan.listed,
        limit_rows=plan.limit_rows,
        limit_bytes=plan.limit_bytes,
        divisible=plan.divisible,
    ):
        yield found
        plan.reached(found.window)
    if plan.caught_up and plan.asks_younger:
        async for found in feed.listings(endpoint, Window(plan.end_s, None), "latest"):
            yield found


async def undated(
    feed: Feed, endpoint: Endpoint, plan: Plan, seen: AbstractSet[str]
) -> dict[str, Row]:
    """Records that no range of `created_on` finds, because they have no created date.

    The unfiltered total tells whether there are any, where it is below the cap; above it they
    cannot be told from the others at a price worth paying, and `docs/completeness.md` says so.
    """
    if not plan.asks_undated:
        return {}
    try:
        total = await _total(feed, endpoint, Window(None, None))
        # Asked second: what is created in between is no sign of any without a date.
        dated = await _total(feed, endpoint, Window(None, NEVER_S))
    except BadRequest:
        return {}  # a strict server does not know `include_total`
    if total is None or total >= CAP or total <= (len(seen) if dated is None else dated):
        return {}
    found: dict[str, Row] = {}
    async for listing in feed.listings(endpoint, Window(None, None), "unfiltered", divisible=False):
        found |= {r.id: r for r in listing.rows if r.id is not None and r.id not in seen}
    return found


async def _total(feed: Feed, endpoint: Endpoint, window: Window) -> int | None:
    params = (*window.params, ("page", "1"), ("size", "1"), ("include_total", "true"))
    return read_page(await feed.client.get(Request(endpoint, params=params))).total
