"""What cannot be read, what fails for ever, what lies: it stops nothing else."""

from __future__ import annotations

from datetime import timedelta

import pytest

from crmcom_pipelines.ledger import status
from crmcom_pipelines.overview import overview
from crmcom_sandbox import LIVE, REFERENCE, Faults, World

from . import worlds

LIVES = ("contacts", "accounts", "activities")


def verdicts(outcome):
    return {name: (r.verdict, r.exit_code) for name, r in outcome.resources.items()}


def test_a_record_that_cannot_be_read_is_rejected_once_and_the_rest_is_loaded(warehouse):
    """It stands in `_rejects` with its id, reason and payload, however many lists show it."""
    world = worlds.small()
    at = warehouse(world)
    far = world.create_activity(None, created_on=world.clock.epoch() - 3600)
    world.edit("activities", far, key_dates={"created_on": 1_768_000_000_000})
    nameless = world.create_contact(created_on=world.clock.epoch() - 3600)
    world.set_raw("contacts", nameless, '{"first_name": "without an id"}')
    odd = world.create_contact(created_on=world.clock.epoch() - 3600)
    world.set_raw(
        "contacts", odd, f'{{"id": "{odd}", "first_name": 5, "phone": "none", "type": []}}'
    )
    account = next(iter(world.accounts)).id
    world.set_raw("accounts", account, f'{{"id": "{account}", "balance": "12.50", "state": true}}')
    outcome = at.sync(expect=5)
    assert at.rows("from crmcom._rejects order by resource")[0]["record_id"] == far
    assert at.query("select resource, position, reason from crmcom._rejects order by 1") == [
        (
            "activities",
            0,
            "key_dates.created_on: the epoch is not in seconds (milliseconds?)",
        ),
        ("contacts", 0, "no id"),
    ]
    assert {n: r.rejected for n, r in outcome.resources.items()} == {
        "contacts": 1,
        "accounts": 0,
        "activities": 1,
    }
    assert at.query(f"select first_name, phone, type from crmcom.contacts where id = '{odd}'") == [
        ("5", "none", "[]")
    ]
    assert at.query(
        f"select balance::varchar, state from crmcom.accounts where id = '{account}'"
    ) == [("12.500000000", "true")]
    for kind, record_id in (("contacts", odd), ("accounts", account)):
        world.set_raw(kind, record_id, None)
    world.edit("activities", far, key_dates={"created_on": world.clock.epoch()})
    world.set_raw("contacts", nameless, None)
    world.clock.move(timedelta(minutes=10))
    at.sync(reconcile=True)
    assert at.differences() == []


@pytest.mark.parametrize(
    ("switch", "code", "place", "failed"),
    [
        ("broken", 4, "GET /contacts", "contacts"),
        ("forbidden", 3, "GET /activities", "activities"),
        ("broken", 4, "GET /accounts/{id}", "accounts"),
        ("forbidden", 3, "GET /contacts/{id}/accounts", "accounts"),
    ],
)
def test_an_endpoint_that_fails_leaves_the_others_loaded(warehouse, switch, code, place, failed):
    """Its own bookmark stays where it was, so that the next run mends it: the accounts of
    contacts that were loaded while accounts failed, too."""
    world = worlds.small()
    at = warehouse(world, "reference")
    at.server.sandbox.switch(**{switch: (place,)})
    outcome = at.sync(expect=code)
    assert [n for n, (verdict, _) in verdicts(outcome).items() if verdict == "failed"] == [failed]
    others = tuple(k for k in LIVES if k != failed and (failed, k) != ("contacts", "accounts"))
    assert at.differences(kinds=others) == []
    at.server.sandbox.switch(**{switch: ()})
    world.clock.move(timedelta(minutes=10))
    at.sync()
    assert at.differences() == []


def test_accounts_of_contacts_that_live_are_somewhere(warehouse):
    """A 404 of their list is trouble, and no news of contacts that were listed just before."""
    at = warehouse(worlds.small(), LIVE.but(missing=("GET /contacts/{id}/accounts",)))
    assert at.sync(expect=3).resources["accounts"].verdict == "failed"
    assert at.sync(expect=3, reconcile=True).resources["accounts"].verdict == "failed"
    at.server.sandbox.switch(missing=())
    at.sync()
    assert at.differences() == []


