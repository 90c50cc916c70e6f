"""Marts in a file of their own, with the columns that the product's have."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa
import pytest

from crmcom_pipelines.marts import Mart

if TYPE_CHECKING:
    from pathlib import Path

TYPES = {
    "s": pa.string(),
    "d": pa.date32(),
    "i": pa.int32(),
    "b": pa.bool_(),
    "m": pa.decimal128(38, 4),
    "p": pa.decimal128(38, 6),
    "t": pa.timestamp("us"),
}


def schema_of(columns: str) -> pa.Schema:
    """From `name:type` words, the types as in `TYPES`."""
    return pa.schema([(n, TYPES[t]) for n, t in (c.split(":") for c in columns.split())])


SCHEMAS = {
    "overdue_worklist": schema_of(
        "source_relation:s as_of_date:d account_id:s contact_id:s contact_name:s contact_phone:s"
        " contact_email:s account_number:s state:s currency_code:s balance:m overdue_gross:m"
        " overdue_net:m overdue_since_date:d last_not_overdue_date:d days_overdue_min:i"
        " days_overdue_max:i is_start_censored:b bucket:s queue:s payment_terms_days:i"
        " priority_rank:i coverage_status:s next_due_date:d"
    ),
    "balance_summary": schema_of(
        "source_relation:s as_of_date:d currency_code:s classification:s state:s accounts:i"
        " overdue_accounts:i unknown_accounts:i carried_accounts:i receivable:m credit:m"
        " net_balance:m overdue_gross:m overdue_net:m overdue_ratio:p"
    ),
    "overdue_ageing": schema_of(
        "source_relation:s as_of_date:d account_id:s account_number:s contact_id:s"
        " currency_code:s bucket:s amount:m is_age_lower_bound:b"
    ),
    "overdue_kpis": schema_of(
        "source_relation:s period:s period_start_date:d period_end_date:d currency_code:s"
        " opening_overdue:m entered:m cleared:m closing_overdue:m cure_rate:p overdue_ratio:p"
    ),
    "account_daily": schema_of(
        "source_relation:s account_id:s date_day:d currency_code:s presence:s is_observed:b"
        " overdue_gross:m"
    ),
    "collections_coverage": schema_of(
        "source_relation:s as_of_date:d account_id:s account_number:s contact_id:s"
        " currency_code:s status:s next_due_date:d"
    ),
    "data_anomalies": schema_of(
        "source_relation:s as_of_date:d entity_type:s entity_id:s rule:s account_id:s"
        " account_number:s activity_id:s contact_id:s currency_code:s amount:m detail:s"
    ),
    "mystery": schema_of("source_relation:s note:s amount:m ratio:p day:d number:i flag:b"),
}

"""As the product's marts, and one that it knows nothing about."""

RUNS = schema_of(
    "run_id:s resource:s started_at:t finished_at:t scope:s verdict:s _synced_at:t reason:s"
)
"""As the raw table `_sync_runs`."""

AS_OF = date(2026, 10, 31)

WORKLIST = {
    "source_relation": "crmcom",
    "as_of_date": AS_OF,
    "contact_name": "Ελένη Παπαδοπούλου",
    "contact_phone": "+357 22 123456",
    "state": "ACTIVE",
    "currency_code": "EUR",
    "balance": Decimal(150),
    "overdue_gross": Decimal(100),
    "overdue_net": Decimal(100),
    "overdue_since_date": date(2026, 10, 1),
    "days_overdue_min": 31,
    "days_overdue_max": 33,
    "is_start_censored": False,
    "bucket": "31-60",
    "queue": "collect",
    "priority_rank": 1,
    "coverage_status": "uncovered",
}

SUMMARY = {
    "source_relation": "crmcom",
    "as_of_date": AS_OF,
    "currency_code": "EUR",
    "classification": "Residential",
    "state": "ACTIVE",
    "accounts": 10,
    "overdue_accounts": 2,
    "unknown_accounts": 0,
    "carried_accounts": 0,
    "receivable": Decimal(1000),
    "credit": Decimal(50),
    "net_balance": Decimal(950),
    "overdue_gross": Decimal(250),
    "overdue_net": Decimal(250),
    "overdue_ratio": Decimal("0.25"),
}


@dataclass
class Warehouse:
    path: Path

    def put(self, mart: str, *rows: dict[str, Any], dataset: str = "crmcom") -> None:
        """Replaces a mart; columns that a row does not name are null."""
        schema = SCHEMAS[mart]
        table = pa.Table.from_pylist(list(rows), schema)
        with duckdb.connect(self.path) as connection:
            connection.execute(f'create schema if not exists "{dataset}_reports"')
            connection.register("rows", table)
            connection.execute(f'create or replace table "{dataset}_reports"."{mart}" as from rows')

    def run(self, sql: str) -> None:
        with duckdb.connect(self.path) as connection:
            connection.execute(sql)


@pytest.fixture
def warehouse(tmp_path) -> Warehouse:
    return Warehouse(tmp_path / "warehouse.duckdb")


def account(rank: int, **differs: Any) -> dict[str, Any]:
    ids = {"priority_rank": rank, "account_id": f"id-{rank}", "account_number": f"A-{rank:04}"}
    return WORKLIST | ids | differs


@contextmanager
def open_in_memory(name, rows, schema=None):
    with duckdb.connect() as connection:
        connection.register("rows", pa.Table.from_pylist(rows, schema or SCHEMAS[name]))
        connection.execute(f"create schema reports; create table reports.{name} as from rows")
        yield Mart(connection, '"memory"."reports"', (name,), name)


@pytest.fixture(scope="session")
def in_memory():
    """Opens a mart of these rows without a file, for tests of very many marts."""
    return open_in_memory


@pytest.fixture(scope="session")
def worklist():
    """Makes a row of the worklist, of this rank and otherwise as usual."""
    return account


@pytest.fixture
def filled(warehouse) -> Warehouse:
    """Two currencies, a name of each script, an anomaly and an unknown start."""
    warehouse.put(
        "overdue_worklist",
        account(1, currency_code="JPY", contact_name="山田太郎", overdue_net=Decimal(123456)),
        account(2, overdue_gross=Decimal("1200.5"), overdue_net=Decimal(1100)),
        account(
            1,
            contact_name="Maximiliane von Hohenstein-Wittelsbach zu Sankt Augustin",
            contact_phone=None,
            contact_email="max@example.com",
            balance=Decimal("1234567.8912"),
            overdue_gross=Decimal("1234567.8912"),
            overdue_net=Decimal("1234567.8912"),
            days_overdue_max=None,
            is_start_censored=True,
            coverage_status="covered",
            next_due_date=date(2026, 11, 3),
            queue="write_off_review",
        ),
    )
    warehouse.put(
        "balance_summary",
        SUMMARY | {"state": "TERMINATED", "unknown_accounts": 1},
        SUMMARY,
        SUMMARY | {"currency_code": "KWD", "receivable": Decimal("1.2345")},
    )
    warehouse.put(
        "mystery",
        {"source_relation": "b", "amount": Decimal("-5"), "note": None},
        {"source_relation": "a", "note": "=1+1", "day": AS_OF, "number": 7, "flag": True},
    )
    return warehouse
