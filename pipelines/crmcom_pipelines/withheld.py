"""Keeps what a dataset's run left unfinished from readers, while another dataset is published.

Several datasets share one file, which is published as a whole. A run that was killed, or whose
marts failed their tests, leaves its dataset in the working file as readers are not to see it: they
get it as it was last published, or not at all where it never was.
"""

# ruff: noqa: S608 - the only names put into SQL are the catalog's, quoted

from __future__ import annotations

from typing import TYPE_CHECKING

from crmcom.errors import CrmcomError
from crmcom_pipelines.rewrite import MARTS, literal, quoted

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from duckdb import DuckDBPyConnection

_PUBLISHED = '"as published"'


def put_back(
    connection: DuckDBPyConnection, published: Path | None, datasets: Sequence[str]
) -> None:
    """Makes these datasets what they are in the file `published`. None: there is none."""
    schemas = [f"{dataset}{part}" for dataset in datasets for part in ("", *MARTS)]
    listed = ", ".join(literal(schema.lower()) for schema in schemas)
    for schema in schemas:
        connection.execute(f"drop schema if exists {quoted(schema)} cascade")
    if published is None:
        return
    connection.execute(f"attach {literal(str(published))} as {_PUBLISHED} (read_only)")
    where = f"where database_name = 'as published' and lower(schema_name) in ({listed})"
    there = connection.execute(f"select schema_name from duckdb_schemas() {where}").fetchall()
    for (schema,) in there:
        connection.execute(f"create schema {quoted(schema)}")
    tables = connection.execute(
        f"select schema_name, table_name, sql from duckdb_tables() {where}"
    ).fetchall()
    for schema, table, sql in tables:
        connection.execute(sql)
        name = f"{quoted(schema)}.{quoted(table)}"
        connection.execute(f"insert into {name} from {_PUBLISHED}.{name}")
    views = connection.execute(f"select sql from duckdb_views() {where}").fetchall()
    _create(connection, [sql for (sql,) in views])
    _comment(connection, where)
    connection.execute(f"detach {_PUBLISHED}")


def _create(connection: DuckDBPyConnection, views: list[str]) -> None:
    """Views in an order in which each finds those that it reads; DuckDB does not tell it."""
    import duckdb  # noqa: PLC0415 - 0.1 s, and `--help` imports the command line

    while views:
        left, said = [], ""
        for sql in views:
            try:
                connection.execute(sql)
            except duckdb.CatalogException as error:
                left.append(sql)
                said = str(error)
        if len(left) == len(views):
            raise CrmcomError(f"a view that was published cannot be made again: {said}")
        views = left


def _comment(connection: DuckDBPyConnection, where: str) -> None:
    said = connection.execute(
        f"select 'table', schema_name, table_name, null, comment from duckdb_tables() {where} "
        "and comment is not null union all "
        f"select 'view', schema_name, view_name, null, comment from duckdb_views() {where} "
        "and comment is not null union all "
        "select 'column', schema_name, table_name, column_name, comment from duckdb_columns() "
        f"{where} and comment is not null"
    ).fetchall()
    for kind, *names, comment in said:
        name = ".".join(quoted(part) for part in names if part is not None)
        connection.execute(f"comment on {kind} {name} is {literal(comment)}")
