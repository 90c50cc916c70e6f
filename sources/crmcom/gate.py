"""Lets requests through in the order of their coming, as the limiter decides."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from typing import TYPE_CHECKING

from crmcom.errors import CrmcomError, RateLimited, Retryable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import TracebackType

    from crmcom.limiter import Limiter, Ticket


class TooLong(Exception):
    """The wait would be longer than anybody has patience for: a server may ask for an hour."""

    def __init__(self, wait_s: float) -> None:
        super().__init__(wait_s)
        self.wait_s = wait_s


class Gate:
    """First come, first served. Whoever leaves lets in as many as may go now; where that takes
    time, the head of the queue sleeps.

    Let in by the one before them, each in a turn of the event loop, two or three were in flight
    where 64 were allowed.
    """

    def __init__(
        self,
        limiter: Limiter,
        *,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self.limiter = limiter
        self._clock, self._sleep = clock, sleep
        self._waiting: deque[_Place] = deque()

    async def enter(self, kind: str, longest_s: float) -> Turn:
        """Waits for our turn. Raises `TooLong` for a pause of more than `longest_s`."""
        ours = _Place(kind)
        self._waiting.append(ours)
        self._admit()
        try:
            return Turn(self, ours.ticket or await self._admitted(ours, longest_s))
        except BaseException as error:
            if ours.ticket is None:
                self._waiting.remove(ours)
                self._admit()
            else:  # called off as it was let in
                self.leave(ours.ticket, error)
            raise

    async def _admitted(self, ours: _Place, longest_s: float) -> Ticket:
        while ours.ticket is None:
            is_head = self._waiting[0] is ours
            wait_s = self.limiter.wait_s(self._clock()) if is_head else math.inf
            if wait_s == math.inf:
                await ours.called()
            elif wait_s > longest_s:
                raise TooLong(wait_s)
            else:
                await ours.asleep(self._sleep(wait_s))
                self._admit()
        return ours.ticket

    def leave(self, ticket: Ticket, error: BaseException | None) -> None:
        now = self._clock()
        match error:
            case RateLimited(retry_after_s=retry_after_s):
                self.limiter.done(ticket, "refused", now, retry_after_s)
            case Retryable():
                self.limiter.done(ticket, "trouble", now)
            case None | CrmcomError():
                self.limiter.done(ticket, "answered", now)
            case _:
                self.limiter.done(ticket, "unknown", now)
        self._admit()

    def _admit(self) -> None:
        """Lets in as many as may go; calls the head where it has to sleep for its turn."""
        while self._waiting and not self._waiting[0].is_asleep:
            head, now = self._waiting[0], self._clock()
            wait_s = self.limiter.wait_s(now)
            if wait_s == math.inf:
                return
            if not wait_s:
                head.ticket = self.limiter.sent(head.kind, now)
                self._waiting.popleft()
            head.call()
            if wait_s:
                return


class _Place:
    """In the queue: who waits there does nothing until called. `ticket`: once it may go."""

    __slots__ = ("_call", "is_asleep", "kind", "ticket")

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.ticket: Ticket | None = None
        self.is_asleep = False
        self._call: asyncio.Future[None] | None = None

    async def asleep(self, sleep: Awaitable[None]) -> None:
        self.is_asleep = True
        try:
            await sleep
        finally:
            self.is_asleep = False

    async def called(self) -> None:
        self._call = asyncio.get_running_loop().create_future()
        await self._call

    def call(self) -> None:
        if self._call is not None and not self._call.done():
            self._call.set_result(None)


class Turn:
    """`with turn:` around what was waited for. How that ends is what the limiter learns."""

    __slots__ = ("_gate", "_ticket")

    def __init__(self, gate: Gate, ticket: Ticket) -> None:
        self._gate, self._ticket = gate, ticket

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._gate.leave(self._ticket, error)
