"""One question and its answer over HTTP: nothing here is asked twice.

httpx's and aiohttp's exceptions hold the request with its headers, so none leaves this file,
not even as the context of ours.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, cast
from urllib.parse import quote, urlencode

import httpx

from crmcom.errors import BrokenReply, CrmcomError, Evidence, SettingsError, Unreachable
from crmcom.settings import setting
from crmcom.transport import is_untrusted, unconnected, unspoken

if TYPE_CHECKING:
    from collections.abc import Mapping

    from httpx import AsyncByteStream

    from crmcom.protocol import Request

MAX_BODY = 64 * 2**20
"""A hundred rows of 600 KB each: what is larger is no page, and would fill the memory."""

MAX_REDIRECTS = 3

_NOTHING = httpx.ByteStream(b"")


@dataclass(frozen=True, slots=True)
class Answer:
    """Its `repr` is its status: a server may repeat in headers and body what it was sent."""

    status: int
    headers: httpx.Headers = field(repr=False)
    body: bytes = field(repr=False)

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300


@dataclass(frozen=True, slots=True)
class Headers:
    """What goes with a request. Its `repr` shows none of them: some are secrets."""

    sent: httpx.Headers = field(repr=False)


class Wire:
    """Sends requests below `base_url` through `transport`."""

    def __init__(
        self, base_url: str, transport: httpx.AsyncBaseTransport, *, timeout_s: float
    ) -> None:
        self._base_url, self._transport = base_url, transport
        self._host = httpx.URL(base_url).netloc.decode()
        # Each phase by itself; `send` bounds them all together, for a server that drips.
        self._timeout = httpx.Timeout(timeout_s).as_dict()

    async def aclose(self) -> None:
        await self._transport.aclose()

    def headers(self, ours: Mapping[str, str]) -> Headers:
        """`ours` and what goes with every request; made once and sent often."""
        return Headers(httpx.Headers({"host": self._host, **_ALWAYS, **ours}))

    def login(
        self, asked: Request, ours: Mapping[str, str], body: Mapping[str, str]
    ) -> httpx.Request:
        return httpx.Request(
            "POST",
            self._base_url + asked.path,
            headers=self.headers(ours).sent,
            json=body,
            extensions={"timeout": self._timeout},
        )

    def request(self, method: str, asked: Request, headers: Headers) -> httpx.Request:
        """`asked` as an HTTP request. What holds the secrets lives in no other frame: the
        `repr` of an `httpx.Request` shows its method and URL alone."""
        # Joined here: httpx takes twice as long to merge a URL and its parameters.
        query = f"?{urlencode(asked.query, quote_via=quote)}" if asked.query else ""
        return httpx.Request(
            method,
            self._base_url + asked.path + query,
            headers=headers.sent,
            # Without it httpx looks for more headers to add, 10 µs instead of 1. A POST needs one.
            stream=_NOTHING if method == "GET" else None,
            extensions={"timeout": self._timeout},
        )

    async def send(self, asked: Request, sent: httpx.Request, timeout_s: float) -> Answer:
        """Raises `Unreachable` or `BrokenReply` where no whole answer comes in time, and
        `SettingsError` where `base_url` is not the API's."""
        evidence = Evidence(asked.endpoint.name, asked.path)
        failed: CrmcomError
        try:
            async with asyncio.timeout(timeout_s):
                return await self._follow(asked, sent)
        except (TimeoutError, httpx.TimeoutException):
            failed = Unreachable("time-out", evidence)
        except httpx.ConnectError as error:
            failed = Unreachable(unconnected(error), evidence)
            if is_untrusted(error):
                failed = SettingsError(
                    f"the certificate of {sent.url.host} is not trusted: "
                    f"check {setting('base_url')}; "
                    "for a company's own authority set SSL_CERT_FILE",
                    evidence,
                )
        except httpx.ProxyError:
            failed = Unreachable("no connection through the proxy", evidence)
        except httpx.DecodingError:
            failed = BrokenReply("the reply's body cannot be decompressed", evidence)
        except httpx.RemoteProtocolError as error:
            failed = Unreachable(unspoken(error), evidence)
        except (httpx.HTTPError, OSError):
            failed = Unreachable("connection lost", evidence)
        raise failed

    async def _follow(self, asked: Request, sent: httpx.Request) -> Answer:
        for _ in range(MAX_REDIRECTS + 1):
            answer = await self._exchange(asked, sent)
            location = answer.headers.get("location", "")
            if answer.status not in (301, 302, 303, 307, 308) or not location:
                return answer
            target = _target(sent.url, location)
            # Elsewhere, our key would be shown to a stranger; a login's body, to any address.
            if sent.method != "GET" or target is None or _origin(target) != _origin(sent.url):
                where = f"{target.scheme}://{target.netloc.decode()}" if target else "elsewhere"
                raise SettingsError(
                    f"{setting('base_url')} leads to another address, {where}: "
                    "if that is the API, set it to that",
                    Evidence(asked.endpoint.name, asked.path, answer.status),
                )
            sent = httpx.Request(
                "GET", target, headers=sent.headers, extensions={**sent.extensions}
            )
        raise SettingsError(
            f"{setting('base_url')} redirects in a circle: set it to the API's own address",
            Evidence(asked.endpoint.name, asked.path, answer.status),
        )

    async def _exchange(self, asked: Request, sent: httpx.Request) -> Answer:
        response = await self._transport.handle_async_request(sent)
        chunks: list[bytes] = []
        size = 0
        # As it comes, where nothing is to be unpacked.
        packed = "content-encoding" in response.headers
        body = response.aiter_bytes() if packed else cast("AsyncByteStream", response.stream)
        try:
            async for chunk in body:
                chunks.append(chunk)
                size += len(chunk)
                if size > MAX_BODY:
                    raise BrokenReply(
                        f"the reply's body is larger than {MAX_BODY} bytes",
                        Evidence(asked.endpoint.name, asked.path, response.status_code),
                    )
        finally:
            await response.aclose()
        return Answer(response.status_code, response.headers, b"".join(chunks))


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
