"""What a reader asks of a server or a lake, as a DuckDB file: read in one transaction, exactly.

A report is then made as of a published file, to the byte. Amounts pass as text and times as
microseconds: no float is between. The file lies in a folder that only this user may read, and is
gone when the block ends.
"""

# ruff: noqa: PLC0415 - duckdb and the driver are imported where they are used: `--help` is fast
# ruff: noqa: S608 - the only names put into SQL are the catalog's, quoted

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from crmcom.errors import SettingsError
from crmcom.schema import RAW_TABLES
from crmcom_pipelines.marts import NoMarts, full_name
from crmcom_pipelines.postgres import PUBLISHED, RUNS, STAMP, explained, literal, quoted

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from datetime import datetime

    from duckdb import DuckDBPyConnection

    from crmcom_pipelines.postgres import Postgres

LARGE = frozenset({"account_daily", "balance_movement", "overdue_kpis"})
"""They grow with every day, so they are copied only where they are asked for."""

_LEDGER = ("_sync_runs", "_sync_windows", "_rejects", "_dlt_pipeline_state", "_dlt_loads")
_RECORDS = ("contacts", "accounts", "activities")
_OF_RECORD = {
    "accounts": ("account_observations", "account_id"),
    "activities": ("activity_versions", "activity_id"),
}


@dataclass(frozen=True, slots=True)
class Copy:
    """Rows of the server's `schema.name`, to stand under the same name, or under `into`."""

    schema: str
    name: str
    where: str = "true"
    columns: Collection[str] | None = None
    into: tuple[str, str] | None = None


class Reader(Protocol):
    """One transaction on what is read."""

    def tables(self, schema: str) -> list[str]: ...

    def tenants(self, dataset: str) -> list[str]:
        """The raw datasets that the published marts were built from."""
        ...

    def file(self, copies: Sequence[Copy]) -> Path:
        """The DuckDB file; its time is that of the last publishing."""
        ...


Reading = Callable[[], AbstractContextManager[Reader]]


@contextlib.contextmanager
def of_reports(
    reading: Reading, address: str, dataset: str, names: Sequence[str]
) -> Iterator[Path]:
    """The reports of these names and all small ones, and the runs that the ledger had of them."""
    with reading() as reader:
        yield reader.file([*_reports(reader, address, dataset, names), *_runs(reader, dataset)])


@contextlib.contextmanager
def of_history(
    reading: Reading, address: str, dataset: str, names: Sequence[str]
) -> Iterator[Path]:
    """As `of_reports`, with all raw tables of all tenants."""
    with reading() as reader:
        copies = _reports(reader, address, dataset, names)
        for tenant in {dataset, *reader.tenants(dataset)}:
            copies += [Copy(tenant, name) for name in reader.tables(tenant) if name in RAW_TABLES]
        yield reader.file(copies)


@contextlib.contextmanager
def of_ledger(
    reading: Reading, address: str, dataset: str, table: str | None, record_id: str
) -> Iterator[Path]:
    with reading() as reader:
        if "_sync_runs" not in reader.tables(dataset):
            raise SettingsError(
                f"{address} has no dataset {dataset}: name it with --dataset, or run `crmcom sync`"
            )
        copies = [Copy(dataset, name) for name in _LEDGER]
        if table is None:
            # Of the records, what is counted.
            columns = ("_deleted_at", "_synced_at")
            copies += [Copy(dataset, name, columns=columns) for name in _RECORDS]
        else:
            wanted = literal(record_id)
            copies.append(Copy(dataset, table, f"id = {wanted}"))
            if table in _OF_RECORD:
                history, key = _OF_RECORD[table]
                copies.append(Copy(dataset, history, f"{key} = {wanted}"))
        have = reader.tables(dataset)
        yield reader.file([copy for copy in copies if copy.name in have])


def _reports(reader: Reader, address: str, dataset: str, names: Sequence[str]) -> list[Copy]:
    """Raises `NoMarts`."""
    found = reader.tables(f"{dataset}_reports")
    if not found:
        raise NoMarts(
            f"{address} has no reports of dataset {dataset}: run `crmcom transform` to "
            "build them, or choose another with --dataset"
        )
    asked = {full_name(name) for name in names}
    # A name that is unknown is answered with all that there are.
    is_known = asked <= set(found)
    wanted = [name for name in found if name in asked or name not in LARGE or not is_known]
    return [
        *(Copy(f"{dataset}_reports", name) for name in wanted),
        *(Copy(f"{dataset}_intermediate", name) for name in PUBLISHED),
    ]


