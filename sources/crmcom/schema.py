"""The tables of the raw dataset: their columns, and the key on which each is merged.

Every table is merged on a primary key, the append-only ones and the ledger included: a load
that dlt repeats after a kill then changes nothing (measured: `append` doubled its rows). Where it
repeats none, an empty table is appended to: docs/decisions/0012.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from crmcom.records import ACCOUNT, ACTIVITY, CONTACT, Record
from crmcom.tables import ARROW_TYPES, GONE, child_schema, row_schema

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

TEXT, FLAG, MONEY, TIME = (ARROW_TYPES[kind] for kind in ("text", "flag", "decimal", "epoch"))
COUNT = pa.int64()


@dataclass(frozen=True, slots=True)
class RawTable:
    """`merge_key`: set on a child table; a load replaces all rows of the parents it names."""

    name: str
    schema: pa.Schema
    primary_key: tuple[str, ...]
    merge_key: str | None = None

    def conform(self, table: pa.Table) -> pa.Table:
        """The table with every known column, of its type; others stay behind them."""
        columns = {}
        for f in self.schema:
            at = table.schema.get_field_index(f.name)
            column = table.column(at) if at >= 0 else pa.nulls(len(table), f.type)
            columns[f.name] = column if column.type == f.type else column.cast(f.type)
        extra = [f for f in table.schema if f.name not in columns]
        columns |= {f.name: table.column(f.name) for f in extra}
        schema = pa.schema([_keyed(f, self.primary_key) for f in [*self.schema, *extra]])
        return pa.table(list(columns.values()), schema=schema)

    def present(self, table: pa.Table) -> pa.Table:
        """The rows that are to be stored. The others only say that a parent has none."""
        index = table.schema.get_field_index(GONE)
        return table if index < 0 else table.filter(pc.invert(table.column(index)))

    @property
    def replaced(self) -> str | None:
        """The stored rows that a load replaces, for dlt, where a run's rows are new ones.

        They are those of the same key, as ever. Said like this, DuckDB skips what other runs have
        left: dlt's own condition compares all of it, 4 s for each 20,000 rows into 70 million.
        """
        if "run_id" not in self.primary_key:
            return None
        key = ", ".join(self.primary_key)
        return f"({key}) in (select {key} from {{staging_table}})"  # noqa: S608 - names of ours

    def hints(self, table: pa.Table) -> dict[str, Any]:
        """dlt's column hints for a conformed table, where Arrow's type does not say all. dlt checks
        each of them with each batch: 4 ms where all columns have one, instead of 2."""
        return {f.name: hint for f in table.schema if (hint := _hint(f))}


def _keyed(f: pa.Field, key: tuple[str, ...]) -> pa.Field:
    return pa.field(f.name, f.type, nullable=f.name not in key)


def _hint(f: pa.Field) -> dict[str, Any]:
    hint: dict[str, Any] = {"name": f.name, "nullable": f.nullable}
    if f.name == GONE:
        return hint | {"data_type": "bool", "hard_delete": True}
    if f.type == MONEY:
        return hint | {"data_type": "decimal", "precision": 38, "scale": 9}
    if f.type == TIME:
        # Without a zone: a zoned column reads as another date under another session's zone.
        return hint | {"data_type": "timestamp", "precision": 6, "timezone": False}
    return {}


SYNCED = pa.field("_synced_at", TIME)
DELETED = pa.field("_deleted_at", TIME)


def _records() -> Iterator[RawTable]:
    for record in (CONTACT, ACCOUNT, ACTIVITY):
        own = [pa.field("contact_id", TEXT)] if record is ACCOUNT else []
        schema = pa.schema([*row_schema(record), *own, SYNCED, DELETED])
        yield RawTable(record.table, schema, ("id",))
        yield from (_child(record, index) for index in range(len(record.children)))


def _child(record: Record, index: int) -> RawTable:
    child = record.children[index]
    schema = pa.schema([*child_schema(record, child), SYNCED])
    return RawTable(child.table, schema, (record.parent_key, "position"), record.parent_key)


def _table(name: str, key: tuple[str, ...], columns: Mapping[str, pa.DataType]) -> RawTable:
    return RawTable(name, pa.schema([*map(pa.field, columns, columns.values()), SYNCED]), key)


RAW_TABLES: Mapping[str, RawTable] = {
    t.name: t
    for t in (
        *_records(),
        _table(
            "account_observations",
            ("account_id", "run_id"),
            {
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
            },
        ),
        _table(
            "activity_versions",
            ("activity_id", "run_id"),
            {
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
            },
        ),
        _table(
            "_sync_runs",
            ("run_id", "resource"),
            {
                "run_id": TEXT,
                "resource": TEXT,
                "started_at": TIME,
                "finished_at": TIME,
                "scope": TEXT,
                "verdict": TEXT,
                "reason": TEXT,
                "requests": COUNT,
                "retries": COUNT,
                "rows": COUNT,
                "rejected": COUNT,
            },
        ),
        _table(
            "_sync_windows",
            ("run_id", "resource", "position"),
            {
                "run_id": TEXT,
                "resource": TEXT,
                "position": COUNT,
                "listed": TEXT,
                "window_start": TIME,
                "window_end": TIME,
                "api_total": COUNT,
                "distinct_ids": COUNT,
                "rows_loaded": COUNT,
                "requests": COUNT,
                "retries": COUNT,
                "verdict": TEXT,
                "reason": TEXT,
            },
        ),
        _table(
            "_rejects",
            ("run_id", "resource", "position"),
            {
                "run_id": TEXT,
                "resource": TEXT,
                "position": COUNT,
                "record_id": TEXT,
                "reason": TEXT,
                "payload": TEXT,
            },
        ),
    )
}
