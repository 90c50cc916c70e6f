"""The client asks again where that helps, and stops where it does not."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
from datetime import UTC, datetime
from random import Random

import pytest

from crmcom.endpoints import GET_CONTACT
from crmcom.errors import (
    BadRequest,
    DeadlineExceeded,
    Forbidden,
    NotFound,
    SettingsError,
    Unavailable,
    Unreachable,
)
from crmcom.network import REFUSED
from crmcom.protocol import Request
from crmcom.retrying import Patience


@pytest.mark.parametrize("status", [425, 429, 500, 502, 503, 504])
async def test_a_passing_failure_is_asked_again(tools, status):
    """Every status that the reference calls passing, and 429, costs a repetition and no error."""
    async with tools.Server([status, status, 200]) as server, tools.client(server) as client:
        with client.counting() as count:
            reply = await client.get(tools.account())
    assert json.loads(reply.body) == {"id": "1"}
    assert (count.requests, count.retries) == (3, 2)
    assert count.causes == {("rate limit" if status == 429 else str(status)): 2}


@pytest.mark.parametrize(
    ("how", "cause"),
    [
        ("short", "connection lost"),
        ("reset", "connection lost"),
        ("drop", "connection lost"),
        ("drip", "time-out"),
        ("silent", "time-out"),
    ],
)
async def test_a_connection_that_breaks_is_asked_again(tools, how, cause):
    """Resets and truncation in the middle of a body, silence and dripping are all noticed."""
    bad = tools.Say(body={"id": "x" * 100}, how=how)
    async with (
        tools.Server([bad, 200]) as server,
        tools.client(server, request_timeout_s=0.15) as client,
    ):
        reply = await client.get(tools.account())
    assert json.loads(reply.body) == {"id": "1"}
    assert client.stats.causes == {cause: 1}


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>Sorry</html>", b'{"id": "1', b'["id"]', b"null", b'{"id": tru}'],
)
async def test_a_200_that_is_no_json_object_is_asked_again(tools, body):
    """A truncated, empty or HTML body with status 200 is never taken for an empty page."""
    async with (
        tools.Server([tools.Say(body=body), 200]) as server,
        tools.client(server) as client,
    ):
        await client.get(tools.account())
    assert client.stats.causes == {"broken body": 1}


async def test_a_404_page_of_a_gateway_is_no_deletion(tools):
    """A 404 in HTML says nothing about the record: rows are marked as deleted for a real one."""
    page = tools.Say(404, b"<html>no such route</html>")
    async with tools.Server([page, 200]) as server, tools.client(server) as client:
        await client.get(tools.account())
    assert client.stats.causes == {"404": 1}


async def test_a_404_page_that_stays_is_given_up_soon_and_for_its_record_alone(tools):
    """It rarely changes, and others of its endpoint are asked as ever."""

    def answer(asked):
        lost = asked.path.endswith("/accounts/7")
        return tools.Say(404, b"<html>no such route</html>") if lost else tools.Say()

    async with tools.Server(answer) as server, tools.client(server) as client:
        for _ in range(5):
            with pytest.raises(Unavailable, match="a 404 that is not the API's own"):
                await client.get(tools.account("7"))
        assert sum(tools.time.slept) < 5 * 4
        assert len(server.asked) == 5 * 4
        await client.get(tools.account("8"))


@pytest.mark.parametrize(
    ("status", "error"), [(404, NotFound), (400, BadRequest), (422, BadRequest), (403, Forbidden)]
)
async def test_an_answer_is_not_asked_again(tools, status, error):
    """What the API says for good is passed on with its words, after one request."""
    said = {"status": status, "message": "Because.", "error": "CODE", "parameters": None}
    async with tools.Server([tools.Say(status, said)]) as server, tools.client(server) as client:
        with pytest.raises(error, match=r"GET /accounts/\{id\}.*/accounts/7.*Because. CODE"):
            await client.get(tools.account("7"))
    assert len(server.asked) == 1


@pytest.mark.parametrize("value", ["7", "Tue, 02 Jan 2024 12:00:07 GMT"])
async def test_retry_after_is_obeyed_by_everybody(tools, value):
    """Both forms hold back the refused request and all others; a date is read on the server's
    clock, whatever the host's says."""
    tools.time.utcnow = lambda: datetime(2001, 1, 1, tzinfo=UTC)
    script = [200, tools.Say(429, {}, {"Retry-After": value}), 200]
    async with tools.Server(script) as server, tools.client(server) as client:
        await client.get(tools.account())
        started = tools.time.now
        one = asyncio.create_task(client.get(tools.account("1")))
        await server.until_asked(2)
        await asyncio.sleep(0.05)
        await client.get(tools.account("2"))
        await one
    assert tools.time.now - started >= 7
    assert len(server.asked) == 4


