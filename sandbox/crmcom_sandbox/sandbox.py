"""One server's state: the world it serves, how it behaves, and what it was asked."""

import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import msgspec

from .behaviour import BEHAVIOURS, Behaviour, Place, RateLimit
from .faults import FaultPlan, Faults
from .records import Json
from .sessions import Credentials, Sessions
from .world import World

LOG_LENGTH = 200_000


class Asked(msgspec.Struct, frozen=True):
    """One request, as the log keeps it. `status` is what was meant to be answered."""

    method: str
    path: str
    query: str
    status: int


@dataclass
class Counters:
    """`in_flight` and its peak count requests, `connections` the sockets ever opened."""

    requests: Counter[str] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    in_flight: int = 0
    peak_in_flight: int = 0
    connections: int = 0
    open_connections: int = 0


@dataclass
class Hook:
    """Runs `action` once, right after the `after`th further answer at `place` was made up."""

    place: str
    after: int
    action: Callable[[World], object]


class Sandbox:
    """What `app.state.sandbox` is. Switches may be changed while requests run."""

    def __init__(
        self,
        world: World,
        *,
        behaviour: Behaviour | str = "reference",
        faults: Faults | None = None,
        credentials: Credentials | None = None,
    ) -> None:
        self.world = world
        self.behaviour = BEHAVIOURS[behaviour] if isinstance(behaviour, str) else behaviour
        self.sessions = Sessions(world, credentials or Credentials())
        self.set_faults(faults or Faults())
        self.reset_counters()
        self._hooks: list[Hook] = []
        self.monotonic = time.monotonic
        """What the rate limit goes by: real time, for the world's may stand still."""
        self._recent: deque[float] = deque()
        self._limit: RateLimit | None = None

    def switch(self, **switches: object) -> None:
        """Changes some switches of the behaviour and leaves the others."""
        self.behaviour = self.behaviour.but(**switches)

    def set_faults(self, faults: Faults) -> None:
        """Starts the plan of failures anew."""
        self.fault_plan = FaultPlan(faults)

    def reset_counters(self) -> None:
        """Forgets the counters and the log. What is in flight is counted on."""
        before = getattr(self, "counters", Counters())
        self.counters = Counters(
            in_flight=before.in_flight, open_connections=before.open_connections
        )
        self.log: deque[Asked] = deque(maxlen=LOG_LENGTH)

    def after(self, requests: int, place: str, action: Callable[[World], object]) -> None:
        """Changes the world between two requests of a reader: see Hook."""
        self._hooks.append(Hook(place, requests, action))

    def run_hooks(self, place: Place) -> None:
        if not self._hooks:
            return
        for hook in [hook for hook in self._hooks if place.is_in((hook.place,))]:
            hook.after -= 1
            if hook.after <= 0:
                self._hooks.remove(hook)
                hook.action(self.world)

    def date(self) -> datetime:
        """What the `Date` header says."""
        return self.world.clock.now() + timedelta(seconds=self.behaviour.clock_offset_s)

    def seconds_over_limit(self) -> float | None:
        """None within the rate limit, which this request then uses; else how long to wait."""
        limit = self.behaviour.rate_limit
        if limit != self._limit:
            self._limit = limit
            self._recent.clear()
        if limit is None:
            return None
        now = self.monotonic()
        while self._recent and self._recent[0] <= now - limit.per_s:
            self._recent.popleft()
        if len(self._recent) < limit.requests:
            self._recent.append(now)
            return None
        return self._recent[0] + limit.per_s - now

    def counted(self) -> Json:
        return {
            "requests": dict(self.counters.requests),
            "statuses": {str(status): n for status, n in self.counters.statuses.items()},
            "faults": dict(self.counters.faults),
            "in_flight": self.counters.in_flight,
            "peak_in_flight": self.counters.peak_in_flight,
            "connections": self.counters.connections,
            "open_connections": self.counters.open_connections,
        }
