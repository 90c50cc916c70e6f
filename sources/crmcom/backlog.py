"""Ids to ask about. More may come while the first of them are asked for."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class Backlog:
    """Ids, each once, in the order of their coming. Several tasks may take from it side by side.

    While it is open, whoever takes waits for more. It belongs to the event loop that waits.
    """

    def __init__(self, ids: Iterable[str] = (), *, is_open: bool = False) -> None:
        self.is_open = is_open
        self._ids = list(dict.fromkeys(ids))
        self._known = set(self._ids)
        self._taken = 0
        self._news = asyncio.Event()

    def __len__(self) -> int:
        """How many have come so far."""
        return len(self._ids)

    @property
    def ids(self) -> Sequence[str]:
        """All that have come so far, taken or not."""
        return self._ids

    def add(self, ids: Iterable[str]) -> None:
        new = [i for i in dict.fromkeys(ids) if i not in self._known]
        self._ids += new
        self._known.update(new)
        self._news.set()

    def close(self) -> None:
        """No more will come."""
        self.is_open = False
        self._news.set()

    async def begun(self) -> None:
        """Waits for the first, or for the news that none will come."""
        while self.is_open and not self._ids:
            await self._wait()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        while self._taken == len(self._ids):
            if not self.is_open:
                raise StopAsyncIteration
            await self._wait()
        self._taken += 1
        return self._ids[self._taken - 1]

    async def _wait(self) -> None:
        self._news.clear()
        await self._news.wait()
