"""The marts in plain Python, from their definitions: each day is told by looking back.

Nothing here steps from one day to the next, as the SQL does, so that the two share no mistakes.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from itertools import pairwise
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

    @property
    def is_past(self) -> bool:
        return self.as_of is not None or self.known_at is not None

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


def state_of(row: Mapping[str, Any]) -> str | None:
    return (row.get("state") or "").strip().upper() or None


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
        "state": state_of(seen),
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
    worklist: Sequence[Row], activities: Iterable[Row]
) -> dict[str, tuple[str, date | None]]:
    due: dict[str, list[date | None]] = defaultdict(list)
    for activity in activities:
        if activity["state"] == "PENDING" and not activity["is_deleted"]:
            due[activity["contact_id"]].append(activity["due_date"])
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


def latest(daily: Sequence[Row]) -> list[Row]:
    """The rows of the day of the reports."""
    as_of = max((row["date_day"] for row in daily), default=None)
    return [{**row, "as_of_date": as_of} for row in daily if row["date_day"] == as_of]


def present(daily: Sequence[Row]) -> list[Row]:
    return [row for row in latest(daily) if row["presence"] == "present"]


def worklist(daily: Sequence[Row], activities: Sequence[Row]) -> list[Row]:
    """The columns that follow from the observations; names and terms have their own test."""
    overdue = [row for row in latest(daily) if (row["overdue_gross"] or ZERO) > 0]
    covered = coverage(overdue, activities)
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


def balance_summary(daily: Sequence[Row]) -> list[Row]:
    keys = ("source_relation", "as_of_date", "currency_code", "classification", "state")
    groups: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in present(daily):
        groups[tuple(row[k] for k in keys)].append(row)
    return [dict(zip(keys, key, strict=True)) | _group(rows) for key, rows in groups.items()]


def total(rows: Iterable[Row], column: str) -> Decimal:
    return sum((row[column] for row in rows if row[column] is not None), ZERO)


def ratio(part: Decimal, whole: Decimal | None) -> Decimal | None:
    if not whole or part is None:
        return None
    return (Decimal(part) / whole).quantize(Decimal("0.000001"), ROUND_HALF_UP)


def _group(rows: Sequence[Row]) -> Row:
    return {
        "accounts": len(rows),
        "overdue_accounts": sum((row["overdue_gross"] or ZERO) > 0 for row in rows),
        "unknown_accounts": unknown(rows),
        "carried_accounts": sum(
            row["is_balance_carried"] or row["is_overdue_carried"] for row in rows
        ),
        "receivable": total(rows, "receivable"),
        "credit": total(rows, "credit"),
        "net_balance": total(rows, "balance"),
        "overdue_gross": total(rows, "overdue_gross"),
        "overdue_net": total(rows, "overdue_net"),
        "overdue_ratio": ratio(total(rows, "overdue_net"), total(rows, "receivable")),
    }


def unknown(rows: Iterable[Row]) -> int:
    return sum(row["balance"] is None or row["overdue_gross"] is None for row in rows)


def by_account(daily: Iterable[Row]) -> dict[str, list[Row]]:
    """The days of each account, oldest first."""
    told: dict[str, list[Row]] = defaultdict(list)
    for row in sorted(daily, key=lambda r: r["date_day"]):
        told[row["account_id"]].append(row)
    return told


OF_ACCOUNT = ("source_relation", "account_id", "account_number", "contact_id", "currency_code")


def overdue_ageing(daily: Sequence[Row], settings: Settings) -> list[Row]:
    """A queue of layers that is played through from the first day on."""
    told = []
    for days in by_account(daily).values():
        layers: list[list[Any]] = []
        before: Row | None = None
        for day in days:
            amount = day["overdue_gross"] or ZERO
            if before is None or before["currency_code"] != day["currency_code"]:
                layers = []
            rise = amount - sum(layer[1] for layer in layers)
            if rise > 0:
                layers.append([day["date_day"], rise, day["is_start_censored"] and not layers])
            while rise < 0:
                used = min(-rise, layers[0][1])
                layers[0][1] -= used
                rise += used
                if not layers[0][1]:
                    del layers[0]
            before = day
        sums: dict[str, Row] = {}
        for since, amount, censored in layers:
            age = (days[-1]["date_day"] - since).days + 1
            name = bucket(age, censored, settings.buckets)
            row = sums.setdefault(
                name,
                {c: days[-1][c] for c in OF_ACCOUNT}
                | {"as_of_date": days[-1]["date_day"], "bucket": name, "amount": ZERO}
                | {"is_age_lower_bound": False},
            )
            row["amount"] += amount
            row["is_age_lower_bound"] |= censored
        told += sums.values()
    return told


MEASURES = {"balance": "balance", "overdue": "overdue_gross"}
FLOWS = ("new", "reappeared", "increase", "decrease", "terminated_out", "disappeared")


def moves(days: Sequence[Row], measure: str) -> Iterator[Row]:
    """What each day did to an account's amount, in each currency that it had."""
    column = MEASURES[measure]
    before: Row | None = None
    was_missing: set[str] = set()
    for day in days:
        was = {}
        if before and before["presence"] == "present" and before[column] is not None:
            was = {before["currency_code"]: before[column]}
        now = {}
        if day["presence"] == "present" and day[column] is not None:
            now = {day["currency_code"]: day[column]}
        for currency in {**was, **now}:
            flows = dict.fromkeys(FLOWS, ZERO)
            opening, closing = was.get(currency), now.get(currency)
            terminated = day["state"] == "TERMINATED" and before and before["state"] != "TERMINATED"
            if opening is None:
                same = before is not None and before["currency_code"] == currency
                flows["reappeared" if same and currency in was_missing else "new"] = closing
            elif closing is None:
                flows["disappeared"] = opening
            elif terminated:
                flows["terminated_out"] = opening - closing
            elif closing > opening:
                flows["increase"] = closing - opening
            else:
                flows["decrease"] = opening - closing
            yield {
                "day": day,
                "currency_code": currency,
                "opening": opening or ZERO,
                "closing": closing or ZERO,
                "is_gap": closing is not None and not day["is_observed"],
                **flows,
            }
        if day["presence"] == "missing":
            was_missing.add(day["currency_code"])
        before = day


