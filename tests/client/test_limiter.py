"""The limiter against simulated servers: time is a number, and minutes pass in milliseconds."""

from __future__ import annotations

import bisect
import copy
import heapq
import math
from collections import deque
from dataclasses import dataclass, field
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crmcom.limiter import Limiter


@dataclass
class Sliding:
    """At most `limit` requests in any `per_s` seconds; a refusal names whole seconds."""

    limit: int
    per_s: float = 1.0
    taken: deque = field(default_factory=deque)

    def ask(self, now):
        while self.taken and self.taken[0] <= now - self.per_s:
            self.taken.popleft()
        if len(self.taken) < self.limit:
            self.taken.append(now)
            return None
        return math.ceil(self.taken[-self.limit] + self.per_s - now)


@dataclass
class Fixed:
    """At most `limit` requests from one whole `per_s` to the next."""

    limit: int
    per_s: float = 1.0
    window: int = -1
    taken: int = 0

    def ask(self, now):
        if now // self.per_s != self.window:
            self.window, self.taken = now // self.per_s, 0
        self.taken += 1
        if self.taken <= self.limit:
            return None
        return math.ceil((self.window + 1) * self.per_s - now)


@dataclass
class Bucket:
    """`limit` tokens a second, and as many saved at most."""

    limit: int
    tokens: float = 0.0
    at: float = 0.0

    def ask(self, now):
        self.tokens = min(self.limit, self.tokens + (now - self.at) * self.limit)
        self.at = now
        if self.tokens >= 1:
            self.tokens -= 1
            return None
        return 1


@dataclass
class Leaky:
    """`limit` a second, evenly; a tenth of a second's worth may come at once."""

    limit: int
    free_at: float = 0.0

    def ask(self, now):
        at = max(self.free_at, now - 0.1)
        if at > now:
            return max(1, round(at - now))
        self.free_at = at + 1 / self.limit
        return None


@dataclass
class Noise:
    """Refuses at random, whatever the pace."""

    share: float
    rng: Random = field(default_factory=lambda: Random(5))

    def ask(self, now):
        return 1 if self.rng.random() < self.share else None


@dataclass
class Log:
    limiter: Limiter
    sent: list = field(default_factory=list)  # (when it arrived, whether it was accepted)
    peak: int = 0

    def between(self, start, end):
        return [accepted for at, accepted in self.sent if start <= at < end]

    def rate(self, start, end):
        return sum(self.between(start, end)) / (end - start)

    def refused(self, start, end):
        found = self.between(start, end)
        return 1 - sum(found) / len(found)


def play(
    server,
    seconds,
    *,
    latency=lambda in_flight: 0.02,
    jitter=0.3,
    trouble=0.0,
    change=(math.inf, 0),
    late_s=(0.0, 0.001),
    stall_s=0.0,
    pauses=(),
    seed=1,
    **limits,
):
    """A client with work for all of the time meets `server`; `change`: from then on, another limit.

    `stall_s`: one reply in twenty takes up to that much longer. `pauses`: where so many are
    accepted, nobody asks for a while: (number, seconds).
    """
    rng = Random(seed)
    limiter = Limiter(**({"max_in_flight": 64} | limits))
    log = Log(limiter)
    now, flying, number, accepted, pauses = 0.0, [], 0, 0, deque(pauses)
    while now < seconds:
        if now >= change[0]:
            server.limit = change[1]
        while flying and flying[0][0] <= now:
            at, _, ticket, result, retry_after_s = heapq.heappop(flying)
            limiter.done(ticket, result, at, retry_after_s)
            accepted += result == "answered"
        if pauses and accepted + len(flying) >= pauses[0][0]:
            now = flying[0][0] if flying else now + pauses.popleft()[1]
            continue
        wait_s = limiter.wait_s(now)
        if wait_s > 0:
            back = flying[0][0] if flying else math.inf
            now = min(max(now, back), now + wait_s + rng.uniform(*late_s))  # timers are late
            continue
        number += 1
        ticket = limiter.sent("GET", now)
        log.peak = max(log.peak, limiter.in_flight)
        takes_s = latency(limiter.in_flight) * (1 + jitter * rng.random())
        if stall_s and rng.random() < 0.05:
            takes_s += stall_s * rng.random()
        wait = server.ask(now + takes_s / 2) if server else None
        result = "refused" if wait is not None else "answered"
        if wait is None and rng.random() < trouble:
            result = "trouble"
        log.sent.append((now + takes_s / 2, wait is None))
        heapq.heappush(flying, (now + takes_s, number, ticket, result, wait))
        now += 0.0005  # what a request costs ourselves
    return log


