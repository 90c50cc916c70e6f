"""Generated worlds, business days, mutators, and the shape of what is served."""

import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from crmcom_sandbox import LIVE, Clock, World
from crmcom_sandbox.records import encode


def test_one_seed_gives_one_world():
    """Ids, values and days to come included."""
    worlds = [World.generate(seed=5, contacts=50, activities=200) for _ in range(2)]
    for world in worlds:
        world.pass_business_day()
    first, second = (encode(world.truth()) for world in worlds)
    assert first == second
    assert first != encode(World.generate(seed=6, contacts=50, activities=200).truth())


def test_a_generated_world_holds_what_trips_readers(small):
    truth = World.generate(seed=1, contacts=1500, activities=3000).truth()
    contacts, accounts, activities = (
        truth[kind] for kind in ("contacts", "accounts", "activities")
    )
    assert (len(contacts), len(activities)) == (1500, 3000)
    assert {c["type"] for c in contacts} == {"PERSON", "COMPANY"}
    assert {a["currency_code"] for a in accounts} == {"EUR", "USD", "KWD", "JPY"}
    assert {a["state"] for a in accounts} == {"ACTIVE", "SUSPENDED", "TERMINATED"}
    assert {None, 0} < {a["credit_limit"] for a in accounts}
    assert any(a["balance"] < 0 for a in accounts)
    for account in accounts:
        digits = {"EUR": 2, "USD": 2, "KWD": 3, "JPY": 0}[account["currency_code"]]
        assert account["balance"].as_tuple().exponent == -digits
        assert 0 <= account["overdue_amount"] <= max(account["balance"], 0)
    assert any("phone" not in c for c in contacts)
    assert any(c.get("phone", 1) is None for c in contacts)
    fields = [f for c in contacts for f in c["custom_fields"] or []]
    assert {"", None, "0001-12345 ", "5232130.0"} < {f["value"] for f in fields}
    assert any(not f["key"].isascii() for f in fields)
    assert any(
        max(Counter(f["key"] for f in c["custom_fields"]).values(), default=0) > 1
        for c in contacts
        if c["custom_fields"]
    )
    histories = [[step["state"] for step in a["states"]] for a in activities]
    assert ["PENDING", "COMPLETED", "PENDING", "COMPLETED"] in histories
    dates = Counter(a["created_on"] for a in activities)
    assert max(dates.values()) >= 20, "a bulk import within one second"
    assert max(dates) < truth["now"]
    assert max(dates) - min(dates) > 3 * 365 * 86_400
    assert any(
        (a["key_dates"]["scheduled_on"] or {}).get("to_date") == 11_653_396_172 for a in activities
    )
    assert all(a["state"] == a["states"][-1]["state"] for a in activities)
    assert all(step["date"] <= truth["now"] for a in activities for step in a["states"])


def test_a_month_of_business_days_keeps_the_books_sound():
    world = World.generate(seed=2, contacts=300, activities=1500)
    before = world.truth()
    for _ in range(20):
        world.pass_business_day()
        assert world.clock.now().weekday() < 5
    after = world.truth()
    assert world.clock.now() == datetime(2026, 2, 9, 9, 0, tzinfo=UTC)
    assert len(after["contacts"]) > len(before["contacts"])
    assert after["deleted"]["activities"]
    for account in after["accounts"]:
        assert 0 <= account["overdue_amount"] <= max(account["balance"], 0)
    for activity in after["activities"]:
        assert activity["state"] == activity["states"][-1]["state"]
        dates = [step["date"] for step in activity["states"]]
        assert dates == sorted(dates)
        assert activity["updated_on"] >= dates[-1]

    def states(truth):
        return {a["id"]: a["state"] for a in truth["activities"]}

    old, new = states(before), states(after)
    moves = Counter((old[i], new[i]) for i in old.keys() & new.keys() if old[i] != new[i])
    assert {("PENDING", "COMPLETED"), ("PENDING", "CANCELLED"), ("COMPLETED", "PENDING")} <= set(
        moves
    )


