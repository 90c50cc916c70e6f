"""Settings are checked once, and a wrong one says what to do."""

from __future__ import annotations

import pickle
from datetime import UTC, date, datetime, timedelta, timezone

import pytest

from crmcom.errors import SettingsError
from crmcom.settings import NAMES, ApiKey, Login, Settings, Token

OK = {"base_url": "https://app.crm.com/backoffice/v2", "api_key": "kkkkk"}


def test_the_names_are_fixed():
    """Files and environments of users hold them."""
    assert NAMES == (
        "base_url",
        "api_key",
        "access_token",
        "username",
        "password",
        "secret_key",
        "page_size",
        "max_concurrency",
        "max_requests_per_second",
        "transport",
        "request_timeout_s",
        "run_timeout_s",
        "start_date",
        "lag_s",
        "lookback_s",
        "reconcile_every_days",
        "account_refresh",
        "activity_details",
        "full_scan",
        "privacy",
        "privacy_key",
    )


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("https://app.crm.com/backoffice/v2/", "https://app.crm.com/backoffice/v2"),
        (" HTTPS://App.CRM.com/backoffice/v2// ", "https://app.crm.com/backoffice/v2"),
        ("https://app.crm.com:443/backoffice/v2", "https://app.crm.com/backoffice/v2"),
        ("http://LOCALHOST:80/V2", "http://localhost/V2"),
        ("http://127.0.0.1:8080/v2", "http://127.0.0.1:8080/v2"),
        ("http://127.9.9.9/", "http://127.9.9.9"),
        ("http://[::1]:1/v2", "http://[::1]:1/v2"),
        ("http://localhost/v2", "http://localhost/v2"),
    ],
)
def test_base_urls_that_are_taken(given, kept):
    """https anywhere, http on this machine. Slashes at the end, a host's case and the scheme's
    own port do not matter: they make no other tenant."""
    assert Settings(base_url=given, api_key="kkkkk").base_url == kept


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("", "is missing"),
        (None, "is missing"),
        ("app.crm.com", "not an https:// URL"),
        ("ftp://app.crm.com", "not an https:// URL"),
        ("https://", "not an https:// URL"),
        ("https://[app", "not a URL"),
        ("https://x:y", "not a URL"),
        ("http://app.crm.com/v2", "unencrypted"),
        ("http://localhost.evil.example/v2", "unencrypted"),
        ("http://10.0.0.1/v2", "unencrypted"),
        ("https://robot:hunter2@app.crm.com/v2", "a user or a password"),
        ("https://app.crm.com/v2?api_key=hunter2", "a query"),
        ("https://app.crm.com/v2#hunter2", "a query or a fragment"),
        ("https://app.crm.com/v 2", "a blank"),
    ],
)
def test_base_urls_that_are_refused(given, said):
    """With the setting's name, in both ways to write it, and never what may be a secret."""
    with pytest.raises(SettingsError, match=said) as caught:
        Settings(base_url=given, api_key="kkkkk")
    text = str(caught.value)
    assert "sources.crmcom.base_url (SOURCES__CRMCOM__BASE_URL)" in text
    assert "hunter2" not in text
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ({"api_key": "kkkkk"}, ApiKey),
        ({"access_token": "ttttt"}, Token),
        ({"access_token": "ttttt", "api_key": "kkkkk"}, Token),
        ({"username": "u", "password": "p", "api_key": "a", "secret_key": "s"}, Login),
    ],
)
def test_the_three_ways_to_say_who_we_are(given, kind):
    """One of them, whole."""
    assert isinstance(Settings(base_url=OK["base_url"], **given).credentials, kind)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, r"API_KEY\) is missing"),
        ({"api_key": ""}, r"API_KEY\) is missing"),
        ({"username": "u", "password": "p", "api_key": "a"}, r"SECRET_KEY\) is missing"),
        ({"username": "u", "api_key": "a", "secret_key": "s"}, r"PASSWORD\) is missing"),
        ({"password": "p"}, r"USERNAME\).*API_KEY\).*SECRET_KEY\) are missing"),
        ({"secret_key": "s"}, "belongs in api_key"),
        ({"access_token": "t", "username": "u"}, r"USERNAME\) does not go with access_token"),
        ({"access_token": "t", "secret_key": "s"}, r"SECRET_KEY\) does not go"),
        ({"api_key": 5}, r"API_KEY\) is a int"),
        ({"api_key": "k\nX-Evil: 1"}, "no header can carry"),
        ({"api_key": "clé"}, "no header can carry"),
    ],
)
def test_half_credentials_are_refused(given, said):
    """The message says which is missing or too much."""
    with pytest.raises(SettingsError, match=said):
        Settings(base_url=OK["base_url"], **given)


