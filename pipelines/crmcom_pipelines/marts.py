"""The marts of a published DuckDB file: find one by name and stream it as Arrow, in order.

ReportError (exit code 2)
├── UnreadableDatabase    no such file, or not a DuckDB database
│   └── DatabaseBusy      another process holds the file (exit code 6)
├── NoMarts               the file has no reports in this dataset yet
├── UnknownMart           there are reports, none of this name
└── CannotWrite           the report is there, where it should go is not fit for it
"""

# ruff: noqa: PLC0415 - libraries are imported where they are used: `crmcom --help` is fast

from __future__ import annotations

import difflib
import re
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import duckdb
    import pyarrow as pa

QUESTIONS = {
    "overdue_worklist": "Who should we call today?",
    "balance_summary": "What do customers owe us, and how much of it is overdue?",
    "overdue_ageing": "How old is what is overdue?",
    "collections_coverage": "Whom is nobody going to call?",
    "credit_exposure": "Who owes more than their credit limit allows?",
    "balance_movement": "Why is a balance at the end of a period not what it was at its beginning?",
    "overdue_kpis": "Is overdue debt growing, and is it being cured?",
    "contact_360": "What is there to know of a customer before calling?",
    "contact_balances": "What does a customer owe in each currency?",
    "activity_status": "Which work is late, and which was done in time?",
    "follow_up_summary": "Which teams and users keep up with their work?",
    "data_anomalies": "What in CRM.COM should be put right before we trust a figure?",
    "account_daily": "What did an account owe at the end of each day?",
}
"""The reports, and what each answers; those that are asked for most come first."""

ALIASES = {"overdue": "overdue_worklist", "balances": "balance_summary"}

ORDER = {
    "overdue_worklist": ("source_relation", "currency_code", "priority_rank"),
    "balance_summary": ("source_relation", "currency_code", "classification", "state"),
}
"""Sorted by these columns first; then, and in every other mart, by all columns from the left,
so that the same data always comes in the same order."""

SOURCE_CATALOG = "crmcom_source"
"""What a file of the past calls the file that holds the raw tables."""

_ROWS_PER_BATCH = 10_000

_PLAIN = re.compile(
    r"BOOLEAN|U?(TINY|SMALL|BIG)?INT(EGER)?|FLOAT|DOUBLE|DECIMAL\(\d+,\d+\)|VARCHAR|DATE|TIMESTAMP"
)
"""The DuckDB types that every format can say; the others (lists, structs, intervals …) are
turned into DuckDB's text for them where a format has only cells."""


class ReportError(Exception):
    """The report cannot be had; the message says why and what to do next."""

    exit_code = 2


class UnreadableDatabase(ReportError):
    pass


class DatabaseBusy(UnreadableDatabase):
    exit_code = 6


class NoMarts(ReportError):
    pass


class UnknownMart(ReportError):
    pass


class CannotWrite(ReportError):
    pass


@dataclass(frozen=True, slots=True)
class Mart:
    """One table of reports in an open database; made by `open_mart`."""

    connection: duckdb.DuckDBPyConnection
    schema: str
    """Catalog and schema, quoted: a file may be called as its schema is, so both are named."""
    names: tuple[str, ...]
    """All marts of the schema, this one included."""
    name: str

    @property
    def types(self) -> dict[str, str]:
        """DuckDB's type of each column, in the mart's order."""
        described = self.connection.execute(f"describe from {self._relation}").fetchall()
        return {column: kind for column, kind, *_ in described}

    def ask(self, expression: str) -> Any:
        """The value of an aggregate over the whole mart, such as `count(*)`."""
        query = f"select {expression} from {self._relation}"  # noqa: S608 - ours, quoted
        (value,) = self.connection.execute(query).fetchall()[0]
        return value

    def batches(
        self,
        *,
        columns: Sequence[str] | None = None,
        limit: int | None = None,
        cells: bool = False,
    ) -> pa.RecordBatchReader:
        """Streams the rows in their order, decimals exact; read one stream at a time.

        `cells` gives as text what does not fit in one cell (lists, structs, zoned times).
        """
        types = self.types
        first = [column for column in ORDER.get(self.name, ()) if column in types]
        order = first + [column for column in types if column not in first]
        selected = (_selected(column, types[column], cells=cells) for column in columns or types)
        query = (
            f"select {', '.join(selected)}"  # noqa: S608 - ours, quoted
            f" from {self._relation}"
            f" order by {', '.join(f'r.{_quoted(column)} nulls last' for column in order)}"
        )
        return self.connection.execute(
            query if limit is None else f"{query} limit {limit:d}"
        ).arrow(_ROWS_PER_BATCH)

    def rows(self, select: str, rest: str = "") -> list[dict[str, Any]]:
        """What `select … from` the mart and `rest` find; for few rows, such as aggregates."""
        found = self.connection.execute(f"select {select} from {self._relation} {rest}")  # noqa: S608 - ours, quoted
        names = [column for column, *_ in found.description or ()]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]

    def comments(self) -> dict[str, str]:
        """What each column means, as far as the database says."""
        return {
            column: comment
            for schema, table, column, comment in self.connection.execute(
                "select database_name || '.' || schema_name, table_name, column_name, comment"
                " from duckdb_columns() where comment is not null"
            ).fetchall()
            if table == self.name and schema == self.schema.replace('"', "")
        }

    def sibling(self, name: str) -> Mart | None:
        """Another mart of the same dataset, if it is there."""
        return replace(self, name=name) if name in self.names else None

    def beside(self, name: str) -> Mart | None:
        """What the reports were made with, if it is there."""
        import duckdb

        schema = re.sub(r'_reports"$', '_intermediate"', self.schema)
        found = replace(self, schema=schema, name=name)
        try:
            found.ask("count(*)")
        except duckdb.CatalogException:
            return None
        return found

    def raw(self, dataset: str, name: str) -> Mart | None:
        """A table of a raw dataset, if it is there, in the file that a file of the past refers
        to as well."""
        found = self.connection.execute(
            "select distinct table_catalog, table_schema, table_name from information_schema.tables"
        ).fetchall()
        for catalog, schema, table in found:
            if (schema, table) == (dataset, name):
                return replace(self, schema=f"{_quoted(catalog)}.{_quoted(schema)}", name=name)
        return None

    @property
    def _relation(self) -> str:
        return f"{self.schema}.{_quoted(self.name)} as r"


