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
from crmcom.errors import (
    Answered,
    CrmcomError,
    DeadlineExceeded,
    Evidence,
    FilterIgnored,
    Forbidden,
    NotFound,
    Unavailable,
)
from crmcom.feed import BATCH, from_rows, raws
from crmcom.listing import Window
from crmcom.merge import carry, stack, versions, without
from crmcom.tables import Shaped
from crmcom.windows import due, planned, undated

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from crmcom.feed import Feed
    from crmcom.protocol import Reply, Row
    from crmcom.records import Sender
    from crmcom.windows import Plan

OPEN = "PENDING"
OPEN_ONLY = (("states", OPEN),)


async def read_activities(feed: Feed) -> None:
    """Load activities that are new, changed or gone, with their versions."""
    feed.half_merged |= await half_merged(feed)
    await feed.probe(LIST_ACTIVITIES)
    plan = due(feed)
    follow = not plan.first and feed.run.backfill is None
    if plan.from_scratch and feed.settled_at is None:
        feed.state["over_nothing"] = True
    covering = plan.is_full or plan.from_scratch
    known = set(await feed.stored.ids("activities")) if covering else set()
    open_before = await was_open(feed) if follow else set()
    changed = await _changed(feed, plan) if follow else _Changed()
    seen: set[str] = set()
    async for found in planned(feed, LIST_ACTIVITIES, plan):
        rows = {r.id: r for r in found.rows if plan.wants(r) and r.id is not None}
        seen |= rows.keys()
        changed.rows = {i: r for i, r in changed.rows.items() if i not in rows}
        await _load_listed(feed, rows.values(), changed.completed, follow=follow)
    await _load_listed(feed, changed.rows.values(), changed.completed, follow=follow)
    if plan.covers_all:
        others = await undated(feed, LIST_ACTIVITIES, plan, seen)
        await _load_listed(feed, others.values(), changed.completed, follow=follow)
        seen |= others.keys()
    if plan.covers_all:
        await _resolve(feed, known - seen)
    elif follow and plan.caught_up:
        await _resolve(feed, open_before)
    await _load_versions(feed, await _unmended(feed))
    _commit(feed, plan)


def _commit(feed: Feed, plan: Plan) -> None:
    if feed.run.backfill is None and plan.caught_up:
        feed.half_merged = set()
        feed.state.pop("over_nothing", None)
    # What is completed while a first load is under way is completed after its beginning.
    if feed.run.backfill is None and (plan.from_scratch or not plan.first):
        feed.state["completed_s"] = plan.end_s
    plan.commit(feed)


async def half_merged(feed: Feed) -> set[str]:
    """What a load that was killed between two tables may have left as closed, its history as
    open: each table is merged by itself. It is judged by the versions before that load."""
    if feed.state.get("bookmark_s") is None:
        return set()  # a first load lists it once more
    cut_short = await feed.stored.ids("activities", synced_after=feed.settled_at)
    before = _states_before(feed, await feed.stored.versions(cut_short))
    stored = await feed.stored.rows("activities", cut_short)
    rows = stored.select(["id", "state"]).to_pylist()
    gone = await feed.stored.ids("activities", synced_after=feed.settled_at, deleted=True)
    return {*gone, *(r["id"] for r in rows if before.get(r["id"], OPEN) != r["state"])}


async def was_open(feed: Feed) -> set[str]:
    """What was open when the last whole load ended."""
    gone = set(await feed.stored.ids("activities", deleted=True)) if feed.half_merged else set()
    return {*await feed.stored.ids("activities", state=OPEN), *feed.half_merged - gone}


async def _unmended(feed: Feed) -> pa.Table:
    """What a killed load has marked as deleted: its version may be missing."""
    rows = await feed.stored.rows("activities", feed.half_merged - feed.sent)
    return rows.filter(pc.is_valid(rows.column("_deleted_at")))


