"""A server on 127.0.0.1 that answers what a test says, time that passes only when slept, and
async tests."""

from __future__ import annotations

import asyncio
import inspect
import json
import socket
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pytest

from crmcom.client import Client
from crmcom.endpoints import GET_ACCOUNT
from crmcom.protocol import Request
from crmcom.settings import Settings

DATE = "Tue, 02 Jan 2024 12:00:00 GMT"
NOON = datetime(2024, 1, 2, 12, tzinfo=UTC)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    wanted = pyfuncitem._fixtureinfo.argnames
    asyncio.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in wanted}))
    return True


@dataclass
class Asked:
    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes
    connection: int


@dataclass
class Say:
    """An answer. `how`: whole; short (half of the body, then the end); reset (the same, then
    RST); drop (nothing, then the end); drip (a byte every 20 ms); silent (nothing at all)."""

    status: int = 200
    body: Any = field(default_factory=lambda: {"id": "1"})
    headers: dict[str, str] = field(default_factory=dict)
    how: str = "whole"

    def encode(self) -> tuple[bytes, bytes]:
        body = self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()
        headers = {"Date": DATE, "Content-Length": str(len(body)), **self.headers}
        lines = [f"HTTP/1.1 {self.status} Whatever", *(f"{k}: {v}" for k, v in headers.items())]
        return ("\r\n".join(lines) + "\r\n\r\n").encode(), body


Answering = Callable[[Asked], Say]


class Server:
    """Answers the script's items one by one, the last one for ever; or what a function says."""

    def __init__(self, script: Answering | Iterable[Say | int]) -> None:
        if callable(script):
            self._answer = script
        else:
            items = [Say(x, {}) if isinstance(x, int) and x != 200 else x for x in script]
            items = [Say() if x == 200 else x for x in items]
            self._answer = lambda _: items.pop(0) if len(items) > 1 else items[0]
        self.asked: list[Asked] = []
        self.connections = 0
        self.in_flight = self.peak = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Server:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/v2"
        return self

    async def until_asked(self, number: int) -> None:
        async with asyncio.timeout(10):
            while len(self.asked) < number:  # noqa: ASYNC110  plain, and no faster
                await asyncio.sleep(0.001)

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        self.connections += 1
        number = self.connections
        try:
            while await self._one(reader, writer, number):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _one(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int
    ) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()
        method, target, _ = head[0].split(" ")
        headers = {k.lower(): v.strip() for k, v in (x.split(":", 1) for x in head[1:] if x)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        path, _, query = target.partition("?")
        asked = Asked(method, path, query, headers, body, number)
        self.asked.append(asked)
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)
        await asyncio.sleep(0.001)
        self.in_flight -= 1
        return await self._say(self._answer(asked), writer)

    async def _say(self, say: Say, writer: asyncio.StreamWriter) -> bool:
        head, body = say.encode()
        if say.how == "whole":
            writer.write(head + body)
            await writer.drain()
            return True
        if say.how in ("short", "reset"):
            writer.write(head + body[: len(body) // 2])
            await writer.drain()
            await asyncio.sleep(0.01)
        if say.how == "reset":
            raw = writer.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        if say.how == "drip":
            writer.write(head)
            for byte in body:
                writer.write(bytes([byte]))
                await asyncio.sleep(0.02)
        if say.how == "silent":
            await asyncio.sleep(30)
        return False


class Time:
    """Stands still but for `sleep`, which takes none."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def clock(self) -> float:
        return self.now

    def utcnow(self) -> datetime:
        return NOON + timedelta(seconds=self.now - 1000)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)


@dataclass
class Tools:
    """What a test needs, without imports between test files."""

    time: Time = field(default_factory=Time)
    Server: type[Server] = Server
    Say: type[Say] = Say

    def client(self, server: Server | str, **options: Any) -> Client:
        base_url = server if isinstance(server, str) else server.url
        given = {k: options.pop(k) for k in ("patience", "learned") if k in options}
        if not isinstance(options.get("transport", ""), str):
            given["transport"] = options.pop("transport")
        if not options.keys() & {"access_token", "username"}:
            options.setdefault("api_key", "the-secret-key-0123456789")
        return Client(
            Settings(base_url=base_url, **options),
            clock=self.time.clock,
            utcnow=self.time.utcnow,
            sleep=self.time.sleep,
            rng=Random(1),
            **given,
        )

    @staticmethod
    def account(record_id: str = "1") -> Request:
        return Request(GET_ACCOUNT, record_id)


@pytest.fixture
def tools(monkeypatch: pytest.MonkeyPatch) -> Tools:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    return Tools()
