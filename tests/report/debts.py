"""A warehouse of overdue debt whose answers are known: all marts that the page draws upon."""

from __future__ import annotations

from collections import defaultdict
from datetime import date, datetime, timedelta
from decimal import Decimal, localcontext
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa

from .conftest import AS_OF, RUNS, SUMMARY, Warehouse, account

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

READ_AT = datetime(2026, 10, 31, 5, 15)  # noqa: DTZ001 - the warehouse's timestamps are naive UTC
CENT = Decimal("0.01")


def debtors(n: int, currency: str = "EUR", **differs: Any) -> list[dict[str, Any]]:
    """Accounts of every kind, the largest debt first; the same ones each time."""
    rows = []
    for i in range(n):
        overdue = (Decimal(9_876_543) / (i + 1) ** 2).quantize(CENT) + i
        days = 1 + (i * 37) % 130
        rows.append(
            account(
                i + 1,
                account_id=f"{currency}-{i + 1}",
                account_number=f"{currency[0]}{i + 1:06}",
                currency_code=currency,
                contact_name=NAMES[i % len(NAMES)] + (f" {i}" if i >= len(NAMES) else ""),
                contact_phone=None if i % 7 == 3 else f"+357 22 {100_000 + i * 7919 % 900_000}",
                contact_email=f"debtor{i}@example.com",
                balance=overdue * 2 - (0 if i % 3 else 1),
                overdue_gross=overdue,
                overdue_net=overdue,
                days_overdue_min=days,
                days_overdue_max=(days, days + 3, None)[i % 3],
                is_start_censored=i % 3 == 2,
                bucket=bucket(days, is_censored=i % 3 == 2),
                queue=("collect", "collect", "suspended", "write_off_review")[i % 4],
                coverage_status=("uncovered", "covered", "stale", "unlinkable")[i * i % 4 + i % 3],
                next_due_date=AS_OF + timedelta(days=i % 9) if i * i % 4 + i % 3 == 1 else None,
                **differs,
            )
        )
    return rows


NAMES = (
    "Ελένη Παπαδοπούλου",
    "Brown Telecom Ltd",
    "Noël Novák",
    "Sofia García",
    "山田太郎",
    "O'Neil & Sons",
    "Maximiliane von Hohenstein-Wittelsbach zu Sankt Augustin",
    "شركة النور",
)


def bucket(days: int, *, is_censored: bool) -> str:
    if days > 90:
        return "91+"
    if is_censored:
        return "unknown_start"
    return next(name for last, name in ((30, "1-30"), (60, "31-60"), (90, "61-90")) if days <= last)


def fill(
    warehouse: Warehouse,
    accounts: Iterable[dict[str, Any]],
    *,
    days: int = 30,
    tenants: Sequence[str] = ("crmcom",),
    anomalies: Iterable[dict[str, Any]] = (),
    verdict: str = "proven",
    read_at: datetime = READ_AT,
) -> None:
    """Puts the worklist's accounts, and what follows from them into the other marts.

    A debt grows by 1,000 a day; every sixth day was not read.
    """
    with localcontext(prec=60):
        _fill(warehouse, list(accounts), days, list(tenants), anomalies)
    for tenant in tenants:
        _put_runs(warehouse, tenant, verdict, read_at)


