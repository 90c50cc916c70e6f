"""Any combination of filters gives what the same conditions written in plain Python give."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crmcom_sandbox import World

WORLD = World.generate(seed=3, contacts=60, activities=300)
TRUTH = WORLD.truth()
DATES = [a["created_on"] for a in TRUTH["activities"]]
SECONDS = st.one_of(
    st.sampled_from(DATES), st.integers(min(DATES) - 10, max(DATES) + 10), st.just(0)
)


def ids_in(field, *path):
    found = {None: None}
    for activity in TRUTH["activities"]:
        held = activity.get(field)
        for step in path:
            held = (held or {}).get(step)
        found[held] = None
    return [key for key in found if key]


def csv_of(values):
    return st.lists(st.sampled_from(values), min_size=1, max_size=3).map(",".join)


def dates(name):
    return {f"{name}[{operator}]": SECONDS for operator in ("gt", "gte", "lt", "lte")}


FIELDS = [
    field
    for activity in TRUTH["activities"]
    for field in activity["custom_fields"] or []
    if field["value"] is not None
]
ACTIVITY_QUERIES = st.fixed_dictionaries(
    {},
    optional={
        **dates("created_on"),
        **dates("completed_on"),
        "search_value": st.sampled_from(["call", "VISIT", "εγκ", "nothing at all"]),
        "types": csv_of(ids_in("type", "id")),
        "contact_id": st.sampled_from(ids_in("contact", "id")),
        "service_request_id": st.sampled_from(ids_in("service_request", "id")),
        "lead_id": st.sampled_from(ids_in("lead", "id")),
        "order_id": st.sampled_from(ids_in("order", "id")),
        "states": csv_of(["PENDING", "COMPLETED", "CANCELLED"]),
        "tag_ids": csv_of(list(WORLD.catalogue.tags)),
        "assign_to_user_id": st.sampled_from(list(WORLD.catalogue.users)),
        "assign_to_team_id": st.sampled_from(list(WORLD.catalogue.teams)),
        "custom_fields": st.sampled_from(FIELDS).map(lambda f: f"{f['key']};{f['value']}"),
        "unheard_of": st.just("anything"),
    },
)

COMPARE = {
    "gt": lambda date, bound: date > bound,
    "gte": lambda date, bound: date >= bound,
    "lt": lambda date, bound: date < bound,
    "lte": lambda date, bound: date <= bound,
}


def held(record, *path):
    for step in path:
        record = (record or {}).get(step)
    return record


def matches(record, name, value):
    if "[" in name:
        field, _, operator = name.removesuffix("]").partition("[")
        return record[field] is not None and COMPARE[operator](record[field], value)
    match name:
        case "search_value":
            return value.lower() in record["name"].lower()
        case "types":
            return held(record, "type", "id") in value.split(",")
        case "states":
            return record["state"] in value.split(",")
        case "tag_ids":
            return any(tag["id"] in value.split(",") for tag in record["tags"])
        case "assign_to_user_id":
            return held(record, "assign_to", "user", "id") == value
        case "assign_to_team_id":
            return held(record, "assign_to", "team", "id") == value
        case "custom_fields":
            key, _, wanted = value.partition(";")
            return {"key": key, "value": wanted} in (record["custom_fields"] or [])
        case "unheard_of":
            return True
        case _:
            return held(record, name.removesuffix("_id"), "id") == value


@pytest.fixture(scope="module")
def api(api_of):
    return api_of(WORLD)


@given(
    query=ACTIVITY_QUERIES,
    sort=st.sampled_from(["CREATED_DATE", "UPDATED_DATE", "NAME", "SCHEDULED_DATE"]),
)
@settings(deadline=None)
def test_activities_match_the_naive_filter(api, query, sort):
    expected = {
        record["id"]
        for record in TRUTH["activities"]
        if all(matches(record, name, value) for name, value in query.items())
    }
    reply = api.get("/activities", size=1000, sort=sort, **query)
    found = [record["id"] for record in reply["content"]]
    assert set(found) == expected
    assert len(found) == len(expected) == reply["paging"]["total"]


@given(query=st.fixed_dictionaries({}, optional=dates("created_on")))
@settings(deadline=None, max_examples=50)
def test_contacts_match_the_naive_filter(api, query):
    expected = {
        record["id"]
        for record in TRUTH["contacts"]
        if all(matches(record, name, value) for name, value in query.items())
    }
    assert set(api.ids("/contacts", size=1000, **query)) == expected


@pytest.mark.parametrize("field", ["code", "email", "last_name", "phone"])
def test_a_contact_is_found_by_what_identifies_it(api, field):
    contact = next(
        c
        for c in TRUTH["contacts"]
        if c["type"] == "PERSON"
        and all(c.get(name) for name in ("code", "email", "last_name", "phone"))
    )
    value = contact["phone"]["number"] if field == "phone" else contact[field]
    assert contact["id"] in api.ids("/contacts", search_value=value.upper(), size=100)


def test_accounts_of_a_contact_are_filtered_by_state_and_primary(api_of, examples):
    contact_id = next(iter(examples.contacts)).id
    states = {
        examples.create_account(contact_id, state=state, is_primary=state == "ACTIVE"): state
        for state in ("ACTIVE", "SUSPENDED", "TERMINATED")
    }
    active, suspended, terminated = states
    api, path = api_of(examples), f"/contacts/{contact_id}/accounts"
    assert api.ids(path) == [terminated, suspended, active], "all by default, newest first"
    assert api.ids(path, order="ASC", state="ACTIVE,TERMINATED") == [active, terminated]
    assert api.ids(path, is_primary="true") == [active]
    assert len(api.ids(path, is_primary="false")) == 3


def test_a_filter_that_a_list_does_not_know_is_ignored(api):
    everything = api.get("/contacts")
    assert api.get("/contacts", states="PENDING", number="S119442") == everything


@pytest.mark.parametrize(("names", "left"), [(["created_on"], ["states"]), (["*"], [])])
def test_a_server_can_be_told_to_ignore_filters(api_of, names, left):
    api = api_of(WORLD)
    api.sandbox.switch(ignored_filters={"GET /activities": names})
    query = {"created_on[gte]": max(DATES) + 1, "states": "PENDING", "size": 1000}
    found = api.ids("/activities", **query)
    assert found == api.ids("/activities", size=1000, **{name: query[name] for name in left})
    assert found
    assert api.ids("/contacts", **{"created_on[gte]": max(DATES) + 1}) == [], "here only"