def _states_before(feed: Feed, versions: pa.Table) -> dict[str, str | None]:
    """The state of each activity at the last whole load; None where that cannot be told."""
    settled_at = feed.settled_at
    columns = (versions.column(c).to_pylist() for c in ("activity_id", "state", "_synced_at"))
    return {
        i: state if settled_at is not None and at <= settled_at else None
        for i, state, at in zip(*columns, strict=True)
    }


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
        lookback, recent = completed_windows(feed, plan, since_s)
        for window in (lookback, recent):
            async for listing in feed.listings(LIST_ACTIVITIES, window, "completed_on"):
                rows = {r.id: r for r in listing.rows if r.id is not None}
                found.rows |= rows
                if window is recent:
                    found.completed |= rows.keys()
    async for listing in feed.listings(
        LIST_ACTIVITIES, Window(None, None), "open", params=OPEN_ONLY
    ):
        await must_be_open(feed, listing.rows)
        found.rows |= {r.id: r for r in listing.rows if r.id is not None}
    return found


def completed_windows(feed: Feed, plan: Plan, since_s: int) -> tuple[Window, Window]:
    """Of `completed_on`: what the last run has asked for, once more, and what came after it."""
    lookback_s = feed.run.settings.lookback_s
    return (
        Window(since_s - lookback_s, since_s, "completed_on"),
        Window(since_s, max(plan.end_s, since_s + 1), "completed_on"),
    )


async def must_be_open(feed: Feed, rows: Iterable[Row]) -> None:
    shaped = await feed.shape(raws(rows), "list")
    states = shaped.rows.column("state")
    other = pc.unique(states.filter(pc.not_equal(states, OPEN))).to_pylist()
    if other:
        raise FilterIgnored(
            f"the endpoint ignores the filter states: asked for {OPEN}, it sent {other[0]}",
            Evidence(LIST_ACTIVITIES.name, LIST_ACTIVITIES.path, 200),
            filter="states",
        )


async def _load_listed(
    feed: Feed, rows: Iterable[Row], completed: set[str], *, follow: bool
) -> None:
    """Load listed rows; with their details where their state changed since we last saw them."""
    shaped = await feed.shape([r.raw for r in rows if r.id not in feed.sent], "list")
    ids = shaped.rows.column("id").to_pylist()
    stored = await feed.stored.rows("activities", ids)
    asked = await to_detail(feed, shaped.rows, stored, completed, follow=follow)
    await _load(feed, shaped, stored, await _details(feed, asked))


async def to_detail(
    feed: Feed, rows: pa.Table, stored: pa.Table, completed: set[str], *, follow: bool
) -> list[str]:
    """The rows whose details are due. Where a killed load has merged the version of a change
    and not its row, or the row and not its version, the one that is behind tells."""
    mode = feed.run.settings.activity_details
    ids: list[str] = rows.column("id").to_pylist()
    if mode == "all":
        return ids
    # A first load or a backfill has no details to read. One over rows that are there, after a
    # reset, has those of what changed meanwhile.
    again_first = len(stored) > 0 and feed.run.backfill is None and not _over_nothing(feed)
    if mode == "off" or not (follow or again_first):
        return []
    again = {*completed, *feed.state.get("again", ()), *feed.half_merged}
    before = _states_before(feed, await feed.stored.versions(ids))
    held = {r["id"]: r["state"] for r in stored.select(["id", "state"]).to_pylist()}
    states = rows.column("state").to_pylist()
    return [
        i
        for i, state in zip(ids, states, strict=True)
        if (follow or i in held)
        and (i in again or {before.get(i, OPEN), held.get(i, OPEN)} != {state})
    ]


def _over_nothing(feed: Feed) -> bool:
    """Whether a first load is under way that began where nothing was. Rows that are there all the
    same come from a slice of it that was killed, and are no sign of a change."""
    return feed.settled_at is None or feed.state.get("over_nothing", False)


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
    feed.ask_again(asked, failed)
    return found


async def _load(feed: Feed, listed: Shaped, stored: pa.Table, detailed: dict[str, bytes]) -> None:
    """Load listed rows, those with details from both readings: neither has all columns."""
    rows = carry(listed.rows, stored, feed.answered("list"))
    children = dict(listed.children)
    if detailed:
        # Its state is the list's: a history's dates mislead where a clock was set back.
        details = _without_others(await feed.shape(detailed.values(), "single"), detailed)
        await feed.reject(details.rejects)
        joined = carry(details.rows, rows, feed.answered("single"))
        rows = stack([joined, without(rows, joined.column("id").to_pylist())])
        for table, found in details.children.items():
            parents = found.column("activity_id").to_pylist()
            older = children.get(table)
            kept = [] if older is None else [without(older, parents, "activity_id")]
            children[table] = stack([found, *kept])
    await _load_whole(feed, Shaped(rows, children, listed.rejects), "list")


