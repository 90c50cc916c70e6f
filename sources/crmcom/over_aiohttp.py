"""httpx's interface over aiohttp's connections."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aiohttp
import httpx
from yarl import URL

from crmcom.network import KEEPALIVE_S, NO_HOST, NO_HTTP, NO_TLS, REFUSED, Answer, proxy_for

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from crmcom.network import Headers


class AiohttpTransport(httpx.AsyncBaseTransport):
    """Keeps up to `max_connections` open. Proxies and certificates are the environment's
    (`HTTPS_PROXY`, `ALL_PROXY`, `NO_PROXY`, `SSL_CERT_FILE`, `SSL_CERT_DIR`), read here.
    """

    def __init__(self, base_url: str, *, max_connections: int) -> None:
        self._proxy = proxy_for(base_url)
        self._tls = httpx.create_ssl_context()
        self._max_connections = max_connections
        self._session: aiohttp.ClientSession | None = None

    async def get_answer(
        self, url: str, headers: Headers, *, timeout_s: float, at_most: int
    ) -> Answer:
        lost: httpx.RequestError
        try:
            async with self._opened().get(
                URL(url, encoded=True),  # as it is: see below
                headers=headers.sent,
                allow_redirects=False,
                auto_decompress=True,
                proxy=self._proxy,
                timeout=aiohttp.ClientTimeout(total=timeout_s),
            ) as response:
                return Answer(
                    response.status, response.headers, await _read(response.content, at_most)
                )
        except (aiohttp.ClientError, OSError) as error:
            lost = _translated(error)
        raise lost

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        waits = request.extensions.get("timeout", {})
        lost: httpx.RequestError
        try:
            response = await self._opened().request(
                request.method,
                # As it is: yarl would decode an escaped slash in an id, or an escaped bracket.
                URL(str(request.url), encoded=True),
                headers=request.headers.multi_items(),
                data=None if request.method == "GET" else await request.aread() or None,
                allow_redirects=False,
                proxy=self._proxy,
                timeout=aiohttp.ClientTimeout(
                    connect=waits.get("pool"),
                    sock_connect=waits.get("connect"),
                    sock_read=waits.get("read"),
                ),
            )
        except (aiohttp.ClientError, OSError) as error:
            lost = _translated(error)
        else:
            return httpx.Response(
                response.status, headers=list(response.raw_headers), stream=_Body(response)
            )
        raise lost

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:  # aiohttp wants a running loop
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=self._max_connections,
                    ssl=self._tls,
                    keepalive_timeout=KEEPALIVE_S,
                ),
                # A load balancer's cookie would send all requests to one of its servers.
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,  # httpx's part
                skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
            )
        return self._session

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()


async def _read(content: aiohttp.StreamReader, at_most: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    async for chunk in content.iter_any():
        chunks.append(chunk)
        size += len(chunk)
        if size > at_most:
            break
    return b"".join(chunks)


class _Body(httpx.AsyncByteStream):
    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        lost: httpx.RequestError
        try:
            async for chunk in self._response.content.iter_any():
                yield chunk
        except (aiohttp.ClientError, OSError) as error:
            lost = _translated(error)
        else:
            return
        raise lost

    async def aclose(self) -> None:
        # A body that was read to its end has given its connection back already; one that was
        # not makes its connection useless.
        self._response.close()


def _translated(error: aiohttp.ClientError | OSError) -> httpx.RequestError:
    """aiohttp's error as httpx's, whose name says what happened.

    Neither its text nor itself is kept: it holds the request, and so our headers.
    """
    match error:
        case aiohttp.ConnectionTimeoutError():
            return httpx.ConnectTimeout("time-out while connecting")
        case TimeoutError():
            return httpx.ReadTimeout("time-out while reading")
        case aiohttp.ClientConnectorCertificateError():
            return httpx.ConnectError("the server's certificate is not trusted")
        case aiohttp.ClientProxyConnectionError() | aiohttp.ClientHttpProxyError():
            return httpx.ProxyError("no connection through the proxy")
        case aiohttp.ClientConnectorSSLError():
            return httpx.ConnectError(NO_TLS)
        case aiohttp.ClientConnectorDNSError():
            return httpx.ConnectError(NO_HOST)
        case aiohttp.ClientConnectorError(os_error=ConnectionRefusedError()):
            return httpx.ConnectError(REFUSED)
        case aiohttp.ClientConnectorError():
            return httpx.ConnectError("no connection")
        case aiohttp.ClientPayloadError(__cause__=aiohttp.http_exceptions.ContentEncodingError()):
            return httpx.DecodingError("not packed as it says")
        case aiohttp.ClientConnectionError() | aiohttp.ClientPayloadError() | OSError():
            return httpx.ReadError("connection lost")
        case _:
            return httpx.RemoteProtocolError(NO_HTTP)
