"""The ASGI application: every request's way from the socket to a handler and back.

A request is counted and logged, delayed, limited, perhaps failed on purpose, authenticated,
handled, and answered with the world's `Date`.
"""

import asyncio
import math
from collections.abc import Mapping
from datetime import timedelta
from email.utils import format_datetime
from typing import Any
from urllib.parse import parse_qs

from starlette.applications import Starlette
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from . import control, logins, reads, writes
from .behaviour import Behaviour, Place
from .errors import ApiError, ErrorBody, Forbidden, NotFound
from .faults import FaultKind, Faults
from .records import encode
from .routes import BASE_PATH, Call, Handler, Reply
from .sandbox import Asked, Sandbox
from .sessions import Credentials, TokenExpired
from .world import World

ABORT = "crmcom_sandbox.abort"
"""The key of `scope` under which a server may put a function that resets the connection."""

ROUTES: dict[str, dict[str, Handler]] = {
    "/contacts": {"GET": reads.list_contacts},
    "/contacts/{id}": {"GET": reads.get_contact},
    "/contacts/{id}/accounts": {
        "GET": reads.list_contact_accounts,
        "POST": writes.add_account,
    },
    "/accounts/{id}": {"GET": reads.get_account, "PUT": writes.update_account},
    "/accounts/{id}/actions": {"POST": writes.act_on_account},
    "/activities": {"GET": reads.list_activities, "POST": writes.create_activity},
    "/activities/{id}": {
        "GET": reads.get_activity,
        "PUT": writes.update_activity,
        "DELETE": writes.delete_activity,
    },
    "/activities/{id}/tags": {
        "GET": reads.get_activity_tags,
        "PUT": writes.update_activity_tags,
    },
    "/users/authenticate": {"POST": logins.authenticate},
    "/users/{id}/sign_out": {"POST": logins.sign_out},
    "/{rest:path}": {},
}
WITHOUT_LOGIN = "/users/authenticate"

JSON = (b"content-type", b"application/json")
HTML = (b"content-type", b"text/html; charset=utf-8")
GATEWAY_PAGE = b"<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>"
NO_ROUTE_PAGE = b"<html><head><title>404 Not Found</title></head><body>nginx</body></html>"


def create_app(
    world: World,
    *,
    behaviour: Behaviour | str = "reference",
    faults: Faults | None = None,
    credentials: Credentials | None = None,
) -> Starlette:
    """The API and its control routes; `app.state.sandbox` is the Sandbox behind them."""
    sandbox = Sandbox(world, behaviour=behaviour, faults=faults, credentials=credentials)
    routes = [
        Route(BASE_PATH + path + slash, Endpoint(sandbox, path, handlers))
        for path, handlers in ROUTES.items()
        for slash in ("", "/")
    ]
    app = Starlette(routes=[*routes, *control.routes(sandbox)])
    app.router.redirect_slashes = False
    app.state.sandbox = sandbox
    return app


