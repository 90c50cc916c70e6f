"""People whose every text is a mark of its own, so that it is found wherever it goes."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from . import worlds
from .worlds import DAY

if TYPE_CHECKING:
    from crmcom_sandbox import World


POINTS = Decimal("271828.182845904")
"""Of a field that nobody knows, a number."""


@dataclass
class Person:
    """`marks`: texts that the API sends of this person, ids apart; each begins with `name`."""

    name: str
    marks: list[str] = field(default_factory=list)
    contact: str = ""
    accounts: list[str] = field(default_factory=list)
    activities: list[str] = field(default_factory=list)

    def mark(self, where: str) -> str:
        text = f"{self.name} {where} {len(self.marks)}ß"
        self.marks.append(text)
        return text

    @property
    def ids(self) -> list[str]:
        return [self.contact, *self.accounts, *self.activities]


def add(world: World, name: str) -> Person:
    """A contact with two accounts and four activities; each field of the reference, and others."""
    p = Person(name)
    m, now = p.mark, world.clock.epoch()
    p.contact = world.create_contact(
        created_on=now - 9 * DAY,
        code=m("code"),
        type="PERSON",
        name=m("name"),
        first_name=m("first"),
        middle_name=m("middle"),
        last_name=m("last"),
        company_name=m("company"),
        email=m("email"),
        phone={"country_code": m("cc"), "number": m("phone"), "extension": m("ext")},
        language_code=m("lang"),
        custom_fields=[{"key": "Passport", "value": m("cf"), "label": m("label")}],
        tags=[{"id": "t1", "name": m("tag"), "colour": m("colour")}],
        nickname=m("nick"),
        Name=m("second name"),
        имя=m("latin"),
        points=POINTS,
        preferences={"colours": [m("colours")], "deep": {"email": m("deep")}},
        relations=[{"kind": "spouse", "note": m("spouse"), "email": m("spouse mail")}],
        visits=[{"kind": "shop", "nickname": m("by nick")}],
    )
    for n, balance in enumerate(("31.5", "32.5")):
        account = world.create_account(
            p.contact,
            created_on=now - 8 * DAY,
            name=m("account"),
            number=m("number"),
            balance=Decimal(balance),
            overdue_amount=Decimal("11.5"),
            payment_terms={"id": "30", "name": m("terms")},
            classification={"id": "1", "name": m("class")},
            billing_address={"id": str(n), "address_line_1": m("street"), "town_city": m("town")},
            memo=m("memo"),
        )
        p.accounts.append(account)
    for n in range(4):
        activity = world.create_activity(
            p.contact,
            created_on=now - (7 - n) * DAY,
            name=m("activity"),
            description=m("description"),
            type={"id": "1", "name": "Call"},
            assign_to={"user": {"id": "u", "name": m("user"), "username": m("login")}},
            lead={"id": "l", "title": m("lead")},
            service_request={"id": "s", "number": m("request")},
            order={"id": "o", "number": m("order")},
            address={"address_line_1": m("line"), "postal_code": m("post")},
            custom_fields=[{"key": "Note", "value": m("note")}],
            tags=[{"id": "t2", "name": m("activity tag"), "colour": "red"}],
            minutes={"text": m("minutes")},
        )
        p.activities.append(activity)
    return p


def add_odd(world: World, name: str) -> Person:
    """What cannot be read, and what has another shape than it should."""
    p = Person(name)
    m, now = p.mark, world.clock.epoch()
    nameless = world.create_contact(created_on=now - 3 * DAY)
    world.set_raw("contacts", nameless, json.dumps({"first_name": m("no id")}))
    p.contact = world.create_contact(created_on=now - 3 * DAY)
    body: dict[str, Any] = {
        "id": p.contact,
        "name": {"full": m("name in object")},
        "phone": m("phone as text"),
        "email": [m("email in list")],
        "custom_fields": [m("custom field as text"), {"key": "k", "value": m("among texts")}],
        "tags": m("tags as text"),
    }
    world.set_raw("contacts", p.contact, json.dumps(body))
    p.accounts = [world.create_account(p.contact, balance=m("no amount"))]
    late = world.create_activity(p.contact, created_on=now - 3 * DAY, description=m("late"))
    world.edit("activities", late, key_dates={"created_on": 1_768_000_000_000})
    odd = world.create_activity(p.contact, created_on=now - 3 * DAY)
    body = {"id": odd, "contact": m("contact as text"), "description": {"a": [m("in object")]}}
    world.set_raw(
        "activities", odd, json.dumps({**body, "address": {"lat": m("lat")}, "state": "PENDING"})
    )
    p.activities = [late, odd]
    return p


def world_of(*names: str) -> tuple[World, list[Person]]:
    world = worlds.small(contacts=6, activities=10)
    return world, [add(world, name) for name in names]


PRIVATE: dict[str, Any] = {
    "contacts": {
        **dict.fromkeys(("code", "name", "first_name", "company_name"), "hash"),
        **dict.fromkeys(("middle_name", "last_name", "phone", "language_code"), "drop"),
        "email": "hash",
        "nickname": "hash",
        "имя": "drop",
        "preferences.colours": "drop",
        "relations": {"note": "hash"},
        "points": "hash",
    },
    "contact_custom_fields.value": "hash",
    "contact_custom_fields.label": "drop",
    "contact_tags": {"name": "hash", "colour": "drop"},
    "accounts": {
        **dict.fromkeys(("name", "number", "payment_terms.name", "classification"), "hash"),
        "billing_address": "hash",
        "memo": "drop",
        "balance": "drop",
    },
    "activities": {
        **dict.fromkeys(("name", "description", "lead.title", "order.number"), "hash"),
        **dict.fromkeys(("service_request.number", "assign_to.user", "address"), "drop"),
        "minutes": "drop",
    },
    "activity_custom_fields.value": "hash",
    "activity_tags.name": "drop",
}
"""Covers every mark; `classification` and `assign_to.user` cover ids too."""