async def test_a_pause_that_is_too_long_is_not_waited_for(tools):
    """A server that asks for an hour gets its hour: those who ask meanwhile fail at once."""
    slow = tools.Say(429, {}, {"Retry-After": "3600"})
    async with tools.Server([200, slow]) as server, tools.client(server) as client:
        await client.get(tools.account())
        for _ in range(3):
            with pytest.raises(Unavailable):
                await client.get(tools.account())
    assert len(server.asked) == 2
    assert sum(tools.time.slept) == 0


async def test_giving_up_says_what_was_tried(tools):
    """Endpoint, tries, and what the last one ended with; the waits between grow and are bounded."""
    async with tools.Server([503]) as server, tools.client(server) as client:
        with pytest.raises(Unavailable) as caught:
            await client.get(tools.account())
    error = caught.value
    assert error.tries == len(server.asked) == Patience().tries
    assert error.last is not None
    assert error.exit_code == 4
    text = str(error)
    assert "GET /accounts/{id}" in text
    assert "10 tries" in text
    assert "503" in text
    waits = tools.time.slept
    assert len(waits) == 9
    assert 60 < sum(waits) < 150
    assert all(w <= 30 for w in waits)


async def test_no_server_is_unavailable(tools):
    """A refused connection is tried again, then reported; it is no crash."""
    async with tools.Server([200]) as server:
        url = server.url
    async with tools.client(url, patience=Patience(tries=3)) as client:
        with pytest.raises(Unavailable) as caught:
            await client.get(tools.account())
    assert isinstance(caught.value.last, Unreachable)
    assert client.stats.causes == {REFUSED: 2}


async def test_an_endpoint_that_always_fails_costs_minutes_once(tools, caplog):
    """After three requests in a row gave up, the next fail at once; other endpoints go on."""
    caplog.set_level(logging.WARNING)

    def answer(asked):
        return tools.Say() if "contacts" in asked.path else tools.Say(500, {})

    async with tools.Server(answer) as server, tools.client(server) as client:
        for _ in range(3):
            with pytest.raises(Unavailable):
                await client.get(tools.account())
        asked, slept = len(server.asked), len(tools.time.slept)
        for number in range(1000):
            with pytest.raises(Unavailable, match="keeps failing"):
                await client.get(tools.account(str(number)))
        assert (len(server.asked), len(tools.time.slept)) == (asked, slept)
        await client.get(Request(GET_CONTACT, "1"))
    assert [r.message for r in caplog.records if "given up for now" in r.message]


async def test_an_endpoint_that_was_given_up_is_tried_now_and_then(tools):
    """One request a minute goes through; when it is answered, all do again."""
    broken = True

    def answer(_):
        return tools.Say(500, {}) if broken else tools.Say()

    async with tools.Server(answer) as server, tools.client(server) as client:
        for _ in range(3):
            with pytest.raises(Unavailable):
                await client.get(tools.account())
        before = len(server.asked)
        tools.time.now += 61
        for _ in range(2):
            with pytest.raises(Unavailable):
                await client.get(tools.account())
        assert len(server.asked) == before + 1
        broken = False
        tools.time.now += 61
        await client.get(tools.account())
        await client.get(tools.account())


