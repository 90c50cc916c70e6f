"""What the transports have in common: the environment's proxy, and why a connection failed.

A transport is anything with httpx's `AsyncBaseTransport` interface. One of ours may offer a
`ShortCut` beside it.
"""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable
from urllib.parse import SplitResult, urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx

from crmcom.errors import SettingsError
from crmcom.settings import is_loopback

if TYPE_CHECKING:
    from collections.abc import Mapping

# Idle longer than this, a connection is closed by us: many servers close theirs after 15 to
# 60 s, and a request that meets a server's close is lost.
KEEPALIVE_S = 14


@dataclass(frozen=True, slots=True)
class Headers:
    """What goes with a request. Its `repr` shows none of them: some are secrets."""

    sent: dict[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as it came. Its `repr` is its status: a server may repeat what it was sent."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300


@runtime_checkable
class ShortCut(Protocol):
    """What a transport may offer beside httpx's interface: a GET without httpx's objects, which
    take longer to make than the network takes to answer.

    `timeout_s` bounds it as a whole. A body is unpacked, and read to little more than `at_most`
    bytes. Raises httpx's errors.
    """

    async def get_answer(
        self, url: str, headers: Headers, *, timeout_s: float, at_most: int
    ) -> Answer: ...


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
