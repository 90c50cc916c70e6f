"""What was asked, how often again, and why: for the whole run, and for any part of it."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from crmcom.errors import RateLimited, Retryable, Unreachable

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(slots=True)
class Count:
    """`asked`: requests sent, by endpoint, repeated ones included. `again`: the repeated ones,
    by endpoint and cause. `ended`: those that came to an end, whichever. `body_bytes`: what
    arrived, decompressed. Others may read them from another thread meanwhile."""

    asked: Counter[str] = field(default_factory=Counter)
    again: Counter[tuple[str, str]] = field(default_factory=Counter)
    ended: int = 0
    body_bytes: int = 0

    @property
    def requests(self) -> int:
        return self.asked.total()

    @property
    def retries(self) -> int:
        return self.again.total()

    @property
    def in_flight(self) -> int:
        return max(0, self.requests - self.ended)

    @property
    def causes(self) -> Counter[str]:
        """Retries by cause alone."""
        found: Counter[str] = Counter()
        for (_, why), number in list(self.again.items()):
            found[why] += number
        return found


@dataclass(slots=True)
class Extent:
    """How far reading is, in records: `done` of those that are `planned` so far.

    `is_known`: whether the API or the warehouse told how many there are, of all that is to come.
    `reading`: what the part that is being read has brought, which may hold a record twice.
    """

    done: int = 0
    planned: int = 0
    is_known: bool = False
    reading: int = 0

    def begins(self, records: int | None, *, last: bool = True) -> None:
        """The next part, of so many records, or of nobody knows how many. `last`: no other part
        is known to follow."""
        self.planned = self.done + (records or 0)
        self.is_known = records is not None and last

    def ends(self, records: int) -> None:
        self.done += records
        self.reading = 0
        self.planned = max(self.planned, self.done)


def cause(error: Retryable) -> str:
    """A retry's cause in a word or two, few enough to be counted by."""
    if isinstance(error, Unreachable):
        return error.message
    if isinstance(error, RateLimited):
        return "rate limit"
    status = error.evidence.status if error.evidence else None
    return str(status) if status and status >= 300 else "broken body"


# A task inherits the context of the one that spawned it, and so the counts that are open there.
_open: ContextVar[tuple[Count, ...]] = ContextVar("crmcom_counts", default=())


class Counts:
    """A client's counts: `total`, and any that are open where a request is made."""

    def __init__(self) -> None:
        self.total = Count()

    @contextmanager
    def counting(self, into: Count | None = None) -> Iterator[Count]:
        count = into or Count()
        token = _open.set((*_open.get(), count))
        try:
            yield count
        finally:
            _open.reset(token)

    def asked(self, endpoint: str) -> None:
        for count in (self.total, *_open.get()):
            count.asked[endpoint] += 1

    def ended(self) -> None:
        for count in (self.total, *_open.get()):
            count.ended += 1

    def again(self, endpoint: str, why: str) -> None:
        for count in (self.total, *_open.get()):
            count.again[endpoint, why] += 1

    def received(self, number: int) -> None:
        for count in (self.total, *_open.get()):
            count.body_bytes += number
