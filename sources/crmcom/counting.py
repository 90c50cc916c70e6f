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
    by endpoint and cause. `body_bytes`: what arrived, decompressed."""

    asked: Counter[str] = field(default_factory=Counter)
    again: Counter[tuple[str, str]] = field(default_factory=Counter)
    body_bytes: int = 0

    @property
    def requests(self) -> int:
        return self.asked.total()

    @property
    def retries(self) -> int:
        return self.again.total()

    @property
    def causes(self) -> Counter[str]:
        """Retries by cause alone."""
        found: Counter[str] = Counter()
        for (_, why), number in self.again.items():
            found[why] += number
        return found


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
    def counting(self) -> Iterator[Count]:
        count = Count()
        token = _open.set((*_open.get(), count))
        try:
            yield count
        finally:
            _open.reset(token)

    def asked(self, endpoint: str) -> None:
        for count in (self.total, *_open.get()):
            count.asked[endpoint] += 1

    def again(self, endpoint: str, why: str) -> None:
        for count in (self.total, *_open.get()):
            count.again[endpoint, why] += 1

    def received(self, number: int) -> None:
        for count in (self.total, *_open.get()):
            count.body_bytes += number
