"""The world's clock: aware UTC, and the only clock that the API's replies show."""

import time
from datetime import UTC, datetime, timedelta

# A Monday morning. A fixed default, so that two worlds of one seed are equal to the second.
DEFAULT_NOW = datetime(2026, 1, 12, 9, 0, tzinfo=UTC)


class Clock:
    """Stands still until told to run, and can be moved in either state."""

    def __init__(self, now: datetime = DEFAULT_NOW, *, running: bool = False) -> None:
        self._at = _as_utc(now)
        self._running_since = time.monotonic() if running else None

    @property
    def running(self) -> bool:
        return self._running_since is not None

    def now(self) -> datetime:
        if self._running_since is None:
            return self._at
        return self._at + timedelta(seconds=time.monotonic() - self._running_since)

    def epoch(self) -> int:
        """The current second, as the API writes it."""
        return int(self.now().timestamp())

    def freeze(self, at: datetime | None = None) -> None:
        self._at = self.now() if at is None else _as_utc(at)
        self._running_since = None

    def run(self, at: datetime | None = None) -> None:
        """Goes on with real time, from `at` or from where the clock stands."""
        self._at = self.now() if at is None else _as_utc(at)
        self._running_since = time.monotonic()

    def move(self, by: timedelta) -> None:
        self._at += by

    def move_to(self, at: datetime) -> None:
        self.move(_as_utc(at) - self.now())


def _as_utc(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise ValueError(f"the sandbox's clock needs an aware datetime, not {moment!r}")
    return moment.astimezone(UTC)
