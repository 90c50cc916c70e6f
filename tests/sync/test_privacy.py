"""Columns that are hashed or dropped before they reach the warehouse."""

from __future__ import annotations

import hmac
from datetime import timedelta

import pytest

from crmcom import Settings
from crmcom.errors import SettingsError
from crmcom.privacy import Privacy

from . import worlds

KEY = "a long text that nobody can guess"


def hashed(text):
    return hmac.digest(KEY.encode(), text.encode(), "sha256").hex()


def settings(columns, key=KEY):
    return Settings(
        base_url="https://here.example/v2", api_key="k", privacy=columns, privacy_key=key
    )


def test_a_private_column_never_reaches_the_warehouse(warehouse):
    """Neither in a first load nor when rows are carried over; equal values stay equal."""
    world = worlds.small(contacts=8, activities=12)
    private = {"email_address": "hash", "phone__number": "drop", "value": "hash", "balance": "drop"}
    at = warehouse(world, "live", privacy=private, privacy_key=KEY)
    for _ in range(2):
        at.sync()
        world.clock.move(timedelta(minutes=10))
    have = dict(at.query("select id, email_address from crmcom.contacts"))
    emails = {r.id: r.body.get("email") for r in world.contacts}
    assert have == {i: hashed(e) if e else e for i, e in emails.items()}
    assert at.value("select count(phone__number) from crmcom.contacts") == 0
    assert at.value("select count(balance) from crmcom.accounts") == 0
    assert at.value("select count(balance) from crmcom.account_observations") == 0
    values = {v for (v,) in at.query("select value from crmcom.contact_custom_fields") if v}
    assert values
    assert all(len(v) == 64 for v in values)
    assert any(emails.values())
    for path in at.database.parent.rglob("*"):
        if path.is_file():
            assert not any(e.encode() in path.read_bytes() for e in emails.values() if e), path


@pytest.mark.parametrize(
    "columns", [{"id": "hash"}, {"contact_id": "drop"}, {"balance": "hash"}, {"state": "drop"}]
)
def test_what_holds_the_tables_together_cannot_be_hidden(columns):
    with pytest.raises(SettingsError, match=next(iter(columns))):
        Privacy(settings(columns))
