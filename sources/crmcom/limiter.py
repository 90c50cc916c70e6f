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

    Judged once per window of replies. It grows while the mean latency stays near the best
    window's mean (by kind: a list takes longer than one record): twofold until that is not so for
    the first time, then by a quarter. It halves when more replies fail than used to: a server
    where a fifth fails always is no reason to ask one at a time.
    """

    START, FLOOR = 8, 4
    WINDOW = 20
    FLAT, SLOW = 2.0, 3.0

    def __init__(self, maximum: int) -> None:
        self.maximum = maximum
        self.limit = min(self.START, maximum)
        self.peak = 0
        self._best: dict[str, float] = {}
        self._usual_trouble = 0.0
        self._is_starting = True
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
        if self._replies >= max(2 * self.limit, self.WINDOW):
            self._judge()
            self._begin()

    def _judge(self) -> None:
        trouble = self._trouble / self._replies
        worse = trouble > 1.5 * self._usual_trouble + 0.25
        self._usual_trouble += 0.3 * (trouble - self._usual_trouble)
        slowness = self._slowness()
        self._is_starting &= slowness < self.FLAT and not worse
        if worse:
            self.limit = max(1, self.limit // 2)
        elif slowness > self.SLOW:
            self.limit = max(min(self.FLOOR, self.limit), self.limit * 3 // 4)
        elif slowness < self.FLAT and self.peak >= self.limit:
            more = self.limit if self._is_starting else max(1, self.limit // 4)
            self.limit = min(self.maximum, self.limit + more)

    def _slowness(self) -> float:
        """This window's latency over the best one's, or a neutral value where nothing tells."""
        total = weight = 0.0
        for kind, latencies in self._latencies.items():
            mean = sum(latencies) / len(latencies)
            # A server may become slower for good. What it does with the fewest in flight is
            # its best now; elsewhere the best is forgotten slowly, or we would creep upwards.
            at_floor = self.limit <= self.FLOOR
            known = mean if at_floor else self._best.get(kind, mean) * 1.001
            best = self._best[kind] = min(known, mean)
            total += len(latencies) * mean / max(best, 1e-9)
            weight += len(latencies)
        return total / weight if weight else (self.FLAT + self.SLOW) / 2


class Pace:
    """The rate that the server takes.

    Unlimited until refusals show a limit. The first ones tell nothing of how large it is: we halve
    our rate until more is accepted than refused (`fall`), and go up from there (`search`). Where
    nothing at all is accepted meanwhile, a window is full: what it held is what fits into one.

    Then: just below the rate that was refused (`hold`), slowly through it (`crawl`), and where
    nothing happens ever faster (`surge`), so that a limit that doubled is found within ten
    seconds. Each hold after a refusal at the same rate is twice as long as the last, until a
    refusal is paid for with `PRICE` accepted requests.

    A `Retry-After` holds everybody back, with one exception. One second is the header's smallest
    step, which servers round milliseconds up to: a lone refusal with it, among others that are
    accepted, slows us down and stops only the refused request.

    Refusals that do not end when we slow down are not about our pace (a gateway's bad luck,
    another client's traffic). Up to their share they are tolerated.
    """

    PRICE = 100
    HOLD_S, LONGEST_HOLD_S = 3.0, 15.0
    CRAWL_S, CRAWL = 1.5, 0.08
    SURGE = 1.5
    SEARCH_S, SEARCH = 0.2, 4.0
    SLACK_S = 0.02
    FLOOR = 0.5
    BLOCKED_S = 0.1
    CLOSED = 12
    SETTLE_S = 0.25

    def __init__(self, maximum: float | None = None) -> None:
        self.maximum = maximum or math.inf
        self.paused_until = -math.inf
        self._good = math.inf  # the rate to hold
        self._hold_s = 0.0
        self._since = -math.inf  # when the hold began
        self._is_falling = self._is_searching = False
        self._next = -math.inf
        self._flowing_since: float | None = None
        self._flow_accepted = 0
        self._sent, self._accepted, self._idle = _LastSecond(), _LastSecond(), _LastSecond()
        self._last_sent = self._busy_since = -math.inf
        self._epoch = self._epoch_accepted = self._epoch_refused = 0
        self._since_accepted = 0  # since the epoch began, though they were sent before
        self._in_a_row = 0
        self._was_blocked = False
        self._confirmed, self._good_before = 0, 1.0
        self._refusals = 0.0  # their share of the replies, lately
        self._tolerated = 0.0
        self._series_rate = math.inf
        self._series_accepted = self._series_refused = self._series_cuts = 0

    # --- asked ---------------------------------------------------------------------------

    def rate(self, now: float) -> float:
        """Requests per second, now."""
        over_s = max(0.0, now - self._since - self._hold_s)
        if self._is_searching:
            grown: float = self.SEARCH ** min(over_s, 30.0)
        else:
            grown = 1 + self.CRAWL * min(1.0, over_s / self.CRAWL_S)
            grown *= self.SURGE ** min(max(0.0, over_s - self.CRAWL_S), 60.0)
        return min(self.maximum, self._good * grown)

    def wait_s(self, now: float) -> float:
        return max(0.0, self.paused_until - now, self._next - now)

    # --- told ----------------------------------------------------------------------------

    def sent(self, now: float) -> int:
        """Returns the epoch: a refusal speaks of the rate at which its request was sent."""
        if self._flowing_since is None:
            self._flowing_since = now
        self._notice_idleness(now)
        rate = self.rate(now)
        if rate < math.inf:
            # A timer is late by a millisecond or more; what it lost is made good at once.
            self._next = max(self._next, now - self.SLACK_S) + 1 / rate
        self._sent.add(now)
        return self._epoch

    def _notice_idleness(self, now: float) -> None:
        """Nobody asked when they might have. What was not sent shows nothing of a limit: a rate
        that grew meanwhile would be far too high, and one that was measured too low."""
        lost_s = now - self.SLACK_S - max(self._next, self.paused_until)
        if 0 < lost_s < math.inf:
            self._idle.add(now, lost_s)
            self._since += max(0.0, min(lost_s, now - max(self._since, self._last_sent)))
        if min(lost_s, now - self._last_sent) > self.SETTLE_S:
            self._busy_since = now
        self._last_sent = now

    def accepted(self, epoch: int, now: float) -> None:
        self._refusals *= 0.98
        self._tolerated *= 0.99997  # half of it after 23,000 replies: it may be wrong
        self._accepted.add(now)
        self._series_accepted += 1
        self._flow_accepted += 1
        self._since_accepted += 1
        if epoch != self._epoch:  # it took long, and was sent before we slowed down
            return
        self._in_a_row = 0
        self._epoch_accepted += 1
        if self._is_falling and self._epoch_accepted > max(4, self._epoch_refused):
            self._search(now)

    def refused(self, epoch: int, now: float, retry_after_s: float | None) -> None:
        self._refusals += 0.02 * (1 - self._refusals)
        self._series_refused += 1
        long = retry_after_s is not None and retry_after_s > 1
        if epoch != self._epoch:  # sent before we slowed down
            if retry_after_s is not None and long:
                self._pause(now, retry_after_s)
            return
        self._in_a_row += 1
        self._epoch_refused += 1
        rate = min(self.rate(now), self._sending_rate(now))
        is_first = self._is_unknown()
        enough = max(5 if self._tolerated else 3, self.BLOCKED_S * rate)
        if self._is_falling or is_first:
            enough = self.CLOSED
        if long or self._in_a_row >= enough:
            self._slow_down(now, rate, 1.0 if retry_after_s is None else retry_after_s)
        elif self._is_falling or (is_first and self._in_a_row > 2):
            if is_first or self._epoch_refused > max(2, self._epoch_accepted):
                self._fall(now, rate)
        elif not self._is_tolerable(now):
            self._slow_down(now, rate, None)

    # --- decided -------------------------------------------------------------------------

    def _is_unknown(self) -> bool:
        return self._good == math.inf and not self._tolerated

    def _is_tolerable(self, now: float) -> bool:
        if self._is_unknown():
            # Too little is known for a rate: one refusal among the first few requests.
            return self._sent.since(now - 1) < 20 or self._busy_s(now) < 1
        if self._refusals <= self._tolerated:
            return True
        # A window that was filled at the old rate goes on refusing for a while.
        settle_s = max(self.SETTLE_S, 10 / self._good)
        return self._series_cuts > 0 and now - self._since < settle_s

    def _fall(self, now: float, rate: float) -> None:
        self._is_falling = True
        self._good, self._hold_s = max(self.FLOOR, rate / 2), self.LONGEST_HOLD_S
        self._begin_epoch(now)

    def _search(self, now: float) -> None:
        """Something is accepted: the limit is not far above."""
        self._is_falling, self._is_searching = False, True
        self._good *= self._epoch_accepted / (self._epoch_accepted + self._epoch_refused)
        self._since, self._hold_s = now, self.SEARCH_S

    def _slow_down(self, now: float, rate: float, blocked_s: float | None) -> None:
        if now > self._since + self._hold_s:
            # Refused while we tried more: that is what trying is for.
            same = abs(self._good / self._good_before - 1) < 0.1
            self._confirmed = self._confirmed + 1 if same else 0
            self._good_before = self._good
            self._begin_series(rate)
        self._series_cuts += 1
        new = self._borne(now, rate, blocked_s)
        if not self._is_falling or blocked_s is None:  # else the rate is only how far it fell
            new = min(rate * 0.96, new)
        if self._is_noise(new):
            self._tolerated = min(0.6, 1.2 * self._series_share() + 0.04)
            new, self._hold_s, blocked_s = self._series_rate, 0.0, None
        else:
            if new < 0.85 * self._good_before:
                self._confirmed = 0
            price_s = self.PRICE * self._series_refused / max(new, self.FLOOR)
            earned_s = min(self.LONGEST_HOLD_S, self.HOLD_S * 2**self._confirmed)
            self._hold_s = max(self.HOLD_S, min(price_s, earned_s))
        self._was_blocked = blocked_s is not None
        self._is_falling = self._is_searching = False
        if blocked_s is not None:
            self._pause(now, blocked_s)
            self._in_a_row = 0
            # A stretch of nothing but refusals is a limit's, and no noise.
            self._begin_series(new)
            self._tolerated = 0.0
        self._good = max(self.FLOOR, new)
        self._begin_epoch(now)

    def _begin_epoch(self, now: float) -> None:
        self._since = max(now, self.paused_until)
        self._next = max(now + 1 / self._good, self.paused_until)
        self._epoch += 1
        self._epoch_accepted = self._epoch_refused = self._since_accepted = 0

    def _pause(self, now: float, seconds: float) -> None:
        self.paused_until = max(self.paused_until, now + seconds)
        self._flowing_since = None
        self._flow_accepted = 0

    def _borne(self, now: float, rate: float, blocked_s: float | None) -> float:
        """The rate that the server accepted of the `rate` that we sent."""
        flowing_s = self._flowing_s(now)
        if blocked_s is not None and blocked_s > 1:
            # The quota of a longer time is used up: what it held must last that long.
            return self._flow_accepted / (flowing_s + blocked_s)
        if self._good == math.inf or self._is_falling:
            if blocked_s is not None:
                return 0.98 * self._accepted.since(now - 1)  # what was counted, and is full
            return self._rate_of(self._accepted, now)
        if self._is_searching and blocked_s is None:
            return rate
        if blocked_s is not None and self._was_blocked and flowing_s < 1.5:
            return rate * 0.7  # again, and at once
        if blocked_s is None and self._series_cuts > 1:
            epoch_s = max(now - self._since, self.SETTLE_S)
            return max(rate * 0.7, 0.97 * self._since_accepted / epoch_s)
        if self._busy_s(now) < self.SETTLE_S:
            return rate  # too little was seen
        return max(rate * 0.7, 0.97 * self._rate_of(self._accepted, now))

    def _flowing_s(self, now: float) -> float:
        return 0.0 if self._flowing_since is None else now - self._flowing_since

    def _sending_rate(self, now: float) -> float:
        return max(self.FLOOR, 1.05 * self._rate_of(self._sent, now))

    def _busy_s(self, now: float) -> float:
        """How long somebody has been asking."""
        return min(self._flowing_s(now), now - self._busy_since)

    def _rate_of(self, counted: _LastSecond, now: float) -> float:
        """Of the last second, without the time that was not used."""
        start = max(self._busy_since, now - 1)
        used_s = min(1.0, self._busy_s(now)) - self._idle.since(start)
        return counted.since(start) / max(0.05, used_s)

    def _is_noise(self, new: float) -> bool:
        """A limit would have been met by now: it was never far below what was accepted."""
        share = self._series_share()
        cuts = 8 if share < 0.25 else 12
        limit = (1 - share) * self._series_rate
        return share < 0.5 and self._series_cuts >= cuts and new < 0.7 * limit

    def _begin_series(self, rate: float) -> None:
        """What happens from one attempt at a higher rate to the next."""
        self._series_rate = rate
        self._series_accepted = self._series_cuts = 0
        self._series_refused = 1  # the one that ends the attempt

    def _series_share(self) -> float:
        return self._series_refused / max(1, self._series_refused + self._series_accepted)


class _LastSecond:
    """What happened within the last second, and how much of it; somewhat more is kept."""

    def __init__(self) -> None:
        self._happened: deque[tuple[float, float]] = deque()

    def add(self, now: float, amount: float = 1.0) -> None:
        self._happened.append((now, amount))
        while self._happened[0][0] <= now - 1:
            self._happened.popleft()

    def since(self, start: float) -> float:
        return sum(amount for at, amount in self._happened if at >= start)
