"""Histories of accounts as they happen, and as they hardly ever do."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

Row = dict[str, Any]

START = datetime(2026, 3, 18)  # noqa: DTZ001 - the warehouse's timestamps are naive UTC
"""Clocks go forward on 29 March in the European Union."""
DAYS = 20


def amount(rng: random.Random) -> Decimal:
    whole = rng.choice([0, rng.randint(0, 9), rng.randint(0, 999), rng.randint(0, 10**12)])
    return Decimal(whole) + Decimal(rng.randint(0, 10**6)) / 10**6 * rng.choice([0, 1])


def observation(rng: random.Random, account: str, moment: datetime, was: Row, wild: int) -> Row:
    """A reading, which mostly finds what the last one found; the wilder, the less so."""
    now = dict(was)
    if rng.random() < 0.35:
        now["balance"] = amount(rng) * rng.choice([1, 1, 1, -1])
    if rng.random() < 0.3:
        now["overdue_amount"] = amount(rng) * rng.choice([0, 0, 1, 1, 1, -1])
    if rng.random() < 0.05 * wild:
        now["state"] = rng.choice(["ACTIVE", "SUSPENDED", "TERMINATED"])
    if rng.random() < 0.04 * wild:
        now["currency_code"] = rng.choice(["EUR", "USD", "KWD", None, " "])
    if rng.random() < 0.04 * wild:
        now["classification__name"] = rng.choice(["Residential", "Business", None])
    if rng.random() < 0.03 * wild:
        now["contact_id"] = rng.choice([None, f"contact-{rng.randint(1, 60)}"])
    if rng.random() < 0.05 * wild:
        now["credit_limit"] = rng.choice([None, Decimal(0), amount(rng)])
    was.update(now)
    if rng.random() < 0.07 * wild:
        now["balance"] = None
    if rng.random() < 0.07 * wild:
        now["overdue_amount"] = None
    if rng.random() < 0.06 * wild:
        now = dict.fromkeys(now) | {"is_missing": True, "contact_id": now["contact_id"]}
    late = timedelta(days=rng.choice([0] * 12 + [1, 4, 9]), minutes=rng.randint(1, 90))
    return {
        **now,
        "account_id": account,
        "observed_at": moment,
        "run_id": f"run-{moment:%Y%m%d%H%M}-{rng.randint(0, 9)}",
        "is_missing": now.get("is_missing", False),
        "_synced_at": moment + late,
    }


def history(rng: random.Random, account: str) -> list[Row]:
    """Some are read daily, some weekly, some several times a day, some once."""
    was: Row = {
        "contact_id": rng.choice([None, *[f"contact-{rng.randint(1, 60)}"] * 9]),
        "state": "ACTIVE",
        "currency_code": rng.choice(["EUR", "EUR", "EUR", "USD", None]),
        "classification__name": rng.choice(["Residential", "Business"]),
        "payment_terms__name": "Net 30",
        "balance": amount(rng),
        "overdue_amount": amount(rng) * rng.choice([0, 0, 1]),
        "credit_limit": rng.choice([None, Decimal(500)]),
    }
    likely = rng.choice([0.05, 0.3, 0.8, 1.0])
    wild = rng.choice([1, 1, 1, 8])
    moments: list[datetime] = []
    first = rng.choice([0, 0, 0, rng.randrange(DAYS)])
    for day in range(first, DAYS):
        if day == first or rng.random() < likely:
            for _ in range(rng.choice([1, 1, 1, 2, 3])):
                # Late hours, so that local days differ from UTC's, and whole minutes, so that
                # some readings share one.
                hour = rng.choice([3, 12, 21, 22, 23])
                minute = rng.choice([0, 0, 30, 59])
                moments.append(START + timedelta(days=day, hours=hour, minutes=minute))
    rows = [observation(rng, account, moment, was, wild) for moment in sorted(moments)]
    # (account_id, run_id) is the table's key.
    return list({row["run_id"]: row for row in rows}.values())


def tenant(seed: int, accounts: int) -> dict[str, list[Row]]:
    """The raw rows of a tenant's `accounts`, `account_observations` and `activities`."""
    rng = random.Random(seed)
    ids = [f"account-{n}" for n in range(accounts)]
    end = START + timedelta(days=DAYS)
    return {
        "accounts": [{"id": i, "number": f"N-{i}", "_synced_at": end} for i in ids],
        "account_observations": [row for i in ids for row in history(rng, i)],
        "activities": [
            {
                "id": f"activity-{n}",
                "contact__id": rng.choice([None, f"contact-{rng.randint(1, 60)}"]),
                "state": rng.choice(["PENDING", "PENDING", "COMPLETED", "CANCELLED"]),
                "type__name": rng.choice(["Call", "Visit"]),
                "key_dates__scheduled_on__from_date": rng.choice(
                    [None, end + timedelta(hours=rng.randint(-72, 72))]
                ),
                "key_dates__scheduled_on__to_date": rng.choice(
                    [None, end + timedelta(hours=rng.randint(-72, 72))]
                ),
                "_deleted_at": rng.choice([None] * 5 + [end]),
                "_synced_at": end,
            }
            for n in range(90)
        ],
    }
