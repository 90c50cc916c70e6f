"""Contacts: what is new by `created_on`, what changed by the latest updates, what is gone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crmcom.endpoints import GET_CONTACT, LIST_CONTACTS
from crmcom.errors import Answered, Unavailable, Unproven
from crmcom.feed import raws
from crmcom.listing import newest_updated
from crmcom.windows import due, planned, undated

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Sequence

    from crmcom.feed import Feed
    from crmcom.protocol import Row
    from crmcom.windows import Plan

HEAD = 100
"""Rows of a walk that are remembered, so that the next one knows where to stop."""

UNMOVED = 10
"""Remembered rows, in their remembered order and unchanged, that end a walk."""

MAX_WALKS = 5
"""Walks in one run; what is still new in the last of them is at the head of the next run's."""

Mark = list[str]
"""A contact's id and a digest of its row."""


async def read_contacts(feed: Feed) -> None:
    """Load contacts that are new, changed or gone; name those whose accounts are to be listed."""
    await feed.probe(LIST_CONTACTS)
    plan = due(feed)
    known = set(await feed.stored.ids("contacts"))
    walked = {i: r for i, r in (await _changed(feed, plan)).items() if plan.wants(r)}
    feed.list_accounts_of(walked)
    seen: set[str] = set()
    async for found in planned(feed, LIST_CONTACTS, plan):
        rows = [r for r in found.rows if plan.wants(r)]
        ids = {r.id for r in rows if r.id is not None}
        seen |= ids
        # Asked for later than the walk, so the later reading.
        walked = {i: r for i, r in walked.items() if i not in ids}
        feed.list_accounts_of(ids if plan.is_full or plan.first else ids - known)
        await feed.load(await feed.shape(raws(rows), "list"), "list")
    await feed.load(await feed.shape(raws(walked.values()), "list"), "list")
    if plan.covers_all:
        others = await undated(feed, LIST_CONTACTS, plan, seen)
        feed.list_accounts_of(others)
        await feed.load(await feed.shape(raws(others.values()), "list"), "list")
        missing = known - seen - others.keys()
        feed.list_accounts_of(missing)  # most are gone; those that are not may have new ones
        await feed.confirm_gone(missing, GET_CONTACT)
    plan.commit(feed)


async def _changed(feed: Feed, plan: Plan) -> dict[str, Row]:
    """The contacts updated since the last walk, by id.

    Before everything is listed anyway, only the head is noted: what changes while a first load
    is under way, slice by slice, is found by the walk after it.
    """
    everything = plan.first or plan.is_full
    resumed = plan.first and not plan.from_scratch
    if feed.run.backfill is not None or (resumed and "head" in feed.state):
        return {}
    found: dict[str, Row] = {}
    try:
        async for walk in _walks(feed, head_only=everything):
            found |= {r.id: r for r in walk.news if r.id is not None}
            head = walk.head
    except (Answered, Unproven, Unavailable) as error:
        feed.result.notices.append(f"changed contacts could not be followed: {error}")
    else:
        feed.state["head"] = head
    return {} if everything else found


async def _walks(feed: Feed, *, head_only: bool) -> AsyncIterator[Walk]:
    """Walks, until one brings no contact that those before it lack.

    A deletion between two pages shifts the later ones forward and hides one, and no later run
    would walk so far. So what takes several pages is walked again, with other ends of pages.
    """
    size, seen = feed.run.settings.page_size, set[str]()
    for _ in range(MAX_WALKS):
        walk, pages = Walk(feed.state.get("head", []), feed.run.privacy.digest), 0
        try:
            async for page in newest_updated(feed.client, LIST_CONTACTS, page_size=size):
                walk.add(feed.forgotten.others(page.rows))
                pages += 1
                if walk.ended or (head_only and len(walk.head) >= HEAD):
                    break
        except (Answered, Unproven, Unavailable):
            yield walk  # so far it is as good as any
            if not (head_only and pages):
                raise
            return
        yield walk
        ids = {r.id for r in walk.news if r.id is not None}
        if head_only or pages <= 1 or ids <= seen:
            return
        seen |= ids
        size = size - 1 if size > 1 else size + 1


class Walk:
    """Contacts, latest update first, down to those that stand as the last walk saw them.

    An update moves a contact to the front, so what was not touched keeps its order behind all
    that was. One unchanged row is no proof of it: it may have been touched without a visible
    change. Several in the remembered order are.
    """

    def __init__(self, before: Sequence[Mark], digest: Callable[[bytes], str]) -> None:
        self._before = before
        self._digest = digest
        self._place = {tuple(mark): at for at, mark in enumerate(before)}
        self._needed = min(UNMOVED, len(before))
        self._last, self._unmoved = -1, 0
        self._rows: list[Row] = []
        self._marks: list[Mark] = []
        self.ended = False

    def add(self, rows: Iterable[Row]) -> None:
        for row in rows:
            if row.id is not None and not self.ended:
                self._judge(row)

    def _judge(self, row: Row) -> None:
        mark = [row.id or "", self._digest(row.raw)]
        self._rows.append(row)
        self._marks.append(mark)
        at = self._place.get(tuple(mark), -1)
        in_order = 0 <= self._last < at
        self._unmoved = 0 if at < 0 else self._unmoved + 1 if in_order else 1
        self._last = at
        self.ended = 0 < self._needed <= self._unmoved

    @property
    def head(self) -> list[Mark]:
        """What the next walk has to know: behind unmoved rows all stands as it stood."""
        rest = self._before[self._last + 1 :] if self.ended else ()
        return [*self._marks, *rest][:HEAD]

    @property
    def news(self) -> list[Row]:
        """The rows before those that stand unmoved."""
        return self._rows[: -self._unmoved] if self.ended else self._rows