# --- pace --------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [20, 50, 200])
@pytest.mark.parametrize("latency_s", [0.01, 0.1])
def test_a_constant_limit_is_met(limit, latency_s):
    """Once settled, under 1 % of the requests are refused, within 5 % of what is allowed."""
    log = play(Sliding(limit), 120, latency=lambda _: latency_s)
    assert log.rate(20, 120) >= 0.95 * limit
    assert log.refused(20, 120) < 0.01


@pytest.mark.parametrize("server", [Fixed, Bucket])
@pytest.mark.parametrize("limit", [50, 200])
def test_other_kinds_of_limit_are_met(server, limit):
    """Fixed windows and buckets are nearly as well used."""
    log = play(server(limit), 120)
    assert log.rate(20, 120) >= 0.9 * limit
    assert log.refused(20, 120) < 0.015


@pytest.mark.parametrize("server", [Sliding, Fixed, Bucket, Leaky])
@pytest.mark.parametrize("limit", [20, 100])
@pytest.mark.parametrize("latency_s", [0.002, 0.02])
def test_an_unknown_limit_is_found_at_once(server, limit, latency_s):
    """Eleven seconds' worth of requests, from the first one on, within 6 % of eleven seconds."""
    log = play(server(limit), 12, latency=lambda _: latency_s)
    accepted = [at for at, is_accepted in log.sent if is_accepted]
    assert accepted[11 * limit - 1] <= 11 * 1.06


SEEDS = range(5)


@pytest.mark.parametrize("server", [Sliding, Fixed, Bucket, Leaky])
@pytest.mark.parametrize("seed", SEEDS)
def test_replies_that_take_long_say_nothing_of_a_new_pace(server, seed):
    """They were sent before it. One of them ended the fall too early, with a pace three times the
    limit, which then took seven pauses of a second."""
    log = play(server(100), 25, stall_s=0.2, seed=seed)
    accepted = [at for at, is_accepted in log.sent if is_accepted]
    assert accepted[1099] <= 11 * 1.3


BEGINNING = ((1, 0.05), (2, 0.05), (3, 0.05), (12, 0.4), (24, 1.2))
"""A sync begins with questions that follow from each other, and has no other work meanwhile."""


@pytest.mark.parametrize("server", [Sliding, Fixed, Bucket, Leaky])
@pytest.mark.parametrize(("latency_s", "stall_s"), [(0.002, 0.05), (0.02, 0.2)])
@pytest.mark.parametrize("seed", SEEDS)
def test_an_unknown_limit_is_found_by_who_stops_now_and_then(server, latency_s, stall_s, seed):
    """What was not sent while nobody asked shows nothing of a limit: it was taken for a tenth of
    it, and eleven seconds' worth took twenty."""
    answers = {"latency": lambda _: latency_s, "stall_s": stall_s, "seed": seed}
    log = play(server(100), 30, pauses=BEGINNING, **answers)
    accepted = [at for at, is_accepted in log.sent if is_accepted]
    assert accepted[1099] - sum(s for _, s in BEGINNING) <= 11 * 1.35