def _runs(reader: Reader, dataset: str) -> list[Copy]:
    """The ledger's runs as they were when the marts were published, each under its tenant."""
    columns = RAW_TABLES["_sync_runs"].schema.names
    beside = f"{dataset}_intermediate"
    return [
        Copy(beside, RUNS, f"source_relation = {literal(tenant)}", columns, (tenant, "_sync_runs"))
        for tenant in reader.tenants(dataset)
    ]


class ServerReader:
    """One transaction on the server, and the DuckDB file that it is copied into."""

    def __init__(self, cursor: Any, path: Path) -> None:
        self._cursor, self._path = cursor, path
        self._published_at: datetime | None = None

    @classmethod
    @contextlib.contextmanager
    def open(cls, server: Postgres) -> Iterator[ServerReader]:
        import adbc_driver_manager
        from adbc_driver_postgresql import dbapi

        credentials = server.credentials.copy()
        credentials.query = {**credentials.query, "application_name": "crmcom reader"}
        try:
            with (
                tempfile.TemporaryDirectory(prefix="crmcom-read-") as folder,
                dbapi.connect(credentials.to_native_representation()) as connection,
                connection.cursor() as cursor,
            ):
                cursor.execute("set transaction isolation level repeatable read, read only")
                cursor.execute("set local timezone = 'UTC'")
                yield cls(cursor, Path(folder) / "warehouse.duckdb")
        except adbc_driver_manager.Error as error:
            raise explained([error]) or error from None

    def tables(self, schema: str) -> list[str]:
        return [
            name
            for (name,) in self._ask(
                "select c.relname::text from pg_class c "
                "join pg_namespace n on n.oid = c.relnamespace "
                f"where n.nspname = {literal(schema)} and c.relkind in ('r', 'v', 'm') order by 1"
            )
        ]

    def tenants(self, dataset: str) -> list[str]:
        runs = quoted(f"{dataset}_intermediate", RUNS)
        return [name for (name,) in self._ask(f"select distinct source_relation from {runs}")]

    def file(self, copies: Sequence[Copy]) -> Path:
        import duckdb

        with duckdb.connect(str(self._path)) as connection:
            for copy in copies:
                self._copy(copy, connection)
        schemas = {copy.schema for copy in copies if copy.schema.endswith("_intermediate")}
        for schema in schemas:
            ((at,),) = self._ask(
                f"select extract(epoch from max(at))::bigint from {quoted(schema, STAMP)}"
            )
            os.utime(self._path, (at, at))
        return self._path

    def _copy(self, copy: Copy, connection: DuckDBPyConnection) -> None:
        found = self._ask(
            "select a.attname::text, format_type(a.atttypid, a.atttypmod), "
            "col_description(a.attrelid, a.attnum) from pg_attribute a "
            "join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = c.relnamespace "
            f"where n.nspname = {literal(copy.schema)} and c.relname = {literal(copy.name)} "
            "and a.attnum > 0 and not a.attisdropped order by a.attnum"
        )
        columns = [c for c in found if copy.columns is None or c[0] in copy.columns]
        types = {name: _duckdb_type(kind) for name, kind, _ in columns}
        asked = (
            quoted(name) if kind in _AS_IT_IS else f"cast({quoted(name)} as text) as {quoted(name)}"
            for name, kind in types.items()
        )
        self._cursor.execute(
            f"select {', '.join(asked)} from {quoted(copy.schema, copy.name)} where {copy.where}"
        )
        connection.register("coming", self._cursor.fetch_record_batch())
        schema, name = copy.into or (copy.schema, copy.name)
        connection.execute(f"create schema if not exists {quoted(schema)}")
        cast = ", ".join(f"cast({quoted(c)} as {kind}) as {quoted(c)}" for c, kind in types.items())
        connection.execute(f"create table {quoted(schema, name)} as select {cast} from coming")
        connection.unregister("coming")
        for column, _, comment in columns:
            if comment is not None:
                connection.execute(
                    f"comment on column {quoted(schema, name, column)} is {literal(comment)}"
                )

    def _ask(self, sql: str) -> list[tuple[Any, ...]]:
        self._cursor.execute(sql)
        rows: list[tuple[Any, ...]] = self._cursor.fetchall()
        return rows


_AS_IT_IS = {"boolean", "integer", "bigint", "date", "varchar", "timestamp"}


def _duckdb_type(kind: str) -> str:
    """DuckDB's name of PostgreSQL's type; what it cannot hold becomes text."""
    if kind.startswith("numeric("):
        precision = int(kind.removeprefix("numeric(").split(",", 1)[0])
        return kind.replace("numeric", "decimal") if precision <= 38 else "varchar"
    if kind.startswith("timestamp") and kind.endswith("without time zone"):
        return "timestamp"
    return kind if kind in _AS_IT_IS else "varchar"
