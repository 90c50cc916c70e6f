"""The network as a swappable part: httpx's interface over aiohttp's connections, or others'.

httpx's own pool looks through all connections whenever one of them is taken or given back: at 64
requests in flight it needs fifty times the processor time of aiohttp's, per request
(docs/decisions/0003-transport.md). Anything with httpx's `AsyncBaseTransport` interface can
stand in for it.
"""

from __future__ import annotations

import os
import socket
import ssl
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import httpx
from yarl import URL

from crmcom.errors import SettingsError
from crmcom.settings import is_loopback, setting

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from crmcom.settings import TransportKind

# Idle longer than this, a connection is closed by us: many servers close theirs after 15 to
# 60 s, and a request that meets a server's close is lost.
KEEPALIVE_S = 14


def transport(
    kind: TransportKind, base_url: str, *, max_connections: int
) -> httpx.AsyncBaseTransport:
    """The transport that the setting names.

    Raises `SettingsError` where it is not installed, or where the environment's proxy or
    certificates are not usable.
    """
    make = {"aiohttp": AiohttpTransport, "httpx": HttpxTransport, "pyreqwest": _pyreqwest}[kind]
    try:
        return make(base_url, max_connections=max_connections)
    except OSError as error:  # an `ssl.SSLError` is one
        why = error.strerror or "it holds no certificate"
    raise SettingsError(f"SSL_CERT_FILE or SSL_CERT_DIR cannot be used: {why}; correct or unset it")


class HttpxTransport(httpx.AsyncHTTPTransport):
    """httpx's own. For whoever must, or wants to see whether another one is the cause."""

    def __init__(self, base_url: str, *, max_connections: int) -> None:
        super().__init__(
            verify=httpx.create_ssl_context(),
            proxy=proxy_for(base_url),
            trust_env=False,  # read here, as for the others
            limits=httpx.Limits(
                max_connections=max_connections,
                max_keepalive_connections=max_connections,
                keepalive_expiry=KEEPALIVE_S,
            ),
        )


def _pyreqwest(base_url: str, *, max_connections: int) -> httpx.AsyncBaseTransport:
    """Rust's reqwest. It trusts what the system trusts, and what `SSL_CERT_FILE` holds."""
    try:
        from pyreqwest.client import ClientBuilder  # noqa: PLC0415 - an extra
        from pyreqwest.compatibility.httpx import HttpxTransport as Reqwest  # noqa: PLC0415
        from pyreqwest.proxy import ProxyBuilder  # noqa: PLC0415
    except ImportError:
        raise SettingsError(
            f"{setting('transport')} is pyreqwest, which is not installed: pip install pyreqwest"
        ) from None

    # Packed bodies, redirects and the environment's proxies are dealt with elsewhere.
    builder = (
        ClientBuilder()
        .max_connections(max_connections)
        .pool_max_idle_per_host(max_connections)
        .pool_idle_timeout(timedelta(seconds=KEEPALIVE_S))
        .follow_redirects(enable=False)
        .error_for_status(enable=False)
        .gzip(enable=False)
        .deflate(enable=False)
        .brotli(enable=False)
        .zstd(enable=False)
        .referer(enable=False)
        .http1_only()
        .no_proxy()
    )
    if proxy := proxy_for(base_url):
        builder = builder.proxy(ProxyBuilder.all(proxy))
    if trusted := os.environ.get("SSL_CERT_FILE"):
        ssl.create_default_context(cafile=trusted)  # which unlike Rust refuses what is none
        builder = builder.add_root_certificate_pem(Path(trusted).read_bytes())
    return Reqwest(builder.build())


def is_untrusted(error: BaseException | None) -> bool:
    """Whether the server's certificate is not one that we trust: asking again will not change it.

    Each transport says so in its own words, somewhere along the chain of causes.
    """
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError) or "certificate" in str(error).lower():
            return True
        error = error.__cause__ or error.__context__
    return False


REFUSED = "no connection: refused, nothing listens at that address"
NO_HOST = "no connection: there is no host of that name"
NO_TLS = "no connection: what listens there does not speak TLS (https://)"
NO_HTTP = "what answers there does not speak HTTP"


def unconnected(error: BaseException | None) -> str:
    """Why there is no connection, as far as the chain of causes tells."""
    while error is not None:
        match error:
            case httpx.ConnectError() if str(error) in (REFUSED, NO_HOST, NO_TLS):
                return str(error)
            case ConnectionRefusedError():
                return REFUSED
            case socket.gaierror():
                return NO_HOST
            case ssl.SSLError():
                return NO_TLS
        error = error.__cause__ or error.__context__
    return "no connection"


def unspoken(error: httpx.RemoteProtocolError) -> str:
    """What came instead of an answer. httpx says the same of one that was cut short."""
    return NO_HTTP if str(error) == NO_HTTP else "connection lost"


class AiohttpTransport(httpx.AsyncBaseTransport):
    """Keeps up to `max_connections` open. Proxies and certificates are the environment's
    (`HTTPS_PROXY`, `ALL_PROXY`, `NO_PROXY`, `SSL_CERT_FILE`, `SSL_CERT_DIR`), read here.
    """

    def __init__(self, base_url: str, *, max_connections: int) -> None:
        self.connections = 0
        """How many have been opened so far."""
        self._proxy = proxy_for(base_url)
        self._tls = httpx.create_ssl_context()
        self._max_connections = max_connections
        self._session: aiohttp.ClientSession | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if self._session is None:  # aiohttp wants a running loop
            self._session = self._open()
        waits = request.extensions.get("timeout", {})
        lost: httpx.TransportError
        try:
            response = await self._session.request(
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

    def _open(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=self._max_connections,
                ssl=self._tls,
                keepalive_timeout=KEEPALIVE_S,
                socket_factory=self._counted,
            ),
            # A load balancer's cookie would send all requests to one of its servers.
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,  # httpx's part
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
        )

    def _counted(self, address: aiohttp.AddrInfoType) -> socket.socket:
        self.connections += 1
        family, kind, protocol, *_ = address
        return socket.socket(family, kind, protocol)

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()


class _Body(httpx.AsyncByteStream):
    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        lost: httpx.TransportError
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


def _translated(error: aiohttp.ClientError | OSError) -> httpx.TransportError:
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
        case aiohttp.ClientConnectionError() | aiohttp.ClientPayloadError() | OSError():
            return httpx.ReadError("connection lost")
        case _:
            return httpx.RemoteProtocolError(NO_HTTP)


def _parsed(proxy: str) -> SplitResult:
    """Its text is never repeated: it may hold a password, and may be no URL because of it."""
    try:
        target = urlsplit(proxy)
        valid = bool(target.hostname) and target.port != 0
    except ValueError:
        valid = False
    if not valid:
        raise SettingsError(
            "the environment's proxy is not a URL like http://user:password@host:3128: in its "
            "user and password, write / # and other signs percent-encoded"
        )
    return target


def proxy_for(url: str) -> str | None:
    """The environment's proxy for `url`, or None.

    `http://` is for this machine alone, so a proxy elsewhere is not used for it: it would
    reach its own loopback instead of ours, and read the credentials on the way.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or proxy_bypass(host):
        return None
    if "://" not in proxy:
        proxy = f"http://{proxy}"
    target = _parsed(proxy)
    if target.scheme not in ("http", "https"):
        raise SettingsError(
            f"the environment's proxy is a {target.scheme}:// one: set HTTPS_PROXY to an "
            "http:// proxy, or NO_PROXY to the API's host"
        )
    if parts.scheme == "http" and not is_loopback(target.hostname or ""):
        return None
    return proxy
