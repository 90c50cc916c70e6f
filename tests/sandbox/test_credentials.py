"""Who is let in: keys, bare and Bearer tokens, expiry, lockout, sign-out."""

import base64
import json
from datetime import timedelta

import pytest

from crmcom_sandbox import API_KEY, PASSWORD, PUBLIC_KEY, USERNAME

LOGIN = {"provider": "EMAIL", "username": USERNAME, "password": PASSWORD}


@pytest.fixture
def api(api_of, examples):
    return api_of(examples, behaviour="live")


def log_in(api, **changes):
    headers = {"api_key": PUBLIC_KEY}
    return api("POST", "/users/authenticate", json=LOGIN | changes, headers=headers)


def status(api, **headers):
    return api("GET", "/contacts", headers=headers).status_code


def test_the_secret_key_alone_is_enough(api):
    assert status(api, api_key=API_KEY) == 200


@pytest.mark.parametrize(
    "headers",
    [{}, {"api_key": "wrong"}, {"api_key": PUBLIC_KEY}, {"authorization": "Bearer none"}],
)
def test_without_a_right_credential_there_is_a_401(api, headers):
    reply = api("GET", "/contacts", headers=headers)
    assert reply.status_code == 401
    assert set(reply.json()) == {"status", "message", "error", "parameters"}


def test_a_login_gives_a_token_that_opens(api, examples):
    reply = log_in(api).json()
    token = reply["access_token"]
    for headers in (
        {"authorization": token},
        {"authorization": f"Bearer {token}"},
        {"authorization": token, "api_key": API_KEY},
    ):
        assert status(api, **headers) == 200
    assert status(api, authorization=token, api_key="wrong") == 401
    assert reply["expiration_date"] == examples.clock.epoch() + 3600
    assert reply["mode"] == "live"
    assert {"refresh_token", "lockout_date", "password_expired"} < set(reply)
    payload = token.split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    assert claims["exp"] == reply["expiration_date"]
    assert claims["sub"]


@pytest.mark.parametrize(("expired_body", "content"), [("empty", b""), ("null", b"null")])
def test_an_expired_token_gets_a_bare_401(api, examples, expired_body, content):
    api.sandbox.switch(token_lifetime_s=60, expired_body=expired_body)
    token = log_in(api).json()["access_token"]
    examples.clock.move(timedelta(seconds=60))
    reply = api("GET", "/contacts", headers={"authorization": token})
    assert (reply.status_code, reply.content) == (401, content)


def test_signing_out_ends_the_session(api):
    token = log_in(api).json()["access_token"]
    user_id = api.sandbox.sessions.user_id
    headers = {"authorization": token}
    assert api("POST", "/users/nobody/sign_out", headers=headers).status_code == 404
    assert api("POST", f"/users/{user_id}/sign_out", headers=headers).status_code == 204
    assert status(api, authorization=token) == 401


def test_wrong_passwords_lock_the_account_for_a_while(api, examples):
    for _ in range(5):
        assert log_in(api, password="wrong").status_code == 401
    locked = log_in(api)
    assert locked.status_code == 401
    assert locked.json()["parameters"][0] == "lockout_date"
    examples.clock.move(timedelta(minutes=16))
    assert log_in(api).status_code == 200


def test_a_login_needs_a_key_and_a_whole_body(api):
    assert api("POST", "/users/authenticate", json=LOGIN, headers={}).status_code == 401
    headers = {"api_key": API_KEY}
    assert api("POST", "/users/authenticate", json={}, headers=headers).status_code == 400
    assert api("POST", "/users/authenticate", json=LOGIN, headers=headers).status_code == 200


def test_the_mode_belongs_to_the_key(api):
    api.sandbox.switch(mode="test")
    assert log_in(api).json()["mode"] == "test"