class Endpoint:
    """One path of the API, as an ASGI application."""

    def __init__(self, sandbox: Sandbox, path: str, handlers: Mapping[str, Handler]) -> None:
        self._sandbox = sandbox
        self._path = path
        self._handlers = handlers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        counters = self._sandbox.counters
        counters.in_flight += 1
        counters.peak_in_flight = max(counters.peak_in_flight, counters.in_flight)
        try:
            await self._serve(scope, receive, send)
        finally:
            self._sandbox.counters.in_flight -= 1

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        sandbox, method, path = self._sandbox, scope["method"], scope["path"]
        query = scope["query_string"].decode("latin-1")
        exact = path.removeprefix(BASE_PATH).removesuffix("/")
        place = Place(f"{method} {exact}", f"{method} {self._path}")
        counters = sandbox.counters
        counters.requests[place.route] += 1
        number = counters.requests[place.route]
        if delay := place.find(sandbox.behaviour.latency_s):
            await asyncio.sleep(delay)
        fault = sandbox.fault_plan.next(place, f"{method} {exact}?{query}")
        if fault:
            counters.faults[fault] += 1
        body = await _read(receive) if method != "GET" else b""
        call = Call(
            sandbox=sandbox,
            place=place,
            ids=scope["path_params"],
            query=parse_qs(query, keep_blank_values=True) if query else {},
            headers=dict(scope["headers"]),
            body=body,
            number=number,
        )
        reply = self._early(call, fault) or self._answer(call)
        if fault in ("truncated", "html_200"):
            reply = _spoilt(reply, fault)
        counters.statuses[reply.status] += 1
        sandbox.log.append(Asked(method, path, query, reply.status))
        if fault == "hang":
            await _hang(receive, sandbox.fault_plan.faults.hang_s)
            _abort(scope)
        elif fault == "reset":
            await self._send_and_reset(reply, scope, send)
        else:
            await self._send(reply, send)

    def _early(self, call: Call, fault: FaultKind | None) -> Reply | None:
        """What a gateway answers before the API sees the request."""
        wait_s = call.sandbox.seconds_over_limit()
        if wait_s is not None:
            return _too_many(call.sandbox, wait_s)
        if fault == "html_502":
            return Reply(GATEWAY_PAGE, 502, (HTML,))
        if fault and fault.isdigit():
            retry_s = call.sandbox.fault_plan.faults.retry_after_s
            told = fault in ("429", "503") and retry_s is not None
            headers = ((b"retry-after", str(retry_s).encode()),) if told else ()
            return _refused(ErrorBody(int(fault)), headers)
        return None

    def _answer(self, call: Call) -> Reply:
        sandbox, behaviour = call.sandbox, call.sandbox.behaviour
        handler = self._handlers.get(call.place.route.split(" ")[0])
        try:
            with sandbox.world.lock:
                if not self._handlers:
                    raise NotFound("path", call.place.exact)
                if handler is None:
                    return _refused(ErrorBody(405, "Method not allowed."))
                if self._path != WITHOUT_LOGIN:
                    sandbox.sessions.check(call.headers)
                if call.place.is_in(behaviour.forbidden):
                    raise Forbidden("The API key or token has no permission for this.")
                if call.place.is_in(behaviour.missing):
                    raise NotFound("path", call.place.exact)
                if call.place.is_in(behaviour.broken):
                    return _refused(ErrorBody(500))
                if call.place.is_in(behaviour.misrouted):
                    return Reply(NO_ROUTE_PAGE, 404, (HTML,))
                reply = handler(call)
                sandbox.run_hooks(call.place)
                return reply
        except TokenExpired:
            return Reply(b"null" if behaviour.expired_body == "null" else b"", 401)
        except ApiError as error:
            return _refused(error.body)

    async def _send(self, reply: Reply, send: Send) -> None:
        await send(self._start(reply))
        await send({"type": "http.response.body", "body": reply.body})

    async def _send_and_reset(self, reply: Reply, scope: Scope, send: Send) -> None:
        await send(self._start(reply))
        half = reply.body[: len(reply.body) // 2]
        await send({"type": "http.response.body", "body": half, "more_body": True})
        _abort(scope)

    def _start(self, reply: Reply) -> dict[str, Any]:
        headers = list(reply.headers)
        if reply.status != 204:
            headers.append((b"content-length", str(len(reply.body)).encode()))
        if reply.body and not any(name == b"content-type" for name, _ in reply.headers):
            headers.append(JSON)
        if self._sandbox.behaviour.date_header:
            date = format_datetime(self._sandbox.date(), usegmt=True)
            headers.append((b"date", date.encode()))
        return {"type": "http.response.start", "status": reply.status, "headers": headers}


def _refused(body: ErrorBody, headers: tuple[tuple[bytes, bytes], ...] = ()) -> Reply:
    return Reply(encode(body), body.status, headers)


def _too_many(sandbox: Sandbox, wait_s: float) -> Reply:
    limit = sandbox.behaviour.rate_limit
    form = limit.retry_after if limit else "none"
    seconds = math.ceil(wait_s)
    if form == "none":
        return _refused(ErrorBody(429))
    told = str(seconds)
    if form == "date":
        told = format_datetime(
            sandbox.date().replace(microsecond=0) + timedelta(seconds=seconds), usegmt=True
        )
    return _refused(ErrorBody(429), ((b"retry-after", told.encode()),))


def _spoilt(reply: Reply, fault: FaultKind) -> Reply:
    """What came out well, as a broken gateway passes it on with 200."""
    if fault == "html_200":
        return Reply(GATEWAY_PAGE, 200, (HTML,))
    return Reply(reply.body[: len(reply.body) // 2], reply.status)


def _abort(scope: Scope) -> None:
    """Resets the connection; in-process, where there is none, an exception says so."""
    abort = scope.get(ABORT)
    if abort is None:
        raise ConnectionResetError("a fault of this sandbox reset the connection")
    abort()


async def _read(receive: Receive) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            return bytes(body)


async def _hang(receive: Receive, seconds: float) -> None:
    """Until the client goes away, or for so long; then the connection closes without an answer."""
    try:
        async with asyncio.timeout(seconds):
            while (await receive())["type"] != "http.disconnect":
                pass
    except TimeoutError:
        pass
