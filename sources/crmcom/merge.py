"""New readings beside the rows that the warehouse holds: what to carry over, what changed.

Pure Arrow, no I/O. A load replaces whole rows, so a column that an endpoint does not send must
be carried over from the stored row, or the load would null it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from crmcom.schema import TIME

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from datetime import datetime

# A version's columns, and the activity's columns that they follow.
VERSION_COLUMNS: Mapping[str, str] = {
    "state": "state",
    "contact__id": "contact__id",
    "type__name": "type__name",
    "assign_to__user__id": "assign_to__user__id",
    "assign_to__team__id": "assign_to__team__id",
    "scheduled_from": "key_dates__scheduled_on__from_date",
    "scheduled_to": "key_dates__scheduled_on__to_date",
}


def carry(rows: pa.Table, base: pa.Table, answered: Collection[str]) -> pa.Table:
    """`rows` with every column of `base` that their sender does not answer for, joined by id."""
    at = pc.index_in(rows.column("id"), value_set=base.column("id").combine_chunks())
    for name in base.column_names:
        if name in answered or name.startswith("_"):
            continue
        carried = base.column(name).take(at)
        index = rows.schema.get_field_index(name)
        if index < 0:
            rows = rows.append_column(name, carried)
        else:
            own = rows.column(index)
            rows = rows.set_column(index, name, pc.coalesce(own, carried.cast(own.type)))
    return rows


def without(table: pa.Table, ids: Collection[str], column: str = "id") -> pa.Table:
    """The rows whose `column` is not among `ids`."""
    if not ids or not len(table):
        return table
    gone = pa.array(list(ids), pa.string())
    return table.filter(pc.invert(pc.is_in(table.column(column), value_set=gone)))


def stack(tables: list[pa.Table]) -> pa.Table:
    """Tables of one kind as one; a column that one lacks is null there."""
    return pa.concat_tables(tables, promote_options="default")


def stamp(table: pa.Table, column: str, value: datetime | None) -> pa.Table:
    """The table with `column` set to one naive UTC time, or null, in every row."""
    filled = pa.repeat(pa.scalar(value, TIME), len(table))
    index = table.schema.get_field_index(column)
    if index < 0:
        return table.append_column(column, filled)
    return table.set_column(index, column, filled)


def versions(rows: pa.Table, last: pa.Table) -> pa.Table:
    """A version of each activity whose followed columns differ from its last version's."""
    found = pa.table(
        {"activity_id": rows.column("id")}
        | {to: rows.column(column) for to, column in VERSION_COLUMNS.items()}
        | {"is_deleted": pc.is_valid(rows.column("_deleted_at"))}
    )
    at = pc.index_in(
        found.column("activity_id"), value_set=last.column("activity_id").combine_chunks()
    )
    changed: Any = pc.is_null(at)
    for name in (*VERSION_COLUMNS, "is_deleted"):
        after, before = found.column(name), last.column(name).take(at)
        same = pc.fill_null(pc.equal(after, before), False)  # noqa: FBT003
        both_null = pc.and_(pc.is_null(after), pc.is_null(before))
        changed = pc.or_(changed, pc.invert(pc.or_(same, both_null)))
    return found.filter(changed)
