"""What a reader asks of a lake, as a DuckDB file; and the raw tables, copied to build marts from.

All of it is read in one transaction, so of one snapshot: whoever writes meanwhile changes nothing.
"""

# ruff: noqa: PLC0415 - duckdb is imported where it is used: `--help` is fast
# ruff: noqa: S608 - the only names put into SQL are the catalog's, quoted

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from crmcom.schema import RAW_TABLES
from crmcom_pipelines.lake import ALIAS, explained
from crmcom_pipelines.postgres import RUNS, STAMP, literal, quoted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from duckdb import DuckDBPyConnection

    from crmcom_pipelines.lake import Lake
    from crmcom_pipelines.snapshot import Copy

_INTO = "copied"


class LakeReader:
    def __init__(self, connection: DuckDBPyConnection, path: Path) -> None:
        self._connection, self._path = connection, path

    @classmethod
    @contextlib.contextmanager
    def open(cls, lake: Lake) -> Iterator[LakeReader]:
        with (
            tempfile.TemporaryDirectory(prefix="crmcom-read-") as folder,
            lake.connected(Path(folder) / "spill", read_only=True) as connection,
        ):
            path = Path(folder) / "warehouse.duckdb"
            with attached(connection, path):
                yield cls(connection, path)

    def tables(self, schema: str) -> list[str]:
        return tables(self._connection, schema)

    def tenants(self, dataset: str) -> list[str]:
        runs = quoted(ALIAS, f"{dataset}_intermediate", RUNS)
        found = self._connection.execute(f"select distinct source_relation from {runs}")
        return [name for (name,) in found.fetchall()]

    def file(self, copies: Sequence[Copy]) -> Path:
        for copy in copies:
            self._copy(copy)
        schemas = {copy.schema for copy in copies if copy.schema.endswith("_intermediate")}
        published = [self._published_at(schema) for schema in schemas]
        self._connection.execute(f"commit; detach {_INTO}")
        for at in published:
            os.utime(self._path, (at, at))
        return self._path

    def _published_at(self, schema: str) -> float:
        found = self._connection.execute(
            f'select epoch(max("at")) from {quoted(ALIAS, schema, STAMP)}'
        ).fetchone()
        assert found is not None  # noqa: S101 - an aggregate has one row
        return float(found[0])

    def _copy(self, copy: Copy) -> None:
        into = copy.into or (copy.schema, copy.name)
        found = columns(self._connection, ALIAS, copy.schema, copy.name)
        names = [name for name in found if copy.columns is None or name in copy.columns]
        self._connection.execute(f"create schema if not exists {quoted(_INTO, into[0])}")
        self._connection.execute(
            f"create table {quoted(_INTO, *into)} as select {', '.join(map(quoted, names))} "
            f"from {quoted(ALIAS, copy.schema, copy.name)} where {copy.where}"
        )
        for name in names:
            if comment := found[name][1]:
                column = quoted(_INTO, *into, name)
                self._connection.execute(f"comment on column {column} is {literal(comment)}")


def copy_raw(connection: DuckDBPyConnection, datasets: Sequence[str], path: Path) -> int:
    """Puts the raw tables of these datasets into a DuckDB file, in place of those that are there.
    Returns the snapshot that they are of."""
    with attached(connection, path):
        ((snapshot,),) = connection.execute(
            f"select max(snapshot_id) from ducklake_snapshots('{ALIAS}')"
        ).fetchall()
        for dataset in datasets:
            connection.execute(f"create schema if not exists {quoted(_INTO, dataset)}")
            for name in set(tables(connection, dataset)) & set(RAW_TABLES):
                connection.execute(
                    f"create or replace table {quoted(_INTO, dataset, name)} as "
                    f"from {quoted(ALIAS, dataset, name)}"
                )
        connection.execute("commit")
        connection.execute(f"detach {_INTO}")
    return int(snapshot)


@contextlib.contextmanager
def attached(connection: DuckDBPyConnection, path: Path) -> Iterator[None]:
    """A file to write to, in a transaction that the block ends."""
    import duckdb

    connection.execute(f"attach {literal(str(path))} as {_INTO}")
    try:
        connection.execute("begin")
        yield
    except duckdb.Error as error:
        raise explained([error]) or error from None
    finally:
        with contextlib.suppress(duckdb.Error):  # where it was ended, or never begun
            connection.execute("rollback")
        with contextlib.suppress(duckdb.Error):
            connection.execute(f"detach {_INTO}")


def tables(connection: DuckDBPyConnection, schema: str, catalog: str = ALIAS) -> list[str]:
    found = connection.execute(
        "select table_name from information_schema.tables "
        f"where table_catalog = {literal(catalog)} and table_schema = {literal(schema)} order by 1"
    )
    return [name for (name,) in found.fetchall()]


def columns(
    connection: DuckDBPyConnection, catalog: str, schema: str, table: str
) -> dict[str, tuple[str, str | None]]:
    """Type and comment of each column, in their order; empty where there is no such table."""
    found = connection.execute(
        "select column_name, data_type, comment from duckdb_columns() "
        f"where database_name = {literal(catalog)} and schema_name = {literal(schema)} "
        f"and table_name = {literal(table)} order by column_index"
    )
    return {name: (kind, comment) for name, kind, comment in found.fetchall()}