def _without_others(details: Shaped, asked: Collection[str]) -> Shaped:
    """A server may answer for one record with another, which then lacks what lists alone tell."""
    others = [i for i in details.rows.column("id").to_pylist() if i not in asked]
    children = {t: without(c, others, "activity_id") for t, c in details.children.items()}
    return Shaped(without(details.rows, others), children, details.rejects)


async def _load_whole(feed: Feed, shaped: Shaped, sender: Sender) -> None:
    # Nothing is left to carry over: both readings and the stored row are in it.
    loaded = await feed.load(shaped, sender, from_rows("activities", []))
    await _load_versions(feed, loaded)


async def _load_versions(feed: Feed, loaded: pa.Table) -> None:
    """A version of each activity that differs from its last one: not from its stored row,
    which a load that was cut short may have written without a version."""
    if not len(loaded):
        return
    found = versions(loaded, await feed.stored.versions(loaded.column("id").to_pylist()))
    found = found.append_column("run_id", pa.repeat(feed.run.run_id, len(found)))
    found = found.append_column(
        "observed_at", pa.repeat(pa.scalar(feed.now, pa.timestamp("us")), len(found))
    )
    await feed.put("activity_versions", found)


async def _resolve(feed: Feed, missing: set[str]) -> None:
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
    await _load_versions(feed, await feed.mark_gone(gone))


async def _with_tags(feed: Feed, activity_id: str) -> tuple[Reply, Reply | None]:
    """An activity and its tags, which its own reply lacks; None where they cannot be had."""
    reply = await feed.get(GET_ACTIVITY, activity_id)
    try:
        return reply, await feed.get(GET_ACTIVITY_TAGS, activity_id)
    except DeadlineExceeded:
        raise
    except (Answered, Forbidden, Unavailable) as error:
        # Above all no 404 from here may mark an activity as deleted.
        feed.notice_once(GET_ACTIVITY_TAGS, f"tags were left as they were: {error}")
        return reply, None


async def _load_single(feed: Feed, replies: list[tuple[Reply, Reply | None]]) -> None:
    if not replies:
        return
    shaped = _with_state(await feed.shape([r.body for r, _ in replies], "single"))
    # A reply of the tags' own endpoint, read as the list row that would have held them.
    tags = await feed.shape([_as_row(tags) for _, tags in replies if tags is not None], "list")
    children = {**shaped.children, "activity_tags": tags.children["activity_tags"]}
    stored = await feed.stored.rows("activities", shaped.rows.column("id").to_pylist())
    rows = carry(shaped.rows, stored, feed.answered("single"))
    await _load_whole(feed, Shaped(rows, children, shaped.rejects), "single")


def _as_row(reply: Reply) -> bytes:
    content = msgspec.json.decode(reply.body).get("content")
    return msgspec.json.encode({"id": reply.request.record_id, "tags": content})


def _with_state(shaped: Shaped) -> Shaped:
    """Single replies with the state that they lack: the latest of their history."""
    histories: dict[str, list[tuple[int, Any, str]]] = {}
    for row in shaped.children["activity_states"].to_pylist():
        if row["date"] is not None and row["state"] is not None:
            step = (row["position"], row["date"], row["state"])
            histories.setdefault(row["activity_id"], []).append(step)
    ids = shaped.rows.column("id").to_pylist()
    states = pa.array([_latest(histories.get(i, [])) for i in ids], pa.string())
    index = shaped.rows.schema.get_field_index("state")
    return Shaped(shaped.rows.set_column(index, "state", states), shaped.children, shaped.rejects)


def _latest(history: list[tuple[int, Any, str]]) -> str | None:
    """The last state. Of two in one second, the list's own direction tells which came later.

    What is asked for by itself is in no list of open ones: so it is not open, though a clock
    that was set back may make its history say so. What reopened meanwhile, the next run lists.
    """
    if not history:
        return None
    steps = sorted(history)
    (_, first_at, first), (_, last_at, _) = steps[0], steps[-1]
    # A history begins with the open state, so one that does not is told backwards.
    backwards = first_at > last_at or (first_at == last_at and first != OPEN)
    if backwards:
        steps.reverse()
    closed = [step for step in steps if step[2] != OPEN]
    return max(enumerate(closed or steps), key=lambda step: (step[1][1], step[0]))[1][2]
