"""A person who is erased is in no table and no file, and stays away."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import duckdb
import pytest

from crmcom.errors import SettingsError
from crmcom_pipelines import publish
from crmcom_pipelines.forget import NobodyThere, forget
from crmcom_pipelines.load import sync
from crmcom_pipelines.marts import open_mart
from crmcom_pipelines.past import as_known

from . import people, search, worlds

NAME, OTHER = "anna-belongs-here", "berta-belongs-here"


def crmcom(*args, cwd, **how):
    command = [str(Path(sys.executable).parent / "crmcom"), *args]
    env = {**os.environ, "HOME": str(cwd), "COLUMNS": "200"}
    return subprocess.run(
        command, cwd=cwd, env=env, capture_output=True, text=True, check=False, **how
    )


def totals(at):
    kept = (
        "select account_id, date_day, overdue_gross from crmcom_reports.account_daily order by 1, 2"
    )
    return at.query(kept)


def test_a_person_is_gone_from_every_file_and_stays_away(warehouse):
    """History, past reports, the ledger, the marts, dlt's state and what lies beside the file;
    others keep every row. Later runs of each kind prove what they list and bring nobody back."""
    world, (anna, berta) = people.world_of(NAME, OTHER)
    world.edit("contacts", berta.contact, relations=[{"id": anna.contact}])
    at = warehouse(world, "live", activity_details="all")
    folder = at.database.parent
    sync(at.run(), database=at.database)
    world.clock.move(timedelta(days=1))
    for account in (*anna.accounts, *berta.accounts):
        world.set_balance(account, "17.25", "17.25")
    world.set_activity_state(anna.activities[0], "COMPLETED")
    at.sync()
    nameless = world.create_contact(created_on=world.clock.epoch() - worlds.DAY)
    world.set_raw("contacts", nameless, json.dumps({"first_name": anna.mark("nameless")}))
    at.sync(expect=5)
    world.delete("contacts", nameless)
    aside = folder / ".crmcom" / at.database.name / "aside" / "before" / at.database.name
    aside.parent.mkdir()
    shutil.copy(at.database, aside)
    assert search.found(folder, [NAME, anna.contact]).keys() == {NAME, anna.contact}
    others = dict(at.query("select id, name from crmcom.accounts where contact_id is not null"))

    world.edit("contacts", berta.contact, relations=[])
    erased = forget(anna.contact, database=at.database)
    assert erased.exit_code == 0
    assert erased.published
    assert erased.rows["contacts"] == 1
    assert erased.rows["account_observations"] >= 4
    assert erased.mentions == {"contacts.relations": 1}
    gone = [NAME, *anna.accounts, *anna.activities]
    assert not search.found(folder, gone)
    mine = set(anna.accounts)
    assert {a for a, *_ in totals(at)} == set(others) - mine
    assert dict(at.query("select id, name from crmcom.accounts")) == {
        i: name for i, name in others.items() if i not in mine
    }
    day = at.value("select min(date_day) from crmcom_reports.account_daily")
    with (
        as_known("account_daily", database=at.database, as_of=day) as past,
        open_mart("account_daily", database=past, dataset="crmcom", source=at.database) as mart,
    ):
        told = {row["account_id"] for row in mart.rows("distinct account_id")}
        assert told
        assert told.isdisjoint(mine)

    # Each way by which a record can come back.
    at.settings["activity_details"] = "changed"
    world.edit("contacts", anna.contact, nickname=anna.mark("touched"))
    world.create_account(anna.contact, name=anna.mark("new account"))
    late = world.create_activity(anna.contact, description=anna.mark("new activity"))
    world.set_activity_state(anna.activities[1], "COMPLETED")
    world.edit("activities", anna.activities[2], contact=None)
    far = world.create_activity(anna.contact, description=anna.mark("late"))
    world.edit("activities", far, key_dates={"created_on": 1_768_000_000_000})
    for options in (
        {},
        {"reconcile": True, "accept_deletions": False},
        {"settings": {"full_scan": ["contacts", "activities"]}},
        {"settings": {"activity_details": "all"}},
    ):
        world.clock.move(timedelta(minutes=10))
        outcome = at.sync(**options)
        assert not any(r.deleted for r in outcome.resources.values())
        if options == {}:  # which took the mention away; its bytes may still be in a free block
            assert forget(anna.contact, database=at.database).mentions == {}
        assert not search.found(folder, [*gone, anna.contact, late])
    assert at.query("select id from crmcom.contacts where _deleted_at is not null") == []


def test_what_was_theirs_and_is_somebody_elses_now_is_loaded(warehouse):
    """An activity that names another contact is that contact's."""
    world, (anna, berta) = people.world_of(NAME, OTHER)
    at = warehouse(world, "live")
    at.sync()
    forget(anna.contact, database=at.database)
    reference = next(r for r in world.activities if r.contact_id == berta.contact).body["contact"]
    world.clock.move(timedelta(minutes=10))
    world.edit("activities", anna.activities[0], contact=reference)
    at.sync()
    held = at.query(f"select contact__id from crmcom.activities where id = '{anna.activities[0]}'")
    assert held == [(berta.contact,)]


