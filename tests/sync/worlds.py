"""Worlds for syncs: small, and with everything odd that an API may send."""

from __future__ import annotations

from decimal import Decimal

from crmcom_sandbox import World

DAY = 86_400


def small(seed: int = 1, *, contacts: int = 30, activities: int = 90) -> World:
    return World.generate(seed=seed, contacts=contacts, activities=activities)


def odd(seed: int = 2) -> World:
    """A small world with each oddity that the tables must hold as it is."""
    world = small(seed, contacts=40, activities=60)
    now = world.clock.epoch()
    contact = world.create_contact(
        created_on=now - 9 * DAY,
        code="C-odd",
        type="PERSON",
        first_name="",
        last_name="  trailing blanks  ",
        phone={"country_code": "CYP", "number": "99", "extension": "12"},
        language_code=None,
        custom_fields=[
            {"key": "ключ", "value": "значение"},
            {"key": "Twice", "value": "5232130.0"},
            {"key": "Twice", "value": ""},
            {"key": "", "value": " blanks "},
            {"key": "no value"},
            {"key": "null", "value": None},
        ],
        tags=[],
        loyalty_points=Decimal("12.5"),
        is_vip=True,
        nickname="日本 'quoted' \"twice\" \\ \n tab\t",
        preferences={"colours": ["red", None, 1.5], "deep": {"a": {"b": []}}},
        relations=[{"id": "x"}, {"id": "y", "n": 1}],
    )
    world.create_contact(created_on=now - 8 * DAY, phone=None, custom_fields=None, tags=None)
    world.create_contact(created_on=now - 8 * DAY, id='it\'s; drop table -- "é"')
    world.create_contact(created_on=-5 * DAY, first_name="born before the epoch")
    amounts = ("0.1", "1234567.005", "-99.99", "0", "12345678901234567890.123456789", "1E+3")
    for currency, amount in zip(("EUR", "KWD", "USD", "JPY", "EUR", "JPY"), amounts, strict=True):
        world.create_account(
            contact,
            created_on=now - 7 * DAY,
            currency_code=currency,
            balance=Decimal(amount),
            overdue_amount=Decimal(amount) if amount[0] != "-" else Decimal(0),
            credit_limit=None,
            payment_terms=None,
            classification=None,
            billing_address=None,
        )
    bare = world.create_account(contact, created_on=now - 6 * DAY)
    world.drop_fields("accounts", bare, "overdue_amount", "name", "number", "credit_limit")
    world.create_activity(
        contact,
        created_on=now - 5 * DAY,
        key_dates={
            "created_on": now - 5 * DAY,
            "scheduled_on": {"from_date": 11_653_396_172, "to_date": -86_400},
        },
        assign_to={"user": None, "team": {"id": "t", "name": ""}},
        type=None,
        custom_fields=[{"key": "Ünïcode ключ", "value": "5 "}, {"key": "Ünïcode ключ"}],
        estimate=Decimal("0.10"),
        checklist=[{"done": False}],
    )
    for date in (-DAY, 0, now - 60 * 365 * DAY):
        world.create_activity(contact, created_on=date, name="old", type={"id": "1"})
    world.create_activity(None, created_on=now - 4 * DAY, contact=None, assign_to=None)
    lonely = world.create_activity(contact, created_on=now - 3 * DAY)
    world.drop_fields("activities", lonely, "contact", "tags", "name")
    return world
