"""Each write route of the API reference, with the reference's own example bodies."""

from decimal import Decimal

import pytest

USER_ID = "1edef819-0a1d-4d41-9d2a-d4bbc2ddbedf"
TEAM_ID = "a43f08ca-998b-afbc-6ed4-c9dc2d136935"
ORDER_ID = "50490788-0f2c-0a73-8ae0-1b129f8fdb50"

ACCOUNT = {
    "is_primary": True,
    "currency_code": "EUR",
    "name": "John Smith Main account",
    "classification_id": "a2c0809f-ed91-4b68-b912-5bd6064d602a",
    "billing_address_id": "e230809f-ed91-4b68-b912-5bd6064d602a",
}
ACCOUNT_CHANGE = {
    "is_primary": True,
    "classification_id": "d230809f-ed91-4b68-b912-5bd6064d602a",
    "billing_address_id": "a345fb9f-ed91-4b68-b912-5bd6064d602a",
    "credit_limit": 20.99,
    "payment_terms_id": "d230809f-ed91-4b68-b912-5bd6064d602a",
}
ACTIVITY = {
    "name": "Call customer",
    "description": "We need to call the contact (after 4pm) in order to schedule a demo",
    "type_id": "cdd8e232-ddce-87c0-44fd-27f44035a252",
    "address_id": "4d1b276d-6ae9-eca3-8c61-aedd35ebb9a4",
    "use_entity_address": "false",
    "scheduled_on": {"from_date": 1592809457, "to_date": 11653396172},
    "linked_to": [{"type": "ORDER", "id": ORDER_ID}],
    "assign_to": {"user_id": USER_ID, "team_id": TEAM_ID},
    "custom_fields": [{"key": "back_office", "value": "0001-12345"}],
}
ACTIVITY_CHANGE = {
    "name": "Approve Offers",
    "description": "Require 4 approvals for an offer",
    "state": "CANCELLED",
    "address_id": "6cbe314d-9f32-d3c7-4be6-f453e7b8e77e",
    "scheduled_on": {"from_date": 1592809457, "to_date": 11653396172},
    "linked_to": [{"type": "ORDER", "id": ORDER_ID}],
    "assign_to": {"user_id": USER_ID, "team_id": TEAM_ID},
    "custom_fields": [{"key": "back_office", "value": "0001-12345"}],
}


@pytest.fixture
def contact_id(examples) -> str:
    contact = next(iter(examples.contacts))
    examples.catalogue.addresses[contact.id] = [
        {"id": body[name], "address_line_1": "2265 Oak Street", "country": "CYP", "lat": 35}
        for body, name in (
            (ACCOUNT, "billing_address_id"),
            (ACCOUNT_CHANGE, "billing_address_id"),
            (ACTIVITY, "address_id"),
            (ACTIVITY_CHANGE, "address_id"),
        )
    ]
    return contact.id


@pytest.fixture
def api(api_of, examples):
    return api_of(examples)


def test_add_account_for_contact(api, contact_id):
    reply = api("POST", f"/contacts/{contact_id}/accounts", json=ACCOUNT)
    assert reply.status_code == 201
    assert set(reply.json()) == {"id"}
    account = api.get(f"/accounts/{reply.json()['id']}")
    assert account["name"] == "John Smith Main account"
    assert account["currency_code"] == "EUR"
    assert account["is_primary"] == "true"
    assert account["balance"] == account["overdue_amount"] == 0
    assert account["classification"]["id"] == ACCOUNT["classification_id"]
    assert account["billing_address"] == {
        "id": ACCOUNT["billing_address_id"],
        "address_line_1": "2265 Oak Street",
        "country_code": "CYP",
    }


def test_a_new_primary_account_unmarks_the_old_one(api, contact_id):
    first = api("POST", f"/contacts/{contact_id}/accounts", json=ACCOUNT).json()["id"]
    usd = {"currency_code": "USD", "is_primary": True}
    second = api("POST", f"/contacts/{contact_id}/accounts", json=usd).json()["id"]
    assert api.ids(f"/contacts/{contact_id}/accounts", is_primary="true") == [second]
    assert api.get(f"/accounts/{first}")["is_primary"] == "false"


def test_a_second_account_in_one_currency_is_refused(api, contact_id):
    api("POST", f"/contacts/{contact_id}/accounts", json=ACCOUNT)
    reply = api("POST", f"/contacts/{contact_id}/accounts", json={"currency_code": "EUR"})
    assert reply.status_code == 400
    assert reply.json()["parameters"] == ["currency_code"]


