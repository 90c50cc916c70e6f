"""Asks the API, and asks again where that helps: time-outs, retries, pace, session, deadline."""

from __future__ import annotations

import asyncio
import math
import time
from collections import defaultdict
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from random import Random
from typing import TYPE_CHECKING, Self

from crmcom import auth
from crmcom.counting import Count, Counts, cause
from crmcom.errors import (
    Answered,
    CrmcomError,
    DeadlineExceeded,
    Evidence,
    Forbidden,
    LoginRefused,
    Misrouted,
    NotFound,
    RateLimited,
    Refused,
    Retryable,
    Unavailable,
)
from crmcom.events import log, tell
from crmcom.facts import Facts, observe
from crmcom.gate import Gate, TooLong, Turn
from crmcom.limiter import Limiter
from crmcom.masking import Scrubber
from crmcom.protocol import Reply, Request, judge
from crmcom.retrying import Health, Patience
from crmcom.settings import ApiKey, Login, Settings, setting
from crmcom.transport import transport as network
from crmcom.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractContextManager

    import httpx

    from crmcom.network import Answer, Headers
    from crmcom.protocol import Page

CLOCK_TOLERANCE_S = 300
SIGN_OUT_S = 5


def _utcnow() -> datetime:
    return datetime.now(UTC)


@dataclass(slots=True)
class Learned:
    """What was found out about a server. A run keeps it: each of its slices has its own client.

    `notices`: what the user should know and no error says, by subject: each is told once.
    `paths`: of each list's endpoint, the spelling that the server has answered.
    `bearer`: whether a token goes behind `Bearer`; None until the API has shown that it knows us.
    `facts`: how the API behaves, as the pages show it that are read anyway; see `facts.py`.
    """

    notices: dict[str, str] = field(default_factory=dict)
    paths: dict[str, str] = field(default_factory=dict)
    bearer: bool | None = None
    facts: Facts = field(default_factory=dict)


