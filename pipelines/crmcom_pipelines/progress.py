"""What a person sees while a run works: a live line on a terminal, plain lines elsewhere."""

# ruff: noqa: PLC0415 - rich is imported where it is used: `crmcom --help` is fast

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Self, TextIO

if TYPE_CHECKING:
    from collections.abc import Callable

    from crmcom import Run

PLAIN_EVERY_S = 5.0
_DOING = {
    "load": "reading the API",
    "transform": "building the marts",
    "publish": "publishing the file",
}


class Progress:
    """Shows steps and a run's counts on `stream`, which is never stdout where a result goes.

    `quiet` shows nothing. `clock` is in seconds and never runs backwards.
    """

    def __init__(
        self,
        stream: TextIO,
        *,
        quiet: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream, self._quiet, self._clock = stream, quiet, clock
        self._status: Any = None
        self._begun = self._said = clock()
        self._doing = ""
        self._prefix = ""

    def __enter__(self) -> Self:
        if not self._quiet and self._stream.isatty():
            from rich.console import Console

            self._status = Console(file=self._stream).status("starting")
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._status is not None:
            self._status.stop()

    def chapter(self, title: str) -> None:
        """Begin a part that several steps belong to."""
        self._prefix = f"{title}: " if title else ""

    def step(self, name: str) -> None:
        """Begin a step of a run."""
        self._doing = _DOING.get(name, name)
        self._begun = self._clock()
        self._show(self._doing, now=True)

    def counts(self, run: Run) -> None:
        """Show how far the run's resources are."""
        elapsed_s = max(self._clock() - self._begun, 0.001)
        parts = [self._doing]
        parts += [f"{name} {r.rows:,}" for name, r in run.results.items() if r.rows]
        if run.slices > 1:
            parts.append(f"slice {run.slices}")
        if run.requests:
            parts.append(f"{run.requests:,} requests, {run.requests / elapsed_s:,.0f}/s")
        shares = [r.share for r in run.results.values() if r.share is not None]
        if run.backfill is not None and shares and min(shares) > 0:
            left_s = elapsed_s * (1 - min(shares)) / min(shares)
            parts.append(f"{min(shares):.0%}, about {_duration(left_s)} left")
        self._show(", ".join(parts))

    def say(self, text: str) -> None:
        """A line that stays."""
        if self._quiet:
            return
        if self._status is not None:
            self._status.console.print(text, highlight=False, markup=False)
        else:
            print(text, file=self._stream, flush=True)

    def _show(self, text: str, *, now: bool = False) -> None:
        if self._status is not None:
            self._status.update(f"{self._prefix}{text}")
        elif now or self._clock() - self._said >= PLAIN_EVERY_S:
            self._said = self._clock()
            self.say(f"{self._prefix}{text}")


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min" if minutes else f"{rest} s"
