"""When to ask again, and when to stop asking. Pure: the clock and chance are passed in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from crmcom.errors import RateLimited, Retryable

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a request is worth repeating.

    `tries`: the first one included. Ten: where 30 % of replies fail at random, six requests
    in a million fail all of them; and the waits between, 90 s on average, outlast a restart.
    `first_wait_s` doubles up to `longest_wait_s`; each wait is drawn from its upper half.
    `total_s`: no request is repeated after that. It bounds what `tries` does not: requests
    that the API refused for their pace, and the waits that it asks for.
    """

    tries: int = 10
    first_wait_s: float = 0.5
    longest_wait_s: float = 30
    total_s: float = 600

    def wait_s(self, failures: int, error: Retryable, chance: Callable[[], float]) -> float:
        """Seconds before the next try, after `failures` of them, the last one with `error`."""
        full = min(self.longest_wait_s, self.first_wait_s * 2.0 ** min(failures - 1, 30))
        wait_s = full * (0.5 + chance() / 2)
        if isinstance(error, RateLimited) and error.retry_after_s is not None:
            # Everybody was told the same moment: spread the return behind it, never before.
            return error.retry_after_s + chance() * min(1.0, full)
        return wait_s


@dataclass(slots=True)
class Breaker:
    """Stops an endpoint that always fails from costing minutes for each of its records.

    Opens when `after` requests in a row gave up, with no answer between; then lets one
    request through, for a single try, every `probe_after_s`. Any answer closes it.
    """

    after: int = 3
    probe_after_s: float = 60
    gave_up: int = 0
    _next_probe: float = field(default=0.0, repr=False)

    @property
    def is_open(self) -> bool:
        return self.gave_up >= self.after

    def admits(self, now: float) -> bool:
        """Whether a request may be tried now; while open, that is a probe."""
        if not self.is_open:
            return True
        if now < self._next_probe:
            return False
        self._next_probe = now + self.probe_after_s
        return True

    def answered(self) -> None:
        self.gave_up = 0

    def exhausted(self, now: float) -> None:
        self.gave_up += 1
        self._next_probe = now + self.probe_after_s
