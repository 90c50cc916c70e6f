"""One question and its answer over HTTP: nothing here is asked twice.

httpx's and aiohttp's exceptions hold the request with its headers, so none leaves this file,
not even as the context of ours.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, cast
from urllib.parse import quote, urlencode

import httpx
import msgspec

from crmcom.errors import BrokenReply, CrmcomError, Evidence, SettingsError, Unreachable
from crmcom.network import Answer, Headers, ShortCut, is_untrusted, unconnected, unspoken
from crmcom.settings import setting

if TYPE_CHECKING:
    from collections.abc import Mapping

    from httpx import AsyncByteStream

    from crmcom.protocol import Params, Request

MAX_BODY = 64 * 2**20
"""A hundred rows of 600 KB each: what is larger is no page, and would fill the memory."""

MAX_REDIRECTS = 3

_NOTHING = httpx.ByteStream(b"")
_ELSEWHERE = frozenset({301, 302, 303, 307, 308})


@dataclass(frozen=True, slots=True)
class Sent:
    """A question as it is sent. Its `repr` shows method and URL alone."""

    method: str
    url: str
    headers: Headers
    body: bytes = field(default=b"", repr=False)


class Wire:
    """Sends requests below `base_url` through `transport`, by its short cut where it has one."""

    def __init__(self, base_url: str, transport: httpx.AsyncBaseTransport) -> None:
        url = httpx.URL(base_url)  # with what no URL can hold percent-encoded
        self._base_url, self._host = str(url), url.netloc.decode()
        self._transport = transport
        self._short_cut = transport if isinstance(transport, ShortCut) else None

    async def aclose(self) -> None:
        await self._transport.aclose()

    def headers(self, ours: Mapping[str, str]) -> Headers:
        """`ours` and what goes with every request; made once and sent often."""
        return Headers({"host": self._host, **_ALWAYS, **ours})

    def login(self, asked: Request, ours: Mapping[str, str], body: Mapping[str, str]) -> Sent:
        told = {**ours, "content-type": "application/json"}
        return Sent(
            "POST", self._base_url + asked.path, self.headers(told), msgspec.json.encode(body)
        )

    def request(self, method: str, asked: Request, headers: Headers) -> Sent:
        return Sent(method, self._base_url + asked.path + _query(asked.query), headers)

    async def send(self, asked: Request, sent: Sent, timeout_s: float) -> Answer:
        """Raises `Unreachable` or `BrokenReply` where no whole answer comes in time, and
        `SettingsError` where `base_url` is not the API's."""
        failed: CrmcomError
        try:
            return await self._follow(asked, sent, timeout_s)
        except (TimeoutError, httpx.TimeoutException):
            failed = Unreachable("time-out", _evidence(asked))
        except httpx.ConnectError as error:
            failed = Unreachable(unconnected(error), _evidence(asked))
            if is_untrusted(error):
                failed = SettingsError(
                    f"the certificate of {httpx.URL(sent.url).host} is not trusted: "
                    f"check {setting('base_url')}; "
                    "for a company's own authority set SSL_CERT_FILE",
                    _evidence(asked),
                )
        except httpx.ProxyError:
            failed = Unreachable("no connection through the proxy", _evidence(asked))
        except httpx.DecodingError:
            failed = BrokenReply("the reply's body cannot be decompressed", _evidence(asked))
        except httpx.RemoteProtocolError as error:
            failed = Unreachable(unspoken(error), _evidence(asked))
        except (httpx.HTTPError, OSError):
            failed = Unreachable("connection lost", _evidence(asked))
        raise failed

    async def _follow(self, asked: Request, sent: Sent, timeout_s: float) -> Answer:
        for _ in range(MAX_REDIRECTS + 1):
            answer = await self._exchange(sent, timeout_s)
            if len(answer.body) > MAX_BODY:
                raise BrokenReply(
                    f"the reply's body is larger than {MAX_BODY} bytes",
                    _evidence(asked, answer.status),
                )
            if answer.status not in _ELSEWHERE:
                return answer
            location = answer.headers.get("location", "")
            if not location:
                return answer
            here = httpx.URL(sent.url)
            target = _target(here, location)
            # Elsewhere, our key would be shown to a stranger; a login's body, to any address.
            if sent.method != "GET" or target is None or _origin(target) != _origin(here):
                where = f"{target.scheme}://{target.netloc.decode()}" if target else "elsewhere"
                raise SettingsError(
                    f"{setting('base_url')} leads to another address, {where}: "
                    "if that is the API, set it to that",
                    _evidence(asked, answer.status),
                )
            sent = replace(sent, url=str(target))
        raise SettingsError(
            f"{setting('base_url')} redirects in a circle: set it to the API's own address",
            _evidence(asked, answer.status),
        )

    async def _exchange(self, sent: Sent, timeout_s: float) -> Answer:
        """One answer, its body cut off somewhere beyond `MAX_BODY`."""
        if self._short_cut is not None and sent.method == "GET":
            return await self._short_cut.get_answer(
                sent.url, sent.headers, timeout_s=timeout_s, at_most=MAX_BODY
            )
        # httpx's time-outs are of each phase; a server that drips needs one for all of them.
        async with asyncio.timeout(timeout_s):
            response = await self._transport.handle_async_request(_for_httpx(sent, timeout_s))
            # As it comes, where nothing is to be unpacked.
            packed = "content-encoding" in response.headers
            body = response.aiter_bytes() if packed else cast("AsyncByteStream", response.stream)
            chunks: list[bytes] = []
            size = 0
            try:
                async for chunk in body:
                    chunks.append(chunk)
                    size += len(chunk)
                    if size > MAX_BODY:
                        break
            finally:
                await response.aclose()
            return Answer(response.status_code, response.headers, b"".join(chunks))


@lru_cache(64)
def _query(params: Params) -> str:
    """Encoded once for the many records that are asked for with the same."""
    return f"?{urlencode(params, quote_via=quote)}" if params else ""


def _for_httpx(sent: Sent, timeout_s: float) -> httpx.Request:
    return httpx.Request(
        sent.method,
        sent.url,
        headers=sent.headers.sent,
        # With a stream httpx looks for no more headers to add, 1 µs instead of 10.
        stream=_NOTHING if sent.method == "GET" else None,
        content=sent.body or None,
        extensions={"timeout": httpx.Timeout(timeout_s).as_dict()},
    )


def _evidence(asked: Request, status: int | None = None) -> Evidence:
    return Evidence(asked.endpoint.name, asked.path, status)


def _target(base: httpx.URL, location: str) -> httpx.URL | None:
    try:
        return base.join(location)
    except httpx.InvalidURL:
        return None


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


def _user_agent() -> str:
    try:
        return f"crmcom-warehouse/{version('crmcom-warehouse')}"
    except PackageNotFoundError:  # `dlt init` copies the source without the package
        return "crmcom-warehouse"


_ALWAYS = {
    "user-agent": _user_agent(),
    "accept": "application/json",
    "accept-encoding": "gzip, deflate",
}
