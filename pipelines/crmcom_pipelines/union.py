"""The marts of several tenants as one: views of each tenant's own, one for each mart.

Their rows are told apart by `source_relation`, which every mart has. Columns that a tenant's mart
lacks are null: after an upgrade its marts stay as they were until its next run.
"""

# ruff: noqa: S608 - the only names put into SQL are the catalog's, quoted

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from crmcom.errors import SettingsError
from crmcom_pipelines.rewrite import literal, quoted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from duckdb import DuckDBPyConnection

BESIDE = (
    *("int_crmcom__as_of", "int_crmcom__freshness"),
    *("int_crmcom__sync_runs", "int_crmcom__published"),
)
"""What reports say beside the marts; the last two are a server's."""


@dataclass(frozen=True, slots=True)
class Column:
    schema: str
    table: str
    name: str
    kind: str
    """The database's own word for its type."""
    comment: str | None


@dataclass(frozen=True, slots=True)
class View:
    schema: str
    name: str
    select: str
    comments: dict[str, str]
    """By column."""

    @property
    def relation(self) -> str:
        return f"{quoted(self.schema)}.{quoted(self.name)}"

    @property
    def digest(self) -> str:
        """Changes with what the view says."""
        said = f"{self.select}\0{sorted(self.comments.items())}"
        return hashlib.sha256(said.encode()).hexdigest()[:16]

    def commented(self) -> Iterator[str]:
        """Statements that say in the database what its columns mean."""
        for column, comment in self.comments.items():
            yield f"comment on column {self.relation}.{quoted(column)} is {literal(comment)}"


@dataclass(frozen=True, slots=True)
class Union:
    """`dataset`: what the schemas of the views begin with. `members`: the tenants' datasets."""

    dataset: str
    members: tuple[str, ...]

    @property
    def schemas(self) -> tuple[str, str]:
        return f"{self.dataset}_reports", f"{self.dataset}_intermediate"

    def sources(self) -> tuple[str, ...]:
        """The schemas that the views read."""
        return tuple(f"{m}_{part}" for m in self.members for part in ("reports", "intermediate"))

    def views(self, columns: Iterable[Column]) -> list[View]:
        """One for each mart that a tenant has. `columns`: those of `sources`, each table's in
        their order."""
        tables: dict[tuple[str, str], dict[str, list[Column]]] = {}
        for column in columns:
            for member in self.members:
                part = column.schema.removeprefix(f"{member}_")
                if column.schema != f"{member}_{part}":
                    continue
                if part == "reports" or (part == "intermediate" and column.table in BESIDE):
                    mart = tables.setdefault((f"{self.dataset}_{part}", column.table), {})
                    mart.setdefault(column.schema, []).append(column)
        return [_view(schema, name, parts) for (schema, name), parts in sorted(tables.items())]

    def refusal(self, schema: str) -> SettingsError:
        """That a schema of the views holds tables."""
        return SettingsError(
            f"schema {schema} holds tables, so the tenants' marts cannot be united there. If they "
            f'are those of one tenant, say so with dataset = "{self.dataset}" in its section '
            "[sources.crmcom.NAME]; then name another --dataset, in whose schemas they are united"
        )


def _view(schema: str, name: str, parts: dict[str, list[Column]]) -> View:
    kinds: dict[str, set[str]] = {}
    comments: dict[str, str] = {}
    for columns in parts.values():
        for column in columns:
            kinds.setdefault(column.name, set()).add(column.kind)
            if column.comment:
                comments.setdefault(column.name, column.comment)

    def selected(name: str, have: set[str]) -> str:
        of = kinds[name]
        value = quoted(name) if name in have else "null"
        # Of two kinds only text can hold both, whatever they are.
        kind = next(iter(of)) if len(of) == 1 else "varchar"
        if value == "null" or len(of) > 1:
            value = f"cast({value} as {kind})"
        return f"{value} as {quoted(name)}"

    selects = []
    for part, columns in sorted(parts.items()):
        have = {column.name for column in columns}
        asked = ", ".join(selected(column, have) for column in kinds)
        selects.append(f"select {asked} from {quoted(part)}.{quoted(name)}")
    return View(schema, name, " union all ".join(selects), comments)


# --- in a DuckDB file -----------------------------------------------------------------------


def create(connection: DuckDBPyConnection, union: Union) -> None:
    """Makes the views; in them no catalog is named, so that they survive the file's renaming."""
    found = connection.execute(
        "select schema_name, table_name, column_name, data_type, comment from duckdb_columns() "
        f"where database_name = current_database() and schema_name in ({_listed(union.sources())}) "
        "order by schema_name, table_name, column_index"
    ).fetchall()
    for schema in union.schemas:
        connection.execute(f"create schema if not exists {quoted(schema)}")
    for view in union.views(Column(*row) for row in found):
        connection.execute(f"create view {view.relation} as {view.select}")
        for statement in view.commented():
            connection.execute(statement)


def clear(connection: DuckDBPyConnection, union: Union) -> None:
    """Takes the views away. Raises `SettingsError` where tables stand in their schemas."""
    found: list[Any] = connection.execute(
        "select distinct table_schema from information_schema.tables "
        "where table_catalog = current_database() and table_type <> 'VIEW' "
        f"and table_schema in ({_listed(union.schemas)}) order by all"
    ).fetchall()
    if found:
        raise union.refusal(found[0][0])
    for schema in union.schemas:
        connection.execute(f"drop schema if exists {quoted(schema)} cascade")


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(literal, names))
