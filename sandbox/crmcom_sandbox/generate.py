"""Realistic data from a seed: some years of a service company's customers and their dealings.

It holds on purpose what trips a reader of an API: nulls and absent fields, empty strings, trailing
blanks, doubled and non-Latin keys, bulk imports within one second, currencies of 0, 2 and 3
decimals, credits, zero limits, activities scheduled centuries ahead, histories that reopen.
"""

from __future__ import annotations

from bisect import bisect_right
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from . import vocabulary as words
from .catalogue import Linked, activity_address, billing_address

if TYPE_CHECKING:
    from .records import Json
    from .world import World

DAY = 86_400
YEARS = 4
# Seen in the reference's examples: a date in the year 2339.
FAR_AWAY = 11_653_396_172

DECIMALS = {"EUR": 2, "USD": 2, "KWD": 3, "JPY": 0}
# One unit of each currency, roughly in euro, so that amounts look alike in worth.
WORTH = {"EUR": Decimal(1), "USD": Decimal("0.9"), "KWD": Decimal(3), "JPY": Decimal("0.006")}


def populate(world: World, *, contacts: int, activities: int) -> None:
    """Fills an empty world up to its clock."""
    fill_catalogue(world)
    moments = _moments(world, contacts)
    ids = [add_contact(world, moment) for moment in moments]
    for moment in _moments(world, activities) if ids else []:
        created_on = max(moment, moments[0])
        known = bisect_right(moments, created_on)
        add_activity(world, ids[world.random.randrange(known)], created_on)


def fill_catalogue(world: World) -> None:
    catalogue = world.catalogue

    def named(names: list[str]) -> dict[str, Json]:
        return {(key := world.new_id()): {"id": key, "name": name} for name in names}

    catalogue.teams = named(words.TEAMS)
    catalogue.classifications = named(words.CLASSIFICATIONS)
    # Identifiers of payment terms have no dashes in the reference.
    catalogue.payment_terms = {
        (key := world.new_id().replace("-", "").upper()): {"id": key, "name": f"Net {days}"}
        for days in (0, 7, 14, 30, 60)
    }
    for name, color in words.ACTIVITY_TYPES:
        key = world.new_id()
        catalogue.activity_types[key] = {"id": key, "name": name, "color": color}
    for name, colour in words.TAGS:
        key = world.new_id()
        catalogue.tags[key] = {"id": key, "name": name, "colour": colour}
    for name in words.USERS:
        key = world.new_id()
        username = name.lower().replace(" ", "_") + "@crm.example"
        catalogue.users[key] = {"id": key, "name": name, "username": username}


def add_contact(world: World, created_on: int) -> str:
    """A new contact with an address and, nearly always, an account."""
    rng = world.random
    company = rng.random() < 0.3
    place = rng.choice(words.PLACES)
    first, last = rng.choice(words.FIRST_NAMES), rng.choice(words.LAST_NAMES)
    firm = f"{rng.choice(words.LAST_NAMES)} {rng.choice(words.TRADES)}"
    handle = f"{(firm if company else first + ' ' + last).lower().replace(' ', '.')}"
    body: Json = {
        "code": f"C{len(world.contacts) + 1:06d}",
        "type": "COMPANY" if company else "PERSON",
        "first_name": None if company else first,
        "middle_name": rng.choice([None, "", "A.", "Maria"]),
        "last_name": None if company else last,
        "company_name": firm if company else None,
        "email": None if rng.random() < 0.06 else f"{handle}{rng.randrange(1000)}@mail.example",
        "phone": _phone(world, place),
        "language_code": rng.choice(["en", "el", "ar", "ja", None]),
        "custom_fields": _custom_fields(world),
        "tags": _tags(world),
    }
    if rng.random() < 0.05:
        del body["middle_name"]
    if rng.random() < 0.03:
        del body["phone"]
    contact_id = world.create_contact(
        created_on=created_on, updated_on=_later(world, created_on, 0.4), **body
    )
    _add_address(world, contact_id, place)
    if rng.random() < 0.97:
        add_account(world, contact_id, created_on, currency=place["currency"], is_primary=True)
    if rng.random() < 0.08:
        others = [code for code in DECIMALS if code != place["currency"]]
        add_account(world, contact_id, created_on, currency=rng.choice(others), is_primary=False)
    return contact_id