@pytest.mark.parametrize(
    ("switch", "place"),
    [
        ("missing", "GET /accounts/{0}"),
        ("forbidden", "GET /accounts/{0}"),
        ("forbidden", "GET /contacts/{1}/accounts"),
        ("missing", "GET /contacts/{1}/accounts"),
    ],
)
def test_what_the_api_keeps_to_itself_of_one_record_costs_no_other(warehouse, switch, place):
    """It is rejected by name, though the lists show it, and read once it can be."""
    world = worlds.small()
    hidden = next(iter(world.accounts))
    at = warehouse(world, LIVE.but(**{switch: (place.format(hidden.id, hidden.contact_id),)}))
    outcome = at.sync(expect=5)
    assert outcome.resources["accounts"].rejected == 1
    theirs = [r.id for r in world.of_contact("accounts", hidden.contact_id)]
    assert [d for d in at.differences() if not any(i in d for i in theirs)] == []
    at.server.sandbox.switch(**{switch: ()})
    at.sync()
    assert at.differences() == []


def test_an_activity_that_nobody_may_read_holds_up_no_other(warehouse):
    world = worlds.small()
    at = warehouse(world)
    at.sync()
    settled = [r.id for r in world.activities if r.body["state"] == "PENDING"][:5]
    for record_id in settled:
        world.set_activity_state(record_id, "CANCELLED")
    at.server.sandbox.switch(forbidden=(f"GET /activities/{settled[0]}",))
    assert at.sync(expect=5).resources["activities"].rejected == 1
    found = at.query("select id from crmcom.activities where state = 'CANCELLED'")
    assert {i for (i,) in found} >= set(settled[1:])


def test_accounts_that_one_contact_does_not_give_are_asked_for_again(warehouse):
    """A few records that fail are rejects, and not forgotten."""
    world = worlds.small()
    at = warehouse(world)
    contact = next(r.contact_id for r in world.accounts)
    at.server.sandbox.switch(broken=(f"GET /contacts/{contact}/accounts",))
    at.sync(expect=5)
    assert at.query("select record_id from crmcom._rejects") == [(contact,)]
    at.server.sandbox.switch(broken=())
    at.sync()
    assert at.differences() == []
    at.sync()
    assert at.asked("/accounts?") == 0


def test_details_that_could_not_be_read_are_asked_for_again(warehouse):
    world = worlds.small()
    at = warehouse(world)
    at.sync()
    done, other = [r.id for r in world.activities if r.body["state"] == "PENDING"][:2]
    for activity in (done, other):
        world.set_activity_state(activity, "COMPLETED")
    world.clock.move(timedelta(minutes=10))
    at.server.sandbox.switch(broken=(f"GET /activities/{done}",))
    at.sync(expect=5)
    at.server.sandbox.switch(broken=())
    world.clock.move(timedelta(days=3))
    at.sync()
    assert at.differences(detailed={done, other}) == []


@pytest.mark.parametrize(
    ("switch", "places", "code"),
    [
        ("broken", ("GET /activities/{id}",), 4),
        ("broken", ("GET /activities/{one}",), 5),
        ("misrouted", ("GET /activities/{id}",), 4),
        ("misrouted", ("GET /activities/{one}",), 5),
    ],
)
def test_the_only_record_that_was_due_tells_nothing_of_its_endpoint(
    warehouse, switch, places, code
):
    """Others are asked for: where none of them can be read either, the endpoint is down, and
    else the record is a reject. It is never a deletion, and the next run reads it."""
    world = worlds.small()
    at = warehouse(world)
    at.sync()
    one = next(r.id for r in world.activities if r.body["state"] == "PENDING")
    world.set_activity_state(one, "CANCELLED")
    world.clock.move(timedelta(minutes=10))
    at.server.sandbox.switch(**{switch: tuple(p.replace("{one}", one) for p in places)})
    outcome = at.sync(expect=code)
    assert outcome.resources["activities"].deleted == 0
    assert outcome.resources["activities"].rejected == (code == 5)
    at.server.sandbox.switch(**{switch: ()})
    world.clock.move(timedelta(minutes=10))
    at.sync()
    assert at.differences(detailed={one}) == []


