"""Pages of a quiet world put together are the sorted list; what replies say about pages."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crmcom_sandbox import LIVE, World

LISTS = ["/contacts", "/activities"]


def expected(world, path, sort="CREATED_DATE", *, descending=True):
    keys = {
        "CREATED_DATE": lambda r: (r.created_on, r.seq),
        "UPDATED_DATE": lambda r: (r.updated_on, r.seq),
        "NAME": lambda r: (r.name, r.seq),
        "SCHEDULED_DATE": lambda r: (r.scheduled_on, r.seq),
    }
    records = world.collection(path.strip("/"))
    return [r.id for r in sorted(records, key=keys[sort], reverse=descending)]


@pytest.mark.parametrize("behaviour", ["reference", "live"])
@pytest.mark.parametrize("path", LISTS)
@pytest.mark.parametrize("order", ["ASC", "DESC"])
@pytest.mark.parametrize("sort", ["CREATED_DATE", "UPDATED_DATE", "NAME", "SCHEDULED_DATE"])
def test_pages_make_up_the_sorted_list(api_of, small, *, behaviour, path, sort, order):
    api = api_of(small, behaviour=behaviour)
    wanted = expected(small, path, sort, descending=order == "DESC")
    assert api.pages(path, sort=sort, order=order, size=47) == wanted


@given(
    size=st.integers(1, 700),
    page=st.integers(1, 30),
    behaviour=st.sampled_from(["reference", "live"]),
)
@settings(deadline=None, max_examples=60)
def test_any_page_is_a_slice_of_the_list(api_of, small, size, page, behaviour):
    api = api_of(small, behaviour=behaviour)
    step = min(size, 100) if behaviour == "live" else size
    wanted = expected(small, "/activities")[(page - 1) * step : page * step]
    assert api.ids("/activities", page=page, size=size) == wanted


@pytest.mark.parametrize("path", LISTS)
def test_defaults(api_of, small, path):
    api = api_of(small)
    reply = api.get(path)
    assert reply["paging"] == {"page": 1, "size": 10, "total": len(expected(small, path))}
    assert [r["id"] for r in reply["content"]] == expected(small, path)[:10]


def test_reference_paging_tells_the_size_asked_and_the_total(api_of, small):
    api = api_of(small)
    assert api.get("/activities", page=2, size=400)["paging"] == {
        "page": 2,
        "size": 400,
        "total": 600,
    }
    past = api.get("/activities", page=3, size=400)
    assert past == {"content": [], "paging": {"page": 3, "size": 400, "total": 600}}


def test_live_paging_tells_the_rows_and_whether_there_is_more(api_of, small):
    api = api_of(small, behaviour="live")
    first = api.get("/activities", size=5000)
    assert len(first["content"]) == 100, "silently capped"
    assert first["paging"] == {"page": 1, "size": 100, "total": None, "has_more": True}
    last = api.get("/activities", page=6, size=100, include_total="true")
    assert last["paging"] == {"page": 6, "size": 100, "total": 600, "has_more": False}
    past = api.get("/activities", page=7, size=100)
    assert past == {
        "content": None,
        "paging": {"page": 7, "size": 0, "total": None, "has_more": False},
    }


def test_a_live_total_stops_at_the_cap(api_of, small):
    api = api_of(small, behaviour=LIVE.but(total_cap=250))
    assert api.get("/activities", include_total="true")["paging"]["total"] == 250
    few = api.get("/contacts", include_total="true")["paging"]["total"]
    assert few == 120


@pytest.mark.parametrize(
    ("switches", "paging"),
    [
        ({"total": "null"}, {"page": 1, "size": 10, "total": None}),
        ({"total": "absent"}, {"page": 1, "size": 10}),
        ({"total_error": -3}, {"page": 1, "size": 10, "total": 597}),
        ({"has_more": True}, {"page": 1, "size": 10, "total": 600, "has_more": True}),
    ],
)
def test_what_is_said_of_the_total_can_be_switched(api_of, small, switches, paging):
    api = api_of(small)
    api.sandbox.switch(**switches)
    assert api.get("/activities", include_total="true")["paging"] == paging


def test_pages_beyond_the_depth_are_refused(api_of, small):
    api = api_of(small)
    api.sandbox.switch(max_depth=200)
    assert api("GET", "/activities", params={"page": 2, "size": 100}).status_code == 200
    assert api("GET", "/activities", params={"page": 3, "size": 100}).status_code == 400


def test_a_list_can_repeat_its_first_page(api_of, small):
    api = api_of(small, behaviour=LIVE.but(repeated_page=["GET /activities"]))
    first, ninth = (api.get("/activities", page=page) for page in (1, 9))
    assert first["content"] == ninth["content"]
    assert ninth["paging"]["has_more"]
    assert api.ids("/contacts") != api.ids("/contacts", page=2)


def test_a_list_can_have_no_end(api_of, small):
    api = api_of(small, behaviour=LIVE.but(endless=["*"]))
    assert api.ids("/activities", page=7, size=100) == api.ids("/activities", page=1, size=100)
    assert api.get("/activities", page=600)["paging"]["has_more"]
    assert api.ids("/contacts", page=4, size=50) == api.ids("/contacts", page=1, size=50)


def test_records_of_one_second_change_places_when_told(api_of):
    """Each page is full and right by its dates, yet the pages together miss some records."""
    world = World()
    for n in range(300):
        world.create_contact(code=f"C{n}", created_on=1_700_000_000 + n // 100)
    api = api_of(world)
    api.sandbox.switch(shuffle_ties=True)
    found = api.pages("/contacts", size=30, order="ASC")
    assert len(found) == 300
    dates = [world.contacts[contact_id].created_on for contact_id in found]
    assert dates == sorted(dates)
    assert len(set(found)) < 300
    by_name = api.pages("/contacts", size=30, sort="NAME")
    assert len(set(by_name)) == 300, "a sort by name is stable"


@pytest.mark.parametrize("path", [*LISTS, "/contacts/{id}/accounts"])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("page", "0"),
        ("page", "-1"),
        ("page", "one"),
        ("page", ""),
        ("page", "1_0"),
        ("page", "9" * 30),
        ("size", "0"),
        ("size", "many"),
        ("sort", "COLOUR"),
        ("order", "SIDEWAYS"),
        ("include_tags", "perhaps"),
    ],
)
def test_a_wrong_parameter_is_400(api_of, small, path, name, value):
    path = path.replace("{id}", next(iter(small.contacts)).id)
    reply = api_of(small)("GET", path, params={name: value})
    assert reply.status_code == 400
    told = reply.json()
    assert told["status"] == 400
    assert told["error"] == "CRM.EXCEPTIONS.INVALIDPARAMETEREXCEPTION"
    assert told["parameters"] == [name, value]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("created_on[gte]", "2024-01-01"),
        ("created_on[lt]", ""),
        ("created_on", "1618395497"),
        ("completed_on[gt]", "soon"),
        ("states", "OPEN"),
        ("custom_fields", "key=value"),
    ],
)
def test_a_wrong_filter_is_400(api_of, small, name, value):
    reply = api_of(small)("GET", "/activities", params={name: value})
    assert reply.status_code == 400
    assert reply.json()["parameters"][0] == name
