"""The marts in plain Python, from their definitions: each day is told by looking back.

Nothing here steps from one day to the next, as the SQL does, so that the two share no mistakes.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

Row = dict[str, Any]
ZERO = Decimal(0)


@dataclass(frozen=True)
class Settings:
    timezone: str = "UTC"
    buckets: tuple[int, ...] = (30, 60, 90)
    sign: int = 1
    as_of: date | None = None
    known_at: datetime | None = None

    def local_date(self, moment: datetime) -> date:
        return moment.replace(tzinfo=UTC).astimezone(ZoneInfo(self.timezone)).date()


def money(amount: Decimal | None) -> Decimal | None:
    if amount is None:
        return None
    return amount.quantize(Decimal("0.0001"), ROUND_HALF_UP)


@dataclass(frozen=True)
class Fact:
    """What one day's readings of an account say together."""

    day: date
    seen: Mapping[str, Any] | None
    """The last reading that found the account."""
    contact_id: str | None
    is_missing: bool
    currency: str | None
    balance: Decimal | None
    overdue: Decimal | None


def fact_of(day: date, readings: Sequence[Mapping[str, Any]], sign: int) -> Fact:
    ordered = sorted(readings, key=lambda r: (r["observed_at"], r["run_id"]))
    found = [r for r in ordered if not r["is_missing"]]
    seen = found[-1] if found else None
    currency = currency_of(seen) if seen else None
    alike = [r for r in found if currency_of(r) == currency]
    balance = last_known(r["balance"] for r in alike)
    overdue = last_known(r["overdue_amount"] for r in alike)
    contact = seen["contact_id"] if seen else None
    if contact is None:
        contact = next((r["contact_id"] for r in reversed(ordered) if r["is_missing"]), None)
    return Fact(
        day=day,
        seen=seen,
        contact_id=contact,
        is_missing=bool(ordered[-1]["is_missing"]),
        currency=currency,
        balance=None if balance is None else money(balance * sign),
        overdue=None if overdue is None else money(max(overdue, ZERO)),
    )


def currency_of(reading: Mapping[str, Any]) -> str:
    return (reading["currency_code"] or "").strip().upper() or "XXX"


def last_known(values: Iterable[Any]) -> Any:
    return next((v for v in reversed(list(values)) if v is not None), None)


@dataclass(frozen=True)
class History:
    """The facts of one account, oldest first."""

    facts: tuple[Fact, ...]

    def until(self, day: date) -> list[Fact]:
        return [f for f in self.facts if f.day <= day]

    def series(self, day: date) -> list[Fact]:
        """The facts since the last change of currency."""
        facts, series = self.until(day), []
        current = last_known(f.currency for f in facts)
        for fact in reversed(facts):
            if fact.currency not in (None, current):
                break
            series.append(fact)
        return series[::-1]

    def is_missing(self, day: date) -> bool:
        return self.until(day)[-1].is_missing

    def since_absence(self, day: date) -> list[Fact]:
        series = self.series(day)
        absences = [i for i, fact in enumerate(series) if fact.is_missing]
        return series[absences[-1] + 1 :] if absences else series

    def balance(self, day: date) -> Decimal | None:
        if self.is_missing(day):
            return ZERO
        return last_known(f.balance for f in self.since_absence(day))

    def overdue(self, day: date) -> Decimal | None:
        if self.is_missing(day):
            return ZERO
        return last_known(f.overdue for f in self.since_absence(day))

    def since(self, day: date) -> date | None:
        """The first day of the unbroken run of overdue days that ends with this one."""
        start, currency = None, self.series_start(day)
        while day >= currency and (self.overdue(day) or ZERO) > 0:
            start, day = day, day - timedelta(days=1)
        return start

    def series_start(self, day: date) -> date:
        return self.series(day)[0].day

    def last_not_overdue(self, day: date) -> date | None:
        return last_known(f.day for f in self.series(day) if f.overdue == 0 and not f.is_missing)


def bucket(minimum: int, censored: bool, bounds: Sequence[int]) -> str:
    lower = 1
    names = []
    for upper in bounds:
        names.append((f"{lower}-{upper}", upper))
        lower = upper + 1
    if minimum >= lower:
        return f"{lower}+"
    if censored:
        return "unknown_start"
    return next(name for name, upper in names if minimum <= upper)


def known(observations: Iterable[Mapping[str, Any]], settings: Settings) -> list[Mapping[str, Any]]:
    return [
        o for o in observations if settings.known_at is None or o["_synced_at"] <= settings.known_at
    ]


