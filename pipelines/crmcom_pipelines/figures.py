"""What the page about overdue debt says: figures of each tenant and currency, exact.

A section is one currency of one tenant; nothing is ever added across sections.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from crmcom_pipelines.marts import Mart

    Row = dict[str, Any]
    Key = tuple[str, str]

_DAYS_SHOWN_DAILY = 92
_WEEKS_SHOWN = 106
_MONTHS_SHOWN = 13
_WARN_AFTER_H, _STALE_AFTER_H = 26, 50
"""As the freshness of the dbt source."""

COVERAGE = ("uncovered", "stale", "unlinkable", "covered")
"""What may be missing first."""


@dataclass(slots=True)
class Section:
    """One currency of one tenant; None is what is not known."""

    tenant: str
    currency: str
    as_of: date
    accounts: int | None = None
    overdue_accounts: int = 0
    unknown_accounts: int = 0
    carried_accounts: int = 0
    receivable: Decimal | None = None
    credit: Decimal | None = None
    net_balance: Decimal | None = None
    overdue_gross: Decimal = Decimal(0)
    overdue_net: Decimal = Decimal(0)
    overdue_ratio: Decimal | None = None
    net_unknown: int = 0
    """Overdue accounts whose balance was never observed: their net amount is in no sum."""
    ageing: list[Row] = field(default_factory=list)
    """bucket, amount, accounts, is_lower_bound; youngest first, unknown last."""
    trend: list[Row] = field(default_factory=list)
    """day, overdue, is_observed; oldest first."""
    trend_period: str = "day"
    months: list[Row] = field(default_factory=list)
    """Newest first."""
    coverage: list[Row] = field(default_factory=list)
    """status, accounts, overdue, unknown."""
    unread_days: list[date] = field(default_factory=list)
    """Of the trend."""


@dataclass(slots=True)
class Tenant:
    name: str
    as_of: date
    runs: list[Row]
    """resource, complete_at, last_at, verdict; times UTC."""

    def read_at(self, resource: str = "accounts") -> datetime | None:
        """When the last complete reading ended."""
        found = (run["complete_at"] for run in self.runs if run["resource"] == resource)
        return next(found, None)


@dataclass(slots=True)
class Overview:
    tenants: list[Tenant]
    sections: list[Section]
    anomalies: list[Row]
    """tenant, rule, entities; most first."""
    missing: tuple[str, ...]
    """Reports that the page draws upon and that the warehouse does not have."""


PARTS = (
    *("overdue_worklist", "balance_summary", "overdue_ageing", "overdue_kpis"),
    *("account_daily", "data_anomalies"),
)
"""The reports that the page draws upon."""


def overview(worklist: Mart, *, known_at: datetime | None = None, is_past: bool) -> Overview:
    """`is_past`: asked for as of a past day or as known then, so that no later run counts."""
    parts = {name: worklist.sibling(name) for name in PARTS}
    sections: dict[Key, Section] = {}
    for row in _summaries(parts["balance_summary"]):
        key = row["tenant"], row["currency"]
        sections[key] = Section(**row)
    _add_worklist(sections, worklist)
    if ageing := parts["overdue_ageing"]:
        _add_ageing(sections, ageing)
    if kpis := parts["overdue_kpis"]:
        _add_trend(sections, kpis, parts["account_daily"])
    ordered = [sections[key] for key in sorted(sections)]
    days: dict[str, date] = {}
    for section in ordered:
        days[section.tenant] = max(section.as_of, days.get(section.tenant, section.as_of))
    return Overview(
        tenants=[
            Tenant(name, day, _runs(worklist, name, day if is_past else None, known_at))
            for name, day in days.items()
        ],
        sections=ordered,
        anomalies=_anomalies(parts["data_anomalies"]),
        missing=tuple(name for name, mart in parts.items() if mart is None),
    )


_KEY = "source_relation as tenant, currency_code as currency"
_BY_KEY = "group by source_relation, currency_code"


def _summaries(balances: Mart | None) -> list[Row]:
    if balances is None:
        return []
    found = balances.rows(
        f"{_KEY}, max(as_of_date) as as_of, sum(accounts) as accounts,"
        " sum(overdue_accounts) as overdue_accounts, sum(unknown_accounts) as unknown_accounts,"
        " sum(carried_accounts) as carried_accounts, sum(receivable) as receivable,"
        " sum(credit) as credit, sum(net_balance) as net_balance,"
        " sum(overdue_gross) as overdue_gross, sum(overdue_net) as overdue_net",
        _BY_KEY,
    )
    for row in found:
        for count in ("accounts", "overdue_accounts", "unknown_accounts", "carried_accounts"):
            row[count] = int(row[count])
        if row["receivable"]:
            row["overdue_ratio"] = row["overdue_net"] / row["receivable"]
    return found


def _add_worklist(sections: dict[Key, Section], worklist: Mart) -> None:
    found = worklist.rows(
        f"{_KEY}, coverage_status as status, max(as_of_date) as as_of, count(*) as accounts,"
        " count(*) - count(overdue_net) as unknown,"
        " coalesce(sum(overdue_net), 0) as overdue, sum(overdue_gross) as gross",
        f"{_BY_KEY}, coverage_status",
    )
    place = {status: i for i, status in enumerate(COVERAGE)}
    for row in sorted(found, key=lambda row: place.get(row["status"], len(place))):
        key = row["tenant"], row["currency"]
        section = sections.get(key)
        if section is None:
            section = sections[key] = Section(*key, row["as_of"])
        if section.accounts is None:  # no balances to take it from
            section.overdue_accounts += row["accounts"]
            section.overdue_gross += row["gross"]
            section.overdue_net += row["overdue"]
        section.net_unknown += row["unknown"]
        section.coverage.append(row)


def _add_ageing(sections: dict[Key, Section], ageing: Mart) -> None:
    for row in ageing.rows(
        f"{_KEY}, bucket, sum(amount) as amount, count(distinct account_id) as accounts,"
        " bool_or(is_age_lower_bound) as is_lower_bound",
        f"{_BY_KEY}, bucket having sum(amount) <> 0",
    ):
        if section := sections.get((row["tenant"], row["currency"])):
            section.ageing.append(row)
    for section in sections.values():
        section.ageing.sort(key=lambda row: bucket_order(row["bucket"]))


def bucket_order(bucket: str) -> tuple[int, str]:
    """By the first day; what has none comes last."""
    first = bucket.rstrip("+").partition("-")[0]
    return (int(first), "") if first.isdecimal() else (10**9, bucket)


def _add_trend(sections: dict[Key, Section], kpis: Mart, daily: Mart | None) -> None:
    if not sections:
        return
    last = max(section.as_of for section in sections.values())
    first = (daily and daily.ask("min(date_day)")) or last
    is_daily = (last - first).days < _DAYS_SHOWN_DAILY
    period = "day" if is_daily else "week"
    since = last - timedelta(days=_DAYS_SHOWN_DAILY if is_daily else 7 * _WEEKS_SHOWN)
    unread: dict[Key, set[date]] = defaultdict(set)
    if daily and is_daily:
        for row in daily.rows(
            f"{_KEY}, date_day as day",
            f"where date_day >= date '{since}' and presence = 'present'"
            " group by source_relation, currency_code, date_day having not bool_or(is_observed)",
        ):
            unread[row["tenant"], row["currency"]].add(row["day"])
    for key, each in sections.items():
        each.trend_period = period
        each.unread_days = sorted(unread[key])
    columns = (
        f"{_KEY}, period, period_start_date as start, period_end_date as day, opening_overdue,"
        " entered, cleared, closing_overdue as overdue, cure_rate"
    )
    for row in kpis.rows(
        columns,
        f"where period = '{period}' and period_end_date >= date '{since}' order by period_end_date",
    ):
        section = sections.get((row["tenant"], row["currency"]))
        if section:
            row["day"] = min(row["day"], section.as_of)
            row["is_observed"] = row["day"] not in unread[section.tenant, section.currency]
            section.trend.append(row)
    for row in kpis.rows(columns, "where period = 'month' order by period_start_date desc"):
        section = sections.get((row["tenant"], row["currency"]))
        if section and len(section.months) < _MONTHS_SHOWN:
            row["day"] = min(row["day"], section.as_of)
            section.months.append(row)


def _anomalies(anomalies: Mart | None) -> list[Row]:
    if anomalies is None:
        return []
    return anomalies.rows(
        "source_relation as tenant, rule, count(*) as entities",
        "group by source_relation, rule order by tenant, entities desc, rule",
    )


def _runs(mart: Mart, tenant: str, until: date | None, known_at: datetime | None) -> list[Row]:
    """What the ledger says of each resource; a tenant is called as its raw dataset is."""
    where = []
    if until:
        where.append(f"cast(started_at as date) <= date '{until}'")
    if known_at:
        where.append(f"_synced_at <= timestamp '{known_at}'")
    runs = mart.raw(tenant, "_sync_runs")
    if runs is None:
        return []
    return runs.rows(
        "resource, max(finished_at) as last_at, max_by(verdict, run_id) as verdict,"
        " max(case when scope = 'complete' and verdict <> 'failed' then finished_at end)"
        " as complete_at",
        (f"where {' and '.join(where)} " if where else "") + "group by resource order by resource",
    )


def troubles(found: Overview, *, made_at: datetime, is_past: bool) -> Iterator[str]:
    """What a reader must know before believing a figure; none where all is as it should be."""
    for tenant in found.tenants:
        of = f" of {tenant.name}" if len(found.tenants) > 1 else ""
        read_at = tenant.read_at()
        if read_at is None:
            yield f"No complete reading of accounts{of} is on record."
        elif not is_past:
            hours = int((made_at.replace(tzinfo=None) - read_at).total_seconds() // 3600)
            if hours >= _WARN_AFTER_H:
                how = "stale" if hours >= _STALE_AFTER_H else "late"
                age = f"{hours // 24} days" if hours >= 48 else f"{hours} hours"
                yield (
                    f"The figures{of} are {how}: accounts were last read completely {age} before"
                    " this page was made."
                )
        for run in tenant.runs:
            if run["verdict"] != "proven":
                how = _VERDICTS.get(run["verdict"], "did not end")
                yield (f"The latest run of {run['resource']}{of} {how}: crmcom status says where.")


_VERDICTS = {"failed": "failed", "unproven": "could not show that it read everything"}
