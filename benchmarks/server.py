"""The sandbox's data from a server that is not the bottleneck: python benchmarks/server.py OPTIONS.

It answers GET requests from bytes that are kept: each target (path and query) is rendered by the
sandbox's own handlers when it is first asked, and copied to the socket from then on. A benchmark
therefore asks everything once before it counts. Prints its address as one line of JSON.
`GET /_bench/stats` tells and resets the counts of requests and of refusals; with `?rate=50` it
sets the limit as well.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import sys
import time
from datetime import UTC, datetime
from email.utils import format_datetime
from urllib.parse import parse_qs, unquote

import uvloop

from crmcom_sandbox import LIVE, REFERENCE, Sandbox, World
from crmcom_sandbox.app import ROUTES
from crmcom_sandbox.behaviour import Place
from crmcom_sandbox.errors import ApiError
from crmcom_sandbox.records import encode
from crmcom_sandbox.routes import BASE_PATH, Call, Reply

NOW = datetime(2026, 1, 12, 9, tzinfo=UTC)
STATS = "/_bench/stats"


class Store:
    """Every reply that was ever asked for, as the bytes of a whole HTTP response."""

    def __init__(self, world: World, behaviour: str) -> None:
        self._sandbox = Sandbox(world, behaviour=REFERENCE if behaviour == "reference" else LIVE)
        self._kept: dict[bytes, bytes] = {}
        self._date = format_datetime(NOW, usegmt=True).encode()

    def response(self, target: bytes) -> bytes:
        kept = self._kept.get(target)
        if kept is None:
            kept = self._kept[target] = self.http(self._reply(target.decode()))
        return kept

    def http(self, reply: Reply, *headers: bytes) -> bytes:
        lines = [
            b"HTTP/1.1 %d -" % reply.status,
            b"content-type: application/json",
            b"content-length: %d" % len(reply.body),
            b"date: " + self._date,
            *headers,
        ]
        return b"\r\n".join(lines) + b"\r\n\r\n" + reply.body

    def _reply(self, target: str) -> Reply:
        path, _, query = target.partition("?")
        parts = path.removeprefix(BASE_PATH).strip("/").split("/")
        route = "/".join([parts[0], *(["{id}"] if parts[1:] else []), *parts[2:]])
        handler = ROUTES.get(f"/{route}", {}).get("GET")
        if handler is None:
            return Reply(b'{"error": {"message": "no such path"}}', 404)
        exact = "/".join(parts)
        call = Call(
            sandbox=self._sandbox,
            place=Place(f"GET /{exact}", f"GET /{route}"),
            ids={"id": unquote(parts[1])} if parts[1:] else {},
            query=parse_qs(query, keep_blank_values=True),
            headers={},
            body=b"",
            number=1,
        )
        try:
            return handler(call)
        except ApiError as error:
            return Reply(encode(error.body), error.body.status)


class Pace:
    """Lets `rate` requests pass in each second; None lets all."""

    def __init__(self, rate: float | None) -> None:
        self.rate = rate
        self._free_at = 0.0

    def wait_s(self) -> float:
        """0 for a request that may pass; else how long it should have waited."""
        if self.rate is None:
            return 0
        now = time.monotonic()
        # A burst of a tenth of a second is let through, as token buckets do.
        at = max(self._free_at, now - 0.1)
        if at > now:
            return at - now
        self._free_at = at + 1 / self.rate
        return 0


class Connection(asyncio.Protocol):
    def __init__(self, store: Store, pace: Pace, latency_s: float, counts: dict[str, int]) -> None:
        self._store, self._pace, self._latency_s, self._counts = store, pace, latency_s, counts
        self._buffer = b""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport
        self._counts["connections"] += 1

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            target = self._buffer.split(b" ", 2)[1]
            self._buffer = self._buffer[end + 4 :]
            response = self._response(target)
            if self._latency_s:
                asyncio.get_running_loop().call_later(self._latency_s, self._write, response)
            else:
                self._write(response)

    def _response(self, target: bytes) -> bytes:
        if target.startswith(STATS.encode()):
            if rate := parse_qs(target.partition(b"?")[2]).get(b"rate"):
                self._pace.rate = float(rate[0])
            told = json.dumps(self._counts).encode()
            self._counts.update(requests=0, refused=0, connections=0)
            return self._store.http(Reply(told))
        self._counts["requests"] += 1
        if wait_s := self._pace.wait_s():
            self._counts["refused"] += 1
            refusal = Reply(b'{"error": {"message": "too many requests"}}', 429)
            return self._store.http(refusal, b"retry-after: %d" % max(1, round(wait_s)))
        return self._store.response(target)

    def _write(self, response: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(response)


async def serve(options: argparse.Namespace) -> None:
    world = World.generate(
        seed=0, contacts=options.contacts, activities=options.activities, now=NOW
    )
    store, pace = Store(world, options.behaviour), Pace(options.rate)
    counts = {"requests": 0, "refused": 0, "connections": 0}
    loop = asyncio.get_running_loop()
    listening = socket.create_server(("127.0.0.1", options.port))
    server = await loop.create_server(
        lambda: Connection(store, pace, options.latency_ms / 1000, counts), sock=listening
    )
    base = f"http://127.0.0.1:{listening.getsockname()[1]}"
    sys.stdout.write(json.dumps({"base_url": base + BASE_PATH, "stats_url": base + STATS}) + "\n")
    sys.stdout.flush()
    async with server:
        await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--contacts", type=int, default=20_000)
    parser.add_argument("--activities", type=int, default=50_000)
    parser.add_argument("--behaviour", choices=("reference", "live"), default="live")
    parser.add_argument("--latency-ms", type=float, default=0)
    parser.add_argument("--rate", type=float, help="requests per second; beyond that, 429")
    uvloop.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
