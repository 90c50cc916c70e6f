"""What the warehouse already holds: the few questions that a sync asks of it.

`Stored` is the question, `Destination` asks it of the dlt pipeline that is running. An empty
answer stands for a table that does not exist yet.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
from dlt.destinations.exceptions import DatabaseUndefinedRelation

from crmcom import forgotten
from crmcom.forgotten import Forgotten
from crmcom.refresh import KINDS, Known, question
from crmcom.schema import MONEY, RAW_TABLES, TIME

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from datetime import datetime

    from dlt import Pipeline
    from dlt.destinations.sql_client import SqlClientBase

T = TypeVar("T")

_IDS_A_QUERY = 2_000
_OF_DUCKDB = ("duckdb", "ducklake")
"""Whose SQL takes any number of ids as one JSON text. As a literal each, 20,000 of them are ten
questions: ten times through a table of a million, 3.5 s instead of 0.4."""
_WITH_ROWID = ("duckdb",)
"""Where rows are found by one column first. DuckDB would read all 36 columns of 2 million
activities for a thousand of them: 0.52 s and 100 MB, instead of 0.07 s and 2 MB."""


class Work(Protocol):
    """Calls something that takes long, and lets the event loop go on meanwhile."""

    async def __call__(self, do: Callable[[], T]) -> T: ...


class Stored(Protocol):
    async def rows(self, table: str, ids: Iterable[str]) -> pa.Table:
        """The whole rows of these ids, those that are there."""
        ...

    async def ids(
        self,
        table: str,
        *,
        state: str | None = None,
        synced_after: datetime | None = None,
        deleted: bool = False,
    ) -> list[str]:
        """Ids of the rows that are not deleted (or are), of one state or loaded after a time."""
        ...

    async def versions(self, activity_ids: Iterable[str]) -> pa.Table:
        """The last version of each of these activities, those that have any."""
        ...

    async def known_accounts(self, now: datetime) -> list[Known]:
        """What a choice among the accounts goes by, for each that is not deleted."""
        ...

    async def forgotten(self) -> Forgotten:
        """Who was erased and is to be kept out."""
        ...


class Destination:
    """Asks the destination of `pipeline`, in plain SQL.

    `work` runs a question in another thread, so that nobody who waits for a reply waits for it.
    One for each slice, in which nothing is loaded: a table that is not there will not come.
    """

    def __init__(self, pipeline: Pipeline, work: Work) -> None:
        self._pipeline, self._work = pipeline, work
        self._absent: set[str] = set()
        self._empty: dict[str, bool] = {}

    @cached_property
    def _sql(self) -> SqlClientBase[Any]:
        """One for all questions: for each new one dlt reads its whole configuration, 20 ms."""
        return self._pipeline.sql_client()

    async def is_empty(self, table: str) -> bool:
        """Whether it holds no row, or is not there."""
        if table not in self._empty:
            found = await self._ask(table, lambda name: [f"select _synced_at from {name} limit 1"])  # noqa: S608
            self._empty[table] = not len(found)
        return self._empty[table]

    async def rows(self, table: str, ids: Iterable[str]) -> pa.Table:
        return await self._of(table, "id", ids)

    async def ids(
        self,
        table: str,
        *,
        state: str | None = None,
        synced_after: datetime | None = None,
        deleted: bool = False,
    ) -> list[str]:
        where = [f"_deleted_at is {'not ' if deleted else ''}null"]
        if state is not None:
            where.append(f"state = {_quote(state)}")
        if synced_after is not None:
            where.append(f"_synced_at > timestamp '{synced_after:%Y-%m-%d %H:%M:%S.%f}'")
        condition = " and ".join(where)
        found = await self._ask(table, lambda name: [f"select id from {name} where {condition}"])  # noqa: S608
        return [str(x) for x in found.column("id").to_pylist()]

    async def versions(self, activity_ids: Iterable[str]) -> pa.Table:
        found = await self._of("activity_versions", "activity_id", activity_ids)
        # By the load's time: the server's clock may have been set back between two readings.
        order = [("activity_id", "ascending"), ("_synced_at", "ascending"), ("run_id", "ascending")]
        found = found.sort_by(order)
        ids = found.column("activity_id").combine_chunks()
        last = pc.not_equal(ids[:-1], ids[1:])
        return found.filter(
            pa.concat_arrays([last, pa.array([True] * min(1, len(ids)), pa.bool_())])
        )

    async def known_accounts(self, now: datetime) -> list[Known]:
        def ask() -> pa.Table:
            with self._sql as client:
                named = client.make_qualified_table_name
                return _fetched(
                    client,
                    question(
                        named("accounts"), named("account_observations"), named("_rejects"), now
                    ),
                )

        found = await self._work(ask)
        columns = (found.column(name).to_pylist() for name in Known._fields)
        return [Known(str(i), KINDS[kind], at) for i, kind, at in zip(*columns, strict=True)]

    async def forgotten(self) -> Forgotten:
        """Who was erased and is to be kept out."""

        def ask() -> Forgotten:
            with self._sql as client:
                name = client.make_qualified_table_name(forgotten.TABLE)
                try:
                    found = _fetched(client, f"select salt, digest from {name}")  # noqa: S608
                except DatabaseUndefinedRelation:
                    return Forgotten()
            salts, digests = (found.column(c).to_pylist() for c in ("salt", "digest"))
            return Forgotten(salts[0], frozenset(digests)) if salts else Forgotten()

        return await self._work(ask)

    async def _of(self, table: str, key: str, ids: Iterable[str]) -> pa.Table:
        """The rows with these values in `key`."""
        asked = sorted(set(ids))
        if not asked:
            return _empty(table)
        kind = self._pipeline.destination.destination_name
        listed = [_as_json(asked)] if kind in _OF_DUCKDB else map(_as_literals, _parts(asked))

        def questions(name: str) -> Iterator[str]:
            for part in listed:
                condition = f"{key} in ({part})"
                if kind in _WITH_ROWID:
                    condition = f"rowid in (select rowid from {name} where {condition})"  # noqa: S608
                yield f"select * from {name} where {condition}"  # noqa: S608

        return await self._ask(table, questions)

    async def _ask(self, table: str, questions: Callable[[str], Iterable[str]]) -> pa.Table:
        """What all of these questions find; they are told the table's name in SQL. One connection
        for all of them: opening a file costs more than asking."""
        if table in self._absent:
            return _empty(table)

        def ask() -> pa.Table:
            with self._sql as client:
                # Raw SQL: dlt's dataset() parses it with sqlglot, seconds for long id lists.
                asked = questions(client.make_qualified_table_name(table))
                try:
                    found = [_fetched(client, sql) for sql in asked]
                except DatabaseUndefinedRelation:
                    self._absent.add(table)
                    return _empty(table)
            parts = (_typed(table, part) for part in found if len(part))
            return pa.concat_tables([_empty(table), *parts], promote_options="default")

        return await self._work(ask)


def _fetched(client: Any, sql: str) -> pa.Table:
    """All rows as Arrow, without the columns of dlt's own."""
    with client.execute_query(sql) as cursor:
        # dlt calls what DuckDB 1.5 warns of and DuckDB 2 no longer has.
        fetch = getattr(cursor.native_cursor, "to_arrow_table", None) or cursor.arrow
        found = fetch()
    return found.drop_columns([c for c in found.column_names if c.startswith("_dlt_")])


