"""A DuckDB file written anew, so that no block of it holds what was deleted.

DuckDB frees the blocks of deleted and updated rows and leaves their bytes there. So a copy is
changed, what is left in it is copied into a new file, and that takes the working file's place.
The marts go as well: they are built anew from what is left.
"""

# ruff: noqa: S608 - the names put into SQL are quoted

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import duckdb

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from crmcom_pipelines.publish import Draft

MARTS = ("_reports", "_intermediate", "_staging", "_load", "_unit_tests")
"""Schemas beside the dataset's own that are made from it."""

MEMORY: dict[str, Any] = {"memory_limit": "1GB", "threads": 1}
_NEW = "crmcom_rewritten"


class Dataset:
    """The raw tables of one dataset, in a file that may be changed."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, name: str) -> None:
        self.connection, self.name = connection, name

    def table(self, name: str) -> str:
        """A table's name for SQL."""
        return f"{quoted(self.name)}.{quoted(name)}"

    def columns(self) -> dict[str, dict[str, str]]:
        """Each table's columns and their types."""
        found: dict[str, dict[str, str]] = {}
        for table, column, kind in self.rows(
            "select table_name, column_name, data_type from information_schema.columns where "
            f"table_catalog = current_database() and table_schema = {literal(self.name)}"
        ):
            found.setdefault(table, {})[column] = kind
        return found

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        return self.connection.execute(sql).fetchall()

    def change(self, sql: str) -> int:
        """How many rows a statement changed."""
        ((count,),) = self.rows(sql)
        return int(count)

    def states(self) -> list[dict[str, Any]]:
        """The state of the pipeline's resources, by name, as each of its versions holds it."""
        from dlt.common.versioned_state import decompress_state  # noqa: PLC0415 - a second

        if "_dlt_pipeline_state" not in self.columns():
            return []
        texts = self.rows(
            f"select state from {self.table('_dlt_pipeline_state')} order by version, created_at"
        )
        return [_resources(decompress_state(text)) for (text,) in texts]

    def change_states(self, change: Callable[[Any], Any]) -> None:
        """Changes what each version of the state holds of each resource."""
        from dlt.common.versioned_state import (  # noqa: PLC0415 - a second
            compress_state,
            decompress_state,
            generate_state_version_hash,
        )

        name = "_dlt_pipeline_state"
        if name not in self.columns():
            return
        for row_id, text in self.rows(f"select _dlt_id, state from {self.table(name)}"):
            state: Any = decompress_state(text)
            resources = _resources(state)
            resources.update({k: change(v) for k, v in resources.items()})
            digest = generate_state_version_hash(state, exclude_attrs=["_local"])
            state["_version_hash"] = digest
            self.change(
                f"update {self.table(name)} set state = {literal(compress_state(state))}, "
                f"version_hash = {literal(digest)} where _dlt_id = {literal(row_id)}"
            )


def _resources(state: Any) -> dict[str, Any]:
    found: dict[str, Any] = state.get("sources", {}).get("crmcom", {}).get("resources", {})
    return found


def rewrite(draft: Draft, dataset: str, change: Callable[[Dataset], None]) -> None:
    """Writes the working file anew, after `change`, and without the dataset's marts.

    What earlier runs left beside it goes first: it may hold what is to vanish.
    """

    def changed(copy: Path) -> Path:
        new = copy.with_name("new.duckdb")
        with duckdb.connect(str(copy), config=MEMORY) as connection:
            change(Dataset(connection, dataset))
            for suffix in MARTS:
                connection.execute(f"drop schema if exists {quoted(dataset + suffix)} cascade")
            ((catalog,),) = connection.execute("select current_database()").fetchall()
            connection.execute(f"attach {literal(str(new))} as {_NEW}")
            connection.execute(f"copy from database {quoted(catalog)} to {_NEW}")
            connection.execute(f"checkpoint {_NEW}")
            connection.execute(f"detach {_NEW}")
        return new

    draft.discard_leftovers()
    draft.replace(changed)


def has_marts(database: Path, dataset: str) -> bool:
    if not database.exists():
        return False
    with duckdb.connect(str(database), read_only=True) as connection:
        found = connection.execute(
            "select 1 from information_schema.schemata where catalog_name = current_database() "
            f"and schema_name = {literal(dataset + '_reports')}"
        ).fetchall()
    return bool(found)


def quoted(identifier: str) -> str:
    return '"' + identifier.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A SQL literal: a quote inside must stay inside."""
    return "'" + text.replace("'", "''") + "'"
