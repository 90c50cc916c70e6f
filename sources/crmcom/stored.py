"""What the warehouse already holds: the few questions that a sync asks of it.

`Stored` is the question, `Destination` asks it of the dlt pipeline that is running. An empty
answer stands for a table that does not exist yet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import dlt
import pyarrow as pa
from dlt.destinations.exceptions import DatabaseUndefinedRelation

from crmcom.schema import RAW_TABLES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime

_IDS_A_QUERY = 2_000


class Stored(Protocol):
    def rows(self, table: str, ids: Iterable[str]) -> pa.Table:
        """The whole rows of these ids, those that are there."""
        ...

    def ids(
        self, table: str, *, state: str | None = None, synced_after: datetime | None = None
    ) -> list[str]:
        """Ids of the rows that are not deleted, of one state or loaded after a time."""
        ...

    def accounts_to_refresh(self, budget: int) -> list[str]:
        """As many accounts as the budget allows: those that owe first, then the stalest."""
        ...


class Destination:
    """Asks the destination of the running pipeline, in plain SQL."""

    def rows(self, table: str, ids: Iterable[str]) -> pa.Table:
        found = [
            self._query(table, "*", f"id in ({', '.join(map(_quote, part))})")
            for part in _parts(sorted(ids))
        ]
        return pa.concat_tables([_empty(table), *filter(len, found)], promote_options="default")

    def ids(
        self, table: str, *, state: str | None = None, synced_after: datetime | None = None
    ) -> list[str]:
        where = ["_deleted_at is null"]
        if state is not None:
            where.append(f"state = {_quote(state)}")
        if synced_after is not None:
            where.append(f"_synced_at > timestamp '{synced_after:%Y-%m-%d %H:%M:%S.%f}'")
        found = self._query(table, "id", " and ".join(where))
        return [str(x) for x in found.column("id").to_pylist()]

    def accounts_to_refresh(self, budget: int) -> list[str]:
        found = self._query(
            "accounts",
            "id",
            "_deleted_at is null order by case when overdue_amount > 0 then 0 else 1 end, "
            f"_synced_at, id limit {budget}",
        )
        return [str(x) for x in found.column("id").to_pylist()]

    def _query(self, table: str, columns: str, where: str) -> pa.Table:
        with dlt.current.pipeline().sql_client() as client:
            name = client.make_qualified_table_name(table)
            try:
                # Raw SQL: dlt's dataset() parses it with sqlglot, seconds for long id lists.
                sql = f"select {columns} from {name} where {where}"  # noqa: S608
                with client.execute_query(sql) as cursor:
                    found: Any = cursor.arrow()
            except DatabaseUndefinedRelation:
                return _empty(table)
        drop = [c for c in found.column_names if c.startswith("_dlt_")]
        return found.drop_columns(drop)


def _empty(table: str) -> pa.Table:
    return RAW_TABLES[table].schema.empty_table()


def _parts(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for at in range(0, len(ids), _IDS_A_QUERY):
        yield ids[at : at + _IDS_A_QUERY]


def _quote(text: str) -> str:
    """A SQL literal. Ids come from the API: a quote inside one must stay inside."""
    return "'" + text.replace("'", "''") + "'"
