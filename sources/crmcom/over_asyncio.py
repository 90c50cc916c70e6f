"""HTTP/1.1 over asyncio's own connections, read by httptools (Node's parser, as in uvicorn).

Straight to one server: a proxy is `over_aiohttp.py`'s. Each request costs a third of what it
costs there (docs/decisions/0003-transport.md). Nothing is asked twice here.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import sys
import zlib
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

import httptools
import httpx

from crmcom.network import KEEPALIVE_S, NO_HOST, NO_HTTP, NO_TLS, REFUSED, Answer, Headers

if TYPE_CHECKING:
    from collections.abc import Callable

LONGEST_S = 60.0
"""For a request that comes without a time-out."""

NEXT_ADDRESS_S = 0.25
"""How long one of a host's addresses is waited for before the next is tried beside it (RFC 8305):
IPv6 may be announced where nothing gets through."""


class AsyncioTransport(httpx.AsyncBaseTransport):
    """Opens a connection whenever none is idle, and keeps it: whoever asks bounds their number.

    Certificates are the environment's (`SSL_CERT_FILE`, `SSL_CERT_DIR`), read here.
    """

    def __init__(self, base_url: str, *, max_connections: int) -> None:  # noqa: ARG002 - see above
        parts = urlsplit(base_url)
        self._host, self._port = parts.hostname or "", parts.port
        self._tls = httpx.create_ssl_context() if parts.scheme == "https" else None
        self._idle: list[_Connection] = []  # the latest last: the others may rest, and be closed
        self._open: set[_Connection] = set()

    async def get_answer(
        self, url: str, headers: Headers, *, timeout_s: float, at_most: int
    ) -> Answer:
        loop = asyncio.get_running_loop()
        ends_s = loop.time() + timeout_s
        connection = self._rested(loop.time()) or await self._connected(timeout_s)
        asked = connection.ask(
            _head("GET", url[url.index("/", len("https://")) :], headers.sent),
            ends_s - loop.time(),
            at_most,
        )
        return await self._answer(connection, asked)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        waits = request.extensions.get("timeout", {})
        timeout_s = max((s for s in waits.values() if s is not None), default=LONGEST_S)
        await request.aread()
        loop = asyncio.get_running_loop()
        connection = self._rested(loop.time()) or await self._connected(timeout_s)
        asked = connection.ask(
            _head(request.method, request.url.raw_path.decode(), request.headers) + request.content,
            timeout_s,
            sys.maxsize,
        )
        answer = await self._answer(connection, asked)
        return httpx.Response(answer.status, headers=dict(answer.headers), content=answer.body)

    async def aclose(self) -> None:
        """Connections end in a later turn of the loop, which may be its last."""
        ended = [connection.ended for connection in self._open]
        for connection in list(self._open):
            connection.end()
        if ended:
            await asyncio.wait(ended)

    async def _answer(self, connection: _Connection, asked: asyncio.Future[Answer]) -> Answer:
        try:
            return _unpacked(await asked, connection.at_most)
        finally:
            if connection.is_idle:
                self._idle.append(connection)
            else:
                connection.end()

    def _rested(self, now: float) -> _Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.is_idle and now - connection.used_at < KEEPALIVE_S:
                return connection
            connection.end()
        return None

    async def _connected(self, timeout_s: float) -> _Connection:
        failed: httpx.TransportError
        try:
            async with asyncio.timeout(timeout_s):
                _, connection = await asyncio.get_running_loop().create_connection(
                    lambda: _Connection(self._open),
                    self._host,
                    self._port or (80 if self._tls is None else 443),
                    ssl=self._tls,
                    happy_eyeballs_delay=NEXT_ADDRESS_S,
                )
                return connection
        except TimeoutError:
            failed = httpx.ConnectTimeout("time-out while connecting")
        except OSError as error:
            failed = httpx.ConnectError(_why(error))
        except UnicodeError:  # a name that no host can have, such as `a..b`
            failed = httpx.ConnectError(NO_HOST)
        raise failed


class _Connection(asyncio.Protocol):
    """One connection, and at most one question on it. httptools calls the `on_` methods."""

    def __init__(self, open_ones: set[_Connection]) -> None:
        self._open_ones = open_ones
        loop = asyncio.get_running_loop()
        self.ended = loop.create_future()
        self.used_at = loop.time()
        self.is_idle = False
        self.at_most = 0
        self._asked: asyncio.Future[Answer] | None = None
        self._begin()

    def ask(self, sent: bytes, timeout_s: float, at_most: int) -> asyncio.Future[Answer]:
        loop = asyncio.get_running_loop()
        self.is_idle = False
        self.at_most = at_most
        self._parser = httptools.HttpResponseParser(self)
        self._begin()
        self._asked = loop.create_future()
        self._timer = loop.call_later(timeout_s, self._fail, httpx.ReadTimeout("time-out"))
        self._transport.write(sent)
        return self._asked

    def end(self) -> None:
        self.is_idle = False
        self._transport.abort()

    def _begin(self) -> None:
        self._headers: dict[str, str] = {}
        self._chunks: list[bytes] = []
        self._size = 0
        self._status = 0

    def _finish(self, *, keep: bool) -> None:
        asked, self._asked = self._asked, None
        if asked is None:
            return
        self._timer.cancel()
        self.is_idle = keep
        self.used_at = asyncio.get_running_loop().time()
        if not asked.done():
            asked.set_result(Answer(self._status, self._headers, b"".join(self._chunks)))

    def _fail(self, error: httpx.RequestError) -> None:
        asked, self._asked = self._asked, None
        if asked is not None:
            self._timer.cancel()
            if not asked.done():
                asked.set_exception(error)
        self.end()

    # --- asyncio's ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._open_ones.add(self)

    def data_received(self, data: bytes) -> None:
        if self._asked is None:
            return self.end()  # nobody asked
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            what = "connection lost" if self._status else NO_HTTP
            self._fail(httpx.RemoteProtocolError(what))
        return None

    def connection_lost(self, exc: Exception | None) -> None:
        self._open_ones.discard(self)
        self.is_idle = False
        told = {"content-length", "transfer-encoding"} & self._headers.keys()
        if self._asked is not None and self._status and exc is None and not told:
            self._finish(keep=False)  # the end of the connection is the end of such a body
        else:
            self._fail(httpx.ReadError("connection lost"))
        if not self.ended.done():
            self.ended.set_result(None)

    # --- httptools' ---

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self._status = self._parser.get_status_code()

    def on_body(self, chunk: bytes) -> None:
        self._chunks.append(chunk)
        self._size += len(chunk)
        if self._size > self.at_most:
            self._finish(keep=False)

    def on_message_complete(self) -> None:
        if self._status < 200:
            self._begin()  # "wait" and the like: the answer follows
        else:
            self._finish(keep=self._parser.should_keep_alive())


def _head(method: str, target: str, headers: Any) -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"{method} {target or '/'} HTTP/1.1\r\n{lines}\r\n".encode("latin-1")


def _unpacked(answer: Answer, at_most: int) -> Answer:
    coding = answer.headers.get("content-encoding", "identity").strip().lower()
    if coding in ("", "identity"):
        return answer
    unpack = _UNPACK.get(coding)
    if unpack is None:
        raise httpx.DecodingError("packed in a way that we did not ask for")
    try:
        body = unpack(answer.body, at_most)
    except zlib.error:
        body = None
    if body is None:
        raise httpx.DecodingError("not packed as it says")
    return Answer(answer.status, answer.headers, body)


def _inflate(body: bytes, at_most: int) -> bytes | None:
    """None where it ends too early. 47: zlib tells by the first bytes whether it is gzip."""
    # Some servers send bare deflate, without zlib's two bytes: their sum tells.
    bare = len(body) > 1 and body[:2] != b"\x1f\x8b" and int.from_bytes(body[:2]) % 31
    stream = zlib.decompressobj(-15 if bare else 47)
    found = stream.decompress(body, min(at_most + 1, sys.maxsize))
    return found if stream.eof or len(found) > at_most or not body else None


_UNPACK: dict[str, Callable[[bytes, int], bytes | None]] = {
    "gzip": _inflate,
    "x-gzip": _inflate,
    "deflate": _inflate,
}


def _why(error: OSError) -> str:
    match error:
        case ssl.SSLCertVerificationError():
            return "the server's certificate is not trusted"
        case ssl.SSLError():
            return NO_TLS
        case socket.gaierror():
            return NO_HOST
        case ConnectionRefusedError():
            return REFUSED
        case _:
            return "no connection"