def test_an_id_of_nobody_is_an_error_until_it_is_meant(warehouse):
    """Nothing is written; `unseen` keeps somebody out who is to come; twice is as good as once."""
    world = worlds.small(contacts=4, activities=4)
    at = warehouse(world, "live")
    with pytest.raises(SettingsError, match="there is no"):
        forget("whoever", database=at.database)
    at.sync()
    before = publish.Identity.of(at.database)
    with pytest.raises(NobodyThere, match="--unseen"):
        forget("not'there", database=at.database)
    assert publish.Identity.of(at.database) == before
    with pytest.raises(SettingsError, match="no dataset elsewhere"):
        forget("whoever", database=at.database, dataset="elsewhere")
    forget("yet-to-come", database=at.database, unseen=True)
    again = forget("yet-to-come", database=at.database)
    assert set(again.rows.values()) == {0}
    assert at.value("select count(*) from crmcom._forgotten") == 1
    world.clock.move(timedelta(minutes=10))
    world.create_contact(id="yet-to-come", first_name="Whoever")
    other = world.create_contact(first_name="Somebody else")
    at.sync()
    have = {i for (i,) in at.query("select id from crmcom.contacts")}
    assert other in have
    assert "yet-to-come" not in have


def test_other_datasets_of_the_file_are_left_as_they_are(warehouse):
    """Tables, views and comments of somebody else, and a dataset that has the same contact."""
    world, (anna,) = people.world_of(NAME)
    at = warehouse(world, "live")
    at.sync()
    sync(at.run(), database=at.database, dataset="other", transform=False)
    forget(anna.contact, database=at.database)
    mine = f"where id = '{anna.contact}'"
    assert at.value(f"select count(*) from other.contacts {mine}") == 1
    assert at.value(f"select count(*) from crmcom.contacts {mine}") == 0


@pytest.mark.parametrize("moment", ["change", "working", "published"])
def test_a_kill_leaves_before_or_after_and_the_same_command_completes(warehouse, moment):
    """Whether the copy was being changed, or the working file or the published one renamed."""
    world, (anna,) = people.world_of(NAME)
    at = warehouse(world, "live")
    at.sync()
    held = at.value("select count(*) from crmcom.contacts")
    killed = subprocess.run(
        [
            sys.executable,
            Path(__file__).with_name("forgetting.py"),
            anna.contact,
            at.database,
            moment,
        ],
        check=False,
        capture_output=True,
        text=True,
    )
    assert killed.returncode == -9, killed.stderr
    with duckdb.connect(str(at.database), read_only=True) as published:
        assert published.execute("select count(*) from crmcom.contacts").fetchone() == (held,)
    assert forget(anna.contact, database=at.database).published
    assert not search.found(at.database.parent, [NAME, *anna.ids])
    assert at.value("select count(*) from crmcom.contacts") == held - 1


def test_the_command_asks_says_what_went_and_names_no_id_in_a_file(warehouse):
    """Without an answer it does nothing; `--json` prints one object; other destinations wait."""
    world, (anna,) = people.world_of(NAME)
    at = warehouse(world, "live")
    at.sync()
    folder = at.database.parent
    args = ("forget", "contact", anna.contact)
    asked = crmcom(*args, cwd=folder, stdin=subprocess.DEVNULL)
    assert asked.returncode == 2
    assert "--yes" in asked.stderr
    elsewhere = crmcom(*args, "--yes", "--destination", "postgres", cwd=folder)
    assert elsewhere.returncode == 2
    done = crmcom(*args, "--yes", "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["rows"]["contacts"] == 1
    assert result["published"]
    assert "Copies" in done.stderr or "copies" in done.stderr
    assert not search.found(folder, [NAME, *anna.ids])