def test_an_empty_world_lives_through_a_day():
    World.generate(contacts=0, activities=0).pass_business_day()
    World().clock.now()


def test_a_clock_stands_runs_and_is_moved():
    clock = Clock(datetime(2026, 1, 1, tzinfo=UTC))
    assert clock.now() == clock.now() == datetime(2026, 1, 1, tzinfo=UTC)
    clock.run()
    assert clock.now() > datetime(2026, 1, 1, tzinfo=UTC)
    clock.move(timedelta(days=1))
    clock.freeze()
    assert clock.now().date() == datetime(2026, 1, 2, tzinfo=UTC).date()
    clock.move_to(datetime(2027, 1, 1, tzinfo=UTC))
    assert clock.now() == datetime(2027, 1, 1, tzinfo=UTC)
    with pytest.raises(ValueError, match="aware"):
        Clock(datetime(2026, 1, 1))  # noqa: DTZ001 - that is the point


def test_every_reply_shows_the_world_s_clock(api_of, examples):
    api = api_of(examples)
    examples.clock.freeze(datetime(2030, 5, 6, 7, 8, 9, tzinfo=UTC))
    assert api("GET", "/contacts").headers["date"] == "Mon, 06 May 2030 07:08:09 GMT"
    api.sandbox.switch(clock_offset_s=-9)
    assert api("GET", "/nothing").headers["date"] == "Mon, 06 May 2030 07:08:00 GMT"
    api.sandbox.switch(date_header=False)
    assert "date" not in api("GET", "/contacts").headers


def test_an_edit_is_seen_at_once_and_moves_the_record_to_the_front(api_of, examples):
    api = api_of(examples)
    first = next(iter(examples.contacts)).id
    second = examples.create_contact(type="COMPANY", company_name="Acme", code="C9")
    assert api.ids("/contacts", sort="UPDATED_DATE") == [second, first]
    examples.clock.move(timedelta(seconds=5))
    examples.edit("contacts", first, first_name="Jane", unheard_of={"deep": [1]})
    assert api.ids("/contacts", sort="UPDATED_DATE") == [first, second]
    shown = api.get(f"/contacts/{first}")
    assert (shown["first_name"], shown["unheard_of"]) == ("Jane", {"deep": [1]})
    examples.drop_fields("contacts", first, "unheard_of", "last_name")
    assert {"unheard_of", "last_name"}.isdisjoint(api.get(f"/contacts/{first}"))


def test_a_silent_edit_shows_in_the_record_alone(api_of, examples):
    api = api_of(examples)
    first = next(iter(examples.contacts)).id
    second = examples.create_contact(type="COMPANY", company_name="Acme", code="C9")
    examples.clock.move(timedelta(seconds=5))
    examples.edit("contacts", first, silently=True, first_name="Jane")
    assert api.ids("/contacts", sort="UPDATED_DATE") == [second, first]
    assert api.get(f"/contacts/{first}")["first_name"] == "Jane"


def test_a_renamed_contact_is_renamed_in_its_activities(api_of, examples):
    contact_id = next(iter(examples.contacts)).id
    activity_id = examples.create_activity(contact_id)
    api = api_of(examples)
    assert api.get(f"/activities/{activity_id}")["contact"]["name"] == "John Doe"
    examples.edit("contacts", contact_id, last_name="Smith", code="C124")
    contact = api.get("/activities")["content"][0]["contact"]
    assert contact == {"id": contact_id, "name": "John Smith", "code": "C124"}
    assert api("GET", "/contacts/C124").status_code == 200
    assert api("GET", "/contacts/C123").status_code == 404


