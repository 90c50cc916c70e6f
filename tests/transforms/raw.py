"""Raw datasets made by hand: what a sync would have loaded, without a sync."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa

from crmcom.records import ACCOUNT, ACTIVITY, CONTACT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

TEXT, MONEY, FLAG, TIME, COUNT = "varchar", "decimal(38, 9)", "boolean", "timestamp", "bigint"
KINDS = {"text": TEXT, "decimal": MONEY, "flag": FLAG, "epoch": TIME}

LOADED = {"_synced_at": TIME, "_dlt_load_id": TEXT, "_dlt_id": TEXT}
CHILD = {"position": COUNT, **LOADED, "_gone": FLAG}


def _fields(record: Any) -> dict[str, str]:
    return {f.column: KINDS[f.kind] for f in record.fields}


TABLES: dict[str, dict[str, str]] = {
    "contacts": {**_fields(CONTACT), "_deleted_at": TIME, **LOADED, "favourite_colour": TEXT},
    "accounts": {**_fields(ACCOUNT), "contact_id": TEXT, "_deleted_at": TIME, **LOADED},
    "activities": {**_fields(ACTIVITY), "_deleted_at": TIME, **LOADED},
    "contact_custom_fields": {"contact_id": TEXT, "key": TEXT, "value": TEXT, **CHILD},
    "contact_tags": {"contact_id": TEXT, "id": TEXT, "name": TEXT, "colour": TEXT, **CHILD},
    "activity_custom_fields": {"activity_id": TEXT, "key": TEXT, "value": TEXT, **CHILD},
    "activity_tags": {"activity_id": TEXT, "id": TEXT, "name": TEXT, "colour": TEXT, **CHILD},
    "activity_states": {"activity_id": TEXT, "state": TEXT, "date": TIME, **CHILD},
    "account_observations": {
        "account_id": TEXT,
        "contact_id": TEXT,
        "observed_at": TIME,
        "run_id": TEXT,
        "state": TEXT,
        "currency_code": TEXT,
        "classification__name": TEXT,
        "payment_terms__name": TEXT,
        "balance": MONEY,
        "overdue_amount": MONEY,
        "credit_limit": MONEY,
        "is_missing": FLAG,
        **LOADED,
    },
    "activity_versions": {
        "activity_id": TEXT,
        "observed_at": TIME,
        "run_id": TEXT,
        "state": TEXT,
        "contact__id": TEXT,
        "type__name": TEXT,
        "assign_to__user__id": TEXT,
        "assign_to__team__id": TEXT,
        "scheduled_from": TIME,
        "scheduled_to": TIME,
        "is_deleted": FLAG,
        **LOADED,
    },
    "_sync_runs": {
        "run_id": TEXT,
        "resource": TEXT,
        "started_at": TIME,
        "finished_at": TIME,
        "scope": TEXT,
        "verdict": TEXT,
        "requests": COUNT,
        "retries": COUNT,
        "rows": COUNT,
        "rejected": COUNT,
        **LOADED,
    },
    "_sync_windows": {
        "run_id": TEXT,
        "resource": TEXT,
        "window_start": TIME,
        "window_end": TIME,
        "api_total": COUNT,
        "distinct_ids": COUNT,
        "rows_loaded": COUNT,
        "requests": COUNT,
        "retries": COUNT,
        "verdict": TEXT,
        **LOADED,
    },
    "_rejects": {
        "run_id": TEXT,
        "resource": TEXT,
        "record_id": TEXT,
        "reason": TEXT,
        "payload": TEXT,
        **LOADED,
    },
}

_ARROW = {
    TEXT: pa.string(),
    MONEY: pa.decimal128(38, 9),
    FLAG: pa.bool_(),
    TIME: pa.timestamp("us"),
    COUNT: pa.int64(),
}


def load(database: Path, dataset: str, tables: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Adds rows to a raw dataset, which is made where it is not there yet."""
    with duckdb.connect(database) as connection:
        connection.execute(f"create schema if not exists {dataset}")
        for name, columns in TABLES.items():
            typed = ", ".join(f'"{column}" {kind}' for column, kind in columns.items())
            connection.execute(f'create table if not exists {dataset}."{name}" ({typed})')
        for name, rows in tables.items():
            if not rows:
                continue
            columns = TABLES[name]
            unknown = {key for row in rows for key in row} - set(columns)
            assert not unknown, f"{name} has no {unknown}"
            arrow = pa.table(
                {
                    column: pa.array([_exact(row.get(column)) for row in rows], _ARROW[kind])
                    for column, kind in columns.items()
                }
            )
            connection.register("new_rows", arrow)
            connection.execute(f'insert into {dataset}."{name}" by name select * from new_rows')
            connection.unregister("new_rows")


def _exact(value: Any) -> Any:
    return Decimal(value) if isinstance(value, int) and not isinstance(value, bool) else value


def rows(database: Path, query: str, source: Path | None = None) -> list[dict[str, Any]]:
    """What a query finds; `source` is the file that a file of the past refers to."""
    with duckdb.connect(database, read_only=True) as connection:
        if source:
            connection.execute(f"attach '{source}' as crmcom_source (read_only)")
        found = connection.execute(query)
        names = [column[0] for column in found.description or ()]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]
