"""The network as a swappable part: httpx's interface over asyncio, aiohttp or httpx.

httpx's own pool looks through all connections whenever one of them is taken or given back: at 64
requests in flight it needs fifty times the processor time of the others, per request
(docs/decisions/0003-transport.md). Anything with httpx's `AsyncBaseTransport` interface can
stand in for it.
"""

# ruff: noqa: PLC0415 - each costs its import, and one of them is used

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx

from crmcom.errors import SettingsError
from crmcom.network import KEEPALIVE_S, proxy_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from crmcom.settings import TransportKind


def transport(
    kind: TransportKind, base_url: str, *, max_connections: int
) -> httpx.AsyncBaseTransport:
    """The transport that the setting names.

    Raises `SettingsError` where the environment's proxy or certificates are not usable.
    """
    try:
        return _kind(kind, base_url)(base_url, max_connections=max_connections)
    except OSError as error:  # an `ssl.SSLError` is one
        why = error.strerror or "it holds no certificate"
    raise SettingsError(f"SSL_CERT_FILE or SSL_CERT_DIR cannot be used: {why}; correct or unset it")


def _kind(kind: TransportKind, base_url: str) -> Callable[..., httpx.AsyncBaseTransport]:
    match kind:
        case "asyncio" if proxy_for(base_url) is None:
            from crmcom.over_asyncio import AsyncioTransport

            return AsyncioTransport
        case "asyncio" | "aiohttp":
            from crmcom.over_aiohttp import AiohttpTransport

            return AiohttpTransport
        case "httpx":
            return HttpxTransport


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