def test_a_key_from_a_file_may_end_in_a_line_break():
    """Files that hold one secret do; a password is taken as it is."""
    settings = Settings(
        base_url=OK["base_url"], username="u", password=" p ", api_key="a\n", secret_key=" s"
    )
    who = settings.credentials
    assert isinstance(who, Login)
    assert (who.api_key.reveal(), who.secret_key.reveal(), who.password.reveal()) == (
        "a",
        "s",
        " p ",
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("page_size", 0),
        ("page_size", 101),
        ("page_size", True),
        ("page_size", "100"),
        ("page_size", 1.5),
        ("max_concurrency", 0),
        ("max_concurrency", -1),
        ("max_requests_per_second", 0),
        ("max_requests_per_second", -1),
        ("max_requests_per_second", True),
        ("request_timeout_s", 0),
        ("request_timeout_s", None),
        ("request_timeout_s", float("nan")),
        ("run_timeout_s", float("inf")),
        ("lag_s", -1),
        ("lookback_s", False),
        ("reconcile_every_days", -1),
        ("account_refresh", "some"),
        ("account_refresh", -1),
        ("account_refresh", True),
        ("account_refresh", None),
        ("activity_details", "sometimes"),
        ("transport", "pigeon"),
        ("full_scan", ["leads"]),
        ("full_scan", 5),
        ("privacy", {"email": "burn"}),
        ("privacy", {"": "hash"}),
        ("privacy", 5),
        ("start_date", "yesterday"),
        ("start_date", 2024),
    ],
)
def test_wrong_values_are_refused(name, value):
    """Unknown words, negative numbers, booleans for numbers; the setting is named."""
    with pytest.raises(SettingsError, match=rf"sources\.crmcom\.{name}.*SOURCES__CRMCOM__"):
        Settings(**OK, **{name: value})


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (None, None),
        ("2024-01-31", datetime(2024, 1, 31, tzinfo=UTC)),
        ("2024-01-31T10:00:00+02:00", datetime(2024, 1, 31, 8, tzinfo=UTC)),
        (date(2024, 1, 31), datetime(2024, 1, 31, tzinfo=UTC)),
        (datetime(2024, 1, 31, 1), datetime(2024, 1, 31, 1, tzinfo=UTC)),  # noqa: DTZ001
        (
            datetime(2024, 1, 31, tzinfo=timezone(timedelta(hours=-5))),
            datetime(2024, 1, 31, 5, tzinfo=UTC),
        ),
    ],
)
def test_a_start_date_is_utc(given, kept):
    """However it is written; without a zone it is UTC, never the host's time."""
    assert Settings(**OK, start_date=given).start == kept


def test_what_the_environment_writes_is_understood():
    """It knows text only, where a setting takes a word or a number, or a list."""
    settings = Settings(
        **OK, account_refresh="500", full_scan="contacts, activities", page_size=50.0
    )
    assert settings.account_budget == 500
    assert settings.full_scan == ("contacts", "activities")
    assert settings.page_size == 50
    assert Settings(**OK).account_budget is None


def test_settings_are_frozen_and_copied():
    """What is passed in can change later without changing them; a pickle works, but is empty."""
    privacy = {"email": "hash"}
    settings = Settings(**OK, privacy=privacy, privacy_key="k" * 16)
    privacy["email"] = "drop"
    assert settings.privacy == {"email": "hash"}
    with pytest.raises(AttributeError):
        settings.page_size = 5
    copy = pickle.loads(pickle.dumps(settings))
    assert copy.base_url == settings.base_url
    with pytest.raises(ValueError, match="left out"):
        copy.api_key.reveal()
