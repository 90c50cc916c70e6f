"""What the state machine found, each as the shortest story that shows it."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from crmcom import Range
from crmcom_sandbox import World

from .driver import Driver, Kill
from .promises import Check

if TYPE_CHECKING:
    from crmcom_pipelines.load import Outcome

DAY = 86_400
CLOSED = "CANCELLED"


@pytest.fixture
def world() -> World:
    return World()


def wait(world: World, seconds: int = 60) -> None:
    world.clock.move(timedelta(seconds=seconds))


def ago(world: World, seconds: int) -> int:
    return world.clock.epoch() - seconds


def proven(outcome: Outcome | None) -> Outcome:
    assert outcome is not None
    assert outcome.exit_code == 0, outcome.as_json()
    return outcome


def differences(driver: Driver, **options: Any) -> list[str]:
    """From the truth, in the records that the warehouse should hold, and in their histories."""
    check = Check(
        driver.memory,
        driver.world.truth(),
        live=driver.sandbox.behaviour.email_field == "email_address",
        details=driver.settings.get("activity_details", "changed"),
        newest_first=driver.sandbox.behaviour.newest_state_first,
    )
    end_s = driver.world.clock.epoch() - 120
    return [*check.equal(end_s, **options), *check.versions(), *check.observations()]


def kill_after(driver: Driver, *tables: str, **options: Any) -> None:
    """A sync that is killed when these tables alone are merged."""
    assert driver.sync(kill=Kill(tables=tables), **options) is None


def test_an_activity_that_no_range_of_dates_finds_has_a_version(world):
    """One that is younger than the last window, as one without a date: the total tells of it."""
    world.create_activity(None)
    driver = Driver(world)
    proven(driver.sync())
    assert len(driver.memory.list("activities")) == 1
    assert differences(driver) == []


def test_a_sync_of_accounts_alone_does_not_hide_later_contacts(world):
    """It asks nothing where there is nothing, and so is told no time."""
    driver = Driver(world)
    proven(driver.sync(resources=("accounts",)))
    contact = world.create_contact(created_on=ago(world, DAY))
    world.create_account(contact)
    proven(driver.sync(resources=("contacts",)))
    proven(driver.sync())
    assert differences(driver) == []


def test_a_young_contact_that_changed_shows_its_new_account(world):
    """The window of created dates brings it too: that must not take it out of the walk's news."""
    contact = world.create_contact(created_on=ago(world, 300))
    driver = Driver(world)
    proven(driver.sync())
    wait(world)
    world.create_account(contact, balance=7)
    world.edit("contacts", contact, name="edited")
    proven(driver.sync())
    assert differences(driver) == []


@pytest.mark.parametrize("newest_first", [False, True])
@pytest.mark.parametrize("reconcile", [False, True])
def test_a_clock_set_back_between_two_states_does_not_reopen(world, newest_first, reconcile):
    """An activity's history then ends, by its dates, with the state before the last one."""
    activity = world.create_activity(None, created_on=ago(world, 300))
    driver = Driver(world)
    driver.sandbox.switch(newest_state_first=newest_first)
    proven(driver.sync())
    world.set_activity_state(activity, CLOSED, ago(world, 600))
    wait(world)
    proven(driver.sync(reconcile=reconcile))
    assert [r["state"] for r in driver.memory.list("activities")] == [CLOSED]
    assert differences(driver) == []


def test_a_deletion_in_the_middle_of_a_walk_hides_no_edit(world):
    """It shifts a row from one page to the one before, which was read already."""
    old = ago(world, 9 * DAY)
    ids = [world.create_contact(created_on=old + n, name=f"c{n}") for n in range(30)]
    driver = Driver(world, settings={"page_size": 12})
    proven(driver.sync())
    for contact in ids[:25]:
        wait(world, 1)
        world.edit("contacts", contact, name="edited")
    probe_and_first_page = 2
    driver.sandbox.after(
        probe_and_first_page, "GET /contacts", lambda world: world.delete("contacts", ids[24])
    )
    proven(driver.sync())
    assert [d for d in differences(driver) if "is gone" not in d] == []


def test_accounts_of_a_contact_that_no_list_shows_are_listed(world):
    """A reconcile lists the accounts of all contacts, those included that it has to ask for."""
    driver = Driver(world)
    contact = world.create_contact(created_on=ago(world, 300))
    proven(driver.sync())
    driver.sandbox.switch(total="null")
    wait(world, -250)  # the contact is now too young for any window
    world.create_account(contact)
    proven(driver.sync(reconcile=True))
    assert differences(driver) == []


@pytest.mark.parametrize("table", ["activities", "activity_versions", "activity_states", None])
@pytest.mark.parametrize("between", ["nothing", "refusal", "backfill", "contacts"])
def test_what_a_killed_load_left_half_merged_is_mended(world, table, between):
    """Each table is merged by itself. Runs in between that cannot mend it forget nothing."""
    open_ones = [world.create_activity(None, created_on=ago(world, DAY)) for _ in range(4)]
    driver = Driver(world)
    proven(driver.sync())
    wait(world, 600)
    world.set_activity_state(open_ones[0], CLOSED)
    world.set_activity_state(open_ones[1], "COMPLETED")
    world.delete("activities", open_ones[2])
    kill_after(driver, *([table] if table else []))
    wait(world, 600)
    if between == "refusal":
        driver.sandbox.switch(forbidden=("GET /activities",))
        outcome = driver.sync()
        assert outcome is not None
        assert outcome.exit_code == 3
        driver.sandbox.switch(forbidden=())
    elif between == "backfill":
        proven(driver.sync(backfill=Range(ago(world, 3 * DAY), ago(world, 2 * DAY))))
    elif between == "contacts":
        proven(driver.sync(resources=("contacts",)))
    wait(world, 600)
    proven(driver.sync())
    assert differences(driver) == []
    states = driver.memory.list("activity_states")
    assert {s["activity_id"] for s in states} == {*open_ones[:2]}
    assert driver.memory.states["activities"].get("half_merged") is None


def test_an_account_that_a_killed_load_marked_as_deleted_is_observed_as_missing(world):
    contact = world.create_contact(created_on=ago(world, DAY))
    account = world.create_account(contact)
    driver = Driver(world)
    proven(driver.sync())
    wait(world)
    world.delete("accounts", account)
    kill_after(driver, "accounts")
    wait(world)
    proven(driver.sync())
    assert differences(driver) == []
