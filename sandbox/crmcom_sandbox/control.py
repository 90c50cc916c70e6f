"""Control routes: the world and the server's switches from another process, without a login.

All under `/_control`, outside the API's base path; JSON in, JSON out; a wrong body is 400
`{"error"}`. None of them is counted, logged, delayed or failed.

    GET    /truth          everything, as `World.truth()` gives it
    POST   /mutate         a list of {"op", "args", "kwargs"}: World's mutators, by name; all or up
                           to the first wrong one are done. Answers {"results"}
    POST   /hooks          {"place", "after", "mutations"}: run these mutations once, right after
                           the `after`th further answer at `place`
    GET    /clock          {"now", "epoch", "running"}
    POST   /clock          any of {"to": ISO date or epoch, "by_s": seconds, "running": bool}
    POST   /business_days  {"days": n}: live through n business days; answers the clock
    GET    /behaviour      every switch
    PATCH  /behaviour      some switches; or {"preset": "reference" | "live"} with switches
    GET    /faults         the plan of failures
    PUT    /faults         a new plan, started anew; {} fails nothing
    GET    /counters       requests by route, statuses, faults, peak_in_flight, connections
    DELETE /counters       forget counters and log
    GET    /log            {"requests": [{"method", "path", "query", "status"}]}, oldest first
    POST   /expire_tokens  every token given so far has expired
"""

import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route

from .behaviour import BEHAVIOURS
from .faults import Faults
from .records import Json, encode
from .sandbox import Sandbox
from .world import World

CONTROL_PATH = "/_control"

OPERATIONS = frozenset(
    {
        "create_account",
        "create_activity",
        "create_contact",
        "delete",
        "drop_fields",
        "edit",
        "make_primary",
        "pass_business_day",
        "reschedule",
        "set_account_state",
        "set_activity_state",
        "set_balance",
        "set_custom_fields",
        "set_raw",
        "set_tags",
    }
)


class Mutation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    op: str
    args: list[Any] = []
    kwargs: dict[str, Any] = {}

    def apply(self, world: World) -> object:
        if self.op not in OPERATIONS:
            raise ValueError(f"{self.op} is none of {', '.join(sorted(OPERATIONS))}")
        return getattr(world, self.op)(*self.args, **self.kwargs)


class NewHook(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    place: str
    after: int
    mutations: list[Mutation]


class ClockChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    to: str | int | None = None
    by_s: float = 0.0
    running: bool | None = None


def routes(sandbox: Sandbox) -> list[Mount]:
    control = Control(sandbox)
    table: list[tuple[str, str, Callable[[Any], Any]]] = [
        ("GET", "/truth", control.truth),
        ("POST", "/mutate", control.mutate),
        ("POST", "/hooks", control.add_hook),
        ("GET", "/clock", control.clock),
        ("POST", "/clock", control.change_clock),
        ("POST", "/business_days", control.pass_business_days),
        ("GET", "/behaviour", control.behaviour),
        ("PATCH", "/behaviour", control.switch),
        ("GET", "/faults", control.faults),
        ("PUT", "/faults", control.set_faults),
        ("GET", "/counters", control.counters),
        ("DELETE", "/counters", control.reset_counters),
        ("GET", "/log", control.log),
        ("POST", "/expire_tokens", control.expire_tokens),
    ]
    inner = [Route(path, _json(action), methods=[method]) for method, path, action in table]
    return [Mount(CONTROL_PATH, routes=inner)]


class Control:
    """Each method takes the parsed body of a request and gives what is answered."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._world = sandbox.world

    def truth(self, _body: Any) -> Json:
        return self._world.truth()

    def mutate(self, body: Any) -> Json:
        mutations = msgspec.convert(body, list[Mutation])
        return {"results": [mutation.apply(self._world) for mutation in mutations]}

    def add_hook(self, body: Any) -> Json:
        hook = msgspec.convert(body, NewHook)

        def action(world: World) -> None:
            for mutation in hook.mutations:
                mutation.apply(world)

        self._sandbox.after(hook.after, hook.place, action)
        return {}

    def clock(self, _body: Any) -> Json:
        clock = self._world.clock
        return {"now": clock.now(), "epoch": clock.epoch(), "running": clock.running}

    def change_clock(self, body: Any) -> Json:
        change = msgspec.convert(body, ClockChange)
        clock = self._world.clock
        if isinstance(change.to, int):
            clock.move_to(datetime.fromtimestamp(change.to, UTC))
        elif change.to is not None:
            clock.move_to(datetime.fromisoformat(change.to))
        clock.move(timedelta(seconds=change.by_s))
        if change.running is not None:
            (clock.run if change.running else clock.freeze)()
        return self.clock(None)

    def pass_business_days(self, body: Any) -> Json:
        for _ in range(int((body or {}).get("days", 1))):
            self._world.pass_business_day()
        return self.clock(None)

    def behaviour(self, _body: Any) -> Json:
        return msgspec.structs.asdict(self._sandbox.behaviour)

    def switch(self, body: Any) -> Json:
        switches = dict(body)
        preset = switches.pop("preset", None)
        before = self._sandbox.behaviour if preset is None else BEHAVIOURS[preset]
        self._sandbox.behaviour = before.but(**switches)
        return self.behaviour(None)

    def faults(self, _body: Any) -> Json:
        return msgspec.structs.asdict(self._sandbox.fault_plan.faults)

    def set_faults(self, body: Any) -> Json:
        self._sandbox.set_faults(msgspec.convert(body, Faults))
        return self.faults(None)

    def counters(self, _body: Any) -> Json:
        return self._sandbox.counted()

    def reset_counters(self, _body: Any) -> Json:
        self._sandbox.reset_counters()
        return {}

    def log(self, _body: Any) -> Json:
        return {"requests": list(self._sandbox.log)}

    def expire_tokens(self, _body: Any) -> Json:
        self._sandbox.sessions.expire_tokens()
        return {}


def _json(action: Callable[[Any], Any]) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        text = await request.body()
        try:
            # Money sent here must arrive digit for digit too.
            body = json.loads(text, parse_float=Decimal) if text else None
            answer = action(body)
        except (ValueError, LookupError, TypeError, msgspec.MsgspecError) as error:
            told, status = {"error": f"{type(error).__name__}: {error}"}, 400
            return Response(encode(told), status, media_type="application/json")
        return Response(encode(answer), media_type="application/json")

    return endpoint