def add_account(
    world: World, contact_id: str, created_on: int, *, currency: str, is_primary: bool
) -> str:
    rng = world.random
    catalogue = world.catalogue
    state = rng.choices(["ACTIVE", "SUSPENDED", "TERMINATED"], [88, 8, 4])[0]
    balance = overdue = money(Decimal(0), currency)
    if state != "TERMINATED" and (mood := rng.random()) > 0.3:
        balance = some_money(world, currency)
        if mood > 0.9:
            balance = -balance
        elif mood > 0.6:
            overdue = money(
                balance * rng.choice([Decimal(1), Decimal("0.5"), Decimal("0.25")]), currency
            )
    limit: Decimal | None = some_money(world, currency) * 2
    if rng.random() < 0.5:
        limit = rng.choice([None, money(Decimal(0), currency)])
    addresses = catalogue.addresses.get(contact_id)
    details: dict[str, Any] = {
        "balance": balance,
        "overdue_amount": overdue,
        "credit_limit": limit,
        "payment_terms": _sometimes(world, catalogue.payment_terms, 0.9),
        "classification": _sometimes(world, catalogue.classifications, 0.85),
        "billing_address": billing_address(addresses[0]) if addresses else None,
    }
    if rng.random() < 0.1:
        del details["billing_address"]
    return world.create_account(
        contact_id,
        created_on=created_on,
        updated_on=_later(world, created_on, 0.7),
        currency_code=currency,
        is_primary=is_primary,
        state=state,
        **details,
    )


def add_activity(world: World, contact_id: str, created_on: int, *, settled: bool = True) -> str:
    """A new activity; `settled` gives it a life up to the world's now, else it is pending."""
    rng = world.random
    catalogue = world.catalogue
    kind = rng.choice(list(catalogue.activity_types.values()))
    user, team = _sometimes(world, catalogue.users, 0.8), _sometimes(world, catalogue.teams, 0.6)
    from_date = created_on + rng.randrange(1, 21) * DAY // 2
    scheduled = {"from_date": from_date, "to_date": rng.choice([from_date + 3600, None])}
    if rng.random() < 0.01:
        scheduled["to_date"] = FAR_AWAY
    states = _history(world, created_on, from_date) if settled else []
    body: Json = {
        "name": rng.choice(words.ERRANDS),
        "description": rng.choice(words.DESCRIPTIONS),
        "key_dates": {"created_on": created_on, "scheduled_on": scheduled},
        "type": kind,
        "assign_to": {"user": user, "team": team} if user or team else None,
        "custom_fields": _custom_fields(world),
        "tags": _tags(world),
    }
    if rng.random() < 0.02:
        body["key_dates"]["scheduled_on"] = None
    for field in ("lead", "service_request", "order"):
        if rng.random() < 0.12:
            body[field] = _add_linked(world, contact_id, field)
        elif rng.random() < 0.5:
            body[field] = None
    if addresses := catalogue.addresses.get(contact_id):
        body["address"] = activity_address(addresses[0])
    if states:
        body["states"] = states
        body["state"] = states[-1]["state"]
    updated_on = states[-1]["date"] if states else created_on
    return world.create_activity(contact_id, created_on=created_on, updated_on=updated_on, **body)


def money(amount: Decimal, currency: str) -> Decimal:
    """Rounded to the digits that the currency has."""
    return amount.quantize(Decimal(1).scaleb(-DECIMALS[currency]))


