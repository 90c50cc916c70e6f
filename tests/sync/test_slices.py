"""Long runs are several loads; whatever ends one of them, the next run goes on."""

from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest

from crmcom import Range, windows
from crmcom_sandbox import LIVE, REFERENCE

from . import worlds

# A server that shows no page deeper than 30 records: a window holds no more of them. Not
# fewer, since 25 may be of one second.
SHALLOW = {"max_depth": 30}

KILLED = Path(__file__).with_name("killed.py")


def test_slices_load_what_one_load_would(warehouse):
    """And read no account twice."""
    at = warehouse(worlds.small(contacts=60), REFERENCE.but(**SHALLOW), page_size=10)
    outcome = at.sync(slice_rows=15)
    assert outcome.slices >= 3
    assert at.differences() == []
    accounts = at.value("select count(*) from crmcom.accounts")
    assert at.server.sandbox.counters.requests["GET /accounts/{id}"] == accounts
    assert at.value("select count(*) from crmcom._sync_runs") == 3
    assert at.query("select distinct verdict, scope from crmcom._sync_runs") == [
        ("proven", "complete")
    ]
    windows = at.query(
        "select resource, count(*), max(position) from crmcom._sync_windows group by 1"
    )
    assert all(count == last + 1 for _, count, last in windows)


def test_clocks_that_differ_are_told_once_for_all_slices(warehouse, caplog):
    at = warehouse(worlds.small(contacts=60), REFERENCE.but(**SHALLOW), page_size=10)
    outcome = at.sync(slice_rows=15)
    assert outcome.slices >= 3
    assert [r.message for r in caplog.records if "s apart" in r.message] == outcome.notes


def test_what_changes_between_two_slices_is_not_lost(warehouse):
    """An edit of what an earlier slice has read shows in the next run at the latest; what was
    deleted meanwhile in a reconcile, which a first load in slices does when it is asked to."""
    world = worlds.small(contacts=60)
    at = warehouse(world, LIVE.but(**SHALLOW), page_size=10)
    oldest, second, third = [r.id for r in world.contacts][:3]
    done = next(r.id for r in world.activities if r.body["state"] == "PENDING")

    def change(_):
        world.edit("contacts", oldest, language_code="zz")
        world.set_tags("contacts", second, [])
        world.set_activity_state(done, "COMPLETED")
        world.delete("contacts", third)

    at.server.sandbox.after(8, "GET /contacts", change)
    world.clock.run()
    at.sync(slice_rows=10)
    world.clock.freeze()
    world.clock.move(timedelta(minutes=10))
    at.sync(slice_rows=10)
    read = at.detailed()
    assert at.query(f"select language_code from crmcom.contacts where id = '{oldest}'") == [("zz",)]
    at.sync(reconcile=True)
    assert at.differences(detailed=read) == []


def test_a_first_load_in_slices_that_reconciles_ends_with_a_reconcile(warehouse):
    world = worlds.small(contacts=60)
    at = warehouse(world, LIVE.but(**SHALLOW), page_size=10)
    first = next(iter(world.contacts)).id
    at.server.sandbox.after(12, "GET /contacts", lambda w: w.delete("contacts", first))
    at.sync(slice_rows=10, reconcile=True)
    assert at.differences() == []


def test_more_news_than_a_slice_holds_is_followed_to_the_end_in_one_run(warehouse):
    """Each slice goes on where the last one ended, however much the lookback alone holds, and
    the last one resolves what left the open set."""
    world = worlds.small()
    at = warehouse(world, LIVE.but(**SHALLOW), page_size=10)
    at.sync()
    left = next(r.id for r in world.activities if r.body["state"] == "PENDING")
    contact = None
    for hour in range(30):
        world.clock.move(timedelta(hours=1))
        if hour % 10 == 0:
            contact = world.create_contact()
            world.create_account(contact)
        for _ in range(2):
            world.create_activity(contact)
    world.set_activity_state(left, "CANCELLED")
    world.clock.move(timedelta(minutes=10))
    outcome = at.sync(slice_rows=5)
    assert outcome.slices >= 3
    assert at.differences(detailed={left}) == []
    at.sync(slice_rows=5)
    assert at.differences(detailed={left}) == []


def test_a_backfill_reads_its_range_and_moves_no_bookmark(warehouse):
    """It is resumed where it ended, and read anew once it is done."""
    world = worlds.small(activities=50)
    at = warehouse(world, LIVE.but(**SHALLOW), page_size=10)
    at.sync()
    now = world.clock.epoch()
    old = world.create_contact(created_on=now - 400 * worlds.DAY)
    world.create_account(old)
    called = world.create_activity(old, created_on=now - 300 * worlds.DAY, state="COMPLETED")
    settled = next(r for r in world.activities if r.body["state"] == "COMPLETED")
    world.edit("activities", settled.id, name="edited")
    whole = Range(now - 2_000 * worlds.DAY, now - worlds.DAY)
    outcome = at.sync(backfill=whole, slice_rows=10)
    assert outcome.slices >= 2
    assert at.differences() == []
    assert at.value(f"select count(*) from crmcom.activities where id = '{called}'") == 1
    world.edit("activities", settled.id, name="edited again")
    at.sync(backfill=whole)
    assert at.differences() == []
    assert {r["scope"] for r in outcome.as_json()["resources"].values()} == {"partial"}
    at.sync()
    assert at.differences() == []


