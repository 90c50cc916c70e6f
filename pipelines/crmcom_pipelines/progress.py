"""What a person sees while a run works: bars on a terminal, a plain line now and then elsewhere.

Nothing is done for it while requests are sent: a thread looks at the run's counters.
"""

# ruff: noqa: PLC0415 - rich is imported where it is used: `crmcom --help` is fast

from __future__ import annotations

import os
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, TextIO

from crmcom.events import tell

if TYPE_CHECKING:
    from collections.abc import Callable

    from crmcom import Result, Run

PLAIN_EVERY_S = 30.0
REFRESHES_PER_SECOND = 4
RATE_OVER_S = 5.0
"""Requests per second are those of the last few: a moment tells little, the whole run is past."""
TELLING_S = 3.0
"""For so long a pace is not known well enough to tell from it how much time is left."""

_DOING = {
    "load": "reading the API",
    "erase": "erasing the person",
    "reset": "forgetting how far it was read",
    "transform": "building the marts",
    "publish": "publishing the file",
}


@dataclass(frozen=True, slots=True)
class Line:
    """How far one resource is. `share`: 0 to 1; None where nobody knows how much there is.

    `done` of `planned` are records to be read, `rows` those that were handed to the destination.
    """

    resource: str
    state: str
    rows: int
    requests: int
    per_second: float
    in_flight: int
    retries: int
    done: int
    planned: int | None
    share: float | None
    left_s: float | None

    @property
    def text(self) -> str:
        """What is known of it, in the order in which a narrow terminal keeps it."""
        of = f"{self.done:,} of {self.planned:,}" if self.planned else ""
        parts = [f"{self.resource} {self.state}", of, f"{self.rows:,} rows"]
        parts += [f"{self.per_second:,.0f} requests/s", f"{self.in_flight} in flight"]
        parts += [f"{self.retries:,} retries" if self.retries else "", left(self.left_s)]
        return ", ".join(part for part in parts if part)


class Watched:
    """Looks at a run again and again, and knows from that how fast each resource is."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self._looks: dict[str, deque[tuple[float, int]]] = {}
        self._first_s: dict[str, float] = {}

    def look(self, now: float) -> list[Line]:
        """A line for each resource that has begun, `now` in seconds that never run backwards."""
        return [self._line(result, now) for result in list(self.run.results.values())]

    def _line(self, result: Result, now: float) -> Line:
        requests, extent = result.requests, result.extent
        looks = self._looks.setdefault(result.resource, deque([(now, requests)]))
        looks.append((now, requests))
        while looks[1][0] < now - RATE_OVER_S:
            looks.popleft()
        over_s = now - looks[0][0]
        if requests:
            self._first_s.setdefault(result.resource, now)
        known = extent.is_known and extent.planned > 0 and not result.is_finished
        done = min(extent.done + extent.reading, extent.planned) if known else extent.done
        share = None if result.is_finished else done / extent.planned if known else result.share
        elapsed_s = now - self._first_s.get(result.resource, now)
        tells = share and elapsed_s >= TELLING_S
        return Line(
            result.resource,
            result.verdict if result.is_finished else "reading" if requests else "waiting",
            result.rows,
            requests,
            (requests - looks[0][1]) / over_s if over_s > 0 else 0.0,
            result.count.in_flight,
            result.retries,
            done,
            extent.planned if known else None,
            share,
            elapsed_s * (1 - share) / share if share and tells else None,
        )


class Progress:
    """Shows steps and how far a run is on `stream`, which is never stdout where a result goes.

    `quiet` shows nothing; `as_json` tells events instead. `every_s`: how often a plain line comes.
    """

    def __init__(
        self,
        stream: TextIO,
        *,
        quiet: bool = False,
        as_json: bool = False,
        every_s: float = PLAIN_EVERY_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream, self._quiet, self._as_json = stream, quiet, as_json
        self._every_s, self._clock = every_s, clock
        self._watched: Watched | None = None
        self._is_reading = False
        self._doing, self._begun = "starting", clock()
        self._prefix = ""
        self._live: Any = None
        self._ended = threading.Event()
        self._ticking: threading.Thread | None = None

    def __enter__(self) -> Self:
        if self._quiet:
            return self
        if not self._as_json and is_terminal(self._stream):
            from crmcom_pipelines.bars import bars

            self._live = bars(self._stream, self._look)
            self._live.start()
        else:
            ticking = threading.Thread(target=self._tick, daemon=True, name="progress")
            ticking.start()
            self._ticking = ticking  # from now on a signal may have another thread wait for it
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()
        if self._ticking is not None:
            self._ended.set()
            self._ticking.join()

    def follow(self, run: Run) -> None:
        """From now on it is this run that is shown."""
        self._watched = Watched(run)

    def chapter(self, title: str) -> None:
        """Begin a part that several steps belong to."""
        self._prefix = f"{title}: " if title else ""

    def step(self, name: str) -> None:
        """Begin a step of a run."""
        self._doing, self._begun = _DOING.get(name, name), self._clock()
        self._is_reading = name == "load"
        if self._ticking is not None and not self._as_json:
            self._say(f"{self._prefix}{self._doing}")

    def _look(self) -> tuple[str, list[Line]]:
        """What is being done, for how long, and while the API is read how far each resource is."""
        now = self._clock()
        lines = self._watched.look(now) if self._watched is not None and self._is_reading else []
        return f"{self._prefix}{self._doing}, {duration(now - self._begun)}", lines

    def _tick(self) -> None:
        while not self._ended.wait(self._every_s):
            doing, lines = self._look()
            if self._as_json:
                for line in lines:
                    self._tell(line)
                if not lines:
                    tell("progress", state=self._doing)
            else:
                self._say("; ".join([doing, *(line.text for line in lines)]))

    def _tell(self, line: Line) -> None:
        run = self._watched.run if self._watched is not None else None
        tell(
            "progress",
            run_id=run.run_id if run else None,
            resource=line.resource,
            state=line.state,
            rows=line.rows,
            requests=line.requests,
            requests_per_second=round(line.per_second, 1),
            in_flight=line.in_flight,
            retries=line.retries,
            done=line.done,
            planned=line.planned,
            seconds_left=None if line.left_s is None else round(line.left_s),
        )

    def _say(self, text: str) -> None:
        # Nobody may read it any more: that is no reason to end a run.
        with suppress(OSError):
            print(text, file=self._stream, flush=True)


def is_terminal(stream: TextIO) -> bool:
    """Whether a line can be written over. Emacs's shell and the like say that they cannot."""
    return stream.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown")


def left(seconds: float | None) -> str:
    return "" if seconds is None else f"about {duration(seconds)} left"


def duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min" if minutes else f"{rest} s"
