"""The same claims, of every destination: what one of them breaks, it is not supported for."""

from __future__ import annotations

import re
import sys
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from crmcom.schema import COUNT, FLAG, MONEY, RAW_TABLES, TEXT, TIME
from crmcom_sandbox import World, serve

from . import claims

DAY = 86_400
DIGITS = Decimal("12345678901234567890123456789.123456789")
ODD = "日本 Ünïcödé ключ 🦆👩‍👩‍👧 'one' \"two\" \\\ttab\nline\r\nend \u2028 {{ braces }} %s $1"
LONG = "Long €\U0001f986 " * 200_000
KEYS = ("", "id", "x" * 3_000, "ключ", 'a"b', "Twice", "Twice", "_dlt_id", "SELECT", "a.b__c", " ")
LONG_NAME = "a_field_whose_name_is_longer_than_the_63_bytes_that_postgresql_takes"

Rows = dict[tuple[Any, ...], dict[str, Any]]
BOOKS = {"_dlt_load_id", "_synced_at", "observed_at", "run_id"}
"""What each load writes of itself."""


class Story:
    """One world and one dataset: its tables after a first sync, after changes, and after all was
    loaded once more."""

    def __init__(self, place: Any) -> None:
        self.place, self.world = place, World.generate(seed=7, contacts=12, activities=30)
        now = self.world.clock.epoch()
        self.odd = self.world.create_contact(
            created_on=now - 9 * DAY,
            first_name=ODD,
            middle_name="",
            last_name="  ",
            company_name=None,
            nickname="nul\x00inside",
            notes=LONG,
            score=Decimal("1.5"),
            custom_fields=[{"key": k, "value": f"v{i}"} for i, k in enumerate(KEYS)],
            tags=[{"id": str(i), "name": f"tag {i}"} for i in range(3)],
        )
        self.rich = self.world.create_account(
            self.odd,
            created_on=now - 8 * DAY,
            balance=DIGITS,
            overdue_amount=Decimal("0.000000001"),
            credit_limit=-DIGITS,
        )
        self.work = self.world.create_activity(self.odd, created_on=now - 7 * DAY)
        with serve(self.world, behaviour="live") as server:
            place.server = server
            place.sync()
            self.first, self.first_differs = self.read(), place.differences()
            self.change()
            place.sync()
            self.second, self.second_differs = self.read(), place.differences()
            self.world.clock.move(timedelta(hours=1))
            place.sync(reconcile=True)
            self.third = self.read()
        self.types = place.types()

    def change(self) -> None:
        world = self.world
        world.clock.move(timedelta(days=1))
        world.edit("contacts", self.odd, tags=[{"id": "9", "name": "only"}], custom_fields=[])
        world.edit("contacts", self.odd, score="a text", vip=True, **{LONG_NAME: "new"})
        world.delete("activities", self.work)
        world.delete("accounts", self.rich)

    def read(self) -> dict[str, Rows]:
        return {
            name: self.place.rows(name, table.primary_key) for name, table in RAW_TABLES.items()
        }


_TOLD: dict[str, Story] = {}


@pytest.fixture(scope="module")
def story(place, destination):
    if destination not in _TOLD:
        _TOLD[destination] = Story(place(destination))
    return _TOLD[destination]


def test_types(story):
    wanted = {TEXT: "text", FLAG: "boolean", MONEY: "decimal(38,9)", TIME: "timestamp"}
    wanted[COUNT] = "bigint"
    for name, table in RAW_TABLES.items():
        found = story.types[name]
        for column in table.schema:
            assert found[column.name] == wanted[column.type], (name, column.name)


def test_decimals(story):
    row = story.first["accounts"][story.rich,]
    assert (row["balance"], row["overdue_amount"], row["credit_limit"]) == (
        DIGITS,
        Decimal("0.000000001"),
        -DIGITS,
    )
    (reading,) = (r for r in story.first["account_observations"].values() if r["balance"] == DIGITS)
    assert reading["account_id"] == story.rich


def test_unicode(story):
    assert story.first["contacts"][story.odd,]["first_name"] == ODD


def test_nul(story):
    assert story.first["contacts"][story.odd,]["nickname"] == "nul\\u0000inside"


def test_nulls(story):
    row = story.first["contacts"][story.odd,]
    assert (row["middle_name"], row["last_name"], row["company_name"]) == ("", "  ", None)


def test_long_text(story):
    assert story.first["contacts"][story.odd,]["notes"] == LONG


def test_odd_keys(story):
    fields = story.first["contact_custom_fields"]
    found = [fields[story.odd, i] for i in range(len(KEYS))]
    assert [(f["key"], f["value"]) for f in found] == [(k, f"v{i}") for i, k in enumerate(KEYS)]


def test_empty_tables(story):
    assert all(story.types[name] for name in RAW_TABLES)
    assert not story.first["_rejects"]


def test_everything_else_is_as_the_api_sends_it(story):
    """Whatever the claims above do not name."""
    assert [d for d in story.first_differs if "nickname" not in d] == []
    changed = ("nickname", "score", LONG_NAME)
    assert [d for d in story.second_differs if not any(c in d for c in changed)] == []


def test_new_column(story):
    assert "vip" not in story.first["contacts"][story.odd,]
    vips = {row["vip"] for row in story.second["contacts"].values()}
    assert vips == {True, None}
    (long_name,) = (
        c for c in story.second["contacts"][story.odd,] if c.startswith("a_field_whose")
    )
    assert story.second["contacts"][story.odd,][long_name] == "new"


def test_changed_type(story):
    assert story.first["contacts"][story.odd,]["score"] == Decimal("1.5")
    row = story.second["contacts"][story.odd,]
    assert (row["score"], row["score__v_text"]) == (None, "a text")


def test_soft_delete(story):
    for table, key in (("accounts", story.rich), ("activities", story.work)):
        before, after = story.first[table][key,], story.second[table][key,]
        assert before["_deleted_at"] is None
        assert isinstance(after["_deleted_at"], datetime)
        own = before.keys() - BOOKS - {"_deleted_at"}
        assert {c: after[c] for c in own} == {c: before[c] for c in own}
    missing = [r for r in story.second["account_observations"].values() if r["is_missing"]]
    assert [r["account_id"] for r in missing] == [story.rich]


def test_children(story):
    def of(rows: Rows) -> list[str]:
        return [r["name"] for key, r in sorted(rows.items()) if key[0] == story.odd]

    assert of(story.first["contact_tags"]) == ["tag 0", "tag 1", "tag 2"]
    assert of(story.second["contact_tags"]) == ["only"]
    assert not [k for k in story.second["contact_custom_fields"] if k[0] == story.odd]


def test_rerun(story):
    """A reconcile, which loads every record again."""
    ledger = {"_sync_runs", "_sync_windows", "account_observations"}
    for name in RAW_TABLES.keys() - ledger:
        before, after = story.second[name], story.third[name]
        assert before.keys() == after.keys(), name
        for key, row in before.items():
            kept = row.keys() - BOOKS
            assert {c: after[key][c] for c in kept} == {c: row[c] for c in kept}, (name, key)


def test_every_claim_has_its_test():
    tests = {name.removeprefix("test_") for name in vars(sys.modules[__name__])}
    assert set(claims.CLAIMS) <= tests


def test_the_docs_say_what_is_claimed():
    """`make docs` writes it."""
    page = claims.PAGE.read_text(encoding="utf-8")
    (table,) = re.findall(r"<!-- claims -->\n(.*?)<!-- end -->", page, flags=re.DOTALL)
    assert table == claims.table()
