"""Listings of the bundled API server, in both of its dialects and with its switches turned."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from crmcom.endpoints import LIST_ACTIVITIES, LIST_CONTACTS, Endpoint
from crmcom.errors import FilterIgnored
from crmcom.listing import Listing, Window, listings, newest_updated, probe
from crmcom.protocol import Page, Reply, Request, judge
from crmcom_sandbox import API_KEY, Behaviour, World, create_app
from crmcom_sandbox.behaviour import LIVE, REFERENCE

NO_TOTALS = LIVE.but(total="absent")
TOLD_NOTHING = REFERENCE.but(total="absent")
DIALECTS = {
    "reference": REFERENCE,
    "live": LIVE,
    "no totals": NO_TOTALS,
    "nothing told": TOLD_NOTHING,
}


class Api:
    """Asks a sandbox in this process, and counts."""

    def __init__(self, world: World, behaviour: Behaviour) -> None:
        self.world = world
        self.asked = 0
        app = create_app(world, behaviour=behaviour)
        self.sandbox = app.state.sandbox
        self.transport = httpx.ASGITransport(app=app)

    async def get(self, request: Request) -> Reply:
        self.asked += 1
        url = httpx.URL("http://sandbox/backoffice/v2" + request.path, params=request.query)
        asked = httpx.Request("GET", url, headers={"api_key": API_KEY})
        reply = await self.transport.handle_async_request(asked)
        body = await reply.aread()
        return judge(request, reply.status_code, reply.headers, body, datetime.now(UTC))

    def saw(self, request: Request, page: Page) -> None:
        """The client's part."""

    def list(self, endpoint: Endpoint, window: Window, **options: Any) -> list[Listing]:
        async def collect() -> list[Listing]:
            return [one async for one in listings(self, endpoint, window, **options)]

        return asyncio.run(collect())


def ids(found: list[Listing]) -> list[str]:
    return sorted(row.id or "" for one in found for row in one.rows)


def truth(world: World, kind: str) -> list[str]:
    return sorted(record["id"] for record in world.truth()[kind])


@pytest.fixture(scope="module")
def large() -> World:
    """More activities than totals count."""
    return World.generate(seed=3, contacts=800, activities=12_300)


def past(world: World) -> Window:
    return Window(None, world.clock.epoch() + 1)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_more_activities_than_the_cap(large, dialect):
    """Proven, whatever the dialect, for a twentieth more requests than pages."""
    api = Api(large, DIALECTS[dialect])
    found = api.list(LIST_ACTIVITIES, past(large))
    assert all(one.proven for one in found)
    assert ids(found) == truth(large, "activities")
    assert api.asked <= 1.05 * 123 + 10


@pytest.mark.parametrize("dialect", DIALECTS)
def test_contacts_without_dates(large, dialect):
    """Their listing needs no date; without totals it takes four passes."""
    api = Api(large, DIALECTS[dialect])
    found = api.list(LIST_CONTACTS, past(large))
    assert all(one.proven for one in found)
    assert ids(found) == truth(large, "contacts")
    assert api.asked <= (10 if DIALECTS[dialect].total != "absent" else 50)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_pages_no_deeper_than_3000_rows(large, dialect):
    """A 400 for a deep page cuts the window."""
    api = Api(large, DIALECTS[dialect].but(max_depth=3_000))
    found = api.list(LIST_ACTIVITIES, past(large))
    assert all(one.proven for one in found)
    assert ids(found) == truth(large, "activities")
    assert api.asked <= 1.3 * 123


@pytest.mark.parametrize("dialect", ["reference", "live"])
@pytest.mark.parametrize(("shuffle_ties", "cap"), [(False, 10_000), (True, 2_000)])
def test_a_second_with_more_activities_than_the_cap(dialect, shuffle_ties, cap):
    """A bulk import in one second, whose rows may change places from request to request."""
    world = World(seed=1)
    second = world.clock.epoch() - 500
    for n in range(cap + 50):
        world.create_activity(None, created_on=second, name=f"Task {n * 7919 % 10_050:05}")
    behaviour = DIALECTS[dialect].but(shuffle_ties=shuffle_ties, total_cap=cap)
    found = Api(world, behaviour).list(LIST_ACTIVITIES, past(world), cap=cap)
    assert all(one.proven for one in found)
    assert ids(found) == truth(world, "activities")


@pytest.mark.parametrize("dialect", ["reference", "live", "no totals"])
def test_deletions_while_pages_are_read(dialect):
    """Every second answer is followed by a deletion; what stays is listed all the same."""
    world = World.generate(seed=5, contacts=30, activities=1_500)
    api = Api(world, DIALECTS[dialect])
    place = LIST_ACTIVITIES.name
    gone = truth(world, "activities")[::40]
    for n, record_id in enumerate(gone):
        api.sandbox.after(
            2 * n + 1, place, lambda world, r=record_id: world.delete("activities", r)
        )
    found = api.list(LIST_ACTIVITIES, past(world))
    assert all(one.proven for one in found)
    assert set(truth(world, "activities")) <= set(ids(found))


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    "switch", [{"repeated_page": ("*",)}, {"endless": ("*",)}, {"total_error": 5}]
)
def test_untruths_end_and_prove_nothing_false(dialect, switch):
    """Pages that repeat, lists without an end, wrong totals: bounded, and never falsely proven."""
    world = World.generate(seed=6, contacts=30, activities=420)
    api = Api(world, DIALECTS[dialect].but(**switch))
    window = Window(world.clock.epoch() - 3 * 366 * 86_400, world.clock.epoch() + 1)
    records = world.truth()["activities"]
    for one in api.list(LIST_ACTIVITIES, window):
        low, high = one.window.start_s or 0, one.window.end_s or 0
        inside = {r["id"] for r in records if low <= r["key_dates"]["created_on"] < high}
        assert not one.proven or {row.id for row in one.rows} == inside
    assert api.asked <= 400


@pytest.mark.parametrize("dialect", DIALECTS)
def test_an_ignored_filter_is_found_out(large, dialect):
    """By the probe before anything is listed, and by the rows where they carry dates."""
    ignored = {"*": ("created_on",)}
    api = Api(large, DIALECTS[dialect].but(ignored_filters=ignored))
    for endpoint in (LIST_ACTIVITIES, LIST_CONTACTS):
        with pytest.raises(FilterIgnored):
            asyncio.run(probe(api, endpoint, "created_on", large.clock.epoch()))
    with pytest.raises(FilterIgnored):
        api.list(LIST_ACTIVITIES, Window(0, 1))


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_latest_updates_to_the_end(large, dialect):
    """All contacts, each once."""

    async def walk() -> list[str | None]:
        api = Api(large, DIALECTS[dialect])
        return [r.id async for page in newest_updated(api, LIST_CONTACTS) for r in page.rows]

    assert sorted(x or "" for x in asyncio.run(walk())) == truth(large, "contacts")
