"""When to ask again, and when to stop asking. Pure: time and chance are passed in."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from crmcom.errors import RateLimited, Retryable

if TYPE_CHECKING:
    from random import Random


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a request is worth repeating.

    `tries`: the first one included. Ten: where 30 % of replies fail at random, six requests
    in a million fail all of them; and the waits between, 90 s together, outlast a restart.
    `first_wait_s` doubles up to `longest_wait_s`; each wait is drawn from its upper half.
    `misrouted`: tries that may end with a 404 that is not the API's own: such a page comes from
    a gateway that restarts, or for good.
    `total_s`: no request waits longer than that between its tries. It bounds what `tries` does
    not: requests that the API refused for their pace, and the waits that it asks for.
    """

    tries: int = 10
    misrouted: int = 4
    first_wait_s: float = 0.5
    longest_wait_s: float = 30
    total_s: float = 600

    def wait_s(self, tries: int, error: Retryable, rng: Random) -> float:
        """Seconds before the next try, after `tries` of them, the last one ended by `error`."""
        full = min(self.longest_wait_s, self.first_wait_s * 2.0 ** min(tries - 1, 30))
        if isinstance(error, RateLimited) and error.retry_after_s is not None:
            # Many were told the same moment: they return spread behind it, never before.
            return error.retry_after_s + rng.random() * min(1.0, full)
        return full * (0.5 + rng.random() / 2)


@dataclass(slots=True)
class Health:
    """How an endpoint fares; it keeps what always fails from costing minutes for each record.

    An endpoint is given up when `after` requests in a row gave up with no answer between.
    Then one request is let through every `probe_after_s`, for a single try; an answer mends it.
    """

    after: int = 3
    probe_after_s: float = 60
    answers: int = 0
    gave_up: int = 0
    failing: float = 0.0
    """The share of replies that were failures, lately."""
    _next_probe: float = field(default=0.0, repr=False)

    @property
    def given_up(self) -> bool:
        return self.gave_up >= self.after

    def admits(self, now: float) -> bool:
        """Whether a request may be tried now; where the endpoint is given up, as its probe."""
        if not self.given_up:
            return True
        if now < self._next_probe:
            return False
        self._next_probe = now + self.probe_after_s
        return True

    def worth_trying(self, patience: Patience, failures: int, answers_since: int) -> bool:
        """Whether a request that has failed `failures` times may still be out of luck.

        Where others on its endpoint were answered meanwhile (`answers_since`), it is the
        record that is broken as soon as chance alone would fail so often only once in a
        million; elsewhere, and at most, it is worth `patience.tries`.
        """
        if self.given_up or failures >= patience.tries:
            return False
        if answers_since < 20:
            return True
        # `failing` is an estimate from about a hundred replies: 0.08 is twice its error.
        return failures * math.log(min(self.failing + 0.08, 0.99)) > math.log(1e-6)

    def answered(self) -> None:
        self.answers += 1
        self.gave_up = 0
        self.failing *= 0.98

    def failed(self) -> None:
        self.failing = self.failing * 0.98 + 0.02

    def exhausted(self, now: float) -> None:
        self.gave_up += 1
        self._next_probe = now + self.probe_after_s