def test_a_run_whose_time_is_over_rejects_nothing(warehouse):
    """What it did not come to is no fault of the records: the next run reads them."""
    world, place = worlds.small(contacts=40, activities=5), "GET /accounts/{id}"
    at = warehouse(world, LIVE, max_concurrency=1)
    last = len(list(world.accounts)) - 2
    at.server.sandbox.after(last, place, lambda _: at.server.sandbox.switch(latency_s={place: 60}))
    late = at.sync(expect=4, settings={"run_timeout_s": 8})
    accounts = late.resources["accounts"]
    assert "run_timeout_s" in (accounts.reason or "")
    assert (accounts.verdict, accounts.rejected) == ("failed", 0)
    at.server.sandbox.switch(latency_s={})
    at.sync()
    assert at.differences() == []


def test_tags_that_cannot_be_read_cost_no_activity(warehouse):
    """A 404 of the tags' endpoint is no deletion: the tags stay as they were, with a notice."""
    world = worlds.small()
    at = warehouse(world)
    at.sync()
    left = [r.id for r in world.activities if r.body["state"] == "PENDING"][:3]
    for activity in left:
        world.set_activity_state(activity, "CANCELLED")
    world.clock.move(timedelta(minutes=10))
    at.server.sandbox.switch(forbidden=("GET /activities/{id}/tags",))
    outcome = at.sync(expect=5)
    assert outcome.resources["activities"].deleted == 0
    assert outcome.resources["activities"].reason.count("tags were left as they were") == 1
    assert at.differences(detailed=set(left)) == []


@pytest.mark.parametrize(
    ("place", "ignored", "failed"),
    [
        ("GET /contacts", "created_on", "contacts"),
        ("GET /activities", "created_on", "activities"),
        ("GET /activities", "completed_on", "activities"),
        ("GET /activities", "states", "activities"),
    ],
)
def test_a_filter_that_is_ignored_is_seen_before_anything_is_loaded(
    warehouse, place, ignored, failed
):
    """The endpoint is named, the exit code is 5, the other resources are loaded; a full scan
    of that resource then ends with 0."""
    world = worlds.small()
    at = warehouse(world)
    if ignored != "created_on":
        at.sync()  # these filters are not needed before
    fresh = world.create_contact()
    world.create_activity(fresh)
    world.clock.move(timedelta(minutes=10))
    at.server.sandbox.switch(ignored_filters={place: (ignored,)})
    outcome = at.sync(expect=5)
    result = outcome.resources[failed]
    assert result.rows == 0
    assert place in result.reason
    assert ignored in result.reason
    assert [n for n, r in outcome.resources.items() if r.error] == [failed]
    assert at.differences(kinds=tuple(k for k in LIVES if k not in (failed, "accounts"))) == []
    outcome = at.sync(settings={"full_scan": [failed]})
    assert f"{failed} are listed whole in each run, as full_scan asks" in outcome.notes
    assert at.differences() == []


def test_so_many_deletions_are_held_back_until_somebody_accepts_them(warehouse):
    """In no table is anything marked; each run says so again; `accept_deletions` marks all."""
    world = worlds.small(contacts=60, activities=90)
    at = warehouse(world)
    at.sync()
    gone = [r.id for r in world.contacts][:25]
    settled = [r.id for r in world.activities if r.body["state"] != "PENDING"][:21]
    for contact in gone:
        world.delete("contacts", contact)
    for activity in settled:
        world.delete("activities", activity)
    world.clock.move(timedelta(minutes=10))
    outcome = at.sync(reconcile=True, expect=5)
    assert at.value("select count(*) from crmcom.contacts where _deleted_at is not null") == 0
    assert at.value("select count(*) from crmcom.accounts where _deleted_at is not null") == 0
    assert at.value("select count(*) from crmcom.activities where _deleted_at is not null") == 0
    assert "25 of 60 contacts are gone" in outcome.resources["contacts"].reason
    told = {r["resource"]: r["reason"] for r in status(at.database, "crmcom")["held_back"]}
    assert told.keys() == set(LIVES)
    assert told["contacts"] in outcome.resources["contacts"].reason
    at.sync(expect=5)
    outcome = at.sync(accept_deletions=True)
    assert at.differences() == []
    assert outcome.resources["contacts"].deleted == 25
    assert status(at.database, "crmcom")["held_back"] == []
    at.sync()


