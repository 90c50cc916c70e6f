"""Asks the API, and asks again where that helps. The only file that does network I/O."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import defaultdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Self

import httpx

from crmcom.counting import Count, Counts, cause
from crmcom.errors import (
    Answered,
    BrokenReply,
    DeadlineExceeded,
    Evidence,
    Forbidden,
    LoginRefused,
    RateLimited,
    Retryable,
    Unavailable,
    Unreachable,
)
from crmcom.protocol import Reply, Request, judge, server_time
from crmcom.retrying import Breaker, Patience
from crmcom.settings import ApiKey, Login, Settings, Token, setting

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractContextManager

log = logging.getLogger("crmcom")

CLOCK_TOLERANCE_S = 300


def _utcnow() -> datetime:
    return datetime.now(UTC)


class Client:
    """`async with Client(settings) as client: reply = await client.get(request)`.

    `transport` replaces the network; `clock` (monotonic seconds), `utcnow`, `sleep` and
    `chance` replace time and randomness.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        patience: Patience | None = None,
        clock: Callable[[], float] = time.monotonic,
        utcnow: Callable[[], datetime] = _utcnow,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.settings = settings
        self.notices: list[str] = []
        self._patience = patience or Patience()
        self._clock, self._utcnow, self._sleep, self._chance = clock, utcnow, sleep, chance
        self._counts = Counts()
        self._breakers: defaultdict[str, Breaker] = defaultdict(Breaker)
        self._slots = asyncio.Semaphore(settings.max_concurrency)
        self._refused: LoginRefused | None = None
        self._server_now: datetime | None = None
        self._started = clock()
        self._http = httpx.AsyncClient(
            transport=transport,
            timeout=settings.request_timeout_s,
            headers={"user-agent": _user_agent(), "accept": "application/json"},
        )

    async def __aenter__(self) -> Self:
        self._started = self._clock()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    def __repr__(self) -> str:
        return f"Client({self.settings.base_url!r})"

    @property
    def stats(self) -> Count:
        """What this client has asked so far."""
        return self._counts.total

    def counting(self) -> AbstractContextManager[Count]:
        """Count what is asked inside the `with`, by tasks spawned there too."""
        return self._counts.counting()

    def server_now(self) -> datetime:
        """The latest `Date` that the server sent, or the host's clock before any.

        It stands still between replies: a server's clock may jump or play faster than ours,
        so nothing is added to what it said.
        """
        return self._server_now or self._utcnow()

    async def get(self, request: Request) -> Reply:
        """The answer to `request`, asked as often as it takes.

        Raises `Answered` for an answer that is no failure, `Refused` where the API does not
        let us, `Unavailable` after all tries, `DeadlineExceeded` when the run's time is over.
        """
        name = request.endpoint.name
        breaker = self._breakers[name]
        started, tries, failures = self._clock(), 0, 0
        last: Retryable | None = None
        while True:
            if self._refused:
                raise self._refused.with_traceback(None)
            if not breaker.admits(self._clock()):
                raise _gave_up("this endpoint keeps failing; not asked again", request, tries, last)
            self._check_deadline(request, 0)
            self._counts.asked(name)
            tries += 1
            try:
                async with self._slots:
                    reply = await self._try(request)
            except Retryable as error:
                last = error
            except (Answered, Forbidden):
                breaker.answered()
                raise
            except LoginRefused as error:
                self._refused = error
                raise
            else:
                breaker.answered()
                return reply
            # A refusal for our pace is no failure of the endpoint: only time bounds it.
            failures += not isinstance(last, RateLimited)
            wait_s = self._patience.wait_s(max(1, failures), last, self._chance)
            elapsed = self._clock() - started
            if failures >= self._patience.tries or elapsed + wait_s > self._patience.total_s:
                breaker.exhausted(self._clock())
                raise _gave_up(f"gave up after {elapsed:.0f} s", request, tries, last)
            self._check_deadline(request, wait_s)
            self._counts.again(name, last)
            log.debug("%s: %s, again in %.1f s", name, cause(last), wait_s)
            await self._sleep(wait_s)

    def _check_deadline(self, request: Request, wait_s: float) -> None:
        limit = self.settings.run_timeout_s
        if limit is not None and self._clock() - self._started + wait_s >= limit:
            raise DeadlineExceeded(
                f"the run's time is over: {setting('run_timeout_s')} is {limit:g} s",
                Evidence(request.endpoint.name, request.path),
            )

    async def _try(self, request: Request) -> Reply:
        evidence = Evidence(request.endpoint.name, request.path)
        lost: Retryable
        try:
            async with asyncio.timeout(self.settings.request_timeout_s):
                response = await self._http.get(
                    self.settings.base_url + request.path,
                    params=request.query,
                    headers=self._auth_headers(),
                )
        except (TimeoutError, httpx.TimeoutException):
            lost = Unreachable("time-out", evidence)
        except httpx.DecodingError:
            lost = BrokenReply("the reply's body cannot be decompressed", evidence)
        except httpx.TransportError as error:
            lost = Unreachable(
                "no connection" if isinstance(error, httpx.ConnectError) else "connection lost",
                evidence,
            )
        else:
            body = response.content
            self._counts.received(len(body))
            if not response.is_success:
                body = self.settings.scrub(response.text).encode()
            reply = judge(request, response.status_code, response.headers, body, self._utcnow())
            self._see_clock(server_time(response.headers))
            return reply
        # Raised out here, so that httpx's exception, which holds our headers, is no context.
        raise lost

    def _auth_headers(self) -> dict[str, str]:
        match self.settings.credentials:
            case ApiKey(key):
                return {"api_key": key.reveal()}
            case Token(token, key):
                headers = {"authorization": token.reveal()}
                return headers | {"api_key": key.reveal()} if key else headers
            case Login():
                raise NotImplementedError

    def _see_clock(self, at: datetime | None) -> None:
        if at is None:
            return
        if self._server_now is None:
            apart_s = abs((at - self._utcnow()).total_seconds())
            if apart_s > CLOCK_TOLERANCE_S:
                self._notice(
                    f"the server's clock and this machine's are {apart_s:.0f} s apart; "
                    "the server's is used"
                )
        self._server_now = max(at, self._server_now or at)

    def _notice(self, text: str) -> None:
        self.notices.append(text)
        log.warning(text)


def _gave_up(what: str, request: Request, tries: int, last: Retryable | None) -> Unavailable:
    evidence = (last and last.evidence) or Evidence(request.endpoint.name, request.path)
    why = f" and {tries} tries, the last: {last.message}" if last else ""
    return Unavailable(what + why, evidence, tries=tries, last=last)


def _user_agent() -> str:
    try:
        return f"crmcom-warehouse/{version('crmcom-warehouse')}"
    except PackageNotFoundError:  # `dlt init` copies the source without the package
        return "crmcom-warehouse"
