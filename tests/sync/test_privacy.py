"""Columns that are hashed or dropped before they reach the warehouse."""

from __future__ import annotations

import hmac
import json
import threading
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path

import pytest

from crmcom import Settings
from crmcom.errors import SettingsError
from crmcom.privacy import _CHILDREN, _FIXED, _RECORDS, Privacy
from crmcom.schema import RAW_TABLES
from crmcom_pipelines.load import sync

from . import people, search, worlds

KEY = "a long text that nobody can guess"


def hashed(text):
    return hmac.digest(KEY.encode(), text.encode(), "sha256").hex()


def settings(columns, key=KEY):
    return Settings(
        base_url="https://here.example/v2", api_key="k", privacy=columns, privacy_key=key
    )


def test_a_private_column_never_reaches_the_warehouse(warehouse):
    """Neither in a first load nor when rows are carried over; equal values stay equal."""
    world = worlds.small(contacts=8, activities=12)
    private = {"email_address": "hash", "phone__number": "drop", "value": "hash", "balance": "drop"}
    at = warehouse(world, "live", privacy=private, privacy_key=KEY)
    for _ in range(2):
        at.sync()
        world.clock.move(timedelta(minutes=10))
    have = dict(at.query("select id, email_address from crmcom.contacts"))
    emails = {r.id: r.body.get("email") for r in world.contacts}
    assert have == {i: hashed(e) if e else e for i, e in emails.items()}
    assert at.value("select count(phone__number) from crmcom.contacts") == 0
    assert at.value("select count(balance) from crmcom.accounts") == 0
    assert at.value("select count(balance) from crmcom.account_observations") == 0
    values = {v for (v,) in at.query("select value from crmcom.contact_custom_fields") if v}
    assert values
    assert all(len(v) == 64 for v in values)
    assert any(emails.values())
    for path in at.database.parent.rglob("*"):
        if path.is_file():
            assert not any(e.encode() in path.read_bytes() for e in emails.values() if e), path


@pytest.mark.parametrize(
    "columns", [{"id": "hash"}, {"contact_id": "drop"}, {"balance": "hash"}, {"state": "drop"}]
)
def test_what_holds_the_tables_together_cannot_be_hidden(columns):
    with pytest.raises(SettingsError, match=next(iter(columns))):
        Privacy(settings(columns))


@contextmanager
def watched(folder, names):
    """Reads all files again and again while the block runs; gives the names that were seen."""
    seen, done = set(), threading.Event()

    def watch():
        while not done.wait(0.2):
            with suppress(OSError):  # what goes away meanwhile
                for path in filter(Path.is_file, folder.rglob("*")):
                    body = path.read_bytes()
                    seen.update((m, path.name) for m in names if m.encode() in body)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        done.set()
        thread.join()


def test_nothing_private_is_in_any_file_at_any_time(warehouse, monkeypatch):
    """Known and unknown fields, children, JSON, what has a wrong shape, what is rejected; with
    the marts, in the working folder, in what dlt loads from, and in the next run's files."""
    monkeypatch.setenv("LOAD__DELETE_COMPLETED_JOBS", "false")
    world, persons = people.world_of("anna-belongs-here", "berta-belongs-here")
    persons.append(people.add_odd(world, "odile-belongs-here"))
    names = [p.name for p in persons]
    at = warehouse(world, "live", privacy=people.PRIVATE, privacy_key=KEY, activity_details="all")
    folder = at.database.parent
    for details in ("all", "changed"):
        with watched(folder, names) as seen:
            run = at.run(settings={"activity_details": details})
            outcome = sync(run, database=at.database, transform=details == "all")
        assert outcome.published
        assert not seen
        assert not search.found(folder, [*names, str(people.POINTS), KEY])
        world.clock.move(timedelta(minutes=10))
        world.edit("contacts", persons[0].contact, nickname=persons[0].mark("new nick"))
        world.set_activity_state(persons[0].activities[0], "COMPLETED")
    for reject in at.rows("from crmcom._rejects"):
        assert reject["payload"] == ""
    same = "select count(*) from crmcom.activities a join crmcom.contacts c on a.contact__id = c.id"
    assert at.value(f"{same} where a.contact__code = c.code") >= 8


