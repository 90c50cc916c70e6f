"""What is asked of an API on purpose, and what is said of it: never more than was shown."""

import time

import pytest

from crmcom.errors import Unproven
from crmcom.probing import LIMIT_S
from crmcom_sandbox import LIVE, REFERENCE, Faults, World, serve

from .conftest import examined
from .foreign import not_the_api, patience_s

FILTERS = ("contacts: filter created_on", "activities: filter created_on",
           "activities: filter states", "activities: filter completed_on")  # fmt: skip


def bad(found):
    return {f.name: f.exit_code for f in found.values() if f.ok is False}


@pytest.mark.parametrize("behaviour", [LIVE, REFERENCE])
def test_of_a_tenant_with_enough_in_it_all_can_be_told(world, examine, behaviour):
    """With a few dozen requests."""
    found, requests = examine(world, behaviour)
    assert {f.ok for f in found.values()} == {True}
    assert found["contacts: totals"].value == found["activities: totals"].value == "exact"
    assert found["activities: epoch unit"].value == "seconds"
    assert {found[name].value for name in FILTERS} == {"honoured"}
    assert found["contacts: sort UPDATED_DATE"].value == "honoured"
    capped = 100 if behaviour is LIVE else 200
    assert found["activities: page size cap"].value == capped
    assert found["activities: has_more"].value == ("right" if behaviour is LIVE else "none")
    assert requests <= 30


@pytest.mark.parametrize("endpoint", ["GET /contacts", "GET /contacts/{id}", "GET /activities/",
    "GET /contacts/{id}/accounts", "GET /accounts/{id}", "GET /activities/{id}",
    "GET /activities/{id}/tags"])  # fmt: skip
@pytest.mark.parametrize(
    "trouble",
    [
        ("forbidden", "permission", 3),
        ("broken", "trouble", 4),
        ("missing", "", 3),
        ("misrouted", "gateway", 4),
    ],
)
def test_each_endpoint_is_asked_and_its_trouble_told_apart(world, examine, endpoint, trouble):
    """One line names it, and the others are still asked."""
    switch, said, code = trouble
    found, _ = examine(world, LIVE.but(**{switch: (endpoint.removesuffix("/"),)}))
    assert bad(found) == {endpoint: code}
    assert said in found[endpoint].message
    assert found["credentials"].ok
    assert sum(f.ok is True for f in found.values()) >= 8


def test_an_empty_tenant_shows_nothing_and_nothing_is_said_of_it(examine):
    found, _ = examine(World())
    assert bad(found) == {}
    answered = {n for n, f in found.items() if f.ok}
    assert answered == {"credentials", "clock", "GET /contacts", "GET /activities/"}


def test_one_page_tells_nothing_of_the_next(examine):
    """Nor one row of any order."""
    found, _ = examine(World.generate(contacts=1, activities=1))
    untold = {n for n, f in found.items() if f.ok is None}
    assert {"contacts: page size cap", "contacts: sort UPDATED_DATE"} <= untold
    assert "activities: sort CREATED_DATE" in untold
    assert bad(found) == {}


