"""Marts that were built in a DuckDB file, given to the readers of a lake in one transaction.

Only the rows that changed are deleted and inserted: a lake keeps every file that a reader of a past
snapshot may ask for, and so would keep each publishing whole.
"""

# ruff: noqa: S608 - the only names put into SQL are the catalogs', quoted

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import duckdb

from crmcom.schema import RAW_TABLES
from crmcom_pipelines.lake import ALIAS
from crmcom_pipelines.lake_reader import columns, tables
from crmcom_pipelines.postgres import PUBLISHED, RUNS, STAMP, literal, quoted
from crmcom_pipelines.union import Column

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from duckdb import DuckDBPyConnection

    from crmcom_pipelines.union import Union

_BUILD = "built"


@dataclass(frozen=True, slots=True)
class _Table:
    catalog: str
    schema: str
    name: str

    def __str__(self) -> str:
        return quoted(self.catalog, self.schema, self.name)

    def columns(self, connection: DuckDBPyConnection) -> dict[str, tuple[str, str | None]]:
        return columns(connection, self.catalog, self.schema, self.name)


def publish(
    connection: DuckDBPyConnection,
    build: Path,
    dataset: str,
    tenants: Sequence[str],
    *,
    snapshot: int,
    union: Union | None = None,
) -> bool:
    """`tenants` are the raw datasets that the marts were built from, as of `snapshot`. False where
    marts of a later one are published already."""
    reports, beside = f"{dataset}_reports", f"{dataset}_intermediate"
    connection.execute(f"attach {literal(str(build))} as {_BUILD} (read_only)")
    try:
        connection.execute("begin")
        try:
            if _published_snapshot(connection, beside) > snapshot:
                connection.execute("rollback")
                return False
            built = [(reports, name) for name in tables(connection, reports, _BUILD)]
            for schema, name in [*built, *((beside, name) for name in PUBLISHED)]:
                source, target = _Table(_BUILD, schema, name), _Table(ALIAS, schema, name)
                _replace(connection, _computed(connection, source), target)
                _comment(connection, source, target)
            runs = _made(connection, RUNS, _runs(tenants))
            _replace(connection, runs, _Table(ALIAS, beside, RUNS))
            stamp = f"select now() as at, cast({snapshot} as bigint) as snapshot_id"
            _replace(connection, _made(connection, STAMP, stamp), _Table(ALIAS, beside, STAMP))
            if union is not None:
                _unite(connection, union)
            connection.execute("commit")
        except BaseException:
            with contextlib.suppress(duckdb.Error):  # where the commit itself has failed
                connection.execute("rollback")
            raise
    finally:
        connection.execute(f"detach {_BUILD}")
    return True


def _published_snapshot(connection: DuckDBPyConnection, schema: str) -> int:
    if STAMP not in tables(connection, schema):
        return -1
    stamp = _Table(ALIAS, schema, STAMP)
    found = connection.execute(f"select max(snapshot_id) from {stamp}").fetchone()
    return int(found[0]) if found else -1


def _runs(tenants: Sequence[str]) -> str:
    """The ledger's runs, as they were when the marts were built."""
    names = ", ".join(map(quoted, RAW_TABLES["_sync_runs"].schema.names))
    return " union all ".join(
        f"select cast({literal(tenant)} as text) as source_relation, {names} "
        f"from {_Table(_BUILD, tenant, '_sync_runs')}"
        for tenant in tenants
    )


def _computed(connection: DuckDBPyConnection, source: _Table) -> _Table:
    """A view's rows are asked for several times."""
    found = connection.execute(
        f"select 1 from duckdb_views() where database_name = {literal(source.catalog)} "
        f"and schema_name = {literal(source.schema)} and view_name = {literal(source.name)}"
    ).fetchone()
    return _made(connection, source.name, f"from {source}") if found else source


def _made(connection: DuckDBPyConnection, name: str, select: str) -> _Table:
    made = _Table("temp", "main", name)
    connection.execute(f"create or replace temp table {quoted(name)} as {select}")
    return made


def _replace(connection: DuckDBPyConnection, source: _Table, target: _Table) -> None:
    """Makes `target` hold the rows of `source`."""
    wanted = {name: kind for name, (kind, _) in source.columns(connection).items()}
    have = {name: kind for name, (kind, _) in target.columns(connection).items()}
    connection.execute(f"create schema if not exists {quoted(target.catalog, target.schema)}")
    if list(wanted.items()) != list(have.items()):
        connection.execute(f"create or replace table {target} as from {source}")
        return
    same = " and ".join(f"new.{quoted(c)} is not distinct from old.{quoted(c)}" for c in wanted)
    connection.execute(
        f"delete from {target} where rowid in (select rowid from {target} as old "
        f"where not exists (from {source} as new where {same}))"
    )
    connection.execute(
        f"insert into {target} select * from {source} as new "
        f"where not exists (from {target} as old where {same})"
    )


def _comment(connection: DuckDBPyConnection, source: _Table, target: _Table) -> None:
    have = target.columns(connection)
    for name, (_, comment) in source.columns(connection).items():
        if comment and have[name][1] != comment:
            column = f"{target}.{quoted(name)}"
            connection.execute(f"comment on column {column} is {literal(comment)}")


# --- the marts of several tenants as one ------------------------------------------------------


def refuse_tables(connection: DuckDBPyConnection, union: Union) -> None:
    """Raises `SettingsError` where tables stand in the schemas of the views."""
    found = connection.execute(
        f"select schema_name from duckdb_tables() where database_name = {literal(ALIAS)} "
        f"and schema_name in ({', '.join(map(literal, union.schemas))}) order by all limit 1"
    ).fetchone()
    if found:
        raise union.refusal(found[0])


def _unite(connection: DuckDBPyConnection, union: Union) -> None:
    views = list(union.views(_columns(connection, union)))
    for schema in union.schemas:
        connection.execute(f"create schema if not exists {quoted(ALIAS, schema)}")
        wanted = {view.name for view in views if view.schema == schema}
        for name in set(tables(connection, schema)) - wanted:
            connection.execute(f"drop view {_Table(ALIAS, schema, name)}")
    for view in views:
        at = _Table(ALIAS, view.schema, view.name)
        connection.execute(f"create or replace view {at} as {view.select}")


def _columns(connection: DuckDBPyConnection, union: Union) -> Iterator[Column]:
    found = connection.execute(
        "select schema_name, table_name, column_name, data_type, comment from duckdb_columns() "
        f"where database_name = {literal(ALIAS)} "
        f"and schema_name in ({', '.join(map(literal, union.sources()))}) "
        "order by schema_name, table_name, column_index"
    )
    return (Column(*row) for row in found.fetchall())
