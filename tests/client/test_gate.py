"""Who waits at the gate goes in the order of coming, and nobody is forgotten there."""

from __future__ import annotations

import asyncio
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crmcom.errors import RateLimited
from crmcom.gate import Gate, TooLong
from crmcom.limiter import Limiter


def gate(at_once=1, sleep=asyncio.sleep, **limits):
    return Gate(Limiter(max_in_flight=at_once, **limits), clock=time.monotonic, sleep=sleep)


async def test_first_come_is_first_served():
    ours, served = gate(), []

    async def ask(number):
        with await ours.enter("x", 60):
            served.append(number)
            await asyncio.sleep(0)

    await asyncio.gather(*map(ask, range(50)))
    assert served == list(range(50))


async def test_as_many_as_may_go_are_let_in_at_once():
    """One by one, each by the one before it, few were ever in flight: a turn of the loop each."""
    ours = gate(at_once=8)
    inside = [await ours.enter("x", 60) for _ in range(8)]
    waiting = [asyncio.create_task(ours.enter("x", 60)) for _ in range(20)]
    await asyncio.sleep(0)
    for turn in inside:
        with turn:
            pass
    await asyncio.sleep(0)
    assert [task.done() for task in waiting] == [True] * 8 + [False] * 12
    for task in waiting:
        task.cancel()


async def test_who_sleeps_for_a_turn_has_none_yet():
    """A ticket that is given to a sleeper would be in flight while nothing is."""
    wakes = asyncio.Event()
    ours = gate(at_once=8, max_rate=1, sleep=lambda _: wakes.wait())
    first = await ours.enter("x", 60)
    sleeper = asyncio.create_task(ours.enter("x", 60))
    await asyncio.sleep(0)
    ours.limiter.pace.maximum = 1_000_000  # whatever it was that it had to wait for
    ours.limiter.pace._next = 0.0
    with first:
        pass
    assert ours.limiter.in_flight == 0
    wakes.set()
    with await asyncio.wait_for(sleeper, 1):
        assert ours.limiter.in_flight == 1


async def test_a_place_that_is_given_up_as_it_is_called_is_the_next_ones():
    ours = gate()
    first = await ours.enter("x", 60)
    second, third = (asyncio.create_task(ours.enter("x", 60)) for _ in range(2))
    await asyncio.sleep(0)
    with first:
        pass
    second.cancel()
    with await asyncio.wait_for(third, 1):
        pass
    assert ours.limiter.in_flight == 0


async def test_a_pause_that_is_too_long_is_told_to_all_who_wait():
    ours = gate()
    turn = await ours.enter("x", 60)
    waiting = [asyncio.create_task(ours.enter("x", 60)) for _ in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(RateLimited), turn:
        raise RateLimited("slower", retry_after_s=3_600)
    found = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 1)
    assert [type(f) for f in found] == [TooLong] * 3


@given(
    st.integers(1, 4),
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.booleans()), max_size=40),
)
@settings(deadline=None)
def test_whoever_is_not_called_off_gets_a_turn(at_once, visits):
    """Coming, staying and being called off at any time, never more than allowed at once."""

    async def play():
        ours, inside, most = gate(at_once), 0, 0

        async def visit(comes, stays):
            nonlocal inside, most
            for _ in range(comes):
                await asyncio.sleep(0)
            with await ours.enter("x", 60):
                inside += 1
                most = max(most, inside)
                try:
                    for _ in range(stays):
                        await asyncio.sleep(0)
                finally:
                    inside -= 1

        tasks = [asyncio.create_task(visit(comes, stays)) for comes, stays, _ in visits]
        for _ in range(3):
            await asyncio.sleep(0)
        for task, (_, _, called_off) in zip(tasks, visits, strict=True):
            if called_off:
                task.cancel()
                await asyncio.sleep(0)
        done = asyncio.gather(*tasks, return_exceptions=True)
        for found, (_, _, called_off) in zip(await asyncio.wait_for(done, 5), visits, strict=True):
            assert found is None or (called_off and isinstance(found, asyncio.CancelledError))
        assert most <= at_once
        assert ours.limiter.in_flight == 0

    asyncio.run(play())
