"""What changed since the first load, and what a plain run and a reconcile make of it."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest

from crmcom_sandbox import LIVE

from . import worlds

BOTH = pytest.mark.parametrize("behaviour", ["reference", "live"])


def activities(world, state, count, *, skip=()):
    """The latest activities of a state, with a contact."""
    found = [r for r in world.activities if r.body.get("state") == state and r.contact_id]
    return [r.id for r in reversed(found) if r.id not in skip][:count]


def contacts_without_activities(world, count):
    busy = {r.contact_id for r in world.activities}
    return [r.id for r in world.contacts if r.id not in busy and "code" in r.body][:count]


def later(world, **time):
    world.clock.move(timedelta(**(time or {"minutes": 10})))


def states_of(at, activity_id):
    return at.query(
        "select state from crmcom.activity_versions "
        f"where activity_id = '{activity_id}' order by run_id"
    )


@BOTH
def test_a_plain_run_sees_all_that_the_filters_can_show(warehouse, behaviour):
    """New records, contacts that were edited, every account, whatever was or is open; and a
    version of each activity that changed, and of no other."""
    world = worlds.odd(seed=3)
    at = warehouse(world, behaviour)
    at.sync()
    before = at.value("select count(*) from crmcom.activity_versions")
    later(world, days=1)

    renamed, tagless, bare = contacts_without_activities(world, 3)
    world.edit("contacts", renamed, first_name="New", last_name=None, loyalty_points=7)
    world.set_tags("contacts", tagless, list(world.catalogue.tags)[:1])
    world.create_account(renamed, balance=Decimal("0.3"))
    world.create_account(world.create_contact(first_name="Brand new"), balance=Decimal("-1.005"))
    poor, limited, closed, target = [r.id for r in world.accounts][:4]
    world.set_balance(poor, "1234567.005", "0.1")
    world.edit("accounts", limited, credit_limit=None, payment_terms=None)
    world.set_account_state(closed, "TERMINATED", target)
    tag = next(iter(world.catalogue.tags))
    opened = activities(world, "PENDING", 6)
    moved, given, tagged, done, dropped, gone = opened
    world.reschedule(moved, world.clock.epoch() + 99, None)
    world.edit("activities", given, assign_to={"user": None, "team": {"id": "t9", "name": "Nine"}})
    world.set_tags("activities", tagged, [tag])
    world.set_activity_state(done, "COMPLETED")
    world.set_tags("activities", done, [])
    world.set_activity_state(dropped, "CANCELLED")
    world.set_tags("activities", dropped, [tag])
    world.set_custom_fields("activities", dropped, [{"key": "why", "value": "none"}])
    world.delete("activities", gone)
    (reopened,) = activities(world, "COMPLETED", 1, skip=[done])
    world.set_activity_state(reopened, "PENDING")
    twice = activities(world, "COMPLETED", 2, skip=[done])[1]
    world.set_activity_state(twice, "PENDING")
    world.set_activity_state(twice, "COMPLETED")
    fresh = world.create_activity(None)
    fresh_done = world.create_activity(None, state="COMPLETED")
    later(world)

    outcome = at.sync()
    detailed = {done, dropped, reopened, twice, fresh_done}
    nobody = {"contacts": set(), "accounts": set(), "activities": {gone}}
    assert at.differences(detailed=detailed, gone=nobody) == []
    assert outcome.resources["activities"].deleted == 1

    world.set_tags("contacts", tagless, [])
    world.set_custom_fields("contacts", bare, [])
    world.set_tags("activities", tagged, [])
    later(world)
    at.sync()
    assert at.differences(detailed=detailed, gone=nobody) == []
    assert states_of(at, dropped) == [("PENDING",), ("CANCELLED",)]
    assert states_of(at, reopened) == [("COMPLETED",), ("PENDING",)]
    changed = [moved, given, done, dropped, gone, reopened, fresh, fresh_done]
    assert at.value("select count(*) from crmcom.activity_versions") == before + len(changed)


@BOTH
def test_a_reconcile_makes_the_warehouse_equal_to_the_server(warehouse, behaviour):
    """What no filter shows, too: edits of what is settled, what is gone, what came back."""
    world = worlds.odd(seed=5)
    at = warehouse(world, behaviour)
    at.sync()
    later(world, days=2)
    tags = list(world.catalogue.tags)
    settled = activities(world, "COMPLETED", 4)
    world.edit("activities", settled[0], name="renamed", custom_fields=[{"key": "k", "value": "v"}])
    world.set_tags("activities", settled[1], tags[:2])
    activity = {**world.activities[settled[2]].body}
    world.delete("activities", settled[2])
    world.set_activity_state(settled[3], "CANCELLED")
    owners = [r.contact_id for r in world.accounts]
    lost_contact, lost_account = owners[0], world.of_contact("accounts", owners[3])[0].id
    with_them = {a.id for a in world.of_contact("accounts", lost_contact)}
    body = {**world.contacts[lost_contact].body}
    world.delete("contacts", lost_contact)
    world.delete("accounts", lost_account)
    world.create_account(owners[6], currency_code="KWD", balance=Decimal("0.125"))
    later(world)

    outcome = at.sync(reconcile=True)
    gone = {
        "contacts": {lost_contact},
        "accounts": {*with_them, lost_account},
        "activities": {settled[2]},
    }
    assert at.differences(detailed={settled[3]}, gone=gone) == []
    assert {n: r.deleted for n, r in outcome.resources.items()} == {
        n: len(ids) for n, ids in gone.items()
    }
    missing = at.query("select account_id from crmcom.account_observations where is_missing")
    assert {i for (i,) in missing} == gone["accounts"]

    world.create_contact(**body, created_on=world.clock.epoch() - 9 * worlds.DAY)
    world.create_account(lost_contact, id=sorted(with_them)[0], balance=Decimal(3))
    world.create_activity(lost_contact, created_on=world.clock.epoch() - worlds.DAY, **activity)
    later(world)
    at.sync(reconcile=True)
    gone = {
        "contacts": set(),
        "accounts": {*with_them, lost_account} - {sorted(with_them)[0]},
        "activities": set(),
    }
    assert at.differences(detailed={settled[3]}, gone=gone) == []
    assert states_of(at, settled[2]) == [("COMPLETED",)] * 3


def test_a_second_run_asks_for_what_can_be_new_and_doubles_nothing(warehouse):
    """Windows of the last day, the head of the latest updates, the open set, and the balance
    of each account: no contact is asked for its accounts, no page of the past is read."""
    at = warehouse(worlds.small(contacts=60, activities=300))
    first = at.sync()
    accounts = at.value("select count(*) from crmcom.accounts")
    later(at.world)
    second = at.sync()
    asked = at.server.sandbox.counters.requests
    assert asked["GET /accounts/{id}"] == accounts
    assert asked["GET /contacts/{id}/accounts"] == 0
    assert asked["GET /activities/{id}"] == 0
    assert sum(asked.values()) <= accounts + 12
    assert at.differences() == []
    observed = at.query(
        "select run_id, count(*), count(distinct account_id) "
        "from crmcom.account_observations group by 1 order by 1"
    )
    assert observed == [
        (first.run_id, accounts, accounts),
        (second.run_id, accounts, accounts),
    ]
    assert at.value("select count(*) from crmcom.activity_versions") == 300


def test_no_endpoint_nulls_what_only_the_other_one_sends(warehouse):
    """An address outlives a list, a contact_id the reading of its account, an unknown field of
    a list the single reply, and the other way round; what a sender stops sending is nulled."""
    world = worlds.small()
    at = warehouse(world)
    at.sync()
    later(world, days=1)
    (done,) = activities(world, "PENDING", 1)
    world.edit("activities", done, address={"address_line_1": "kept", "lat": Decimal("35.1")})
    world.set_activity_state(done, "COMPLETED")
    account = next(iter(world.accounts)).id
    owner = world.accounts[account].contact_id
    world.edit("accounts", account, colour="only there", billing_address={"town_city": "Nicosia"})
    later(world)
    at.sync()
    assert at.query(
        f"select address__address_line_1, address__lat from crmcom.activities where id = '{done}'"
    ) == [("kept", Decimal("35.1"))]
    later(world)
    world.edit("contacts", owner, language_code="xx")  # its accounts are listed again
    world.set_tags("activities", done, [])
    world.drop_fields("accounts", account, "colour")
    later(world)
    at.sync(reconcile=True)
    assert at.query(
        f"select address__address_line_1, address__lat from crmcom.activities where id = '{done}'"
    ) == [("kept", Decimal("35.1"))]
    assert at.query(
        "select contact_id, billing_address__town_city, colour "
        f"from crmcom.accounts where id = '{account}'"
    ) == [(owner, "Nicosia", None)]
    assert at.differences(detailed={done}) == []


@pytest.mark.parametrize("behaviour", ["reference", LIVE.but(total="null")])
def test_what_is_younger_than_the_lag_is_there(warehouse, behaviour):
    """Dated in the future, too."""
    world = worlds.small()
    at = warehouse(world, behaviour)
    at.sync()
    contact = world.create_contact()
    world.create_account(contact)
    for state in ("CANCELLED", "PENDING"):
        world.create_activity(contact, state=state)
    world.create_activity(contact, created_on=world.clock.epoch() + 900)
    at.sync()
    assert at.differences(detailed=at.detailed()) == []
    at.sync(reconcile=True)
    assert at.differences(detailed=at.detailed()) == []


def test_a_clock_that_was_ahead_for_one_run_hides_nothing(warehouse):
    world = worlds.small()
    at = warehouse(world)
    at.sync()
    at.server.sandbox.switch(clock_offset_s=366 * worlds.DAY)
    at.sync()
    at.server.sandbox.switch(clock_offset_s=0)
    contact = world.create_contact(created_on=world.clock.epoch() - 600)
    world.create_account(contact)
    world.create_activity(contact, created_on=world.clock.epoch() - 600, state="CANCELLED")
    outcome = at.sync()
    assert any("set back" in note for note in outcome.notes)
    assert at.differences(detailed=at.detailed()) == []


def test_details_that_are_those_of_another_activity_leave_it_as_it_is(warehouse):
    world = worlds.small()
    done = next(r.id for r in world.activities if r.body["state"] == "COMPLETED")
    first, second = sorted(r.id for r in world.activities if r.body["state"] == "PENDING")[:2]
    at = warehouse(world)
    at.sync()
    for changed in (first, second):
        world.set_activity_state(changed, "COMPLETED")
    world.clock.move(timedelta(minutes=30))
    other = f'{{"id": "{done}", "name": "of another"}}'
    at.server.sandbox.after(
        1, "GET /activities/{id}", lambda w: w.set_raw("activities", second, other)
    )
    at.sync(expect=None)
    assert at.detailed() == {first}
    world.set_raw("activities", second, None)
    assert at.differences(detailed={first}) == []
    versions = f"select state from crmcom.activity_versions where activity_id = '{done}'"
    assert at.query(versions) == [("COMPLETED",)]