def test_update_account(api, examples, contact_id):
    account_id = examples.create_account(contact_id)
    reply = api("PUT", f"/accounts/{account_id}", json=ACCOUNT_CHANGE)
    assert (reply.status_code, reply.json()) == (200, {"id": account_id})
    body = examples.accounts[account_id].body
    assert body["credit_limit"] == Decimal("20.99")
    assert body["payment_terms"]["id"] == ACCOUNT_CHANGE["payment_terms_id"]
    assert body["billing_address"]["id"] == ACCOUNT_CHANGE["billing_address_id"]
    api("PUT", f"/accounts/{account_id}", json={"credit_limit": None})
    assert body["credit_limit"] is None
    assert body["payment_terms"] is not None, "what is not sent stays"
    assert api("PUT", f"/accounts/{account_id}", json={}).status_code == 400


@pytest.mark.parametrize("transfer", [True, False], ids=["transferred", "lost"])
def test_termination_moves_the_balance_or_loses_it(api, examples, contact_id, transfer):
    ending = examples.create_account(contact_id, balance=Decimal("10.50"))
    staying = examples.create_account(contact_id, balance=Decimal("1.25"))
    examples.set_balance(ending, "10.50", "3.00")
    body = {"state": "TERMINATED"} | ({"account_id": staying} if transfer else {})
    reply = api("POST", f"/accounts/{ending}/actions", json=body)
    assert (reply.status_code, reply.json()) == (200, {"id": ending})
    ended, stayed = examples.accounts[ending].body, examples.accounts[staying].body
    assert (ended["state"], ended["balance"], ended["overdue_amount"]) == ("TERMINATED", 0, 0)
    assert stayed["balance"] == Decimal("11.75" if transfer else "1.25")
    assert stayed["overdue_amount"] == (3 if transfer else 0)


def test_a_balance_moves_to_a_live_account_in_the_same_currency_alone(api, examples, contact_id):
    ending = examples.create_account(contact_id)
    dollars = examples.create_account(contact_id, currency_code="USD")
    gone = examples.create_account(contact_id, state="TERMINATED")
    for target, status in ((ending, 400), (dollars, 400), (gone, 400), ("nowhere", 404)):
        body = {"state": "TERMINATED", "account_id": target}
        assert api("POST", f"/accounts/{ending}/actions", json=body).status_code == status
    assert examples.accounts[ending].body["state"] == "ACTIVE"


def test_other_actions_leave_the_balance(api, examples, contact_id):
    account_id = examples.create_account(contact_id, balance=Decimal(5), state="SUSPENDED")
    body = {"state": "ACTIVE", "account_id": "2ee0809f-ed91-4b68-b912-5bd6064d602a"}
    assert api("POST", f"/accounts/{account_id}/actions", json=body).status_code == 200
    assert examples.accounts[account_id].body["state"] == "ACTIVE"
    assert examples.accounts[account_id].body["balance"] == 5


@pytest.mark.parametrize("path", ["/activities", "/activities/"])
def test_create_activity(api, examples, contact_id, path):
    reply = api("POST", path, json=ACTIVITY)
    assert reply.status_code == 201, reply.text
    activity = api.get(f"/activities/{reply.json()['id']}")
    now = examples.clock.epoch()
    assert activity["key_dates"] == {"created_on": now, "scheduled_on": ACTIVITY["scheduled_on"]}
    assert activity["contact"]["id"] == contact_id, "the order's contact"
    assert activity["order"]["id"] == ORDER_ID
    assert activity["states"] == [{"state": "PENDING", "date": now}]
    assert activity["assign_to"]["user"]["id"] == USER_ID
    assert activity["custom_fields"] == ACTIVITY["custom_fields"]
    assert activity["address"] == {
        "address_line_1": "2265 Oak Street",
        "country": "CYP",
        "lat": 35,
    }


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"name": None}, 400),
        ({"name": ""}, 400),
        ({"type_id": "unheard of"}, 404),
        ({"linked_to": []}, 400),
        ({"linked_to": [{"type": "CONTACT", "id": "nobody"}]}, 404),
        ({"linked_to": [{"type": "LEAD", "id": ORDER_ID}]}, 404),
        ({"use_entity_address": True}, 400),
        ({"use_entity_address": "perhaps"}, 400),
        ({"scheduled_on": {"to_date": 1}}, 400),
        ({"scheduled_on": {"from_date": 2, "to_date": 1}}, 400),
        ({"scheduled_on": {"from_date": "2024-01-01"}}, 400),
        ({"assign_to": {"user_id": "nobody"}}, 404),
        ({"custom_fields": {"key": "a", "value": "b"}}, 400),
    ],
)
def test_a_wrong_activity_is_refused_and_changes_nothing(api, examples, contact_id, change, status):
    reply = api("POST", "/activities", json=ACTIVITY | change)
    assert reply.status_code == status
    assert set(reply.json()) == {"status", "message", "error", "parameters"}
    assert len(examples.activities) == 0