def test_what_was_loaded_before_follows_a_privacy_that_changed(warehouse):
    """Its bytes are gone from every file, each value is hashed once, joins hold, and so do the
    marts; the search that finds nothing then has found everything before."""
    world, persons = people.world_of("anna-belongs-here")
    persons.append(people.add_odd(world, "odile-belongs-here"))
    names, marks = [p.name for p in persons], [m for p in persons for m in p.marks]
    at = warehouse(world, "live", activity_details="all")
    sync(at.run(), database=at.database)
    plainly = b"".join(body for _, body in search.tables(at.database))
    forms = ((m, (m.encode(), json.dumps(m)[1:-1].encode())) for m in marks)  # JSON escapes
    assert not [m for m, ways in forms if not any(way in plainly for way in ways)]
    plain = dict(at.query("select id, code from crmcom.contacts where code is not null"))
    at.settings |= {"privacy": people.PRIVATE, "privacy_key": KEY}
    # With the marts, though they were not asked for: those that were there hold it all.
    outcome = sync(at.run(), database=at.database, transform=False)
    assert outcome.published
    assert any("privacy has changed" in note for note in outcome.notes)
    assert not search.found(at.database.parent, [*names, str(people.POINTS), KEY])
    again = at.sync(reconcile=True, expect=None)
    assert not any("privacy has changed" in note for note in again.notes)
    codes = dict(at.query("select id, code from crmcom.contacts where code is not null"))
    assert codes == {i: hashed(code) for i, code in plain.items()}
    assert at.value("select count(*) from crmcom_reports.contact_360") > 0


def test_another_key_is_noticed(warehouse):
    """Equal values would get other hashes than before: nothing is loaded, the settings say why,
    and neither key is shown."""
    at = warehouse(worlds.small(), "live", privacy={"email": "hash"}, privacy_key=KEY)
    at.sync()
    with pytest.raises(SettingsError, match=r"privacy_key.* is not the key") as refused:
        at.sync(settings={"privacy_key": "quite another key"})
    assert KEY not in str(refused.value)
    assert "quite another" not in str(refused.value)
    with pytest.raises(SettingsError, match=r"privacy_key.* is not the key"):
        at.sync(settings={"privacy_key": "quite another key", "privacy": {"first_name": "hash"}})
    at.sync()


@pytest.mark.parametrize(
    ("columns", "key", "said"),
    [
        ({"email": "hash"}, None, "privacy_key.* is missing"),
        ({"email": "hash"}, "short", "shorter than 16"),
        ({"emial": "hash"}, KEY, "did you mean email"),
        ({"contcts.email": "hash"}, KEY, "did you mean contacts.email"),
        ({"account_observations.balance": "drop"}, KEY, "accounts.balance"),
        ({"activities.contact": "drop"}, KEY, "contact__id"),
        ({"activities.key_dates": "hash"}, KEY, "can only be dropped"),
        ({"phone.number": "hash", "phone__number": "drop"}, KEY, "to hash .* and to drop"),
        ({"...": "drop"}, KEY, "no column"),
    ],
)
def test_what_cannot_be_meant_is_a_settings_error(columns, key, said):
    with pytest.raises(SettingsError, match=said):
        Privacy(settings(columns, key))


def test_a_field_that_is_yet_to_come_is_named_in_advance(warehouse):
    """A note says that nothing is hidden so far; it is hidden from its first reading on."""
    world = worlds.small(contacts=4, activities=0)
    at = warehouse(world, "live", privacy={"contacts.emails": "drop", "shoe_size": "hash"})
    at.settings["privacy_key"] = KEY
    notes = at.sync().notes
    assert any("contacts.emails" in n and "did you mean email?" in n for n in notes)
    assert any("shoe_size" in n for n in notes)
    contact = next(iter(world.contacts)).id
    world.clock.move(timedelta(minutes=10))
    world.edit("contacts", contact, shoe_size=43, emails=["one@example.com"])
    at.sync()
    assert at.query("select shoe_size from crmcom.contacts where shoe_size is not null") == [
        (hashed("43"),)
    ]
    world.clock.move(timedelta(minutes=10))
    world.edit("contacts", contact, shoe_size={"left": 43})
    assert not any("shoe_size" in n for n in at.sync().notes)
    assert not search.found(at.database.parent, ["one@example.com"])


def test_every_column_that_may_be_hidden_leaves_the_marts_standing(warehouse):
    """All of them at once, dropped: each model is built, and each test passes."""
    columns = {
        f"{table}.{name}": "drop"
        for table in (*_RECORDS, *_CHILDREN)
        for name in set(RAW_TABLES[table].schema.names) - _FIXED
    }
    at = warehouse(worlds.small(), "live", privacy=columns)
    outcome = sync(at.run(), database=at.database)
    assert outcome.exit_code == 0, outcome.transformed