@pytest.mark.parametrize(
    ("switches", "expected"),
    [
        ({"total": "null"}, ("activities: totals", "none", True)),
        ({"total": "absent"}, ("contacts: totals", "none", True)),
        ({"total_cap": 500}, ("activities: totals", "capped at 500", True)),
        ({"total_cap": 500}, ("contacts: totals", "exact", True)),
        ({"total_error": 7}, ("activities: totals", "wrong", False)),
        ({"total_error": -7}, ("activities: totals", "wrong", False)),
        ({"total_error": -300}, ("activities: totals", "wrong", False)),
        ({"size_cap": 30}, ("contacts: page size cap", 30, True)),
        ({"size_cap": 30, "total": "null"}, ("contacts: page size cap", 30, True)),
        ({"total": "null", "has_more": False}, ("contacts: has_more", "none", True)),
        ({"repeated_page": ("GET /contacts",)}, ("contacts: has_more", "wrong", False)),
        ({"max_depth": 300}, ("activities: totals", None, None)),
        ({"ignored_filters": {"GET /contacts": ("created_on",)}}, (FILTERS[0], "ignored", False)),
        ({"ignored_filters": {"*": ("*",)}}, (FILTERS[1], "ignored", False)),
        ({"ignored_filters": {"*": ("states",)}}, (FILTERS[2], "ignored", False)),
        ({"ignored_filters": {"*": ("completed_on",)}}, (FILTERS[3], "ignored", False)),
        ({"ignored_filters": {"*": ("created_on[lt]",)}}, (FILTERS[1], "ignored", False)),
        ({"ignored_filters": {"*": ("completed_on[lt]",)}}, (FILTERS[3], "ignored", False)),
        (
            {"ignored_filters": {"*": ("sort", "order")}},
            ("contacts: sort UPDATED_DATE", "ignored", False),
        ),
        ({"ignored_filters": {"*": ("sort",)}}, ("contacts: sort UPDATED_DATE", None, None)),
        (
            {"ignored_filters": {"*": ("order",)}, "total": "null"},
            ("activities: sort CREATED_DATE", "ignored", False),
        ),
    ],
)
def test_each_behaviour_is_found(world, examine, switches, expected):
    """What keeps a listing from being proven is bad; what only costs requests is not."""
    name, value, ok = expected
    found, _ = examine(world, LIVE.but(**switches))
    assert (found[name].value, found[name].ok) == (value, ok), found[name].message
    assert found[name].exit_code == (Unproven.exit_code if ok is False else 0)


def test_a_filter_that_is_known_not_to_work_is_no_trouble(world, examine):
    behaviour = LIVE.but(ignored_filters={"GET /contacts": ("created_on",)})
    found, _ = examine(world, behaviour, full_scan=["contacts"])
    assert bad(found) == {}
    assert found[FILTERS[0]].value == "ignored"


def test_dates_in_milliseconds_are_told(examine):
    world = World.generate(contacts=5, activities=0)
    for _ in range(3):
        world.create_activity(None, key_dates={"created_on": 1_768_000_000_000})
    found, _ = examine(world)
    assert found["activities: epoch unit"].value == "milliseconds"
    assert found["activities: epoch unit"].exit_code == Unproven.exit_code


def test_a_clock_that_is_wrong_is_told_and_no_trouble(world, examine):
    """A sync goes by the server's."""
    found, _ = examine(world, LIVE.but(date_header=False))
    assert found["clock"].ok is None
    found, _ = examine(world)
    assert found["clock"].ok
    assert "behind" in found["clock"].message


def test_only_what_a_sync_of_these_resources_asks_is_asked(world, examine):
    found, _ = examine(world, resources=("contacts",))
    assert not [n for n in found if "activities" in n or "account" in n]
    found, _ = examine(world, resources=("accounts",))
    assert found["GET /accounts/{id}"].ok


def test_a_refused_key_is_one_line(world, examine):
    """Whatever else would fail because of it."""
    found, requests = examine(world, key="not-the-key")
    assert bad(found) == {"credentials": 3}
    assert len(found) == requests == 1
    assert "not-the-key" not in found["credentials"].message


def test_faults_that_pass_are_asked_again(world):
    with serve(world, behaviour="live", faults=Faults(rate=0.3, seed=3, max_in_row=1)) as server:
        found = examined(server.base_url, server.api_key)
    assert bad(found) == {}


@pytest.mark.parametrize(
    ("start", "told", "code"), [c[1:] for c in not_the_api()], ids=[c[0] for c in not_the_api()]
)
def test_what_is_not_the_api_is_one_line_with_its_cause(start, told, code):
    """Within a bounded time."""
    began_s = time.monotonic()
    with start() as url:
        found = examined(url, "sEcret-key", request_timeout_s=patience_s(start))
    (finding,) = found.values()
    assert finding.ok is False
    assert told in finding.message
    assert finding.exit_code == code
    assert "\n" not in finding.message
    assert "sEcret-key" not in finding.message
    assert time.monotonic() - began_s < LIMIT_S