def period_of(kind: str, day: date) -> tuple[date, date]:
    if kind == "day":
        return day, day
    if kind == "week":
        start = day - timedelta(days=day.weekday())
        return start, start + timedelta(days=6)
    start = day.replace(day=1)
    return start, (start + timedelta(days=31)).replace(day=1) - timedelta(days=1)


def balance_movement(daily: Sequence[Row]) -> list[Row]:
    told: list[Row] = []
    for account, days in by_account(daily).items():
        as_of = days[-1]["date_day"]
        for measure in MEASURES:
            steps = list(moves(days, measure))
            for kind in ("day", "week", "month"):
                groups: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
                for step in steps:
                    period = period_of(kind, step["day"]["date_day"])
                    groups[*period, step["currency_code"]].append(step)
                for (start, end, currency), parts in groups.items():
                    first, last = parts[0], parts[-1]
                    # What begins later opens with nothing; what ended earlier closes with nothing.
                    opens = first["day"]["date_day"] == start
                    closes = last["day"]["date_day"] == min(end, as_of)
                    told.append(
                        {
                            "source_relation": days[0]["source_relation"],
                            "account_id": account,
                            "period": kind,
                            "period_start_date": start,
                            "period_end_date": end,
                            "currency_code": currency,
                            "measure": measure,
                            "opening": first["opening"] if opens else ZERO,
                            **{flow: total(parts, flow) for flow in FLOWS},
                            "closing": last["closing"] if closes else ZERO,
                            "gap_days": sum(part["is_gap"] for part in parts),
                        }
                    )
    return told


