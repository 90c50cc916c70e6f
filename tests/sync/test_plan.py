"""`plan` and the run that follows ask for the same, within a tenth or three requests."""

from datetime import timedelta

import pytest

from crmcom.errors import Forbidden, Unavailable
from crmcom_pipelines.plan import plan
from crmcom_sandbox import LIVE, Credentials

from .worlds import small

A_HANDFUL = 8


def planned(warehouse, **options):
    """The plan of the next run, having seen that it took but a handful of requests."""
    warehouse.server.sandbox.reset_counters()
    found = plan(warehouse.run(slice_rows=20_000, **options), database=warehouse.database)
    asked = sum("sign_out" not in a.path for a in warehouse.server.sandbox.log)
    assert asked == found.asked <= A_HANDFUL
    return found


def agree(warehouse, **options):
    """Plan and run; returns the plan. They agree in all and, where that is large, in each part."""
    found = planned(warehouse, **options)
    outcome = warehouse.sync(expect=None, slice_rows=20_000, **options)
    assert outcome.exit_code == found.exit_code == 0, outcome.resources
    really = {name: r.requests for name, r in outcome.resources.items()}
    expected = {name: f.requests for name, f in found.resources.items()}
    for name, number in really.items():
        assert abs(expected[name] - number) <= max(3, 0.1 * number), (expected, really)
    total = sum(really.values())
    assert abs(found.requests - total) <= max(3, 0.1 * total), (expected, really)
    return found


BEHAVIOURS = {"live": LIVE, "reference": "reference", "small pages": LIVE.but(size_cap=17)}


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
def test_day_after_day(warehouse, behaviour):
    here = warehouse(small(3, contacts=40, activities=120), BEHAVIOURS[behaviour])
    first = agree(here)
    assert {f.mode for f in first.resources.values()} == {"first load"}
    quiet = agree(here)
    assert {f.mode for f in quiet.resources.values()} == {"incremental", "refresh"}
    here.world.pass_business_day()
    agree(here)
    here.world.clock.move(timedelta(days=8))
    overdue = agree(here)
    assert overdue.as_json()["reconcile_due"]
    assert "due since" in overdue.resources["activities"].why


@pytest.mark.parametrize(
    "settings",
    [{"account_refresh": 15}, {"activity_details": "all"}, {"full_scan": ["contacts"]}],
    ids=str,
)
def test_with_settings(warehouse, settings):
    here = warehouse(small(4), **settings)
    agree(here)
    here.world.pass_business_day()
    agree(here)
    agree(here, reconcile=True)


def test_a_login_counts_too(warehouse):
    here = warehouse(small(5))
    known = Credentials()
    login = {
        "username": known.username,
        "password": known.password,
        "api_key": known.public_key,
        "secret_key": known.api_key,
    }
    agree(here, settings=login)


@pytest.mark.parametrize("chosen", [("contacts",), ("accounts",), ("activities",)])
def test_of_some_resources(warehouse, chosen):
    here = warehouse(small(6))
    agree(here)
    here.world.pass_business_day()
    found = agree(here, resources=chosen)
    assert tuple(found.resources) == chosen


def test_many_new_contacts_and_settled_activities(warehouse):
    """More than a page of each: totals tell what lies behind it."""
    here = warehouse(small(7, contacts=60, activities=400))
    agree(here)
    world = here.world
    for i, activity in enumerate([a for a in world.activities if a.body["state"] == "PENDING"]):
        if i % 3:
            world.set_activity_state(activity.id, "COMPLETED" if i % 2 else "CANCELLED")
    for _ in range(110):
        contact = world.create_contact(created_on=world.clock.epoch())
        world.create_account(contact, created_on=world.clock.epoch())
    world.clock.move(timedelta(hours=1))
    agree(here)


def test_a_server_that_hides_totals_or_caps_them_makes_it_the_least(warehouse):
    here = warehouse(small(8, contacts=110, activities=120), LIVE.but(total="absent"))
    found = planned(here)
    assert found.at_least
    ran = here.sync(slice_rows=20_000)
    assert found.requests <= sum(r.requests for r in ran.resources.values())


def test_a_server_that_refuses_one_endpoint_is_told_by_its_cause(warehouse):
    here = warehouse(small(9), LIVE.but(forbidden=("GET /activities",)))
    found = planned(here)
    assert found.exit_code == 3
    assert "403" in str(found.resources["activities"].error)
    assert found.resources["contacts"].error is None
    assert not here.database.exists()


def test_a_server_that_refuses_or_breaks_every_list_is_one_cause(warehouse):
    here = warehouse(small(9), LIVE.but(forbidden=("*",)))
    with pytest.raises(Forbidden, match="403"):
        planned(here)
    here.server.sandbox.switch(forbidden=(), broken=("*",))
    with pytest.raises(Unavailable, match="500"):
        planned(here)


def test_accounts_that_may_not_be_read_are_told_before_the_first_load(warehouse):
    here = warehouse(small(9), LIVE.but(forbidden=("GET /accounts/{id}",)))
    found = planned(here)
    assert found.exit_code == 3
    assert "GET /accounts/{id}" in str(found.resources["accounts"].error)
    assert found.resources["activities"].error is None


def test_a_filter_that_is_ignored_is_told_before_the_first_load(warehouse):
    """The run would load nothing of it; so the plan counts no listing of it."""
    here = warehouse(small(9), LIVE.but(ignored_filters={"GET /activities": ("created_on",)}))
    found = planned(here)
    assert found.exit_code == 5
    assert "full_scan" in str(found.resources["activities"].error)


def test_lists_that_tell_nothing_of_what_follows_cost_two_requests_each(warehouse):
    """No total and no `has_more`: that nothing follows is seen on the next page."""
    here = warehouse(small(8), LIVE.but(total="absent", has_more=False))
    found = planned(here)
    assert found.at_least
    ran = here.sync(slice_rows=20_000)
    really = sum(r.requests for r in ran.resources.values())
    assert abs(found.requests - really) <= 0.1 * really, (found.requests, really)
