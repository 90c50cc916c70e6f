"""Lets requests through one by one, as the limiter decides."""

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
    """First come, first served: only the head of the queue looks at the limiter, and sleeps."""

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
        try:
            if self._waiting or self.limiter.wait_s(self._clock()):
                await self._queue(longest_s)
            return Turn(self, self.limiter.sent(kind, self._clock()))
        finally:
            self._call()

    async def _queue(self, longest_s: float) -> None:
        ours = _Place()
        self._waiting.append(ours)
        try:
            while True:
                is_head = self._waiting[0] is ours
                wait_s = self.limiter.wait_s(self._clock()) if is_head else math.inf
                if not wait_s:
                    return
                if wait_s == math.inf:
                    await ours.called()
                elif wait_s > longest_s:
                    raise TooLong(wait_s)
                else:
                    await self._sleep(wait_s)
        finally:
            self._waiting.remove(ours)

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
        self._call()

    def _call(self) -> None:
        """Wakes the head where it may go, or has to sleep for it."""
        if self._waiting and self.limiter.wait_s(self._clock()) < math.inf:
            self._waiting[0].call()


class _Place:
    """In the queue: who waits there sleeps until called."""

    __slots__ = ("_call",)

    def __init__(self) -> None:
        self._call: asyncio.Future[None] | None = None

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
