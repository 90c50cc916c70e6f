"""How often a request is repeated, and what becomes of it by chance."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crmcom.errors import RateLimited, ServerTrouble
from crmcom.retrying import Health, Patience


@pytest.mark.parametrize(("share", "worst"), [(0.2, 1.1e-7), (0.3, 6e-6)])
def test_the_chance_to_fail_every_try(share, worst):
    """A server that fails a fifth of its replies at random loses one request in ten million;
    where it fails three in ten, six in a million."""
    assert share ** Patience().tries < worst


@given(tries=st.integers(1, 100), seed=st.integers(0, 1000))
def test_waits_grow_are_spread_and_bounded(tries, seed):
    """Twice as long each time, drawn from the upper half, never over the longest."""
    wait_s = Patience().wait_s(tries, ServerTrouble("x"), Random(seed))
    full = min(30, 0.5 * 2 ** (tries - 1))
    assert full / 2 <= wait_s <= full


@given(asked=st.floats(0, 1000), tries=st.integers(1, 20), seed=st.integers(0, 1000))
def test_a_retry_after_is_never_cut_short(asked, tries, seed):
    """Spread behind the moment that the server named, by a second at most."""
    error = RateLimited("x", retry_after_s=asked)
    assert asked <= Patience().wait_s(tries, error, Random(seed)) <= asked + 1


def test_an_outage_is_not_a_broken_record():
    """While nobody on the endpoint is answered, every request gets all its tries."""
    health = Health()
    for _ in range(100):
        health.answered()
    assert all(health.worth_trying(Patience(), n, 0) for n in range(1, 10))
    assert not health.worth_trying(Patience(), 10, 0)


def test_a_healthy_endpoint_gives_a_broken_record_up_sooner():
    """Six failures among answers for others are the record's own; on an endpoint where many
    fail they are not yet."""
    healthy, faulty = Health(), Health()
    rng = Random(1)
    for _ in range(1000):
        healthy.answered()
        if rng.random() < 0.25:
            faulty.failed()
        else:
            faulty.answered()
    assert not healthy.worth_trying(Patience(), 6, 500)
    assert healthy.worth_trying(Patience(), 5, 500)
    assert faulty.worth_trying(Patience(), 9, 500)