def overdue_kpis(daily: Sequence[Row], movement: Sequence[Row]) -> list[Row]:
    if not daily:
        return []
    as_of = max(row["date_day"] for row in daily)
    at: dict[tuple[date, str], dict[str, Row]] = defaultdict(dict)
    for row in daily:
        if row["presence"] == "present":
            at[row["date_day"], row["currency_code"]][row["account_id"]] = row
    rose: dict[tuple[date, str], Decimal] = defaultdict(Decimal)
    fell: dict[tuple[date, str], Decimal] = defaultdict(Decimal)
    for row in movement:
        if row["period"] == "day" and row["measure"] == "overdue":
            change = row["closing"] - row["opening"]
            key = row["period_start_date"], row["currency_code"]
            rose[key] += max(change, ZERO)
            fell[key] += max(-change, ZERO)
    told = []
    for kind in ("day", "week", "month"):
        periods: dict[tuple[date, date, str], list[date]] = defaultdict(list)
        for day, currency in {*at, *rose}:
            periods[*period_of(kind, day), currency].append(day)
        for (start, end, currency), days in periods.items():
            opening = at.get((start - timedelta(days=1), currency), {})
            closing = at.get((min(end, as_of), currency), {})
            overdue = [a for a, row in opening.items() if (row["overdue_gross"] or ZERO) > 0]
            cured = [a for a in overdue if a in closing and closing[a]["overdue_gross"] == 0]
            told.append(
                {
                    "source_relation": daily[0]["source_relation"],
                    "period": kind,
                    "period_start_date": start,
                    "period_end_date": end,
                    "currency_code": currency,
                    "opening_overdue": total(opening.values(), "overdue_gross"),
                    "entered": sum((rose[day, currency] for day in days), ZERO),
                    "cleared": sum((fell[day, currency] for day in days), ZERO),
                    "closing_overdue": total(closing.values(), "overdue_gross"),
                    "cure_rate": ratio(Decimal(len(cured)), Decimal(len(overdue))),
                    "overdue_ratio": ratio(
                        total(closing.values(), "overdue_net"),
                        total(closing.values(), "receivable"),
                    ),
                }
            )
    return told


def credit_exposure(daily: Sequence[Row]) -> list[Row]:
    told = []
    for row in present(daily):
        limit, balance = row["credit_limit"], row["balance"]
        status = "none" if limit is None else "zero" if not limit else "set"
        valid = limit if limit and limit > 0 else None
        if limit is not None and limit < 0:
            status = "invalid"
        both = valid is not None and balance is not None
        told.append(
            {c: row[c] for c in (*OF_ACCOUNT, "as_of_date", "state", "balance", "credit_limit")}
            | {
                "exposure": row["receivable"],
                "limit_status": status,
                "utilisation": ratio(row["receivable"], valid),
                "available": valid - balance if both and row["state"] != "TERMINATED" else None,
                "over_limit": max(balance - valid, ZERO) if both else None,
            }
        )
    return told


def activity_status(
    tenant: str, raw: Mapping[str, Sequence[Mapping[str, Any]]], as_of: date, settings: Settings
) -> list[Row]:
    names = {c["id"]: c["name"] for c in raw.get("contacts", ())}
    told = []
    for current in raw.get("activities", ()):
        versions = [v for v in raw["activity_versions"] if v["activity_id"] == current["id"]]
        states = [s for s in raw["activity_states"] if s["activity_id"] == current["id"]]
        if settings.is_past:
            versions = [
                v
                for v in known(versions, settings)
                if settings.local_date(v["observed_at"]) <= as_of
            ]
            states = [s for s in known(states, settings) if settings.local_date(s["date"]) <= as_of]
        if not versions:
            continue
        now = max(versions, key=lambda v: (v["observed_at"], v["run_id"]))
        state = state_of(now)
        due = now["scheduled_to"] or now["scheduled_from"]
        due_date = settings.local_date(due) if due else None
        is_known = bool(states) and state_of(states[-1]) == state
        late = bool(state == "PENDING" and not now["is_deleted"] and due_date and due_date < as_of)
        done = None
        if is_known and state == "COMPLETED":
            done = max(settings.local_date(s["date"]) for s in states if state_of(s) == "COMPLETED")
        pairs = pairwise([None, *map(state_of, states)])
        pending = sum(b == "PENDING" and a != "PENDING" for a, b in pairs)
        user, team = now["assign_to__user__id"], now["assign_to__team__id"]
        tags = [t["name"] for t in raw["activity_tags"] if t["activity_id"] == current["id"]]
        told.append(
            {
                "source_relation": tenant,
                "as_of_date": as_of,
                "activity_id": current["id"],
                "contact_id": now["contact__id"],
                "contact_name": names.get(now["contact__id"]),
                "type_name": now["type__name"],
                "team_id": team,
                "team_name": team.title() if team else None,
                "user_id": user,
                "user_name": user.title() if user else None,
                "tags": ", ".join(tags) or None,
                "state": state,
                "due_at": due,
                "due_date": due_date,
                "schedule": (now["scheduled_from"], now["scheduled_to"]),
                "is_overdue": late,
                "days_overdue": (as_of - due_date).days if late and due_date else None,
                "completed_date": done,
                "is_on_time": done <= due_date if done and due_date else None,
                "reopen_count": max(pending - 1, 0) if is_known else None,
                "is_deleted": now["is_deleted"],
                "is_unscheduled": due is None,
                "is_history_known": is_known,
            }
        )
    return told