async def test_a_broken_record_among_good_ones_costs_seconds(tools):
    """Where an endpoint answers for others, a record that always fails is given up sooner."""

    def answer(asked):
        return tools.Say(500, {}) if asked.path.endswith("/bad") else tools.Say()

    async def sleep(seconds):
        tools.time.now += seconds
        await server.until_asked(len(server.asked) + 40)

    tools.time.sleep = sleep
    async with tools.Server(answer) as server, tools.client(server) as client:
        bad = asyncio.create_task(client.get(tools.account("bad")))
        while not bad.done():
            await client.get(tools.account("good"))
        with pytest.raises(Unavailable) as caught:
            await bad
        await client.get(tools.account("good"))
    assert 5 <= caught.value.tries <= 8


async def test_the_run_s_deadline_is_hard(tools):
    """No wait, no try and no queue outlives `run_timeout_s`; the error names the setting."""
    async with tools.Server([503]) as server, tools.client(server, run_timeout_s=5) as client:
        with pytest.raises(DeadlineExceeded, match="SOURCES__CRMCOM__RUN_TIMEOUT_S"):
            await client.get(tools.account())
        assert tools.time.now <= 1005
        tools.time.now = 1005.0
        asked = len(server.asked)
        with pytest.raises(DeadlineExceeded):
            await client.get(tools.account())
        assert len(server.asked) == asked


async def test_the_deadline_does_not_hide_the_cause(tools):
    """Whoever has waited that long is told what for."""
    page = tools.Say(200, b"<html>Sign in")
    async with tools.Server([page]) as server, tools.client(server, run_timeout_s=5) as client:
        with pytest.raises(DeadlineExceeded, match=r"RUN_TIMEOUT_S.*a web page") as caught:
            await client.get(tools.account())
    assert caught.value.evidence.status == 200


async def test_the_deadline_ends_a_try_and_a_queue(tools):
    """A server that hangs is left when the run's time is over, by those in the queue as well."""
    silent = tools.Say(how="silent")
    async with (
        tools.Server([200, silent]) as server,
        tools.client(server, run_timeout_s=0.2, max_concurrency=1) as client,
    ):
        await client.get(tools.account())
        loop = asyncio.get_running_loop()
        begun = loop.time()
        tools.time.clock = lambda: 1000 + loop.time() - begun
        client._clock = client._gate._clock = tools.time.clock
        got = await asyncio.gather(
            *(client.get(tools.account()) for _ in range(3)), return_exceptions=True
        )
        assert loop.time() - begun < 1
    assert [type(x) for x in got] == [DeadlineExceeded] * 3


async def test_a_server_that_fails_a_third_of_the_time_costs_no_record(tools):
    """Of 600 requests to a server where 30 % of the replies fail at random, none is lost."""
    rng = Random(7)
    kinds = [500, 502, 503, 504, 425]

    def answer(_):
        return tools.Say(rng.choice(kinds), {}) if rng.random() < 0.3 else tools.Say()

    async with tools.Server(answer) as server, tools.client(server) as client:
        numbers = iter(range(600))

        async def work():
            for number in numbers:
                await client.get(tools.account(str(number)))

        await asyncio.gather(*(work() for _ in range(32)))
    assert client.stats.requests == len(server.asked)
    assert client.stats.requests - client.stats.retries == 600


async def test_counts_belong_to_who_opened_them(tools):
    """Two parts of a run that ask at the same time are counted apart, spawned tasks included."""

    async def part(client, number):
        with client.counting() as count:
            await asyncio.gather(*(client.get(tools.account()) for _ in range(number)))
        return count

    async with tools.Server([200]) as server, tools.client(server) as client:
        three, five = await asyncio.gather(part(client, 3), part(client, 5))
    assert (three.requests, five.requests, client.stats.requests) == (3, 5, 8)
    assert three.asked == {"GET /accounts/{id}": 3}
    assert client.stats.body_bytes == 8 * len(b'{"id": "1"}')


async def test_connections_are_used_again(tools):
    """A hundred requests, one after another, use one connection; with ten at once, at most ten
    more than that."""
    async with (
        tools.Server([200]) as server,
        tools.client(server, max_concurrency=10) as client,
    ):
        for _ in range(100):
            await client.get(tools.account())
        assert server.connections == 1
        await asyncio.gather(*(client.get(tools.account()) for _ in range(200)))
        assert server.connections <= 10
        assert server.peak <= 10


