"""What happens on a business day."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

from . import generate
from . import vocabulary as words

if TYPE_CHECKING:
    from .records import Record
    from .world import World

# Shares of all records, per day; at least one of each happens.
PAYING, INVOICED, FALLING_OVERDUE, MOVING, NEW_CONTACTS = 0.03, 0.03, 0.02, 0.005, 0.004
NEW_ACTIVITIES, SETTLED = 0.01, 0.15


def pass_business_day(world: World) -> None:
    """One day's events at moments between now and the evening; then it is the next morning."""
    morning = world.clock.now()
    hour = timedelta(hours=1)
    for events in (_money, _contacts, _new_activities, _settle, _shuffle_about, _endings):
        world.clock.move(hour + timedelta(seconds=world.random.randrange(600)))
        events(world)
    world.clock.move_to(_next_business_day(morning))


def _next_business_day(day: datetime) -> datetime:
    day += timedelta(days=1)
    while day.weekday() >= 5:
        day += timedelta(days=1)
    return day


def _money(world: World) -> None:
    """Payments, invoices, and invoices that fall overdue: 0 <= overdue <= max(balance, 0)."""
    owing = [a for a in _live_accounts(world) if a.body["balance"] > 0]
    for account in _some(world, owing, PAYING):
        balance, overdue = account.body["balance"], account.body["overdue_amount"]
        paid = _part(world, account, balance)
        world.set_balance(account.id, balance - paid, max(overdue - paid, overdue * 0))
    for account in _some(world, _live_accounts(world), INVOICED):
        invoice = generate.some_money(world, account.body["currency_code"])
        world.set_balance(account.id, account.body["balance"] + invoice)
    for account in _some(world, _live_accounts(world), FALLING_OVERDUE):
        balance, overdue = account.body["balance"], account.body["overdue_amount"]
        if balance > overdue:
            late = _part(world, account, balance - overdue)
            world.set_balance(account.id, balance, overdue + late)


def _contacts(world: World) -> None:
    for contact in _some(world, list(world.contacts), MOVING):
        place = world.random.choice(words.PLACES)
        number = f"{world.random.randrange(10**7, 10**8)}"
        world.edit(
            "contacts", contact.id, phone={"country_code": place["country"], "number": number}
        )
    for _ in range(_number(len(world.contacts), NEW_CONTACTS)):
        generate.add_contact(world, world.clock.epoch())


def _new_activities(world: World) -> None:
    contacts = list(world.contacts)
    for _ in range(_number(len(world.activities), NEW_ACTIVITIES) if contacts else 0):
        contact = world.random.choice(contacts)
        generate.add_activity(world, contact.id, world.clock.epoch(), settled=False)


def _settle(world: World) -> None:
    for activity in _some(world, _in_state(world, "PENDING"), SETTLED):
        state = world.random.choices(["COMPLETED", "CANCELLED"], [85, 15])[0]
        world.set_activity_state(activity.id, state)


def _shuffle_about(world: World) -> None:
    """Reschedule, reassign, tag, reopen."""
    rng = world.random
    for activity in _some(world, _in_state(world, "PENDING"), 0.05):
        world.reschedule(activity.id, world.clock.epoch() + rng.randrange(1, 15) * generate.DAY)
    for activity in _some(world, _in_state(world, "PENDING"), 0.03):
        user = rng.choice(list(world.catalogue.users.values()))
        world.edit("activities", activity.id, assign_to={"user": user, "team": None})
    for activity in _some(world, _in_state(world, "PENDING"), 0.03):
        tag_ids = rng.sample(list(world.catalogue.tags), rng.randrange(3))
        world.set_tags("activities", activity.id, tag_ids)
    for activity in _some(world, _in_state(world, "COMPLETED"), 0.001):
        world.set_activity_state(activity.id, "PENDING")


def _endings(world: World) -> None:
    """A few activities are deleted; now and then an account ends."""
    for activity in _some(world, list(world.activities), 0.0005):
        world.delete("activities", activity.id)
    accounts = _live_accounts(world)
    if accounts and world.random.random() < 0.3:
        world.set_account_state(world.random.choice(accounts).id, "TERMINATED")


def _live_accounts(world: World) -> list[Record]:
    """Those with sound books: a test may have broken some."""
    return [
        account
        for account in world.accounts
        if account.body.get("state") != "TERMINATED"
        and isinstance(account.body.get("balance"), Decimal)
        and isinstance(account.body.get("overdue_amount"), Decimal)
        and account.body.get("currency_code") in generate.DECIMALS
    ]


def _in_state(world: World, state: str) -> list[Record]:
    return [a for a in world.activities if a.body.get("state") == state]


def _number(count: int, share: float) -> int:
    return max(1, round(count * share))


def _some(world: World, records: list[Record], share: float) -> list[Record]:
    return world.random.sample(records, min(len(records), _number(len(records), share)))


def _part(world: World, account: Record, whole: Decimal) -> Decimal:
    """All of it, or half of it to the currency's digits."""
    part = whole * world.random.choice([Decimal(1), Decimal("0.5")])
    return generate.money(part, account.body["currency_code"])