def follow_up_summary(activities: Iterable[Row]) -> list[Row]:
    keys = (
        *("source_relation", "as_of_date", "team_id", "team_name", "user_id", "user_name"),
        "type_name",
    )
    groups: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in activities:
        if not row["is_deleted"]:
            groups[tuple(row[k] for k in keys)].append(row)
    told = []
    for key, rows in groups.items():
        states = [row["state"] for row in rows]
        on_time = sum(row["is_on_time"] is True for row in rows)
        late = sum(row["is_on_time"] is False for row in rows)
        told.append(
            dict(zip(keys, key, strict=True))
            | {
                "total": len(rows),
                "pending": states.count("PENDING"),
                "completed": states.count("COMPLETED"),
                "cancelled": states.count("CANCELLED"),
                "overdue": sum(row["is_overdue"] for row in rows),
                "on_time": on_time,
                "late": late,
                "reopened": sum((row["reopen_count"] or 0) > 0 for row in rows),
                "unknown_history": sum(not row["is_history_known"] for row in rows),
                "sla": ratio(Decimal(on_time), Decimal(on_time + late)),
            }
        )
    return told


CONTACT_MONEY = ("balance", "receivable", "credit", "overdue_gross", "overdue_net")


def contact_balances(daily: Sequence[Row]) -> list[Row]:
    groups: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    keys = ("source_relation", "as_of_date", "contact_id", "currency_code")
    for row in present(daily):
        if row["contact_id"] is not None:
            groups[tuple(row[k] for k in keys)].append(row)
    return [
        dict(zip(keys, key, strict=True))
        | {"accounts": len(rows), "unknown_accounts": unknown(rows)}
        | {column: total(rows, column) for column in CONTACT_MONEY}
        for key, rows in groups.items()
    ]


def contact_360(
    balances: Sequence[Row],
    activities: Sequence[Row],
    contacts: Sequence[Mapping[str, Any]],
    settings: Settings,
) -> list[Row]:
    worked = [a for a in activities if not a["is_deleted"]]
    named = {row["contact_id"] for row in [*balances, *worked]} - {None}
    loaded = {c["id"]: c for c in contacts}
    told = []
    for contact in named if settings.is_past else named | loaded.keys():
        mine = [b for b in balances if b["contact_id"] == contact]
        work = [a for a in worked if a["contact_id"] == contact]
        any_row = [*balances, *activities][0]
        one = mine[0] if len(mine) == 1 else {}
        gone = loaded.get(contact, {}).get("_deleted_at")
        told.append(
            {
                "source_relation": any_row["source_relation"],
                "as_of_date": any_row["as_of_date"],
                "contact_id": contact,
                "contact_name": loaded.get(contact, {}).get("name"),
                "is_deleted": bool(gone and settings.local_date(gone) <= any_row["as_of_date"]),
                "accounts": sum(b["accounts"] for b in mine),
                "currencies": len(mine),
                "currency_code": one.get("currency_code"),
                **{column: one.get(column) for column in CONTACT_MONEY},
                "pending_activities": sum(a["state"] == "PENDING" for a in work),
                "overdue_activities": sum(a["is_overdue"] for a in work),
                "last_completed_date": max(
                    (a["completed_date"] for a in work if a["completed_date"]), default=None
                ),
            }
        )
    return told


