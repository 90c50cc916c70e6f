"""Activities: what is new by `created_on`, what changed by its state, what is gone.

There is no `updated_on`. What is open is listed again in each run; what was completed shows by
`completed_on`; what left the open set in another way is asked for by itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from crmcom.endpoints import GET_ACTIVITY, GET_ACTIVITY_TAGS, LIST_ACTIVITIES
from crmcom.errors import CrmcomError, Evidence, FilterIgnored, NotFound
from crmcom.feed import BATCH, from_rows, raws
from crmcom.listing import Window
from crmcom.merge import carry, stack, versions
from crmcom.tables import Shaped
from crmcom.windows import due, undated

if TYPE_CHECKING:
    from collections.abc import Iterable

    from crmcom.feed import Feed
    from crmcom.protocol import Reply, Row
    from crmcom.records import Sender
    from crmcom.windows import Plan

OPEN = "PENDING"
_OPEN_ONLY = (("states", OPEN),)


async def read_activities(feed: Feed) -> None:
    """Load activities that are new, changed or gone, with their versions."""
    await feed.probe(LIST_ACTIVITIES)
    plan = due(feed)
    follow = not plan.first and feed.run.backfill is None
    known = set(feed.stored.ids("activities")) if plan.is_full else set()
    was_open = set(feed.stored.ids("activities", state=OPEN)) if follow else set()
    changed = await _changed(feed, plan) if follow else _Changed()
    seen: set[str] = set()
    async for found in feed.listings(
        LIST_ACTIVITIES,
        plan.window,
        plan.listed,
        limit_rows=plan.limit_rows,
        divisible=plan.divisible,
    ):
        rows = {r.id: r for r in found.rows if plan.wants(r) and r.id is not None}
        seen |= rows.keys()
        changed.rows = {i: r for i, r in changed.rows.items() if i not in rows}
        await _load_listed(feed, rows.values(), changed.completed, follow=follow)
        plan.reached(found.window)
    await _load_listed(feed, changed.rows.values(), changed.completed, follow=follow)
    if plan.covers_all:
        seen |= await undated(feed, LIST_ACTIVITIES, plan, seen)
    if plan.is_full:
        await _resolve(feed, known - seen, len(known))
    elif follow and plan.caught_up:
        await _resolve(feed, was_open, len(was_open))
    _commit(feed, plan)


def _commit(feed: Feed, plan: Plan) -> None:
    # What is completed while a first load is under way is completed after its beginning.
    if feed.run.backfill is None and (plan.from_scratch or not plan.first):
        feed.state["completed_s"] = plan.end_s
    plan.commit(feed)


class _Changed:
    """`rows`: what the open set and `completed_on` show, by id. `completed`: the ids that were
    completed since the last run."""

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}
        self.completed: set[str] = set()


async def _changed(feed: Feed, plan: Plan) -> _Changed:
    found = _Changed()
    if feed.result.resource in feed.run.settings.full_scan:
        return found  # the full listing shows every state
    since_s: int | None = feed.state.get("completed_s")
    if since_s is not None:
        await feed.probe(LIST_ACTIVITIES, "completed_on")
        lookback = Window(since_s - feed.run.settings.lookback_s, since_s, "completed_on")
        recent = Window(since_s, max(plan.end_s, since_s + 1), "completed_on")
        for window in (lookback, recent):
            async for listing in feed.listings(LIST_ACTIVITIES, window, "completed_on"):
                rows = {r.id: r for r in listing.rows if r.id is not None}
                found.rows |= rows
                if window is recent:
                    found.completed |= rows.keys()
    async for listing in feed.listings(
        LIST_ACTIVITIES, Window(None, None), "open", params=_OPEN_ONLY
    ):
        _must_be_open(feed, listing.rows)
        found.rows |= {r.id: r for r in listing.rows if r.id is not None}
    return found


def _must_be_open(feed: Feed, rows: Iterable[Row]) -> None:
    states = feed.shape(raws(rows), "list").rows.column("state")
    other = pc.unique(states.filter(pc.not_equal(states, OPEN))).to_pylist()
    if other:
        raise FilterIgnored(
            f"the endpoint ignores the filter states: asked for {OPEN}, it sent {other[0]}",
            Evidence(LIST_ACTIVITIES.name, LIST_ACTIVITIES.path, 200),
        )


async def _load_listed(
    feed: Feed, rows: Iterable[Row], completed: set[str], *, follow: bool
) -> None:
    """Load listed rows; with their details where their state changed since we last saw them."""
    shaped = feed.shape([r.raw for r in rows if r.id not in feed.sent], "list")
    ids = shaped.rows.column("id").to_pylist()
    stored = feed.stored.rows("activities", ids)
    detailed = await _details(feed, _to_detail(feed, shaped.rows, stored, completed, follow=follow))
    await _load(feed, shaped, "list", stored, detailed)


def _to_detail(
    feed: Feed, rows: pa.Table, stored: pa.Table, completed: set[str], *, follow: bool
) -> list[str]:
    mode = feed.run.settings.activity_details
    ids: list[str] = rows.column("id").to_pylist()
    if mode == "all":
        return ids
    if mode == "off" or not follow:
        return []
    before = dict(
        zip(stored.column("id").to_pylist(), stored.column("state").to_pylist(), strict=True)
    )
    states = rows.column("state").to_pylist()
    return [
        i
        for i, state in zip(ids, states, strict=True)
        if i in completed or before.get(i, OPEN) != state
    ]


async def _details(feed: Feed, ids: Iterable[str]) -> dict[str, bytes]:
    """Single replies by id. One that is gone meanwhile is left to the next run."""
    asked = sorted(ids)
    found: dict[str, bytes] = {}
    failed: dict[str, CrmcomError] = {}
    async for activity_id, answer in feed.ask_each(asked, lambda i: feed.get(GET_ACTIVITY, i)):
        if isinstance(answer, NotFound):
            continue
        if isinstance(answer, CrmcomError):
            failed[activity_id] = answer
        else:
            found[activity_id] = answer.body
    await feed.unreadable(GET_ACTIVITY, failed, len(asked))
    return found


async def _load(
    feed: Feed, listed: Shaped, sender: Sender, stored: pa.Table, detailed: dict[str, bytes]
) -> None:
    """Load listed rows, those with details from both readings: neither has all columns."""
    rows = carry(listed.rows, stored, feed.answered("list"))
    if detailed:
        details = _with_state(feed.shape(detailed.values(), "single"))
        await feed.reject(details.rejects)
        joined = carry(details.rows, rows, feed.answered("single"))
        rows = stack([joined, _others(rows, joined.column("id").to_pylist())])
        children = dict(listed.children)
        for table, found in details.children.items():
            parents = found.column("activity_id").to_pylist()
            older = children.get(table)
            kept = [] if older is None else [_others(older, parents, "activity_id")]
            children[table] = stack([found, *kept])
    else:
        children = dict(listed.children)
    await _load_whole(feed, Shaped(rows, children, listed.rejects), sender, stored)


async def _load_whole(feed: Feed, shaped: Shaped, sender: Sender, stored: pa.Table) -> None:
    # Nothing is left to carry over: both readings and the stored row are in it.
    loaded = await feed.load(shaped, sender, from_rows("activities", []))
    await _load_versions(feed, loaded, stored)


async def _load_versions(feed: Feed, loaded: pa.Table, stored: pa.Table) -> None:
    found = versions(loaded, stored)
    found = found.append_column("run_id", pa.repeat(feed.run.run_id, len(found)))
    found = found.append_column(
        "observed_at", pa.repeat(pa.scalar(feed.now, pa.timestamp("us")), len(found))
    )
    await feed.put("activity_versions", found)


def _others(table: pa.Table, ids: list[str], column: str = "id") -> pa.Table:
    return table.filter(
        pc.invert(pc.is_in(table.column(column), value_set=pa.array(ids, pa.string())))
    )


async def _resolve(feed: Feed, missing: set[str], known: int) -> None:
    """Ask for activities that no list shows where it should: they changed, or are gone."""
    asked = sorted(missing - feed.sent)
    gone: list[str] = []
    failed: dict[str, CrmcomError] = {}
    replies: list[tuple[Reply, Reply | None]] = []
    async for activity_id, answer in feed.ask_each(asked, lambda i: _with_tags(feed, i)):
        if isinstance(answer, NotFound):
            gone.append(activity_id)
        elif isinstance(answer, CrmcomError):
            failed[activity_id] = answer
        else:
            replies.append(answer)
        if len(replies) >= BATCH:
            await _load_single(feed, replies)
            replies = []
    await _load_single(feed, replies)
    await feed.unreadable(GET_ACTIVITY, failed, len(asked))
    stored = feed.stored.rows("activities", gone)
    marked = await feed.mark_gone(gone, known)
    await _load_versions(feed, marked, stored)


async def _with_tags(feed: Feed, activity_id: str) -> tuple[Reply, Reply | None]:
    """An activity and its tags, which its own reply lacks."""
    reply = await feed.get(GET_ACTIVITY, activity_id)
    return reply, await feed.get(GET_ACTIVITY_TAGS, activity_id)


async def _load_single(feed: Feed, replies: list[tuple[Reply, Reply | None]]) -> None:
    if not replies:
        return
    shaped = _with_state(feed.shape([r.body for r, _ in replies], "single"))
    # A reply of the tags' own endpoint, read as the list row that would have held them.
    tags = feed.shape([_as_row(tags) for _, tags in replies if tags is not None], "list")
    children = {**shaped.children, "activity_tags": tags.children["activity_tags"]}
    stored = feed.stored.rows("activities", shaped.rows.column("id").to_pylist())
    rows = carry(shaped.rows, stored, feed.answered("single"))
    await _load_whole(feed, Shaped(rows, children, shaped.rejects), "single", stored)


def _as_row(reply: Reply) -> bytes:
    content = msgspec.json.decode(reply.body).get("content")
    return msgspec.json.encode({"id": reply.request.record_id, "tags": content})


def _with_state(shaped: Shaped) -> Shaped:
    """Single replies with the state that they lack: the latest of their history."""
    latest: dict[str, tuple[Any, int, str]] = {}
    history = shaped.children["activity_states"]
    for row in history.to_pylist():
        at, state = row["date"], row["state"]
        if at is None or state is None:
            continue
        found = (at, row["position"], state)
        if row["activity_id"] not in latest or found > latest[row["activity_id"]]:
            latest[row["activity_id"]] = found
    ids = shaped.rows.column("id").to_pylist()
    states = pa.array([latest[i][2] if i in latest else None for i in ids], pa.string())
    index = shaped.rows.schema.get_field_index("state")
    return Shaped(shaped.rows.set_column(index, "state", states), shaped.children, shaped.rejects)