class Client:
    """`async with Client(settings) as client: reply = await client.get(request)`.

    One client is one session and one pace: share it among all that ask the same API. It belongs
    to the event loop that it is entered in. `transport` replaces the network; `clock`
    (monotonic seconds), `utcnow`, `sleep` and `rng` replace time and chance. `started_s`, on
    that clock, is when the run began whose time `run_timeout_s` limits; by default now.
    `learned` is what the run's earlier clients found out.
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
        rng: Random | None = None,
        started_s: float | None = None,
        learned: Learned | None = None,
    ) -> None:
        self.settings = settings
        self.learned = learned or Learned()
        self._patience = patience or Patience()
        self._clock, self._utcnow, self._sleep = clock, utcnow, sleep
        self._rng = rng or Random()  # noqa: S311  jitter
        self._counts = Counts()
        self._scrub = Scrubber(*settings.secrets())
        self._who = settings.credentials
        self._transport = transport or network(
            settings.transport, settings.base_url, max_connections=settings.max_concurrency
        )
        self._wire = Wire(settings.base_url, self._transport)
        self._gate = Gate(
            Limiter(
                max_in_flight=settings.max_concurrency, max_rate=settings.max_requests_per_second
            ),
            clock=clock,
            sleep=sleep,
        )
        self._health: defaultdict[str, Health] = defaultdict(Health)
        # Without a session nothing can be asked: one login that gave up is enough.
        self._health[auth.LOGIN.endpoint.name] = Health(after=1)
        self._session: auth.Session | None = None
        self._login = asyncio.Lock()
        self._logins_in_vain = 0
        self._refused: LoginRefused | None = None
        self._bearer = self.learned.bearer or False
        self._introduction = asyncio.Lock()
        self._shown: tuple[object, Headers] | None = None
        self._server_now: datetime | None = None
        self._started = clock() if started_s is None else started_s

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            await self._sign_out()
        finally:
            await self._wire.aclose()

    def __repr__(self) -> str:
        return f"Client({self.settings.base_url!r})"

    @property
    def stats(self) -> Count:
        """What this client has asked so far."""
        return self._counts.total

    def counting(self, into: Count | None = None) -> AbstractContextManager[Count]:
        """Counts what is asked inside the `with`, by tasks spawned there too; `into` goes on."""
        return self._counts.counting(into)

    def server_now(self) -> datetime:
        """The latest `Date` that came with an answer, or the host's clock before any.

        It stands still between answers: a server's clock may jump, or play a month in a minute,
        so nothing is added to what it said.
        """
        return self._server_now or self._utcnow()

    async def get(self, request: Request) -> Reply:
        """The answer to `request`, asked as often as it takes.

        Raises `Answered` for an answer that is no failure, `Refused` where the API does not
        let us, `Unavailable` when it was asked often enough, `DeadlineExceeded` when the run's
        time is over, `SettingsError` where `base_url` leads elsewhere.
        """
        endpoint = request.endpoint
        if "{id}" in endpoint.path:
            return await self._insist(request, lambda: self._ask(request))
        known = self.learned.paths.get(endpoint.name)
        path = known or endpoint.path
        try:
            reply = await self._get_at(path, request)
        except (NotFound, Unavailable) as error:
            if known or not _is_404(error):
                raise
            # The reference ends one list's path with a slash; a server may know only the other.
            path = path[:-1] if path.endswith("/") else f"{path}/"
            try:
                reply = await self._get_at(path, request)
            except (NotFound, Unavailable) as other:
                raise _no_route(error) if _is_404(other) else other from None
        self.learned.paths[endpoint.name] = path
        return reply

    def saw(self, request: Request, page: Page) -> None:
        observe(self.learned.facts, request, page)

    async def _get_at(self, path: str, request: Request) -> Reply:
        request = replace(request, endpoint=replace(request.endpoint, path=path))
        return await self._insist(request, lambda: self._ask(request))

    # --- again and again -----------------------------------------------------------------

    async def _insist(self, request: Request, ask: Callable[[], Awaitable[Reply]]) -> Reply:
        name = request.endpoint.name
        health = self._health[name]
        answers_before = health.answers
        tries, failures, misrouted, waited_s = 0, 0, 0, 0.0
        last: Retryable | None = None
        while True:
            if not health.admits(self._clock()):
                raise _gave_up(
                    f"{name} keeps failing and is not asked for now", request, tries, last
                )
            self._check_deadline(request, 0, last)
            tries += 1
            try:
                reply = await ask()
            except Retryable as error:
                last = error
            except DeadlineExceeded:
                raise self._too_late(request, last) from None
            except (Answered, Refused):
                health.answered()
                raise
            else:
                health.answered()
                return reply
            # A refusal for our pace is no failure of the endpoint: only time bounds it. Nor is a
            # page for one path: a gateway may have one for each record that is gone.
            if isinstance(last, Misrouted):
                misrouted += 1
            elif not isinstance(last, RateLimited):
                failures += 1
                health.failed()
            wait_s = self._patience.wait_s(tries, last, self._rng)
            waited_s += wait_s
            answers = health.answers - answers_before
            if misrouted >= self._patience.misrouted:
                raise _gave_up(f"gave up on {name} after {tries} tries", request, tries, last)
            if waited_s > self._patience.total_s or not health.worth_trying(
                self._patience, failures, answers
            ):
                health.exhausted(self._clock())
                if health.gave_up == health.after:
                    log.warning("%s keeps failing (%s): given up for now", name, cause(last))
                raise _gave_up(f"gave up on {name} after {tries} tries", request, tries, last)
            self._check_deadline(request, wait_s, last)
            log.debug("%s: %s, try %d in %.1f s", name, cause(last), tries + 1, wait_s)
            await self._sleep(wait_s)
            self._counts.again(name, cause(last))

    def _remaining_s(self) -> float:
        limit_s = self.settings.run_timeout_s
        return math.inf if limit_s is None else limit_s - (self._clock() - self._started)

    def _check_deadline(
        self, request: Request, wait_s: float, last: Retryable | None = None
    ) -> None:
        if self._remaining_s() <= wait_s:
            raise self._too_late(request, last)

    def _too_late(self, request: Request, last: Retryable | None = None) -> DeadlineExceeded:
        limit_s = self.settings.run_timeout_s
        what = f"the run's time is over: {setting('run_timeout_s')} is {limit_s:g}"
        return DeadlineExceeded(*_with_cause(what, request, last), last=last)

    # --- one try -------------------------------------------------------------------------

    async def _ask(self, request: Request) -> Reply:
        """One try. Where a token is refused, what may help is done within it, once."""
        for last in (False, True):
            with await self._turn(request):
                if self.learned.bearer is None:
                    # Until the API has shown that it knows us, one request at a time: a wrong
                    # key is refused once, instead of as often as there are requests in flight.
                    async with self._introduction:
                        reply = await self._exchange(request, last=last)
                else:
                    reply = await self._exchange(request, last=last)
            if reply is not None:
                return reply
        raise AssertionError("the last exchange has a reply, or raises")

    async def _turn(self, request: Request) -> Turn:
        """Waits until the limiter lets the request go."""
        name, remaining_s = request.endpoint.name, self._remaining_s()
        longest_s = min(remaining_s, self._patience.total_s)
        try:
            if remaining_s == math.inf:
                return await self._gate.enter(name, longest_s)
            async with asyncio.timeout(remaining_s):
                return await self._gate.enter(name, longest_s)
        except TimeoutError:
            raise self._too_late(request) from None
        except TooLong as pause:
            self._check_deadline(request, pause.wait_s)
            what = f"the API asks to wait {pause.wait_s:.0f} s"
            raise _gave_up(what, request, 0, None) from None

    async def _exchange(self, request: Request, *, last: bool) -> Reply | None:
        """None where the token was refused, and asking again may help."""
        if self._refused:
            raise self._refuse(self._refused)
        session = await self._current_session()
        sent = self._wire.request("GET", request, self._headers(session))
        self._counts.asked(request.endpoint.name)
        try:
            answer = await self._wire.send(request, sent, self._try_s(request))
            return self._judged(request, answer)
        except LoginRefused as error:
            evidence = error.evidence
        finally:
            self._counts.ended()
        remedy = None if last else self._remedy(session)
        if remedy is None:
            raise self._refuse(auth.refused(self._who, evidence))
        self._counts.again(request.endpoint.name, remedy)
        return None

    def _try_s(self, request: Request) -> float:
        self._check_deadline(request, 0)
        return min(self.settings.request_timeout_s, self._remaining_s())

    def _judged(self, request: Request, answer: Answer) -> Reply:
        self._counts.received(len(answer.body))
        body = answer.body if answer.is_success else self._scrubbed(answer.body)
        try:
            reply = judge(request, answer.status, answer.headers, body, self._utcnow())
        except CrmcomError as error:
            if isinstance(error, Forbidden):  # a 404 may come before anybody asks who we are
                self._see_known(request)
            if error.evidence is not None:
                # Reading the message as JSON brought back what its escapes had hidden.
                said = self._scrub(error.evidence.message)
                if self.settings.privacy and request.record_id:
                    said = ""  # what is said of one record may quote it
                error.evidence = replace(error.evidence, message=said)
            raise
        self._see_known(request)
        self._see_clock(reply.answered_at)
        return reply

    def _scrubbed(self, body: bytes) -> bytes:
        """An error may quote what was sent."""
        return self._scrub(body.decode("utf-8", "replace")).encode()

    # --- the session ---------------------------------------------------------------------

    def _headers(self, session: auth.Session | None) -> Headers:
        """Made anew when who we are has changed, and not for each of many thousand requests."""
        who = (session, self._bearer)
        if self._shown is None or self._shown[0] != who:
            ours = self._wire.headers(auth.headers(self._who, session, bearer=self._bearer))
            self._shown = who, ours
        return self._shown[1]

    def _remedy(self, session: auth.Session | None) -> str | None:
        """What is different when a refused request is asked again; None where nothing is."""
        if self.learned.bearer is None:
            if self._bearer or isinstance(self._who, ApiKey):
                return None
            self._bearer = True
            return "form of the token"
        # Many who wait would each log in anew, and the API locks who does that.
        if session is None or self._logins_in_vain > 1:
            return None
        if self._session is session:
            self._session = None  # whoever comes next logs in
        return "expired token"

    async def _current_session(self) -> auth.Session | None:
        """Ours, renewed where it is over. Many who ask at once cause one login."""
        if not isinstance(self._who, Login):
            return None
        if self._is_over():
            async with self._login:
                if self._refused:
                    raise self._refuse(self._refused)
                if self._is_over():
                    who = self._who
                    await self._insist(auth.LOGIN, lambda: self._log_in(who))
        return self._session

    def _is_over(self) -> bool:
        return self._session is None or self._session.is_over(self.server_now())

    async def _log_in(self, who: Login) -> Reply:
        """One try, without waiting for our turn: those whose turn it is wait for it."""
        sent = self._wire.login(auth.LOGIN, *auth.login(who))
        self._counts.asked(auth.LOGIN.endpoint.name)
        began_s = self._clock()
        try:
            answer = await self._wire.send(auth.LOGIN, sent, self._try_s(auth.LOGIN))
        finally:
            self._counts.ended()
        try:
            reply = self._judged(auth.LOGIN, answer)
            session = auth.read_login(reply.body, self.server_now())
        except (Answered, Refused) as error:
            evidence = error.evidence
        else:
            self._scrub.add(session.token)
            if session.password_expired:
                self._notice(
                    "password", "the user's password has expired; logins still work, for now"
                )
            self._session = session
            self._logins_in_vain += 1
            tell("login", seconds=round(self._clock() - began_s, 3))
            return reply
        raise self._refuse(auth.login_refused(answer.body, evidence))

    async def _sign_out(self) -> None:
        """Ends the session that we opened, so that syncs do not pile them up. Best effort: a
        session that stays open ends by itself."""
        request = self._session.sign_out if self._session else None
        if request is None or self._refused:
            return
        sent = self._wire.request("POST", request, self._headers(self._session))
        try:
            await self._wire.send(request, sent, SIGN_OUT_S)
        except CrmcomError as error:
            log.debug("the session was not signed out: %s", error.message)

    def _refuse(self, error: LoginRefused) -> LoginRefused:
        """Remembers the refusal, so that nobody asks again. A copy: each has its own traceback."""
        self._refused = self._refused or error
        return LoginRefused(error.message, error.evidence)

    # --- noticed -------------------------------------------------------------------------

    def _see_known(self, request: Request) -> None:
        if request is not auth.LOGIN:  # whose answer says nothing of the token that it gives
            self.learned.bearer = self._bearer
            self._logins_in_vain = 0

    def _see_clock(self, at: datetime | None) -> None:
        if at is None:
            return
        if self._server_now is None:
            apart_s = abs((at - self._utcnow()).total_seconds())
            if apart_s > CLOCK_TOLERANCE_S:
                self._notice(
                    "clock",
                    f"the server's clock and this machine's are {apart_s:.0f} s apart; "
                    "the server's is used",
                )
        self._server_now = max(at, self._server_now or at)

    def _notice(self, subject: str, text: str) -> None:
        if subject not in self.learned.notices:
            self.learned.notices[subject] = text
            log.warning(text)


def _is_404(error: CrmcomError) -> bool:
    return error.evidence is not None and error.evidence.status == 404


def _no_route(error: CrmcomError) -> CrmcomError:
    """A list is no record that may be gone: where it is not found, the address is wrong."""
    if not isinstance(error, NotFound):
        return error
    return NotFound(
        f"there is no such endpoint at this address: check {setting('base_url')}", error.evidence
    )


def _gave_up(what: str, request: Request, tries: int, last: Retryable | None) -> Unavailable:
    return Unavailable(*_with_cause(what, request, last), tries=tries, last=last)


def _with_cause(what: str, request: Request, last: Retryable | None) -> tuple[str, Evidence]:
    evidence = (last and last.evidence) or Evidence(request.endpoint.name, request.path)
    why = f"; the last try ended with: {last.message}" if last else ""
    return what + why, evidence
