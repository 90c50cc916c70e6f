"""Failures on purpose over real HTTP, and the switches that refuse."""

import json
import time
from email.utils import parsedate_to_datetime

import httpx
import pytest

from crmcom_sandbox import ALL_KINDS, QUICK_KINDS, Faults, RateLimit, serve


@pytest.fixture(scope="module")
def server(small):
    with serve(small) as server:
        yield server


@pytest.fixture
def client(server):
    """A client of a server without faults, with its switches as at first."""
    behaviour = server.sandbox.behaviour
    with httpx.Client(
        base_url=server.base_url, headers={"api_key": server.api_key}, timeout=5
    ) as client:
        yield client
    server.sandbox.behaviour = behaviour
    server.sandbox.set_faults(Faults())


def outcome(client, path="/contacts", **params):
    try:
        reply = client.get(path, params=params)
    except httpx.HTTPError as error:
        return type(error).__name__
    try:
        reply.json()
    except json.JSONDecodeError:
        return f"{reply.status_code} unreadable"
    return str(reply.status_code)


def fail(server, *kinds, **options):
    server.sandbox.set_faults(Faults(rate=1.0, kinds=kinds, **options))


@pytest.mark.parametrize("kind", ["425", "429", "500", "502", "503", "504"])
def test_a_status_comes_with_the_error_shape_of_the_api(server, client, kind):
    fail(server, kind)
    reply = client.get("/contacts")
    assert reply.status_code == int(kind)
    assert reply.json() == {
        "status": int(kind),
        "message": None,
        "error": None,
        "parameters": None,
    }
    assert reply.headers.get("retry-after") == ("1" if kind in {"429", "503"} else None)


@pytest.mark.parametrize("kind", ["html_502", "html_200"])
def test_a_gateway_answers_html(server, client, kind):
    fail(server, kind)
    reply = client.get("/contacts")
    assert reply.status_code == int(kind[-3:])
    assert reply.headers["content-type"].startswith("text/html")


def test_a_truncated_body_looks_whole_to_http(server, client):
    fail(server, "truncated")
    reply = client.get("/contacts")
    assert reply.status_code == 200
    assert len(reply.content) == int(reply.headers["content-length"])
    with pytest.raises(json.JSONDecodeError):
        reply.json()


def test_a_reset_breaks_the_body(server, client):
    fail(server, "reset")
    assert outcome(client) in {"ReadError", "RemoteProtocolError"}


def test_a_hang_gives_no_answer(server, client):
    fail(server, "hang")
    with pytest.raises(httpx.ReadTimeout):
        client.get("/contacts", timeout=0.2)
    fail(server, "hang", hang_s=0.1)
    assert outcome(client) in {"ReadError", "RemoteProtocolError"}


def test_faults_are_the_same_for_the_same_seed(server, client):
    """Whatever order the requests arrive in."""
    urls = [{"page": page} for page in range(1, 9)]

    def run(order, seed):
        server.sandbox.set_faults(Faults(rate=0.5, seed=seed, kinds=QUICK_KINDS))
        return {params["page"]: [outcome(client, **params) for _ in range(4)] for params in order}

    first = run(urls, 1)
    assert run(urls[::-1], 1) == first
    assert run(urls, 2) != first
    assert {"200"} < {result for results in first.values() for result in results}


def test_faults_are_bounded_for_each_url(server, client):
    fail(server, "500", max_in_row=2)
    assert [outcome(client) for _ in range(6)] == ["500", "500", "200"] * 2
    fail(server, "500", max_in_row=None)
    assert [outcome(client) for _ in range(5)] == ["500"] * 5


def test_faults_may_be_limited_to_places(server, client):
    fail(server, "500", places=("GET /accounts/{id}",))
    account_id = next(iter(server.world.accounts)).id
    assert outcome(client) == "200"
    assert outcome(client, f"/accounts/{account_id}") == "500"


def test_a_fault_kind_is_counted(server, client):
    server.sandbox.reset_counters()
    fail(server, "500", max_in_row=1)
    outcome(client), outcome(client)
    assert server.sandbox.counters.faults == {"500": 1}
    assert server.sandbox.counters.statuses == {500: 1, 200: 1}
    assert len(ALL_KINDS) == len(set(ALL_KINDS))


def test_one_endpoint_or_one_record_can_be_refused(server, client):
    first, second = [account.id for account in server.world.accounts][:2]
    server.sandbox.switch(forbidden=["GET /activities"], broken=[f"GET /accounts/{first}"])
    assert outcome(client, "/activities/") == "403"
    assert outcome(client, "/contacts") == "200"
    assert outcome(client, f"/accounts/{first}") == "500"
    assert outcome(client, f"/accounts/{second}") == "200"


@pytest.mark.parametrize("form", ["seconds", "date", "none"])
def test_a_rate_limit_says_when_to_come_back(server, client, form):
    server.sandbox.switch(rate_limit=RateLimit(requests=3, per_s=60, retry_after=form))
    replies = [client.get("/contacts") for _ in range(4)]
    assert [reply.status_code for reply in replies] == [200, 200, 200, 429]
    told = replies[-1].headers.get("retry-after")
    if form == "none":
        assert told is None
        return
    if form == "date":
        date = parsedate_to_datetime(replies[-1].headers["date"])
        told = (parsedate_to_datetime(told) - date).total_seconds()
    assert 50 <= float(told) <= 60


def test_a_rate_limit_lets_as_many_through_in_any_span(api_of, small):
    """One request each eighth of a second, of which five in any two seconds are let through."""
    sandbox = api_of(small).sandbox
    sandbox.switch(rate_limit=RateLimit(requests=5, per_s=2))
    admitted = []
    for eighth in range(48):
        sandbox.monotonic = lambda now=eighth / 8: now
        if sandbox.seconds_over_limit() is None:
            admitted.append(eighth)
    assert admitted == [0, 1, 2, 3, 4, 16, 17, 18, 19, 20, 32, 33, 34, 35, 36]


def test_latency_belongs_to_a_place(server, client):
    server.sandbox.switch(latency_s={"GET /contacts": 0.2})
    started = time.monotonic()
    outcome(client, "/activities")
    assert time.monotonic() - started < 0.15
    outcome(client, "/contacts")
    assert time.monotonic() - started >= 0.2