@pytest.mark.parametrize("seed", SEEDS)
def test_the_pace_does_not_grow_while_nobody_asks(seed):
    """After each pause it went far beyond the limit, and far below it: a third of it was used."""
    pauses = tuple((number, 20.0) for number in range(300, 3000, 300))
    log = play(Leaky(100), 240, pauses=pauses, seed=seed)
    accepted = [at for at, is_accepted in log.sent if is_accepted]
    assert accepted[2999] - 9 * 20 <= 30 * 1.1
    assert log.refused(20, accepted[2999]) < 0.01


@pytest.mark.parametrize("server", [Sliding, Fixed])
def test_a_quota_for_a_minute_is_met(server):
    """600 a minute: a long pause is kept by everybody, and the whole quota is used."""
    log = play(server(600, 60.0), 600)
    assert log.rate(120, 600) >= 9.5
    assert log.refused(120, 600) < 0.015


@pytest.mark.parametrize(
    ("server", "used"),
    [(Sliding(2), 0.7), (Sliding(3), 0.9), (Fixed(1), 0.95), (Fixed(2), 0.9), (Bucket(2), 0.95)],
)
@pytest.mark.parametrize("seed", range(3))
def test_a_few_requests_a_second_are_no_idleness(server, used, seed):
    """Between two of them more time passes than between two lumps of a fast one."""
    log = play(copy.deepcopy(server), 180, seed=seed)
    assert log.rate(20, 180) >= used * server.limit


@pytest.mark.parametrize("limit", [5, 10, 20])
def test_a_client_that_is_always_late_finds_a_limit_that_has_risen(limit):
    """Where the machine is busy, each request goes some 25 ms after it might have."""
    late = {"latency": lambda _: 0.1, "late_s": (0.022, 0.028)}
    log = play(Sliding(limit), 180, change=(60, 10 * limit), **late)
    assert log.rate(20, 60) >= 0.85 * limit
    assert log.rate(90, 180) >= 0.85 * 10 * limit


@pytest.mark.parametrize("server", [Sliding, Bucket])
@pytest.mark.parametrize("limit", [50, 200])
@pytest.mark.parametrize("factor", [0.5, 2])
def test_a_limit_that_changes_is_followed_within_ten_seconds(server, limit, factor):
    """Halved or doubled: ten seconds later the new one is used, and kept."""
    log = play(server(limit), 60, change=(40, int(limit * factor)))
    assert log.rate(50, 60) >= 0.8 * limit * factor
    assert log.refused(50, 60) < 0.05


@pytest.mark.parametrize("share", [0.01, 0.03, 0.05])
def test_refusals_at_random_do_not_stop_us(share):
    """A gateway that refuses some requests whatever the pace costs those, and little else."""
    log = play(Noise(share), 120, latency=lambda _: 0.1)
    free = play(None, 20, latency=lambda _: 0.1)
    assert log.rate(60, 120) >= 0.25 * free.rate(10, 20)


