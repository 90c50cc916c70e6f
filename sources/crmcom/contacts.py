"""Contacts: what is new by `created_on`, what changed by the latest updates, what is gone."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from crmcom.endpoints import GET_CONTACT, LIST_CONTACTS
from crmcom.errors import Answered, Unproven
from crmcom.feed import raws
from crmcom.listing import newest_updated
from crmcom.windows import due, undated

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crmcom.feed import Feed
    from crmcom.protocol import Row

HEAD = 100
"""Rows of a walk that are remembered, so that the next one knows where to stop."""

UNMOVED = 10
"""Remembered rows, in their remembered order and unchanged, that end a walk."""

Mark = list[str]
"""A contact's id and a digest of its row."""


async def read_contacts(feed: Feed) -> None:
    """Load contacts that are new, changed or gone; name those whose accounts are to be listed."""
    await feed.probe(LIST_CONTACTS)
    plan = due(feed)
    known = set(feed.stored.ids("contacts"))
    walked = await _walk(feed, stop=not (plan.first or plan.is_full))
    seen: set[str] = set()
    async for found in feed.listings(
        LIST_CONTACTS,
        plan.window,
        plan.listed,
        limit_rows=plan.limit_rows,
        divisible=plan.divisible,
    ):
        rows = [r for r in found.rows if plan.wants(r)]
        ids = {r.id for r in rows if r.id is not None}
        seen |= ids
        # Asked for later than the walk, so the later reading.
        walked = {i: r for i, r in walked.items() if i not in ids}
        feed.run.fan_out |= ids if plan.is_full or plan.first else ids - known
        await feed.load(feed.shape(raws(rows), "list"), "list")
        plan.reached(found.window)
    feed.run.fan_out |= walked.keys()
    await feed.load(feed.shape(raws(walked.values()), "list"), "list")
    if plan.covers_all:
        seen |= await undated(feed, LIST_CONTACTS, plan, seen)
        await feed.confirm_gone(known - seen, GET_CONTACT, len(known))
    plan.commit(feed)


async def _walk(feed: Feed, *, stop: bool) -> dict[str, Row]:
    """The contacts updated since the last walk, by id; where `stop` is False only its head."""
    if feed.run.backfill is not None:
        return {}
    before: list[Mark] = feed.state.get("head", [])
    rows: list[Row] = []
    news = 0
    try:
        async for page in newest_updated(
            feed.client, LIST_CONTACTS, page_size=feed.run.settings.page_size
        ):
            rows += [r for r in page.rows if r.id is not None]
            news, ended = _news(rows, before)
            if ended or not stop:
                break
    except (Answered, Unproven) as error:
        feed.result.notices.append(f"changed contacts could not be followed: {error}")
        return {}
    feed.state["head"] = [_mark(r) for r in rows[:HEAD]]
    return {r.id: r for r in rows[:news] if r.id is not None} if stop else {}


def _mark(row: Row) -> Mark:
    return [row.id or "", hashlib.blake2s(row.raw, digest_size=8).hexdigest()]


def _news(rows: Sequence[Row], before: Sequence[Mark]) -> tuple[int, bool]:
    """How many of the rows come before those that stand as the last walk saw them, and whether
    the walk has come to these.

    An update moves a contact to the front, so what was not touched keeps its order behind all
    that was. One unchanged row is no proof of it: it may have been touched without a visible
    change. Several in the remembered order are.
    """
    place = {tuple(mark): at for at, mark in enumerate(before)}
    needed = min(UNMOVED, len(before))
    last, unmoved = -1, 0
    for number, row in enumerate(rows, start=1):
        at = place.get(tuple(_mark(row)))
        if at is None:
            last, unmoved = -1, 0
        else:
            last, unmoved = at, unmoved + 1 if at > last else 1
        if 0 < needed <= unmoved:
            return number - unmoved, True
    return len(rows), False