def _typed(table: str, found: pa.Table) -> pa.Table:
    """With the types of our tables: where a driver gives no Arrow, dlt guesses them from values."""
    known = RAW_TABLES[table].schema
    for i, f in enumerate(found.schema):
        at = known.get_field_index(f.name)
        wanted = known.field(at).type if at >= 0 else _OF_UNKNOWN.get(f.type.id, f.type)
        if f.type != wanted:
            found = found.set_column(i, f.name, found.column(i).cast(wanted))
    # A column that is not ours and has no value here may be of any type.
    guessed = [f.name for f in found.schema if pa.types.is_null(f.type)]
    return found.drop_columns(guessed)


_OF_UNKNOWN = {pa.decimal128(1).id: MONEY, TIME.id: TIME}


def _empty(table: str) -> pa.Table:
    return RAW_TABLES[table].schema.empty_table()


def _parts(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for at in range(0, len(ids), _IDS_A_QUERY):
        yield ids[at : at + _IDS_A_QUERY]


def _as_literals(ids: Iterable[str]) -> str:
    return ", ".join(map(_quote, ids))


def _as_json(ids: Sequence[str]) -> str:
    text = _quote(msgspec.json.encode(ids).decode())
    return f"select unnest(from_json({text}, '[\"varchar\"]'))"


def _quote(text: str) -> str:
    """A SQL literal. Ids come from the API: a quote inside one must stay inside."""
    return "'" + text.replace("'", "''") + "'"
