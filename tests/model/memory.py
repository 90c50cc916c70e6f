"""A warehouse in memory, with the semantics that a merge has in a real one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from crmcom.forgotten import Forgotten
from crmcom.refresh import RECENT, Kind, Known
from crmcom.schema import RAW_TABLES

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

Row = dict[str, Any]
Key = tuple[Any, ...]


class Memory:
    """Implements `crmcom.stored.Stored`. What is put shows only once its load is merged."""

    def __init__(self) -> None:
        self.tables: dict[str, dict[Key, Row]] = {name: {} for name in RAW_TABLES}
        self.types: dict[str, dict[str, pa.DataType]] = {
            name: {f.name: f.type for f in raw.schema} for name, raw in RAW_TABLES.items()
        }
        self.states: dict[str, Any] = {}

    # --- what a sync asks ---

    async def rows(self, table: str, ids: Iterable[str]) -> pa.Table:
        wanted = set(ids)
        return self._table(table, [r for r in self.tables[table].values() if r["id"] in wanted])

    def _table(self, table: str, rows: list[Row]) -> pa.Table:
        names = self.types[table]
        return pa.table({n: pa.array([r.get(n) for r in rows], t) for n, t in names.items()})

    async def ids(
        self,
        table: str,
        *,
        state: str | None = None,
        synced_after: datetime | None = None,
        deleted: bool = False,
    ) -> list[str]:
        return [
            r["id"]
            for r in self.tables[table].values()
            if (r["_deleted_at"] is not None) == deleted
            and (state is None or r["state"] == state)
            and (synced_after is None or r["_synced_at"] > synced_after)
        ]

    async def versions(self, activity_ids: Iterable[str]) -> pa.Table:
        wanted, last = set(activity_ids), self.last_versions()
        return self._table("activity_versions", [r for i, r in last.items() if i in wanted])

    async def forgotten(self) -> Forgotten:
        return Forgotten()

    async def known_accounts(self, now: datetime) -> list[Known]:
        return [
            Known(r["id"], self._kind(r, now), r["_synced_at"])
            for r in self.tables["accounts"].values()
            if r["_deleted_at"] is None
        ]

    def _kind(self, account: Row, now: datetime) -> Kind:
        if (account["overdue_amount"] or 0) > 0:
            return Kind.OVERDUE
        readings = [
            r
            for r in self.tables["account_observations"].values()
            if r["account_id"] == account["id"]
            and now - RECENT < r["_synced_at"] < account["_synced_at"]
        ]
        before = max(readings, key=lambda r: r["_synced_at"], default=account)
        if any(
            before[c] != account[c] for c in ("state", "currency_code", "balance", "overdue_amount")
        ):
            return Kind.CHANGED
        return Kind.WITH_BALANCE if account["balance"] else Kind.QUIET

    # --- what is asked of it afterwards ---

    def list(self, table: str) -> list[Row]:
        return list(self.tables[table].values())

    def last_versions(self) -> dict[str, Row]:
        """The last version of each activity, by its id."""
        rows = self.tables["activity_versions"].values()
        return {
            r["activity_id"]: r for r in sorted(rows, key=lambda r: (r["_synced_at"], r["run_id"]))
        }

    def copy(self) -> Memory:
        other = Memory()
        other.tables = {name: dict(rows) for name, rows in self.tables.items()}
        other.types = {name: dict(types) for name, types in self.types.items()}
        other.states = json.loads(json.dumps(self.states))
        return other


class Load:
    """What one slice puts: merged table by table, each in a transaction of its own."""

    def __init__(self, memory: Memory) -> None:
        self.memory = memory
        self.puts: list[tuple[str, pa.Table]] = []

    def put(self, table: str, rows: pa.Table) -> None:
        self.puts.append((table, rows))

    @property
    def tables(self) -> list[str]:
        """In order of their names."""
        return sorted({table for table, rows in self.puts if len(rows)})

    def merge(self, only: Iterable[str] | None = None) -> None:
        """Merge all tables, or those that were merged when the process was killed."""
        for table in self.tables if only is None else only:
            self._merge(table, [rows for name, rows in self.puts if name == table])

    def _merge(self, table: str, parts: list[pa.Table]) -> None:
        raw, held = RAW_TABLES[table], self.memory.tables[table]
        types = self.memory.types[table]
        parents: set[Any] = set()
        rows: dict[Key, Row] = {}
        for part in parts:
            for f in part.schema:
                # dlt's frozen data types: another type for a column fails the load.
                assert types.setdefault(f.name, f.type) == f.type, (table, f)
            brought = part.to_pylist()
            if raw.merge_key:
                named = {r[raw.merge_key] for r in brought}
                assert not named & parents, f"{table}: a load brings the children of {named} twice"
                parents |= named
            for row in brought:
                key = tuple(row[k] for k in raw.primary_key)
                assert None not in key, (table, row)
                assert key not in rows, f"{table}: a load brings {key} twice"
                rows[key] = row
        for key in [k for k, r in held.items() if raw.merge_key and r[raw.merge_key] in parents]:
            del held[key]
        for key, row in rows.items():
            held.pop(key, None)
            if not row.pop("_gone", False):
                held[key] = row
