"""Keys, tokens and logins: what is sent, what is renewed, and what is never asked twice."""

from __future__ import annotations

import asyncio
import base64
import json
from datetime import UTC, datetime

import pytest

from crmcom.client import Learned
from crmcom.errors import LoginRefused, Unavailable

NOON_S = int(datetime(2024, 1, 2, 12, tzinfo=UTC).timestamp())
WHO = {
    "username": "robot@example.com",
    "password": "hunter2-hunter2",
    "api_key": "public-key-1234",
    "secret_key": "secret-key-5678",
}


def jwt(number, exp=None, sub="user-1"):
    claims = {"sub": sub, "n": number} | ({"exp": exp} if exp else {})
    part = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"e30.{part}.sig{number}"


class Api:
    """Gives out tokens, and accepts the ones that it has not expired."""

    def __init__(self, tools, *, life_s=3600, in_token=True, scheme=""):
        self.say, self.life_s, self.in_token = tools.Say, life_s, in_token
        self.scheme = scheme
        self.good, self.logins, self.signed_out = set(), 0, []
        self.date_s = NOON_S

    def __call__(self, asked):
        date = datetime.fromtimestamp(self.date_s, UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")
        answer = self.answer(asked)
        answer.headers = {"Date": date}
        return answer

    def answer(self, asked):
        if asked.path == "/v2/users/authenticate":
            return self.log_in(asked)
        if asked.headers.get("authorization") not in {self.scheme + t for t in self.good}:
            return self.say(401, b"")
        assert asked.headers["api_key"] == WHO["secret_key"]
        if asked.path.endswith("/sign_out"):
            self.signed_out.append(asked.path)
            return self.say(204, b"")
        return self.say()

    def log_in(self, asked):
        assert asked.method == "POST"
        assert asked.headers["api_key"] == WHO["api_key"]
        assert "authorization" not in asked.headers
        given = json.loads(asked.body)
        assert given == {
            "provider": "EMAIL",
            "username": WHO["username"],
            "password": WHO["password"],
        }
        self.logins += 1
        end = self.date_s + self.life_s
        token = jwt(self.logins, end if self.in_token else None)
        self.good.add(token)
        body = {"access_token": token, "lockout_date": None, "password_expired": False}
        return self.say(200, body | ({} if self.in_token else {"expiration_date": end}))


async def test_a_login_is_made_once_and_ended(tools):
    """Many requests at the start cause one login; at the end the session is signed out."""
    api = Api(tools)
    async with tools.Server(api) as server, tools.client(server, **WHO) as client:
        await asyncio.gather(*(client.get(tools.account()) for _ in range(50)))
    assert api.logins == 1
    assert api.signed_out == ["/v2/users/user-1/sign_out"]
    assert client.stats.asked == {"POST /users/authenticate": 1, "GET /accounts/{id}": 50}


async def test_a_token_that_expires_in_mid_run_is_renewed_once(tools):
    """However many requests get a bare 401 at the same time, they cause one login, and each
    is repeated."""
    api = Api(tools)
    async with tools.Server(api) as server, tools.client(server, **WHO) as client:
        await asyncio.gather(*(client.get(tools.account()) for _ in range(200)))
        api.good.clear()
        await asyncio.gather(*(client.get(tools.account()) for _ in range(200)))
        assert api.logins == 2
        assert 1 <= client.stats.causes["expired token"] <= 64
        assert set(client.stats.causes) == {"expired token"}


@pytest.mark.parametrize("in_token", [True, False])
async def test_a_token_is_renewed_before_it_expires(tools, in_token):
    """A minute before its end on the server's clock, told by the JWT or by expiration_date."""
    api = Api(tools, in_token=in_token)
    async with tools.Server(api) as server, tools.client(server, **WHO) as client:
        await client.get(tools.account())
        for after_s, logins in ((3500, 1), (3541, 1), (3541, 2)):
            # The Date of one answer decides about the request after it.
            api.date_s = NOON_S + after_s
            await client.get(tools.account())
            assert api.logins == logins
    assert client.stats.causes == {}


async def test_tokens_that_are_all_refused_after_a_while_end_it_soon(tools):
    """However many wait: each of them would log in anew, and the API locks who does."""
    api = Api(tools)
    async with tools.Server(api) as server, tools.client(server, **WHO) as client:
        await client.get(tools.account())
        api.scheme = "no longer "
        asking = [client.get(tools.account(str(n))) for n in range(60)]
        found = await asyncio.gather(*asking, return_exceptions=True)
    assert {type(f) for f in found} == {LoginRefused}
    assert api.logins <= 3


async def test_a_fresh_token_that_is_refused_ends_it(tools):
    """In both forms, without another login: the error names secret_key, and nobody asks again."""
    api = Api(tools)
    api.good = type("Nothing", (set,), {"add": lambda *_: None})()
    async with tools.Server(api) as server, tools.client(server, **WHO) as client:
        for _ in range(3):
            with pytest.raises(LoginRefused, match="SECRET_KEY"):
                await client.get(tools.account())
    assert api.logins == 1
    assert len(server.asked) == 3


@pytest.mark.parametrize("status", [400, 401, 403])
async def test_a_refused_login_is_never_repeated(tools, status):
    """The API locks accounts: one request, whoever waits and whoever comes later."""
    said = tools.Say(status, {"status": status, "message": "Wrong username or password."})
    async with tools.Server([said]) as server, tools.client(server, **WHO) as client:
        got = await asyncio.gather(
            *(client.get(tools.account()) for _ in range(50)), return_exceptions=True
        )
        with pytest.raises(LoginRefused, match="Wrong username"):
            await client.get(tools.account())
    assert {type(x) for x in got} == {LoginRefused}
    assert "sources.crmcom.password" in str(got[0])
    assert len(server.asked) == 1


@pytest.mark.parametrize("status", [200, 401])
async def test_a_locked_account_is_reported_plainly(tools, status):
    """With the time until when, where the API gives it."""
    body = {"access_token": None, "lockout_date": NOON_S + 900}
    async with (
        tools.Server([tools.Say(status, body)]) as server,
        tools.client(server, **WHO) as client,
    ):
        with pytest.raises(LoginRefused, match=r"locked until 2024-01-02 12:15 UTC"):
            await client.get(tools.account())
    assert len(server.asked) == 1


async def test_an_expired_password_is_reported_plainly(tools):
    """It is no wrong password, and needs another remedy."""
    body = {"access_token": None, "password_expired": True}
    async with (
        tools.Server([tools.Say(200, body)]) as server,
        tools.client(server, **WHO) as client,
    ):
        with pytest.raises(LoginRefused, match="password has expired"):
            await client.get(tools.account())


async def test_a_login_that_cannot_be_reached_is_tried_again(tools):
    """A gateway's 503 is no refusal; and when it stays, one request pays for all that wait."""
    api = Api(tools)
    trouble = [503, 502, 429]

    def answer(asked):
        if trouble and "authenticate" in asked.path:
            return tools.Say(trouble.pop(0), {})
        return api(asked)

    async with tools.Server(answer) as server, tools.client(server, **WHO) as client:
        await client.get(tools.account())
        assert client.stats.causes == {"503": 1, "502": 1, "rate limit": 1}
    async with tools.Server([503]) as server, tools.client(server, **WHO) as client:
        got = await asyncio.gather(
            *(client.get(tools.account()) for _ in range(20)), return_exceptions=True
        )
    assert {type(x) for x in got} == {Unavailable}
    assert len(server.asked) == 10


@pytest.mark.parametrize(
    ("given", "sent", "named"),
    [
        ({"api_key": "kkkk-1"}, [{"api_key": "kkkk-1"}], "SOURCES__CRMCOM__API_KEY"),
        (
            {"access_token": "tttt-2"},
            [{"authorization": "tttt-2"}, {"authorization": "Bearer tttt-2"}],
            "SOURCES__CRMCOM__ACCESS_TOKEN",
        ),
        (
            {"access_token": "Bearer tttt-2", "api_key": "kkkk-1"},
            [
                {"authorization": "tttt-2", "api_key": "kkkk-1"},
                {"authorization": "Bearer tttt-2", "api_key": "kkkk-1"},
            ],
            "SOURCES__CRMCOM__ACCESS_TOKEN",
        ),
    ],
)
async def test_what_is_refused_is_shown_once_in_each_of_its_forms(tools, given, sent, named):
    """A key has one, a token two. However many ask at once: the error names the setting, and
    nobody asks again."""

    def answer(asked):
        return tools.Say(401, {"message": f"Invalid: {asked.headers}"})

    async with tools.Server(answer) as server, tools.client(server, **given) as client:
        got = await asyncio.gather(
            *(client.get(tools.account()) for _ in range(50)), return_exceptions=True
        )
    assert {type(x) for x in got} == {LoginRefused}
    assert named in str(got[49])
    assert "Invalid: " in str(got[49])
    assert "kkkk-1" not in str(got[49])
    assert "tttt-2" not in str(got[49])
    kinds = ("api_key", "authorization")
    assert [{k: a.headers[k] for k in kinds if k in a.headers} for a in server.asked] == sent


async def test_a_server_that_insists_on_bearer_is_found_out_once(tools):
    """By the first of many requests, for all clients of a run: for renewed tokens, and for the
    end of a session."""
    api, learned = Api(tools, scheme="Bearer "), Learned()
    async with tools.Server(api) as server:
        for _ in range(2):
            async with tools.client(server, learned=learned, **WHO) as client:
                await asyncio.gather(*(client.get(tools.account()) for _ in range(50)))
                api.good.clear()
                await client.get(tools.account())
    shown = [a.headers["authorization"] for a in server.asked if "authorization" in a.headers]
    assert len([x for x in shown if not x.startswith("Bearer ")]) == 1
    assert api.logins == 4
    assert len(api.signed_out) == 2


@pytest.mark.parametrize("written", ["tttt-2", "Bearer tttt-2"])
@pytest.mark.parametrize("taken", ["tttt-2", "Bearer tttt-2"])
async def test_a_token_is_taken_in_either_form_however_it_is_written(tools, written, taken):
    def answer(asked):
        return tools.Say(200 if asked.headers["authorization"] == taken else 401)

    async with (
        tools.Server(answer) as server,
        tools.client(server, access_token=written) as client,
    ):
        for _ in range(3):
            await client.get(tools.account())
    assert len(server.asked) == 3 + (taken != "tttt-2")


async def test_a_key_that_is_withdrawn_in_mid_run_stops_the_run(tools):
    """401 for a key is final: those in the queue do not ask."""
    async with tools.Server([200, 401]) as server, tools.client(server) as client:
        await client.get(tools.account())
        got = await asyncio.gather(
            *(client.get(tools.account()) for _ in range(100)), return_exceptions=True
        )
    assert {type(x) for x in got} == {LoginRefused}
    assert len(server.asked) <= 1 + 8


async def test_a_sign_out_that_fails_fails_nothing(tools):
    """It is a courtesy."""
    api = Api(tools)

    def answer(asked):
        return tools.Say(how="drop") if "sign_out" in asked.path else api(asked)

    async with tools.Server(answer) as server, tools.client(server, **WHO) as client:
        await client.get(tools.account())