def _fill(warehouse, accounts, days, tenants, anomalies):
    summaries, ageing, kpis, daily = [], [], [], []
    groups = defaultdict(list)
    for row in accounts:
        groups[row["source_relation"], row["currency_code"]].append(row)
    for tenant in tenants:
        groups.setdefault((tenant, "CHF"), [])
    for (tenant, currency), rows in groups.items():
        key = {"source_relation": tenant, "currency_code": currency}
        gross = sum((row["overdue_gross"] for row in rows), Decimal(0))
        net = sum((row["overdue_net"] or 0 for row in rows), Decimal(0))
        owed = sum((max(row["balance"] or 0, Decimal(0)) for row in rows), Decimal(1000))
        summaries.append(
            SUMMARY
            | key
            | {
                "accounts": len(rows) + 10,
                "overdue_accounts": len(rows),
                "unknown_accounts": sum(row["overdue_net"] is None for row in rows),
                "carried_accounts": 1,
                "receivable": owed,
                "credit": Decimal("12.5"),
                "net_balance": owed - Decimal("12.5"),
                "overdue_gross": gross,
                "overdue_net": net,
                "overdue_ratio": None,
            }
        )
        ageing += [
            key
            | {
                "as_of_date": AS_OF,
                "account_id": row["account_id"],
                "bucket": row["bucket"],
                "amount": row["overdue_gross"],
                "is_age_lower_bound": row["is_start_censored"],
            }
            for row in rows
        ]
        before = Decimal(0)
        for back in range(days - 1, -1, -1):
            day = AS_OF - timedelta(days=back)
            closing = gross - back * CENT * 100_000 if gross > back * 1000 else gross
            kpis.append(_kpi(key, "day", (day, day), before, closing))
            is_read = day.toordinal() % 6 != 0 or not back
            daily.append(
                key
                | {
                    "account_id": f"{currency}-1",
                    "date_day": day,
                    "presence": "present",
                    "is_observed": is_read,
                    "overdue_gross": closing,
                }
            )
            before = closing
        kpis.append(_kpi(key, "month", (AS_OF.replace(day=1), AS_OF), Decimal(0), gross))
        kpis.append(_kpi(key, "week", (AS_OF, date(2026, 11, 1)), Decimal(0), gross))
    warehouse.put("overdue_worklist", *accounts)
    warehouse.put("balance_summary", *(summaries if accounts or tenants else ()))
    warehouse.put("overdue_ageing", *ageing)
    warehouse.put("overdue_kpis", *kpis)
    warehouse.put("account_daily", *daily)
    warehouse.put("data_anomalies", *anomalies)
    warehouse.put(
        "collections_coverage",
        *(
            {k: row.get(k) for k in ("source_relation", "as_of_date", "account_id")}
            | {"currency_code": row["currency_code"], "status": row["coverage_status"]}
            for row in accounts
        ),
    )


def _put_runs(warehouse, tenant, verdict, read_at):
    with duckdb.connect(warehouse.path) as connection:
        connection.execute(f'create schema if not exists "{tenant}"')
        runs = [
            {
                "run_id": "1",
                "resource": resource,
                "started_at": read_at - timedelta(minutes=3),
                "finished_at": read_at,
                "_synced_at": read_at,
                "scope": "complete",
                "verdict": verdict,
            }
            for resource in ("accounts", "activities", "contacts")
        ]
        connection.register("runs", pa.Table.from_pylist(runs, RUNS))
        connection.execute(f'create or replace table "{tenant}"._sync_runs as from runs')


def _kpi(key, period, days, before, after):
    return key | {
        "period": period,
        "period_start_date": days[0],
        "period_end_date": days[1],
        "opening_overdue": before,
        "entered": max(after - before, Decimal(0)),
        "cleared": max(before - after, Decimal(0)),
        "closing_overdue": after,
        "cure_rate": Decimal("0.125"),
    }


ANOMALIES = [
    {
        "source_relation": "crmcom",
        "as_of_date": AS_OF,
        "entity_type": "account",
        "entity_id": "EUR-1",
        "rule": "overdue_exceeds_balance",
        "account_number": "E000001",
        "currency_code": "EUR",
        "amount": Decimal("1234.56"),
    },
    {
        "source_relation": "crmcom",
        "as_of_date": AS_OF,
        "entity_type": "activity",
        "entity_id": "call-7",
        "rule": "implausible_schedule",
        "detail": "2339-04-20 10:00:00 to 2339-04-20 11:00:00",
    },
]