def run_killed(at, after_s, *, reconcile=False, before_sql=()):
    """A sync in a process of its own, killed after some seconds or before a statement; whether
    it was."""
    command = [sys.executable, str(KILLED), at.server.base_url, at.server.api_key]
    command += [str(at.database), "reconcile" if reconcile else "plain", *before_sql]
    with subprocess.Popen(command, start_new_session=True, stdout=subprocess.PIPE) as process:
        process.stdout.readline()  # it is about to begin
        try:
            process.wait(after_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
        return process.wait() == -signal.SIGKILL


def killed_often(warehouse, times, seed):
    rng = random.Random(seed)
    world = worlds.small(seed=seed, contacts=40, activities=120)
    at = warehouse(world, LIVE.but(**SHALLOW), page_size=10)
    kills = followed = 0
    assert not run_killed(at, 250)
    started = time.monotonic()
    assert not run_killed(at, 250)
    full_s = time.monotonic() - started
    versions = {r.id: [r.body["state"]] for r in world.activities}
    changed = set()
    while kills < times:
        for record in rng.sample(list(world.activities), 5):
            state = rng.choice(["PENDING", "COMPLETED", "CANCELLED"])
            # Settled ones that are settled otherwise are no filter's business, nor is what
            # changes to and fro between two runs that end.
            settled = "PENDING" not in (state, record.body["state"])
            if state != record.body["state"] and not settled and record.id not in changed:
                world.set_activity_state(record.id, state)
                changed.add(record.id)
        contact = rng.choice(list(world.contacts))
        world.set_tags("contacts", contact.id, rng.sample(list(world.catalogue.tags), 2))
        world.set_balance(rng.choice(list(world.accounts)).id, f"{rng.randrange(10**6)}.005")
        world.create_account(world.create_contact(), balance=rng.randrange(99))
        for _ in range(8):
            world.create_activity(contact.id)
        world.clock.move(timedelta(hours=rng.randrange(1, 40)))
        if run_killed(at, rng.uniform(0, full_s)):
            kills += 1
            if rng.random() < 0.4:
                continue  # killed, and changed again before the next run
        at.sync(slice_rows=10)
        changed.clear()
        followed += 1
        for record in world.activities:
            history = versions.setdefault(record.id, [])
            if history[-1:] != [record.body["state"]]:
                history.append(record.body["state"])
        read = at.detailed()
        assert at.differences(detailed=read) == []
        assert_versions_are_changes(at, versions)
    assert followed > 0


def assert_versions_are_changes(at, versions):
    """No two versions in a row are equal, none is missing at the end, and each that we know
    to have been between two runs stands there."""
    told = {}
    for activity, state in at.query(
        "select activity_id, state from crmcom.activity_versions order by _synced_at, run_id"
    ):
        told.setdefault(activity, []).append(state)
    for activity, states in told.items():
        assert all(a != b for a, b in itertools.pairwise(states)), (activity, states)
        assert states[-1] == versions[activity][-1]


def test_a_run_that_is_killed_at_any_moment_is_completed_by_the_next(warehouse):
    """Nothing is lost, nothing is doubled, and no version is missing or told twice."""
    killed_often(warehouse, 5, seed=11)


def test_a_kill_between_the_two_statements_of_a_merge_loses_no_row(warehouse):
    """dlt's merge deletes the rows and then inserts them."""
    world = worlds.small(contacts=40)
    at = warehouse(world, LIVE.but(**SHALLOW), page_size=10)
    at.sync()
    insert = 'INSERT INTO "crmcom"."accounts"'
    assert run_killed(at, 250, before_sql=[insert])
    at.sync()
    assert at.differences() == []


@pytest.mark.slow
@pytest.mark.timeout(3_000)
@pytest.mark.parametrize("seed", range(4))
def test_a_run_that_is_killed_a_hundred_times_loses_nothing(warehouse, seed):
    killed_often(warehouse, 25, seed=100 + seed)


@pytest.mark.parametrize("slice_before", [0, 1])
@pytest.mark.parametrize("table", ["accounts", "activities", "activity_versions", "_sync_runs"])
def test_a_first_load_that_is_killed_between_two_tables_is_completed(
    warehouse, table, slice_before
):
    """It appends to tables that are empty; the next one finds some that are not, and asks for no
    details: nothing has changed that anybody saw before."""
    at = warehouse(worlds.small(contacts=40), LIVE.but(**SHALLOW), page_size=10)
    insert = f'INSERT INTO "crmcom"."{table}"'
    assert run_killed(at, 250, before_sql=[insert, str(slice_before)])
    at.sync()
    assert at.differences() == []


def test_a_slice_ends_after_so_many_bytes_however_few_records_they_are(warehouse, monkeypatch):
    at = warehouse(worlds.small(contacts=60), REFERENCE.but(**SHALLOW), page_size=10)
    monkeypatch.setattr(windows, "SLICE_BYTES", 20_000)
    outcome = at.sync(slice_rows=1_000_000)
    assert outcome.slices >= 3
    assert at.differences() == []


def test_a_slice_holds_fewer_contacts_than_other_records(warehouse):
    """Each of them brings requests of its own, which a kill of the slice would cost again."""
    world = worlds.small(contacts=100, activities=100)
    at = warehouse(world, REFERENCE.but(**SHALLOW), page_size=10)
    only_contacts = at.sync(slice_rows=100, resources=("contacts",))
    other = warehouse(world, REFERENCE.but(**SHALLOW), page_size=10, name="other")
    only_activities = other.sync(slice_rows=100, resources=("activities",))
    assert only_contacts.slices > 2 * only_activities.slices