@given(rate=st.floats(1, 500), seed=st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_the_user_s_ceiling_is_never_passed(rate, seed):
    """`max_requests_per_second` holds for any second, give or take one request, and is used."""
    limiter = Limiter(max_in_flight=1000, max_rate=rate)
    rng, now, sent = Random(seed), 0.0, []
    while now < 10:
        wait_s = limiter.wait_s(now)
        if wait_s == 0:
            limiter.sent("GET", now)
            sent.append(now)
            limiter.in_flight = 0
        now += wait_s + 0.002 * rng.random()
    for first, at in enumerate(sent):
        assert bisect.bisect_left(sent, at + 1) - first <= rate * 1.02 + 2
    assert len(sent) >= min(rate, 400) * 10 * 0.97 - 2


def test_a_retry_after_holds_everybody_back():
    """Nothing is sent before it is over, whatever else is answered meanwhile."""
    limiter = Limiter(max_in_flight=8)
    tickets = [limiter.sent("GET", 0.0) for _ in range(8)]
    limiter.done(tickets[0], "refused", 0.1, 30)
    for ticket in tickets[1:]:
        limiter.done(ticket, "answered", 0.2)
    assert limiter.wait_s(0.2) == pytest.approx(29.9)
    assert limiter.wait_s(30.1) == 0


def test_a_server_that_refuses_everything_is_left_alone():
    """A stretch of nothing but refusals stops us for the seconds that it names, small ones too."""

    class Closed:
        limit = 0

        def ask(self, now):
            return 1

    log = play(Closed(), 60)
    assert len(log.between(5, 60)) < 3 * 55


# --- concurrency -------------------------------------------------------------------------


def test_it_grows_while_answers_come_as_fast():
    """From eight to the maximum within a few seconds."""
    log = play(None, 10, latency=lambda _: 0.1)
    assert log.limiter.concurrency.limit == 64
    assert log.peak == 64


def test_it_stays_where_more_would_only_queue():
    """A server that works on ten at a time is not given sixty."""
    log = play(None, 60, latency=lambda in_flight: 0.05 * max(1, in_flight / 10))
    assert 8 <= log.limiter.concurrency.limit <= 40
    assert log.rate(30, 60) > 0.8 * 10 / 0.05 / 1.15


def test_it_halves_when_answers_begin_to_fail():
    """Time-outs and 5xx in numbers: less at once."""
    limiter = Limiter(max_in_flight=64)
    for now in range(40):
        limiter.done(limiter.sent("GET", now), "trouble", now + 0.5)
    assert limiter.concurrency.limit < 8


def test_it_is_not_impressed_by_what_always_fails():
    """Where a fifth of the replies fails whatever we do, we do not ask one at a time."""
    log = play(None, 60, latency=lambda _: 0.1, trouble=0.2)
    assert log.limiter.concurrency.limit >= 32


def test_a_server_that_becomes_slower_for_good_is_asked_on():
    """Three times the latency is a new server, not a reason to ask a few at a time for ever."""
    limiter = Limiter(max_in_flight=64)
    now = 0.0
    for number in range(600):
        tickets = [limiter.sent("GET", now) for _ in range(limiter.concurrency.limit)]
        now += 0.05 if number < 100 else 0.2
        for ticket in tickets:
            limiter.done(ticket, "answered", now)
    assert limiter.concurrency.limit == 64


def test_slow_lists_among_quick_records_are_no_trouble():
    """Latency is judged by kind of request: a change of the mix is no change of the server."""
    limiter = Limiter(max_in_flight=64)
    now = 0.0
    for number in range(600):
        kind, takes_s = ("list", 1.0) if number > 300 or number % 5 == 0 else ("record", 0.05)
        tickets = [limiter.sent(kind, now) for _ in range(limiter.concurrency.limit)]
        now += takes_s
        for ticket in tickets:
            limiter.done(ticket, "answered", now)
    assert limiter.concurrency.limit == 64


@given(
    maximum=st.integers(1, 64),
    results=st.lists(
        st.tuples(
            st.sampled_from(["answered", "refused", "trouble", "unknown"]),
            st.floats(0.001, 5),
            st.sampled_from([None, 0, 1, 7]),
        ),
        max_size=300,
    ),
)
@settings(max_examples=50, deadline=None)
def test_whatever_happens_it_stays_within_its_bounds(maximum, results):
    """At least one, at most the maximum; waits are never negative, and always end."""
    limiter = Limiter(max_in_flight=maximum)
    now = 0.0
    for result, takes_s, retry_after_s in results:
        wait_s = limiter.wait_s(now)
        assert 0 <= wait_s < 60
        now += wait_s
        assert limiter.wait_s(now + 1e-9) == pytest.approx(0, abs=1e-6)
        ticket = limiter.sent("GET", now)
        now += takes_s
        limiter.done(ticket, result, now, retry_after_s)
        assert 1 <= limiter.concurrency.limit <= maximum
        assert limiter.in_flight == 0
