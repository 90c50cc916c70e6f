"""The first load of a warehouse: all that the server has, digit for digit."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from crmcom_sandbox import LIVE

from . import truth, worlds


@pytest.mark.parametrize("behaviour", ["reference", "live"])
def test_a_first_load_holds_what_the_server_has_digit_for_digit(warehouse, behaviour):
    """Odd data included: nulls, absences, duplicate keys, far dates, fields nobody knows."""
    at = warehouse(worlds.odd(), behaviour)
    outcome = at.sync()
    assert at.differences() == []
    assert outcome.as_json()["resources"]["contacts"]["new_columns"] == [
        "phone__extension",
        "loyalty_points",
        "is_vip",
        "nickname",
        "preferences",
        "relations",
    ]


def test_accounts_are_asked_for_while_contacts_are_still_read(warehouse):
    """They take longest, and wait for nothing but the first contacts."""
    at = warehouse(worlds.small(contacts=60), LIVE.but(max_depth=30), page_size=10)
    at.sync()
    paths = [asked.path for asked in at.server.sandbox.log]
    lists = [n for n, path in enumerate(paths) if path.rstrip("/").endswith("/contacts")]
    first = next(n for n, path in enumerate(paths) if path.endswith("/accounts"))
    assert first < lists[-1]
    assert at.differences() == []


def test_a_record_that_is_answered_twice_is_loaded_once(warehouse):
    """A server may answer for one account with another, as where two were merged: in a first load
    nothing that is stored already would give way to it."""
    world = worlds.small()
    first, *_, last = sorted(record.id for record in world.accounts)
    at = warehouse(world)
    body = f'{{"id": "{first}", "balance": 12.5}}'
    at.server.sandbox.after(1, "GET /accounts/{id}", lambda w: w.set_raw("accounts", last, body))
    at.sync(expect=None)
    for _ in range(2):
        with at.open() as con:
            assert truth.doubled(con) == []
        assert at.value("select count(*) from crmcom.accounts") == len(list(world.accounts)) - 1
        at.sync(expect=None)


def test_a_record_that_is_gone_and_answered_for_another_is_loaded_once(warehouse):
    world = worlds.small()
    first, *_, last = sorted(record.id for record in world.accounts)
    at = warehouse(world)
    at.sync()
    world.delete("accounts", first)
    world.set_raw("accounts", last, f'{{"id": "{first}", "balance": 12.5}}')
    at.sync(expect=None)
    with at.open() as con:
        assert truth.doubled(con) == []
    assert at.value(f"select balance from crmcom.accounts where id = '{first}'") == 12.5


def test_a_first_load_writes_each_row_once_and_a_later_one_replaces(warehouse):
    """Into an empty table there is nothing to merge. Readers find no trace of either way."""
    at = warehouse(worlds.small())
    at.sync()
    assert dispositions(at)["contacts"] == "append"
    columns = "from information_schema.columns where table_schema = 'crmcom' order by all"
    before = at.query(f"select table_name, column_name, data_type {columns}")
    contact = next(iter(at.world.contacts)).id
    at.world.edit("contacts", contact, language_code="zz")
    at.world.clock.move(timedelta(minutes=10))
    at.sync()
    assert dispositions(at)["contacts"] == "merge"
    assert at.query(f"select table_name, column_name, data_type {columns}") == before
    assert at.differences() == []


def dispositions(at):
    """How dlt was told to write each table, by its latest stored schema."""
    newest = "select schema from crmcom._dlt_version order by inserted_at desc limit 1"
    tables = json.loads(at.value(newest))["tables"]
    return {name: table.get("write_disposition") for name, table in tables.items()}