def some_money(world: World, currency: str) -> Decimal:
    """Mostly tens and hundreds of euro, seldom a fortune."""
    rng = world.random
    cents = rng.randrange(500, 90_000) if rng.random() < 0.98 else rng.randrange(10**9)
    mills = Decimal(cents * 10 + rng.randrange(10)).scaleb(-3)
    return money(mills / WORTH[currency], currency)


def _moments(world: World, count: int) -> list[int]:
    """Ascending seconds over the years before now, denser lately; some are bulk imports."""
    rng = world.random
    now = world.clock.epoch()
    moments = [now - 60 - int(YEARS * 365 * DAY * rng.random() ** 1.5) for _ in range(count)]
    for start in range(0, count - 25, 500):
        moments[start : start + 25] = [moments[start]] * 25
    return sorted(moments)


def _later(world: World, created_on: int, chance: float) -> int:
    if world.random.random() > chance:
        return created_on
    return world.random.randint(created_on, max(created_on, world.clock.epoch() - 30))


def _sometimes(world: World, choices: dict[str, Json], chance: float) -> Json | None:
    picked = world.random.choice(list(choices.values()))
    return picked if world.random.random() < chance else None


def _history(world: World, created_on: int, due: int) -> list[Json]:
    """Pending at first; settled around its due date if that has passed; sometimes reopened."""
    rng = world.random
    now = world.clock.epoch()
    steps = ["PENDING"]
    if rng.random() < 0.88:
        steps.append(rng.choices(["COMPLETED", "CANCELLED"], [85, 15])[0])
        if rng.random() < 0.08:
            steps.append("PENDING")
            if rng.random() < 0.7:
                steps.append("COMPLETED")
    history, date = [], created_on
    for step in steps:
        history.append({"state": step, "date": date})
        date = max(date + 60, due + rng.randrange(-2 * DAY, 4 * DAY))
        if date >= now:
            break
    return history


def _phone(world: World, place: Json) -> Json | None:
    rng = world.random
    if rng.random() < 0.07:
        return None
    return {"country_code": place["country"], "number": f"{rng.randrange(10**7, 10**8)}"}


def _custom_fields(world: World) -> list[Json] | None:
    rng = world.random
    if rng.random() < 0.1:
        return rng.choice([None, []])
    fields = rng.sample(words.CUSTOM_FIELDS, rng.randrange(4))
    found: list[Json] = [{"key": key, "value": rng.choice(values)} for key, values in fields]
    if found and rng.random() < 0.05:
        found.append({**found[0], "value": "again"})
    return found


def _tags(world: World) -> list[Json]:
    rng = world.random
    return rng.sample(list(world.catalogue.tags.values()), rng.choice([0, 0, 0, 1, 1, 2, 3]))


def _add_address(world: World, contact_id: str, place: Json) -> None:
    rng = world.random
    key = world.new_id()
    address: Json = {
        "id": key,
        "address_line_1": f"{rng.randrange(1, 200)} {rng.choice(words.STREETS)}",
        "address_line_2": rng.choice(["", None, "Flat 3"]),
        "state_province_county": place["county"],
        "town_city": place["town"],
        "postal_code": f"{rng.randrange(1000, 10_000)}",
        "country": place["country"],
        "lat": Decimal(rng.randrange(34_000_000, 36_000_000)).scaleb(-6),
        "lon": Decimal(rng.randrange(32_000_000, 34_000_000)).scaleb(-6),
        "google_place_id": None,
    }
    world.catalogue.addresses.setdefault(contact_id, []).append(address)


def _add_linked(world: World, contact_id: str, kind: str) -> Json:
    key = world.new_id()
    number = len(world.catalogue.linked) + 1
    body = {
        "lead": {"title": f"{world.random.choice(words.TRADES)} offer"},
        "service_request": {"number": f"SRV{number:06d}"},
        "order": {"number": f"O{number:06d}"},
    }[kind]
    linked = Linked(kind, contact_id, {"id": key, **body})
    world.catalogue.linked[key] = linked
    return linked.body
