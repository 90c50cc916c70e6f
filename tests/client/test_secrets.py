"""No secret leaves the process but in a request's headers and a login's body."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import logging
import pickle
import traceback
from urllib.parse import quote

import httpx
import pytest

from crmcom.client import Client
from crmcom.errors import CrmcomError
from crmcom.retrying import Patience
from crmcom.settings import Settings

TOKEN = "eyJ-token/with+odd=chars"
SECRETS = {
    "password": 'pass"word\\with/odd+chars',
    "api_key": "public-key-98765",
    "secret_key": "secret-key-54321",
}
WHO = {"username": "robot@example.com", **SECRETS}


def holds_a_secret(text):
    for secret in (*SECRETS.values(), TOKEN):
        forms = (
            secret,
            quote(secret, safe=""),
            json.dumps(secret)[1:-1],
            repr(secret)[1:-1],
            base64.b64encode(secret.encode()).decode().rstrip("="),
        )
        if any(form in text for form in forms):
            return secret
    return None


@pytest.fixture
def everything_logged():
    """All that any logger says, at DEBUG."""
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    root = logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield out
    root.setLevel(before)
    root.removeHandler(handler)


def locals_of_ours(error):
    """Every local variable of the source's own frames in a traceback."""
    frames = traceback.TracebackException.from_exception(error, capture_locals=True).stack
    ours = [frame for frame in frames if "sources/crmcom" in frame.filename]
    assert ours
    return "".join(str(frame.locals) for frame in ours)


def an_api(tools, trouble):
    def answer(asked):
        if "authenticate" in asked.path:
            return tools.Say(200, {"access_token": TOKEN})
        return trouble

    return answer


TROUBLES = {
    "echo 401": {"status": 401, "body": {"message": " ".join(SECRETS.values()) + TOKEN}},
    "echo 400": {"status": 400, "body": {"message": TOKEN, "error": SECRETS["secret_key"]}},
    "echo 500": {"status": 500, "body": {"message": f"api_key {SECRETS['secret_key']}"}},
    "echo html": {"status": 502, "body": TOKEN.encode() + b"<html>" + SECRETS["password"].encode()},
    "redirect": {"status": 302, "body": b"", "headers": {"Location": "https://x.example/"}},
    "reset": {"how": "reset"},
    "drop": {"how": "drop"},
    "silent": {"how": "silent"},
}


@pytest.mark.parametrize("trouble", TROUBLES.values(), ids=TROUBLES.keys())
@pytest.mark.parametrize("kind", ["asyncio", "aiohttp", "httpx"])
async def test_no_failure_shows_a_secret(tools, everything_logged, trouble, kind):
    """Not in logs at DEBUG, not in an error's text, pickle or arguments, and not in a traceback
    with the local variables of every frame; even where the server repeats what it was sent."""
    transport = httpx.AsyncHTTPTransport() if kind == "httpx" else None
    async with (
        tools.Server(an_api(tools, tools.Say(**trouble))) as server,
        tools.client(
            server,
            **WHO,
            transport=transport or kind,
            patience=Patience(tries=3),
            request_timeout_s=0.1,
        ) as client,
    ):
        with pytest.raises(CrmcomError) as caught:
            await client.get(tools.account())
    error = caught.value
    seen = [
        locals_of_ours(error),
        "".join(traceback.format_exception(error)),
        str(error),
        repr(error.args),
        repr(vars(error)),
        everything_logged.getvalue(),
        repr(client),
        repr(vars(client)),
    ]
    assert [holds_a_secret(text) for text in seen] == [None] * len(seen)
    assert not isinstance(error.__cause__, httpx.HTTPError)
    assert error.__context__ is None or isinstance(error.__context__, CrmcomError)


async def test_a_login_s_refusal_shows_no_secret(tools, everything_logged):
    """Nor does the login, whose body holds the password."""
    said = tools.Say(401, {"message": f"{WHO['username']}: {SECRETS['password']} is wrong"})
    async with tools.Server([said]) as server, tools.client(server, **WHO) as client:
        with pytest.raises(CrmcomError) as caught:
            await client.get(tools.account())
    assert "***" in str(caught.value)
    assert holds_a_secret(locals_of_ours(caught.value) + everything_logged.getvalue()) is None


async def test_a_cancelled_request_shows_no_secret(tools):
    """Ctrl-C in the middle of a request leaves a traceback too."""
    async with (
        tools.Server(an_api(tools, tools.Say(how="silent"))) as server,
        tools.client(server, **WHO) as client,
    ):
        task = asyncio.create_task(client.get(tools.account()))
        await server.until_asked(2)
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
    assert holds_a_secret(locals_of_ours(caught.value)) is None


def test_settings_show_no_secret():
    """Printed, pickled, copied into a dict: never."""
    settings = Settings(base_url="https://x.example", **WHO)
    texts = [
        repr(settings),
        str(settings),
        f"{settings.password} {settings.credentials}",
        repr(settings.credentials),
        pickle.dumps(settings).decode("latin-1"),
    ]
    assert [holds_a_secret(text) for text in texts] == [None] * len(texts)


def test_scrub_removes_every_form():
    """As it is, quoted for a URL, escaped for JSON or Python, in base64."""
    settings = Settings(base_url="https://x.example", **WHO)
    for secret in SECRETS.values():
        text = " ".join(
            (
                secret,
                quote(secret, safe=""),
                json.dumps({"x": secret}),
                repr(secret),
                base64.b64encode(secret.encode()).decode(),
            )
        )
        assert holds_a_secret(text)
        assert holds_a_secret(settings.scrub(text)) is None
    assert settings.scrub("nothing of it") == "nothing of it"


def test_a_client_is_printed_without_its_credentials():
    """Its base URL says which one it is."""
    assert repr(Client(Settings(base_url="https://x.example/v2", **WHO))) == (
        "Client('https://x.example/v2')"
    )