async def test_compressed_replies_are_read(tools):
    """gzip is asked for, and read."""
    body = gzip.compress(b'{"id": "1"}')
    say = tools.Say(body=body, headers={"Content-Encoding": "gzip"})
    broken = tools.Say(body=b"nonsense", headers={"Content-Encoding": "gzip"})
    async with tools.Server([broken, say]) as server, tools.client(server) as client:
        assert (await client.get(tools.account())).body == b'{"id": "1"}'
    assert "gzip" in server.asked[0].headers["accept-encoding"]
    assert client.stats.causes == {"broken body": 1}


async def test_a_body_without_end_is_cut_off(tools, monkeypatch):
    """A reply larger than any page is refused before it fills the memory."""
    monkeypatch.setattr("crmcom.wire.MAX_BODY", 1000)
    endless = tools.Say(body={"id": "x" * 5000})
    async with tools.Server([endless, 200]) as server, tools.client(server) as client:
        await client.get(tools.account())
    assert client.stats.causes == {"broken body": 1}


async def test_requests_say_who_and_what(tools):
    """The agent, what is accepted, the id escaped, and filters as the reference writes them."""
    async with tools.Server([200]) as server, tools.client(server) as client:
        await client.get(Request(GET_CONTACT, "a/b?c", (("created_on[gte]", "5"),)))
    asked = server.asked[0]
    assert asked.path == "/v2/contacts/a%2Fb%3Fc"
    assert "created_on%5Bgte%5D=5" in asked.query
    assert asked.headers["user-agent"].startswith("crmcom-warehouse")
    assert asked.headers["accept"] == "application/json"
    assert "content-type" not in asked.headers
    assert "cookie" not in asked.headers


async def test_a_redirect_on_the_same_server_is_followed(tools):
    """A slash that the server wants is not worth an error; the key goes along."""

    def answer(asked):
        if asked.path.endswith("/"):
            return tools.Say()
        return tools.Say(308, b"", {"Location": asked.path + "/"})

    async with tools.Server(answer) as server, tools.client(server) as client:
        await client.get(tools.account())
    assert [a.headers["api_key"] for a in server.asked] == ["the-secret-key-0123456789"] * 2


async def test_a_redirect_elsewhere_is_an_error_of_base_url(tools):
    """Our key is not shown to another server, even on the same host."""
    async with (
        tools.Server([200]) as elsewhere,
        tools.Server([tools.Say(302, b"", {"Location": elsewhere.url})]) as server,
        tools.client(server) as client,
    ):
        with pytest.raises(SettingsError, match=r"SOURCES__CRMCOM__BASE_URL.*another address"):
            await client.get(tools.account())
    assert elsewhere.asked == []
    assert len(server.asked) == 1


async def test_a_redirect_in_a_circle_ends(tools):
    """A few hops, then an error that names base_url."""
    say = tools.Say(302, b"", {"Location": "/v2/again"})
    async with tools.Server([say]) as server, tools.client(server) as client:
        with pytest.raises(SettingsError, match="circle"):
            await client.get(tools.account())
    assert len(server.asked) <= 4


async def test_the_server_s_clock_is_the_latest_date_seen(tools):
    """No extrapolation; before any answer, and where the header is missing, the host's clock."""
    later = tools.Say(headers={"Date": "Tue, 02 Jan 2024 12:00:09 GMT"})
    async with (
        tools.Server([tools.Say(headers={"Date": "never"}), later, 200]) as server,
        tools.client(server) as client,
    ):
        tools.time.now += 3
        assert client.server_now() == tools.time.utcnow()
        await client.get(tools.account())
        assert client.server_now() == tools.time.utcnow()
        await client.get(tools.account())
        await client.get(tools.account())
        tools.time.now += 100
        assert client.server_now().isoformat() == "2024-01-02T12:00:09+00:00"
    assert client.learned.notices == {}


async def test_clocks_that_differ_are_reported_once(tools):
    """More than five minutes between host and server is worth one line."""
    tools.time.now += 1000
    async with tools.Server([200]) as server, tools.client(server) as client:
        for _ in range(3):
            await client.get(tools.account())
    assert len(client.learned.notices) == 1
    assert "1000 s apart" in client.learned.notices["clock"]
