"""Columns that are not to be loaded as they are: `hash` keeps who is the same, `drop` nothing.

Done to what has just been read, before anything else sees it: what is carried over from the
warehouse has passed here once. A hash is a pseudonym: who has the phone book can find a number.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from crmcom.drift import variant
from crmcom.errors import SettingsError
from crmcom.schema import DELETED, RAW_TABLES, SYNCED, TEXT
from crmcom.settings import setting
from crmcom.tables import Reject, Shaped

if TYPE_CHECKING:
    from collections.abc import Mapping


class Privacy:
    """`columns`: column, in whichever table, to `hash` or `drop`. Raises `SettingsError`."""

    def __init__(self, columns: Mapping[str, str]) -> None:
        for name, how in columns.items():
            _check(name, how)
        self._columns = {v: how for name, how in columns.items() for v in (name, variant(name))}

    def of(self, shaped: Shaped) -> Shaped:
        if not self._columns:
            return shaped
        return Shaped(
            self._veil(shaped.rows),
            {table: self._veil(rows) for table, rows in shaped.children.items()},
            self.rejects(shaped.rejects),
        )

    def rejects(self, found: tuple[Reject, ...]) -> tuple[Reject, ...]:
        """Without payloads: what cannot be read cannot be searched for what is to be hidden."""
        if not self._columns:
            return found
        return tuple(Reject(r.record_id, r.reason, "") for r in found)

    def _veil(self, rows: pa.Table) -> pa.Table:
        for name, how in self._columns.items():
            index = rows.schema.get_field_index(name)
            if index >= 0:
                column = rows.column(index)
                hashed = how == "hash" and column.type == TEXT
                veiled = _hashed(column) if hashed else pa.nulls(len(rows), column.type)
                rows = rows.set_column(index, name, veiled)
        return rows


def _check(name: str, how: str) -> None:
    keys = {k for t in RAW_TABLES.values() for k in t.primary_key} | {"contact_id", "contact__id"}
    if name in keys | {"state", SYNCED.name, DELETED.name}:
        raise SettingsError(f"{setting('privacy')} names {name}, which holds the tables together")
    kinds = {t.schema.field(name).type for t in RAW_TABLES.values() if name in t.schema.names}
    if how == "hash" and kinds - {TEXT}:
        raise SettingsError(f"{setting('privacy')}: {name} is no text, so it can only be dropped")


def _hashed(column: Any) -> Any:
    distinct = {v: _hash(v) for v in column.unique().to_pylist() if v}
    return pa.array([distinct.get(v, v) for v in column.to_pylist()], TEXT)


def _hash(value: str) -> str:
    return hashlib.sha256(value.encode()).hexdigest()