def test_a_deleted_contact_takes_its_accounts_along(api_of, examples):
    contact_id = next(iter(examples.contacts)).id
    account_id, activity_id = (
        examples.create_account(contact_id),
        examples.create_activity(contact_id),
    )
    examples.delete("contacts", contact_id)
    api = api_of(examples)
    for path in (f"/contacts/{contact_id}", "/contacts/C123", f"/accounts/{account_id}"):
        assert api("GET", path).status_code == 404
    assert api.ids("/activities") == [activity_id]
    assert set(examples.truth()["deleted"]["accounts"]) == {account_id}
    examples.create_contact(id=contact_id, code="C123")
    assert contact_id not in examples.truth()["deleted"]["contacts"], "it came back"


def test_a_raw_record_is_served_as_it_is(api_of, examples):
    contact_id = next(iter(examples.contacts)).id
    examples.set_raw("contacts", contact_id, '{"id": 5, broken')
    reply = api_of(examples)("GET", "/contacts")
    assert b'[{"id": 5, broken]' in reply.content
    assert examples.truth()["contacts"][0]["raw"] == '{"id": 5, broken'
    examples.set_raw("contacts", contact_id, None)
    assert api_of(examples).ids("/contacts") == [contact_id]


def test_completed_on_belongs_to_the_present_state(examples):
    activity_id = examples.create_activity(None, created_on=100)
    examples.set_activity_state(activity_id, "COMPLETED", at=200)
    activity = examples.activities[activity_id]
    assert activity.completed_on == 200
    examples.set_activity_state(activity_id, "PENDING", at=300)
    assert activity.completed_on is None
    examples.set_activity_state(activity_id, "COMPLETED", at=400)
    assert activity.completed_on == 400


def test_money_given_as_text_stays_exact(examples):
    contact_id = next(iter(examples.contacts)).id
    account_id = examples.create_account(contact_id)
    examples.set_balance(account_id, "0.1", Decimal("0.100"))
    body = examples.accounts[account_id].body
    assert [str(body[name]) for name in ("balance", "overdue_amount")] == ["0.1", "0.100"]


@pytest.mark.parametrize("count", [0, 1, 2])
@pytest.mark.parametrize(
    ("switches", "shapes"),
    [
        ({}, [[], {"id": "t0"}, [{"id": "t0"}, {"id": "t1"}]]),
        ({"empty_tags": "null"}, [None, {"id": "t0"}, [{"id": "t0"}, {"id": "t1"}]]),
        ({"empty_tags": "absent"}, ["absent", {"id": "t0"}, [{"id": "t0"}, {"id": "t1"}]]),
        ({"single_tag": "list"}, [[], [{"id": "t0"}], [{"id": "t0"}, {"id": "t1"}]]),
    ],
)
def test_the_shape_of_tags(api_of, examples, switches, shapes, count):
    examples.create_activity(None, tags=[{"id": f"t{n}"} for n in range(count)])
    api = api_of(examples)
    api.sandbox.switch(**switches)
    (shown,) = api.get("/activities", include_tags="true")["content"]
    assert shown.get("tags", "absent") == shapes[count]


def test_dialects_differ_inside_records(api_of, examples):
    contact_id = examples.create_contact(email="a@b.example", created_on=77)
    activity_id = examples.create_activity(contact_id, created_on=88, state="COMPLETED")
    reference = api_of(examples)
    live = api_of(examples, behaviour=LIVE.but(contact_dates="key_dates", newest_state_first=True))
    assert reference.get(f"/contacts/{contact_id}")["email"] == "a@b.example"
    shown = live.get(f"/contacts/{contact_id}")
    assert shown["email_address"] == "a@b.example"
    assert shown["key_dates"] == {"created_on": 77}
    assert "email" not in shown
    path = f"/activities/{activity_id}"
    assert [s["state"] for s in reference.get(path)["states"]] == ["PENDING", "COMPLETED"]
    assert [s["state"] for s in live.get(path)["states"]] == ["COMPLETED", "PENDING"]
    assert json.dumps(live.get(f"{path}/tags")) == '{"content": null}'
