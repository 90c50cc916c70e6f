"""Histories of accounts as they happen, and as they hardly ever do."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

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
        now["state"] = rng.choice(["ACTIVE", "SUSPENDED", "TERMINATED", "Terminated", " ", None])
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


def drawn(count: int, *, wildly: bool) -> list[list[Row]]:
    """Histories drawn by hypothesis, the same in every run; wildly: each choice is its own.

    All are accounts of one build: a build takes seconds, whatever it holds.
    """
    found: list[list[Row]] = []

    @settings(
        max_examples=count,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.randoms(use_true_random=not wildly))
    def draw(rng: random.Random) -> None:
        found.append(history(rng, f"account-{len(found)}"))

    draw()
    assert len(found) >= count
    return found


def written(rng: random.Random, state: str) -> str:
    """A state as one or the other server writes it."""
    return rng.choice([state] * 8 + [state.lower(), f" {state.title()} "])


def activity(rng: random.Random, identity: str) -> dict[str, Any]:
    """The rows of one activity, in each table: its states, and what was seen of them when."""
    now: Row = {
        "contact__id": rng.choice([None, *[f"contact-{rng.randint(1, 60)}"] * 5]),
        "type__name": rng.choice(["Call", "Visit"]),
        "assign_to__user__id": rng.choice([None, "user-1", "user-2"]),
        "assign_to__team__id": rng.choice([None, "team-1", "team-2"]),
    }
    moment = START + timedelta(hours=rng.randint(0, 24 * (DAYS - 4)))
    seen = moment
    states: list[Row] = []
    versions: list[Row] = []
    for state in [
        "PENDING",
        *rng.choices(["PENDING", "COMPLETED", "CANCELLED"], k=rng.choice([0, 1, 1, 2, 4])),
    ]:
        schedule = [
            rng.choice([None, START + timedelta(hours=rng.randint(0, 24 * (DAYS + 3)))])
            for _ in "ab"
        ]
        if rng.random() < 0.05:
            schedule[1] = datetime(2339, 4, 14)  # noqa: DTZ001 - as the others
        states.append({"activity_id": identity, "state": written(rng, state), "date": moment})
        now |= {
            "state": written(rng, state),
            "scheduled_from": schedule[0],
            "scheduled_to": schedule[1],
        }
        seen = max(moment, seen) + timedelta(hours=rng.choice([0, 1, 20]))
        versions.append(
            {
                **now,
                "activity_id": identity,
                "is_deleted": False,
                "observed_at": seen,
                "run_id": f"run-{len(versions)}",
                "_synced_at": seen,
            }
        )
        moment += timedelta(hours=rng.choice([1, 26, 40]))
        if moment > START + timedelta(days=DAYS - 3):
            break
    if rng.random() < 0.1:
        versions.append({**versions[-1], "is_deleted": True, "run_id": "run-gone"})
    last = versions[-1]
    # Histories are read late, or never.
    read = states[: rng.choice([0, len(states), len(states), len(states) - 1])]
    return {
        "activities": {
            **{c: last[c] for c in ("contact__id", "type__name", "state")},
            **{c: last[c] for c in ("assign_to__user__id", "assign_to__team__id")},
            "id": identity,
            "assign_to__user__name": (last["assign_to__user__id"] or "").title() or None,
            "assign_to__team__name": (last["assign_to__team__id"] or "").title() or None,
            "key_dates__scheduled_on__from_date": last["scheduled_from"],
            "key_dates__scheduled_on__to_date": last["scheduled_to"],
            "_deleted_at": last["observed_at"] if last["is_deleted"] else None,
            "_synced_at": last["observed_at"],
        },
        "activity_states": [
            {**state, "position": n, "_synced_at": last["observed_at"]}
            for n, state in enumerate(read)
        ],
        "activity_versions": versions,
        "activity_tags": [
            {"activity_id": identity, "name": name, "position": n}
            for n, name in enumerate(rng.choice([(), ("urgent",), ("b", "a")]))
        ],
    }


def tenant(seed: int, accounts: list[list[Row]]) -> dict[str, list[Row]]:
    """The raw rows of a tenant that has these accounts."""
    rng = random.Random(seed)
    end = START + timedelta(days=DAYS)
    activities = [activity(rng, f"activity-{n}") for n in range(150)]
    return {
        "contacts": [
            {
                "id": f"contact-{n}",
                "name": f"Contact {n}",
                "_synced_at": end,
                "_deleted_at": rng.choice([None, None, None, START + timedelta(days=9)]),
            }
            for n in range(40)
        ],
        "accounts": [
            {
                "id": rows[0]["account_id"],
                "number": f"N-{rows[0]['account_id']}",
                "_synced_at": end,
            }
            for rows in accounts
        ],
        "account_observations": [row for rows in accounts for row in rows],
        "activities": [a["activities"] for a in activities],
        **{
            table: [row for a in activities for row in a[table]]
            for table in ("activity_states", "activity_versions", "activity_tags")
        },
    }
