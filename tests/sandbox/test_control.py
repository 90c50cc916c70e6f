"""The control routes, and what a server counts."""

import pytest

from crmcom_sandbox import PASSWORD, PUBLIC_KEY, USERNAME, World


@pytest.fixture
def api(api_of, examples):
    return api_of(examples)


def control(api, method, path, body=None):
    reply = api(method, f"/_control{path}", json=body, headers={})
    assert reply.status_code == 200, reply.text
    return reply.json()


def test_mutations_by_name(api, examples):
    contact_id, account_id = control(
        api,
        "POST",
        "/mutate",
        [
            {"op": "create_contact", "kwargs": {"type": "COMPANY", "company_name": "Acme"}},
            {"op": "create_account", "args": ["1c060611-0667-313e-b3bf-4cb70ee81cdf"]},
        ],
    )["results"]
    assert api.get(f"/contacts/{contact_id}")["company_name"] == "Acme"
    text = f'[{{"op": "set_balance", "args": ["{account_id}", 1234567.005, 0.10]}}]'
    api("POST", "/_control/mutate", content=text)
    shown = api("GET", f"/accounts/{account_id}").text
    assert '"balance":1234567.005,"overdue_amount":0.10' in shown
    control(api, "POST", "/mutate", [{"op": "delete", "args": ["contacts", contact_id]}])
    truth = control(api, "GET", "/truth")
    assert list(truth["deleted"]["contacts"]) == [contact_id]
    assert [a["contact_id"] for a in truth["accounts"]] == ["1c060611-0667-313e-b3bf-4cb70ee81cdf"]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/mutate", [{"op": "generate"}]),
        ("POST", "/mutate", [{"op": "delete", "args": ["contacts", "nobody"]}]),
        ("POST", "/mutate", [{"op": "set_balance"}]),
        ("POST", "/mutate", {"op": "delete"}),
        ("PATCH", "/behaviour", {"unheard_of": True}),
        ("PATCH", "/behaviour", {"preset": "wild"}),
        ("PUT", "/faults", {"kinds": ["earthquake"]}),
        ("POST", "/clock", {"to": "yesterday"}),
        ("POST", "/hooks", {}),
    ],
)
def test_a_wrong_order_is_told(api, method, path, body):
    reply = api(method, f"/_control{path}", json=body)
    assert reply.status_code == 400
    assert set(reply.json()) == {"error"}


def test_the_clock_is_moved_and_days_pass(api, examples):
    at = control(api, "GET", "/clock")
    assert not at["running"]
    assert control(api, "POST", "/clock", {"by_s": 90})["epoch"] == at["epoch"] + 90
    assert control(api, "POST", "/clock", {"to": "2030-01-01T00:00:00Z"})["epoch"] == 1893456000
    assert control(api, "POST", "/clock", {"to": 1893456060})["epoch"] == 1893456060
    assert control(api, "POST", "/clock", {"running": True})["running"]
    assert not control(api, "POST", "/clock", {"running": False})["running"]


def test_business_days_pass(api_of):
    world = World.generate(contacts=20, activities=50)
    api = api_of(world)
    after = control(api, "POST", "/business_days", {"days": 5})
    assert after["now"].startswith("2026-01-19T09:00:00")


def test_switches_are_read_and_changed(api):
    before = control(api, "GET", "/behaviour")
    changed = control(api, "PATCH", "/behaviour", {"has_more": True, "broken": ["*"]})
    assert changed == before | {"has_more": True, "broken": ["*"]}
    assert api("GET", "/contacts").status_code == 500
    live = control(api, "PATCH", "/behaviour", {"preset": "live", "total_cap": 5})
    assert (live["size_cap"], live["total_cap"], live["broken"]) == (100, 5, [])
    limit = {"requests": 1, "per_s": 60.0, "retry_after": "none"}
    assert control(api, "PATCH", "/behaviour", {"rate_limit": limit})["rate_limit"] == limit
    assert [api("GET", "/contacts").status_code for _ in range(2)] == [200, 429]


def test_faults_are_set_and_taken_away(api):
    control(api, "PUT", "/faults", {"rate": 1, "kinds": ["503"], "max_in_row": None})
    assert api("GET", "/contacts").status_code == 503
    assert control(api, "GET", "/faults")["kinds"] == ["503"]
    control(api, "PUT", "/faults", {})
    assert api("GET", "/contacts").status_code == 200


def test_requests_are_counted_and_logged(api):
    api.get("/contacts", size=3)
    api.get("/activities/")
    api("GET", "/accounts/nothing")
    counted = control(api, "GET", "/counters")
    assert counted["requests"] == {
        "GET /contacts": 1,
        "GET /activities": 1,
        "GET /accounts/{id}": 1,
    }
    assert counted["statuses"] == {"200": 2, "404": 1}
    assert counted["peak_in_flight"] == 1
    logged = control(api, "GET", "/log")["requests"]
    assert logged[0] == {
        "method": "GET",
        "path": "/backoffice/v2/contacts",
        "query": "size=3",
        "status": 200,
    }
    control(api, "DELETE", "/counters")
    assert control(api, "GET", "/counters")["requests"] == {}
    assert control(api, "GET", "/log") == {"requests": []}


def test_a_hook_deletes_a_record_between_two_pages(api_of):
    """The row that moves forward is on neither page: what a reader has to prove against."""
    world = World.generate(contacts=30, activities=0)
    api = api_of(world)
    quiet = api.pages("/contacts", size=10)
    hook = {
        "place": "GET /contacts",
        "after": 1,
        "mutations": [{"op": "delete", "args": ["contacts", quiet[0]]}],
    }
    control(api, "POST", "/hooks", hook)
    assert api.pages("/contacts", size=10) == quiet[:10] + quiet[11:]
    assert api.pages("/contacts", size=10) == quiet[1:], "once only"


def test_tokens_can_be_expired(api):
    login = {"username": USERNAME, "password": PASSWORD}
    reply = api("POST", "/users/authenticate", json=login, headers={"api_key": PUBLIC_KEY})
    headers = {"authorization": reply.json()["access_token"]}
    assert api("GET", "/contacts", headers=headers).status_code == 200
    control(api, "POST", "/expire_tokens")
    assert api("GET", "/contacts", headers=headers).status_code == 401


def test_the_control_routes_want_the_right_method_and_path(api):
    assert api("GET", "/_control/mutate").status_code == 405
    assert api("GET", "/_control/nothing").status_code == 404
