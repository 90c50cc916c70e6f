"""Rows loaded before `privacy` named their columns: hashed or dropped where they stand."""

# ruff: noqa: S608 - the names put into SQL are quoted

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa

from crmcom.drift import Drift
from crmcom.merge import VERSION_COLUMNS
from crmcom.privacy import Privacy
from crmcom.records import ACCOUNT, ACTIVITY, CONTACT
from crmcom_pipelines.rewrite import Dataset, quoted, rewrite

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crmcom import Settings
    from crmcom_pipelines.publish import Draft

_TABLES = {
    t for r in (CONTACT, ACCOUNT, ACTIVITY) for t in (r.table, *(c.table for c in r.children))
}
_COPIES = {
    "account_observations": ("accounts", None),
    "activity_versions": ("activities", VERSION_COLUMNS),
}


def hide_stored(draft: Draft, dataset: str, settings: Settings) -> bool:
    """Makes the rows of the working file follow `privacy`, where they do not; says whether.

    Raises `SettingsError` where they were hashed with another key.
    """
    privacy = Privacy(settings, stored=True)
    if not privacy or not draft.path.exists():
        return False
    with duckdb.connect(str(draft.path), read_only=True) as connection:
        states = Dataset(connection, dataset).states()
    latest = states[-1] if states else {}
    remembered = [s.get("privacy", {}) for s in latest.values()]
    privacy.same_key(remembered)
    if not any(map(privacy.is_new, remembered)):
        return False

    def change(data: Dataset) -> None:
        for table, columns in data.columns().items():
            drift = Drift.recall(frozenset(), _learned(latest, table))
            for column in columns:
                _hide(data, privacy, drift, table, column)
        if "_rejects" in data.columns():
            data.change(f"update {data.table('_rejects')} set payload = ''")
        data.change_states(lambda s: s | {"privacy": privacy.remember(s.get("privacy", {}))})

    rewrite(draft, dataset, change)
    return True


def _learned(states: Mapping[str, Any], table: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = states.get(table, {}).get("columns", {})
    return found


def _hide(data: Dataset, privacy: Privacy, drift: Drift, table: str, column: str) -> None:
    """One column: each distinct value once."""
    original, names = _COPIES.get(table, (table, None))
    if original not in _TABLES:
        return
    name = (names or {}).get(column, column)
    where = data.table(table)
    values = (
        data.connection.execute(
            f"select distinct {quoted(column)} as c from {where} where {quoted(column)} is not null"
        )
        .arrow()
        .read_all()
        .column(0)
    )
    veiled = privacy.veil(original, pa.table({name: values}), drift)
    same = name in veiled.column_names and veiled.column(name).equals(values)
    if same or not len(values):
        return
    found = {n: veiled.column(n) for n in veiled.column_names if n != name}
    found[column] = (
        veiled.column(name) if name in veiled.column_names else pa.nulls(len(values), values.type)
    )
    mapping = pa.table({"crmcom_before": values} | {f"after_{n}": c for n, c in found.items()})
    data.connection.register("crmcom_mapping", mapping)
    for other in found.keys() - {column}:
        data.connection.execute(
            f"alter table {where} add column if not exists {quoted(other)} text"
        )
    sets = ", ".join(f"{quoted(n)} = m.{quoted(f'after_{n}')}" for n in found)
    data.change(
        f"update {where} as t set {sets} from crmcom_mapping m "
        f"where t.{quoted(column)} = m.crmcom_before"
    )
    data.connection.unregister("crmcom_mapping")
