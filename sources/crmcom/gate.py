"""Lets requests through one by one, as the limiter decides."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from crmcom.limiter import Limiter, Result, Ticket


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
        self._head = asyncio.Lock()
        self._left = asyncio.Event()

    async def enter(self, kind: str, longest_s: float) -> Ticket:
        """Waits for our turn. Raises `TooLong` for a pause of more than `longest_s`."""
        async with self._head:
            while wait_s := self.limiter.wait_s(self._clock()):
                if wait_s < math.inf:
                    if wait_s > longest_s:
                        raise TooLong(wait_s)
                    await self._sleep(wait_s)
                else:
                    self._left.clear()
                    await self._left.wait()
            return self.limiter.sent(kind, self._clock())

    def leave(self, ticket: Ticket, result: Result, retry_after_s: float | None = None) -> None:
        self.limiter.done(ticket, result, self._clock(), retry_after_s)
        self._left.set()
