"""How many requests may be in flight, and how soon the next may go. Pure: time is passed in.

Two questions, kept apart. `Concurrency` asks whether the server answers as fast with more
requests in flight (in the manner of TCP Vegas and Netflix's concurrency-limits). `Pace` asks
how many requests per second it takes, and learns that only from refusals (429).
"""

from __future__ import annotations

import math
from collections import defaultdict, deque
from dataclasses import dataclass
from typing import Literal

Result = Literal["answered", "refused", "trouble", "unknown"]
"""answered: with whatever status; refused: 429; trouble: 5xx, time-out, lost; unknown: it was
cancelled, and says nothing about the server."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """A request in flight. `kind` groups requests of similar latency."""

    kind: str
    sent_at: float
    epoch: int


class Limiter:
    """`wait_s` before each request, then `sent`, then `done` with its ticket."""

    def __init__(self, *, max_in_flight: int, max_rate: float | None = None) -> None:
        self.concurrency = Concurrency(max_in_flight)
        self.pace = Pace(max_rate)
        self.in_flight = 0

    def wait_s(self, now: float) -> float:
        """Seconds until the next request may go; infinite until one in flight is done."""
        if self.in_flight >= self.concurrency.limit:
            return math.inf
        return self.pace.wait_s(now)

    def sent(self, kind: str, now: float) -> Ticket:
        self.in_flight += 1
        self.concurrency.peak = max(self.concurrency.peak, self.in_flight)
        return Ticket(kind, now, self.pace.sent(now))

    def done(
        self, ticket: Ticket, result: Result, now: float, retry_after_s: float | None = None
    ) -> None:
        self.in_flight -= 1
        if result == "refused":
            self.pace.refused(ticket.epoch, now, retry_after_s)
        elif result != "unknown":
            self.pace.accepted(ticket.epoch, now)
            self.concurrency.sample(ticket.kind, now - ticket.sent_at, result)


class Concurrency:
    """The number of requests in flight that the server bears without answering more slowly.

    Judged once per window of at least `limit` replies. It grows by a quarter while the mean
    latency stays near the best window's mean (by kind: a list takes longer than one record),
    and halves when more replies fail than used to: a server where a fifth fails always is
    no reason to ask one at a time.
    """

    START = 8
    FLAT, SLOW = 1.5, 2.5

    def __init__(self, maximum: int) -> None:
        self.maximum = maximum
        self.limit = min(self.START, maximum)
        self.peak = 0
        self._best: dict[str, float] = {}
        self._usual_trouble = 0.0
        self._begin()

    def _begin(self) -> None:
        self._latencies: defaultdict[str, list[float]] = defaultdict(list)
        self._replies = self._trouble = self.peak = 0

    def sample(self, kind: str, latency_s: float, result: Result) -> None:
        self._replies += 1
        if result == "trouble":
            self._trouble += 1
        else:
            self._latencies[kind].append(latency_s)
        if self._replies >= max(self.limit, self.START):
            self._judge()
            self._begin()

    def _judge(self) -> None:
        trouble = self._trouble / self._replies
        worse = trouble > 1.5 * self._usual_trouble + 0.1
        self._usual_trouble += 0.3 * (trouble - self._usual_trouble)
        slowness = self._slowness()
        if worse:
            self.limit = max(1, self.limit // 2)
        elif slowness > self.SLOW:
            self.limit = max(1, self.limit * 3 // 4)
        elif slowness < self.FLAT and self.peak >= self.limit:
            self.limit = min(self.maximum, self.limit + max(1, self.limit // 4))

    def _slowness(self) -> float:
        """This window's latency over the best one's, or a neutral value where nothing tells."""
        total = weight = 0.0
        for kind, latencies in self._latencies.items():
            mean = sum(latencies) / len(latencies)
            # The best is forgotten by 2 % a window: the server may have changed for good.
            best = self._best[kind] = min(self._best.get(kind, mean) * 1.02, mean)
            total += len(latencies) * mean / max(best, 1e-9)
            weight += len(latencies)
        return total / weight if weight else (self.FLAT + self.SLOW) / 2


class Pace:
    """The rate that the server takes.

    Unlimited until the first refusal. Then: just below the refused rate for a while (`hold`),
    slowly through it (`crawl`), and where nothing happens ever faster (`surge`), so that a
    limit that doubled is found within ten seconds. A refusal is paid for before the next is
    risked: with `PRICE` accepted requests.

    A `Retry-After` holds everybody back, with one exception. One second is the header's
    smallest step, which servers round milliseconds up to; a single refusal with it, while
    others are accepted, slows us down but stops only the refused request.

    Refusals that do not become fewer when we slow down are not about our pace (a gateway at
    random, another client's traffic): up to that share they are tolerated.
    """

    PRICE = 150
    CRAWL_S, CRAWL = 1.0, 0.08
    SURGE = 1.5
    SLACK_S = 0.02
    FLOOR = 0.5

    def __init__(self, maximum: float | None = None) -> None:
        self.maximum = maximum or math.inf
        self.paused_until = -math.inf
        self._good = math.inf  # a rate that was borne
        self._hold_s = 0.0
        self._next = -math.inf
        self._recent_sent: deque[float] = deque()
        self._recent_accepted: deque[float] = deque()
        self._refusals = 0.0  # share of all replies, lately
        self._tolerated = 0.0
        self._begun: float | None = None
        self._borne_before = 0.0
        self._epoch = 0
        self._since = 0.0
        self._accepted = self._in_a_row = 0
        self._series_rate = math.inf
        self._series_accepted = self._series_refused = self._series_cuts = 0

    # --- asked ---------------------------------------------------------------------------

    def rate(self, now: float) -> float:
        """Requests per second, now."""
        after_s = now - self._since - self._hold_s
        grown = 1.0
        if after_s > 0:
            grown += self.CRAWL * min(1.0, after_s / self.CRAWL_S)
        if after_s > self.CRAWL_S:
            grown *= self.SURGE ** min(after_s - self.CRAWL_S, 60.0)
        return min(self.maximum, self._good * grown)

    def wait_s(self, now: float) -> float:
        return max(0.0, self.paused_until - now, self._next - now)

    # --- told ----------------------------------------------------------------------------

    def sent(self, now: float) -> int:
        """Returns the epoch: a refusal speaks about the rate at which its request was sent."""
        if self._begun is None:
            self._begun = self._since = now
        rate = self.rate(now)
        if rate < math.inf:
            # A timer is late by a millisecond or more; what it lost is made good at once.
            self._next = max(self._next, now - self.SLACK_S) + 1 / rate
        _remember(self._recent_sent, now)
        return self._epoch

    def accepted(self, epoch: int, now: float) -> None:
        self._refusals *= 0.98
        _remember(self._recent_accepted, now)
        if epoch == self._epoch:
            self._accepted += 1
            self._series_accepted += 1
            self._in_a_row = 0

    def refused(self, epoch: int, now: float, retry_after_s: float | None) -> None:
        self._refusals = self._refusals * 0.98 + 0.02
        if retry_after_s is not None and retry_after_s > 1:
            self.paused_until = max(self.paused_until, now + retry_after_s)
        if epoch != self._epoch:
            return  # sent before we slowed down
        self._in_a_row += 1
        rate = min(self.rate(now), self._sending_rate(now))
        if self._is_calm(now):
            self._start_series(rate)
        self._series_refused += 1
        if self._tolerated and self._refusals <= self._tolerated and self._in_a_row < 5:
            return
        self._slow_down(rate, now, retry_after_s)

    # --- decided -------------------------------------------------------------------------

    def _slow_down(self, rate: float, now: float, retry_after_s: float | None) -> None:
        pause_s = retry_after_s if retry_after_s is not None else 1.0
        first = self._good == math.inf
        if first or self._in_a_row >= 3 or pause_s > 1:
            # Blocked: what was accepted must last until the server opens again.
            self.paused_until = max(self.paused_until, now + pause_s)
            borne = self._accepted / max(
                1.0, now - self._since + pause_s * (pause_s > 1 or not first)
            )
            self._series_cuts = 0
            new = borne if first else max(rate / 2, min(borne, rate * 0.96))
            hold_s = self._price_s(new)
        elif rate > 1.1 * self._good:
            # The limit lies between the rate that was borne and this one.
            new, hold_s = (self._good + rate) / 2, 1.0
            self._borne_before = self._good
        elif self._borne_before:
            new, hold_s = self._borne_before, self._price_s(self._borne_before)
            self._borne_before = 0.0
        else:
            self._series_cuts += 1
            new = rate * (0.96 if self._series_cuts == 1 else 0.92)
            hold_s = self._price_s(new)
        if self._series_cuts >= 5 and self._series_share() < 0.2:
            self._tolerated = 1.5 * self._series_share() + 0.05
            new, hold_s = self._series_rate, 0.0
        self._good, self._hold_s = max(self.FLOOR, new), hold_s
        self._next = now + 1 / self._good
        self._epoch += 1
        self._start_epoch(max(now, self.paused_until))

    def _price_s(self, rate: float) -> float:
        return min(60.0, max(3.0, self.PRICE * self._series_refused / max(rate, self.FLOOR)))

    def _start_epoch(self, now: float) -> None:
        self._since = now
        self._accepted = self._in_a_row = 0

    def _is_calm(self, now: float) -> bool:
        return now - self._since > 1 and self._accepted >= 20

    def _start_series(self, rate: float) -> None:
        self._series_rate = rate
        self._series_accepted = self._series_refused = self._series_cuts = 0
        self._borne_before = 0.0

    def _series_share(self) -> float:
        return self._series_refused / max(1, self._series_refused + self._series_accepted)

    def _sending_rate(self, now: float) -> float:
        _forget(self._recent_sent, now)
        span_s = min(1.0, now - (self._begun or now))
        return max(self.FLOOR, len(self._recent_sent) / max(span_s, 0.01))


def _remember(times: deque[float], now: float) -> None:
    times.append(now)
    _forget(times, now)


def _forget(times: deque[float], now: float) -> None:
    """Keep one second."""
    while times and times[0] <= now - 1:
        times.popleft()