def test_deletions_are_measured_by_their_table(warehouse):
    """Not by what was asked for, which is little more than what is gone."""
    world = worlds.small(contacts=10, activities=700)
    at = warehouse(world)
    at.sync()
    pending = [r.id for r in world.activities if r.body["state"] == "PENDING"]
    gone = pending[:25]
    assert len(gone) == 25 > 0.05 * len(pending)
    for record_id in gone:
        world.delete("activities", record_id)
    assert at.sync().resources["activities"].deleted == 25
    assert at.differences() == []


def test_what_is_open_or_rejected_is_shown_to_people(warehouse):
    world = worlds.small()
    world.set_raw("contacts", next(iter(world.contacts)).id, '{"first_name": "without an id"}')
    at = warehouse(world, REFERENCE.but(repeated_page=("GET /activities",)), page_size=10)
    at.sync(expect=5)
    found = status(at.database, "crmcom")
    shown = "\n".join(overview(found, at.database))
    assert {r["resource"] for r in found["open"]} == {"activities"}
    for row in (*found["open"], *found["rejects"]):
        assert row["reason"] in shown
    assert "no id" in shown


def test_a_server_that_fails_one_request_in_five_is_loaded_all_the_same(warehouse):
    world = worlds.small()
    at = warehouse(world)
    faults = Faults(rate=0.2, seed=4, retry_after_s=None)
    at.server.sandbox.set_faults(faults)
    outcome = at.sync(patience=None)
    assert sum(at.server.sandbox.counters.faults.values()) > 10
    assert sum(r.retries for r in outcome.resources.values()) > 10
    assert at.differences() == []
    world.set_activity_state(next(iter(world.activities)).id, "CANCELLED")
    world.delete("contacts", next(iter(world.contacts)).id)
    world.clock.move(timedelta(minutes=10))
    at.sync(patience=None, reconcile=True)
    with at.open() as con:
        read = {
            i for (i,) in con.execute("select activity_id from crmcom.activity_states").fetchall()
        }
    assert at.differences(detailed=read) == []


def test_deletions_and_insertions_between_pages_lose_nothing(warehouse):
    world = worlds.small(contacts=40, activities=150)
    at = warehouse(world, page_size=10)
    oldest = [r.id for r in world.activities]
    people = [r.id for r in world.contacts]
    for number in range(4):
        at.server.sandbox.after(
            4 + 3 * number, "GET /activities", lambda w, n=number: w.delete("activities", oldest[n])
        )
        at.server.sandbox.after(
            2 + 2 * number, "GET /contacts", lambda w, n=number: w.delete("contacts", people[n])
        )
        at.server.sandbox.after(
            5 + number,
            "GET /activities",
            lambda w: w.create_activity(None, created_on=1_700_000_000),
        )
    at.sync()
    world.clock.move(timedelta(minutes=10))
    at.sync(reconcile=True)
    assert at.differences() == []


def test_a_wrong_key_ends_the_run_at_once(warehouse):
    from crmcom.errors import LoginRefused  # noqa: PLC0415

    at = warehouse(World())
    with pytest.raises(LoginRefused) as caught:
        at.sync(settings={"api_key": "not-the-key"})
    assert caught.value.exit_code == 3
    assert not at.database.exists()
    assert sum(at.server.sandbox.counters.requests.values()) <= 3


def test_another_server_is_refused_and_nothing_is_changed(warehouse):
    """Whichever resources are asked for: those of one tenant may be loaded one by one."""
    from crmcom.errors import SettingsError  # noqa: PLC0415

    at = warehouse(worlds.small(), name="here")
    other = warehouse(worlds.small(seed=9), name="there")
    at.sync(resources=("contacts",))
    before = at.database.read_bytes()
    for resources in (("contacts", "accounts", "activities"), ("activities",)):
        with pytest.raises(SettingsError, match="this dataset holds the data of") as caught:
            at.sync(settings={"base_url": other.server.base_url}, resources=resources)
        assert caught.value.exit_code == 2
        assert at.database.read_bytes() == before


def test_an_address_at_which_nothing_was_read_is_not_remembered_as_the_tenant(warehouse):
    """A first run with a misspelt one fails; corrected, the next one goes on in the same file."""
    at = warehouse(worlds.small())
    nowhere = "http://127.0.0.1:1/v2"
    failed = at.sync(expect=4, settings={"base_url": nowhere})
    assert failed.resources["accounts"].verdict == "unproven"
    assert "contacts could not be listed" in failed.resources["accounts"].reason
    at.sync()
    assert at.differences() == []