def test_the_entity_s_address_becomes_the_activity_s(api, examples, contact_id):
    body = ACTIVITY | {"address_id": None, "use_entity_address": True}
    activity_id = api("POST", "/activities", json=body).json()["id"]
    assert api.get(f"/activities/{activity_id}")["address"]["address_line_1"] == "2265 Oak Street"


def test_update_activity(api, examples, contact_id):
    activity_id = examples.create_activity(contact_id, created_on=1592809457)
    reply = api("PUT", f"/activities/{activity_id}", json=ACTIVITY_CHANGE)
    assert (reply.status_code, reply.json()) == (200, {"id": activity_id})
    activity = api.get(f"/activities/{activity_id}")
    assert activity["name"] == "Approve Offers"
    assert [step["state"] for step in activity["states"]] == ["PENDING", "CANCELLED"]
    assert activity["key_dates"]["scheduled_on"] == ACTIVITY_CHANGE["scheduled_on"]
    assert activity["key_dates"]["created_on"] == 1592809457
    assert api.ids("/activities", states="CANCELLED") == [activity_id]


def test_an_update_leaves_what_it_does_not_name(api, examples, contact_id):
    activity_id = api("POST", "/activities", json=ACTIVITY).json()["id"]
    before = dict(examples.activities[activity_id].body)
    api("PUT", f"/activities/{activity_id}", json={"name": "Other"})
    assert examples.activities[activity_id].body == before | {"name": "Other"}
    api("PUT", f"/activities/{activity_id}", json={"state": "PENDING"})
    assert len(examples.activities[activity_id].body["states"]) == 1, "no change, no history"
    api("PUT", f"/activities/{activity_id}", json={"assign_to": None, "linked_to": None})
    assert examples.activities[activity_id].body["assign_to"] is None
    assert examples.activities[activity_id].body["order"] is None


def test_an_activity_keeps_its_contact(api, examples, contact_id):
    activity_id = examples.create_activity(contact_id)
    body = {"linked_to": [{"type": "CONTACT", "id": contact_id}]}
    assert api("PUT", f"/activities/{activity_id}", json=body).status_code == 400


def test_delete_activity(api, examples, contact_id):
    activity_id = examples.create_activity(contact_id)
    reply = api("DELETE", f"/activities/{activity_id}")
    assert (reply.status_code, reply.content) == (204, b"")
    assert api("GET", f"/activities/{activity_id}").status_code == 404
    assert api("DELETE", f"/activities/{activity_id}").status_code == 404
    assert api.get("/activities")["paging"]["total"] == 0
    assert activity_id in examples.truth()["deleted"]["activities"]


def test_update_activity_tags(api, examples, contact_id):
    activity_id = examples.create_activity(contact_id)
    body = {"tags": ["96c3cb52-c68f-6ba6-e886-ed28f2b594cb"]}
    reply = api("PUT", f"/activities/{activity_id}/tags", json=body)
    assert (reply.status_code, reply.json()) == (200, {"id": activity_id})
    tags = api.get(f"/activities/{activity_id}/tags")["content"]
    assert [tag["id"] for tag in tags] == body["tags"]
    api("PUT", f"/activities/{activity_id}/tags", json={"tags": []})
    assert api.get(f"/activities/{activity_id}/tags") == {"content": []}
    reply = api("PUT", f"/activities/{activity_id}/tags", json={"tags": ["nothing"]})
    assert reply.status_code == 404
    assert api("PUT", f"/activities/{activity_id}/tags", json={}).status_code == 400


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b'{"currency_code": "EURO"}'])
def test_a_body_that_cannot_be_read_is_400(api, contact_id, body):
    reply = api("POST", f"/contacts/{contact_id}/accounts", content=body)
    assert reply.status_code == 400
    assert reply.json()["error"] == "CRM.EXCEPTIONS.INVALIDPARAMETEREXCEPTION"
