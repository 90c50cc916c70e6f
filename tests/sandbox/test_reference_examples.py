"""Each read route of the API reference, against the reference's own example."""

import json
from decimal import Decimal

import pytest

from crmcom_sandbox import World

CREATED_ON = 1592809457

ACCOUNT = """{
    "id": "4dc0809f-ed91-4b68-b912-5bd6064d901e",
    "name": "AC00123456 John Smith",
    "number": "AC00123456",
    "is_primary": "true",
    "state": "ACTIVE",
    "currency_code": "EUR",
    "balance": 99.99,
    "overdue_amount": 9.99,
    "credit_limit": 99.99,
    "payment_terms": {"id": "CAD1E31269B76D7A65ACCE45B2E68DFD", "name": "Net 7"},
    "classification": {
        "id": "c8d83493-3f50-40df-adb0-762ec5f41863", "name": "Delivery Purchase"
    },
    "billing_address": {
        "id": "4dc0809f-ed91-4b68-b912-5bd6064d901e",
        "address_line_1": "2265 Oak Street",
        "address_line_2": "",
        "state_province_county": "New York",
        "town_city": "Old Forge",
        "postal_code": "13420",
        "country_code": "CYP"
    }
}"""

LISTED_ACCOUNT = """{
    "id": "4dc0809f-ed91-4b68-b912-5bd6064d901e",
    "is_primary": true,
    "name": "AC00123456 John Smith",
    "number": "AC00123456",
    "state": "ACTIVE",
    "currency_code": "EUR",
    "classification": {
        "id": "c8d83493-3f50-40df-adb0-762ec5f41863", "name": "Delivery Purchase"
    }
}"""

COMMON = """
    "id": "1cf0d458-b799-1d99-52e4-d7f5081b3c01",
    "name": "Call customer",
    "description": "We need to call the customer to arrange a demo",
    "key_dates": {
        "created_on": 1592809457,
        "scheduled_on": {"from_date": 1592809457, "to_date": 1592809457}
    },
    "type": {"id": "HGJDHGSJDHG", "name": "site visit", "color": "876FD5"},
    "contact": {
        "id": "1c060611-0667-313e-b3bf-4cb70ee81cdf", "name": "John Doe", "code": "C123"
    },
    "lead": {"id": "2760043d-c671-a428-9b35-2f27b0623fa1", "title": "ASOS"},
    "service_request": {"id": "JHGHGF7576HGFTGD564654", "number": "SRV78001"},
    "order": {"id": "2760043d-c671-a428-9b35-2f27b0623fa1", "number": "O101367"},
    "assign_to": {
        "user": {
            "id": "47ac694d-6281-b873-bf46-3fd8da334a3a",
            "name": "John Doe",
            "username": "j_doe@crm.com"
        },
        "team": {"id": "bf1370a1-73ad-0bbf-6fef-f2ce1938d4fe", "name": "Support"}
    },
    "custom_fields": [{"key": "back_office", "value": "Back Office"}],
"""

LISTED_ACTIVITY = f"""{{{COMMON}
    "state": "CANCELLED",
    "tags": {{
        "id": "609a369e-3f10-492a-8332-679ecbe56b65", "name": "Maintenance", "colour": "FR547F"
    }}
}}"""

ACTIVITY = f"""{{{COMMON}
    "address": {{
        "address_line_1": "Elia Papakyriakou",
        "address_line_2": "7 Tower Stars",
        "state_province_county": "Egkomi",
        "town_city": "Nicosia",
        "postal_code": "2015",
        "country": "CYP",
        "lat": 35.157115,
        "lon": 33.313719,
        "google_place_id": "ChIJrTLr-GyuEmsRBfy61i59si0"
    }},
    "states": [{{"state": "CANCELLED", "date": 1653400142}}]
}}"""


def exact(text: str) -> object:
    """Parsed without a float in between: 99.90 is not 99.9."""
    return json.loads(text, parse_float=str)


@pytest.fixture
def account_id(examples: World) -> str:
    contact = next(iter(examples.contacts))
    fields = json.loads(ACCOUNT, parse_float=Decimal) | {"is_primary": True}
    return examples.create_account(contact.id, **fields)


@pytest.fixture
def activity_id(examples: World) -> str:
    contact = next(iter(examples.contacts))
    fields = json.loads(ACTIVITY, parse_float=Decimal) | json.loads(LISTED_ACTIVITY)
    fields["tags"] = [fields["tags"]]
    return examples.create_activity(contact.id, created_on=CREATED_ON, **fields)


def test_get_account(api_of, examples, account_id):
    reply = api_of(examples)("GET", f"/accounts/{account_id}")
    assert reply.status_code == 200
    assert reply.headers["content-type"] == "application/json"
    assert exact(reply.text) == exact(ACCOUNT)


def test_list_contact_accounts(api_of, examples, account_id):
    contact_id = examples.accounts[account_id].contact_id
    reply = api_of(examples)("GET", f"/contacts/{contact_id}/accounts")
    assert exact(reply.text) == {
        "content": [exact(LISTED_ACCOUNT)],
        "paging": {"page": 1, "size": 10, "total": 1},
    }


@pytest.mark.parametrize("path", ["/activities", "/activities/"])
def test_list_activities(api_of, examples, activity_id, path):
    asked = {"include_tags": "true", "include_custom_fields": "true", "size": 20}
    reply = api_of(examples)("GET", path, params=asked)
    assert exact(reply.text) == {
        "content": [exact(LISTED_ACTIVITY)],
        "paging": {"page": 1, "size": 20, "total": 1},
    }


def test_tags_and_custom_fields_are_listed_only_when_asked_for(api_of, examples, activity_id):
    (listed,) = api_of(examples).get("/activities")["content"]
    assert "tags" not in listed
    assert "custom_fields" not in listed


def test_get_activity(api_of, examples, activity_id):
    reply = api_of(examples)("GET", f"/activities/{activity_id}")
    assert exact(reply.text) == exact(ACTIVITY)


def test_get_activity_tags(api_of, examples, activity_id):
    vip = {"id": "1abe9097-d46a-d2ed-3415-fd3e1439d8d4", "name": "VIP", "colour": "#0000FF"}
    examples.set_tags("activities", activity_id, [vip["id"]])
    assert api_of(examples).get(f"/activities/{activity_id}/tags") == {"content": [vip]}


def test_not_found(api_of, examples):
    reply = api_of(examples)("GET", "/contacts/789dacae-cf71-414f-9483-ca88acaa46432")
    assert reply.status_code == 404
    assert reply.json() == {
        "status": 404,
        "message": "Record not found.",
        "error": "CRM.EXCEPTIONS.NOTFOUNDEXCEPTION",
        "parameters": ["contact", "789dacae-cf71-414f-9483-ca88acaa46432"],
    }


def test_a_contact_answers_to_its_code(api_of, examples):
    api = api_of(examples)
    assert api.get("/contacts/C123") == api.get("/contacts/1c060611-0667-313e-b3bf-4cb70ee81cdf")
    assert api.get("/contacts/C123/accounts")["content"] == []


@pytest.mark.parametrize(
    "digits", ["1234567.005", "0.000", "5000", "-0.10", "79228162514264337593543950335.123"]
)
def test_money_is_written_digit_for_digit(api_of, examples, account_id, digits):
    examples.set_balance(account_id, digits)
    assert f'"balance":{digits},' in api_of(examples)("GET", f"/accounts/{account_id}").text