def histories(observations: Iterable[Mapping[str, Any]], settings: Settings) -> dict[str, History]:
    by_day: dict[str, dict[date, list[Mapping[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for observation in known(observations, settings):
        day = settings.local_date(observation["observed_at"])
        by_day[observation["account_id"]][day].append(observation)
    return {
        account: History(tuple(fact_of(d, days[d], settings.sign) for d in sorted(days)))
        for account, days in by_day.items()
    }


def account_daily(
    tenant: str,
    observations: Iterable[Mapping[str, Any]],
    numbers: Mapping[str, str | None],
    settings: Settings,
) -> Iterator[Row]:
    told = histories(observations, settings)
    if not told:
        return
    as_of = settings.as_of or max(h.facts[-1].day for h in told.values())
    for account, history in told.items():
        day = history.facts[0].day
        while day <= as_of:
            yield {
                "source_relation": tenant,
                "account_id": account,
                "date_day": day,
                "account_number": numbers.get(account),
                **_day(history, day, settings),
            }
            day += timedelta(days=1)


def _day(history: History, day: date, settings: Settings) -> Row:
    facts = history.until(day)
    seen = last_known(f.seen for f in facts) or {}
    observed = facts[-1].day
    today = facts[-1] if observed == day else None
    missing = history.is_missing(day)
    balance, overdue = history.balance(day), history.overdue(day)
    receivable = None if balance is None else max(balance, ZERO)
    since = history.since(day)
    last_not = history.last_not_overdue(day)
    minimum = None if since is None else (day - since).days + 1
    return {
        "contact_id": last_known(f.contact_id for f in facts),
        "currency_code": last_known(f.currency for f in facts) or "XXX",
        "classification": seen.get("classification__name"),
        "state": seen.get("state"),
        "balance": balance,
        "receivable": receivable,
        "credit": None if balance is None else max(-balance, ZERO),
        "overdue_gross": overdue,
        "overdue_net": None if overdue is None or receivable is None else min(overdue, receivable),
        "credit_limit": money(seen.get("credit_limit")),
        "last_known_balance": last_known(f.balance for f in history.series(day)),
        "is_observed": today is not None,
        "last_observed_date": observed,
        "days_since_observed": (day - observed).days,
        "presence": "missing" if missing else "present",
        "is_balance_carried": not missing
        and balance is not None
        and (today is None or today.balance is None),
        "is_overdue_carried": not missing
        and overdue is not None
        and (today is None or today.overdue is None),
        "overdue_since_date": since,
        "last_not_overdue_date": last_not,
        "days_overdue_min": minimum,
        "days_overdue_max": None if since is None or last_not is None else (day - last_not).days,
        "is_start_censored": since is not None and last_not is None,
        "bucket": None if minimum is None else bucket(minimum, last_not is None, settings.buckets),
    }


def coverage(
    worklist: Sequence[Row], activities: Iterable[Mapping[str, Any]], settings: Settings
) -> dict[str, tuple[str, date | None]]:
    due: dict[str, list[date | None]] = defaultdict(list)
    for activity in activities:
        if activity["state"] == "PENDING" and not activity.get("_deleted_at"):
            at = activity.get("key_dates__scheduled_on__to_date") or activity.get(
                "key_dates__scheduled_on__from_date"
            )
            due[activity["contact__id"]].append(settings.local_date(at) if at else None)
    told: dict[str, tuple[str, date | None]] = {}
    for row in worklist:
        contact, days = row["contact_id"], due.get(row["contact_id"], [])
        ahead = [d for d in days if d and d >= row["as_of_date"]]
        if contact is None:
            told[row["account_id"]] = ("unlinkable", None)
        elif ahead:
            told[row["account_id"]] = ("covered", min(ahead))
        else:
            told[row["account_id"]] = ("stale" if days else "uncovered", None)
    return told


def worklist(
    daily: Iterable[Row], activities: Iterable[Mapping[str, Any]], settings: Settings
) -> list[Row]:
    """The columns that follow from the observations; names and terms have their own test."""
    days = list(daily)
    if not days:
        return []
    as_of = max(row["date_day"] for row in days)
    overdue = [
        {**row, "as_of_date": as_of}
        for row in days
        if row["date_day"] == as_of and (row["overdue_gross"] or ZERO) > 0
    ]
    covered = coverage(overdue, activities, settings)
    ranks: dict[str, int] = defaultdict(int)
    ordered = sorted(
        overdue,
        key=lambda r: (
            r["overdue_net"] is None,
            -(r["overdue_net"] or ZERO),
            -r["days_overdue_min"],
            r["account_id"],
        ),
    )
    for row in ordered:
        ranks[row["currency_code"]] += 1
        row["priority_rank"] = ranks[row["currency_code"]]
        row["queue"] = {"TERMINATED": "write_off_review", "SUSPENDED": "suspended"}.get(
            row["state"], "collect"
        )
        row["coverage_status"], row["next_due_date"] = covered[row["account_id"]]
    return ordered


def balance_summary(daily: Iterable[Row]) -> list[Row]:
    days = list(daily)
    if not days:
        return []
    as_of = max(row["date_day"] for row in days)
    groups: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in days:
        if row["date_day"] == as_of and row["presence"] == "present":
            key = (
                row["source_relation"],
                row["currency_code"],
                row["classification"],
                row["state"],
            )
            groups[key].append(row)
    return [_group(as_of, key, rows) for key, rows in groups.items()]


def _group(as_of: date, key: tuple[Any, ...], rows: Sequence[Row]) -> Row:
    def total(column: str) -> Decimal:
        return sum((row[column] for row in rows if row[column] is not None), ZERO)

    receivable, net = total("receivable"), total("overdue_net")
    return {
        "source_relation": key[0],
        "as_of_date": as_of,
        "currency_code": key[1],
        "classification": key[2],
        "state": key[3],
        "accounts": len(rows),
        "overdue_accounts": sum((row["overdue_gross"] or ZERO) > 0 for row in rows),
        "unknown_accounts": sum(
            row["balance"] is None or row["overdue_gross"] is None for row in rows
        ),
        "carried_accounts": sum(
            row["is_balance_carried"] or row["is_overdue_carried"] for row in rows
        ),
        "receivable": receivable,
        "credit": total("credit"),
        "net_balance": total("balance"),
        "overdue_gross": total("overdue_gross"),
        "overdue_net": net,
        "overdue_ratio": (net / receivable).quantize(Decimal("0.000001"), ROUND_HALF_UP)
        if receivable
        else None,
    }