@contextmanager
def open_mart(
    name: str, *, database: str | Path, dataset: str, source: str | Path | None = None
) -> Iterator[Mart]:
    """Opens the file for reading only, for as long as the mart is used.

    `name` is a mart's name or one of `ALIASES`. `source` is the file that a file of the past
    refers to. Raises `ReportError`, also for what DuckDB fails to read later on.
    """
    import duckdb

    path = Path(database)
    connection = connect(path)
    try:
        if source is not None:
            path_in_sql = str(source).replace("'", "''")
            connection.execute(f"attach '{path_in_sql}' as {SOURCE_CATALOG} (read_only)")
        catalog, names = _marts(connection, path, dataset)
        schema = f"{_quoted(catalog)}.{_quoted(f'{dataset}_reports')}"
        yield Mart(connection, schema, names, _resolve(name, names))
    except duckdb.Error as error:
        raise UnreadableDatabase(f"{path} could not be read: {_first_line(error)}") from error
    finally:
        connection.close()


def connect(path: Path) -> duckdb.DuckDBPyConnection:
    """A database, to be read. Raises `UnreadableDatabase`, or `DatabaseBusy` where it is held."""
    import duckdb

    if not path.exists():
        raise UnreadableDatabase(
            f"there is no database {path}: run `crmcom sync` to make it,"
            " or name another file with --database"
        )
    if path.is_dir():
        raise UnreadableDatabase(f"{path} is a directory: name a DuckDB file with --database")
    try:
        return duckdb.connect(path, read_only=True)
    except duckdb.Error as error:
        # DuckDB has no error class of its own for a held file: its words are all there is.
        if "Could not set lock" in str(error) or "different configuration" in str(error):
            raise DatabaseBusy(
                f"{path} is held open for writing: close it there, or open it read-only"
                f" (DuckDB: {_first_line(error)})"
            ) from error
        raise UnreadableDatabase(
            f"{path} cannot be opened as a DuckDB database: name another file with --database"
            f" (DuckDB: {_first_line(error)})"
        ) from error


def _marts(
    connection: duckdb.DuckDBPyConnection, path: Path, dataset: str
) -> tuple[str, tuple[str, ...]]:
    """The file's catalog and the names of the dataset's marts. Raises `NoMarts`."""
    # No query parameters anywhere: DuckDB imports pandas for them, which costs a second.
    found = connection.execute(
        "select table_catalog, table_schema, table_name from information_schema.tables"
        " where table_catalog = current_database() order by all"
    ).fetchall()
    names = tuple(name for _, schema, name in found if schema == f"{dataset}_reports")
    if names:
        return found[0][0], names
    others = sorted({s.removesuffix("_reports") for _, s, _ in found if s.endswith("_reports")})
    raise NoMarts(
        f"{path} has no reports of dataset {dataset}: "
        + (
            f"it has those of {', '.join(others)}; choose with --dataset"
            if others
            else "run `crmcom transform` to build them"
        )
    )


def full_name(name: str) -> str:
    """What a mart is called, from its alias, its dbt model's name, or with dashes."""
    wanted = name.strip().lower().replace("-", "_").removeprefix("crmcom__")
    return ALIASES.get(wanted, wanted)


def _resolve(name: str, names: tuple[str, ...]) -> str:
    """The mart that is meant. Raises `UnknownMart`, with the nearest name."""
    wanted = full_name(name)
    if wanted in names:
        return wanted
    nearest = difflib.get_close_matches(wanted, [*names, *ALIASES], n=1)
    raise UnknownMart(
        f"there is no report {name!r}"
        + (f"; did you mean {nearest[0]}?" if nearest else ".")
        + f" There are: {', '.join(names)}"
    )


def _selected(column: str, kind: str, *, cells: bool) -> str:
    quoted = _quoted(column)
    if kind == "HUGEINT":  # what DuckDB's sum() of integers gives; Arrow has no such integer
        return f"cast(r.{quoted} as decimal(38, 0)) as {quoted}"
    if cells and not _PLAIN.fullmatch(kind):
        return f"cast(r.{quoted} as varchar) as {quoted}"
    return f"r.{quoted}"


def _quoted(identifier: str) -> str:
    return '"' + identifier.replace('"', '""') + '"'


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0]