def data_anomalies(
    daily: Sequence[Row],
    observations: Iterable[Mapping[str, Any]],
    activities: Iterable[Row],
    settings: Settings,
) -> list[Row]:
    told: list[Row] = []
    readings: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    histories = by_account(daily)
    as_of = max((row["date_day"] for row in daily), default=None)
    for o in sorted(known(observations, settings), key=lambda o: (o["observed_at"], o["run_id"])):
        if not o["is_missing"] and settings.local_date(o["observed_at"]) <= as_of:
            readings[o["account_id"]].append(o)

    def found(row: Row, rule: str, amount: Decimal | None) -> None:
        told.append(
            {c: row[c] for c in (*OF_ACCOUNT, "as_of_date")}
            | {"entity_type": "account", "entity_id": row["account_id"], "activity_id": None}
            | {"rule": rule, "amount": amount}
        )

    for row in present(daily):
        if None not in (row["overdue_gross"], row["receivable"]) and (
            row["overdue_gross"] > row["receivable"]
        ):
            found(row, "overdue_exceeds_balance", row["overdue_gross"] - row["receivable"])
        with_overdue = [r for r in readings[row["account_id"]] if r["overdue_amount"] is not None]
        last = with_overdue[-1] if with_overdue else None
        if last and currency_of(last) == row["currency_code"]:
            sent = money(last["overdue_amount"])
            if sent is not None and sent < 0:
                found(row, "negative_overdue", sent)
        if row["state"] == "TERMINATED" and row["balance"]:
            found(row, "terminated_with_balance", row["balance"])
        if row["currency_code"] == "XXX":
            found(row, "missing_currency", row["balance"])
        days = histories[row["account_id"]]
        changed = any(
            a["currency_code"] != b["currency_code"]
            and not (a["presence"] == "missing" and a["currency_code"] == "XXX")
            for a, b in pairwise(days)
        )
        if changed:
            found(row, "currency_changed", None)
    for activity in activities:
        begin, end = activity["schedule"]
        rules = {
            "schedule_ends_before_start": bool(begin and end and end < begin),
            "implausible_schedule": any(m and not 2000 <= m.year < 2036 for m in (begin, end)),
        }
        told += [
            {c: activity[c] for c in ("source_relation", "as_of_date", "activity_id", "contact_id")}
            | {"entity_type": "activity", "entity_id": activity["activity_id"], "rule": rule}
            | {"account_id": None, "account_number": None, "currency_code": None, "amount": None}
            for rule, broken in rules.items()
            if broken and not activity["is_deleted"]
        ]
    return told


def marts(
    tenant: str, raw: Mapping[str, Sequence[Mapping[str, Any]]], settings: Settings
) -> dict[str, list[Row]]:
    """All reports of a tenant."""
    numbers = {a["id"]: a["number"] for a in raw.get("accounts", ())}
    observations = raw.get("account_observations", ())
    daily = list(account_daily(tenant, observations, numbers, settings))
    if not daily:
        return {}
    as_of = max(row["date_day"] for row in daily)
    activities = activity_status(tenant, raw, as_of, settings)
    called = worklist(daily, activities)
    movement = balance_movement(daily)
    balances = contact_balances(daily)
    return {
        "account_daily": daily,
        "overdue_worklist": called,
        "collections_coverage": [{**row, "status": row["coverage_status"]} for row in called],
        "balance_summary": balance_summary(daily),
        "overdue_ageing": overdue_ageing(daily, settings),
        "balance_movement": movement,
        "overdue_kpis": overdue_kpis(daily, movement),
        "credit_exposure": credit_exposure(daily),
        "activity_status": activities,
        "follow_up_summary": follow_up_summary(activities),
        "contact_balances": balances,
        "contact_360": contact_360(balances, activities, raw.get("contacts", ()), settings),
        "data_anomalies": data_anomalies(daily, observations, activities, settings),
    }
