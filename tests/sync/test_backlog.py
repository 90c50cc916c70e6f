"""Ids that are asked about while more of them come."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from crmcom.backlog import Backlog

some_ids = st.lists(st.sampled_from("abcdefgh"), max_size=12)


async def _take(backlog, found):
    async for one in backlog:
        found.append(one)
        await asyncio.sleep(0)


@given(st.lists(some_ids, max_size=6), some_ids, st.integers(1, 5))
def test_each_id_is_taken_once_in_its_order_however_they_come(later, first, takers):
    async def play():
        backlog, found = Backlog(first, is_open=True), []
        taking = [asyncio.create_task(_take(backlog, found)) for _ in range(takers)]
        for ids in later:
            backlog.add(ids)
            await asyncio.sleep(0)
        assert not any(task.done() for task in taking), "more may come"
        backlog.close()
        await asyncio.gather(*taking)
        return found, backlog

    found, backlog = asyncio.run(asyncio.wait_for(play(), 10))
    assert found == list(dict.fromkeys([*first, *(i for ids in later for i in ids)]))
    assert list(backlog.ids) == found
    assert len(backlog) == len(found)


def test_what_was_never_open_ends_where_its_ids_end():
    async def play():
        found = []
        await Backlog().begun()
        await _take(Backlog("abca"), found)
        return found

    assert asyncio.run(asyncio.wait_for(play(), 10)) == ["a", "b", "c"]


def test_it_has_begun_with_its_first_id_or_with_the_news_that_none_comes():
    async def play(*ids):
        backlog = Backlog(is_open=True)
        waiting = asyncio.create_task(backlog.begun())
        backlog.add([])
        for _ in range(3):
            await asyncio.sleep(0)
        assert not waiting.done()
        backlog.add(ids)
        if not ids:
            backlog.close()
        await waiting

    asyncio.run(asyncio.wait_for(play("a"), 10))
    asyncio.run(asyncio.wait_for(play(), 10))
