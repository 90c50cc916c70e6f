"""A DuckLake: where its catalog and its files are, connections to it, and what dlt loads through.

Its catalog is a PostgreSQL database, an SQLite file or a DuckDB file; its data are Parquet files in
a folder or a bucket. DuckDB reads and writes both, by extensions: they come as wheels, or are
fetched from DuckDB's own server where these are not installed.
"""

# ruff: noqa: PLC0415 - dlt and duckdb are imported where they are used: `--help` is fast

from __future__ import annotations

import contextlib
import importlib.util
import re
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crmcom.errors import CrmcomError, SettingsError, Unavailable
from crmcom_pipelines import lock
from crmcom_pipelines.refusals import first_line
from crmcom_pipelines.rewrite import quoted
from crmcom_pipelines.warehouse import DUCKDB, STAGING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from duckdb import DuckDBPyConnection

ALIAS = "crmcom__lake"
"""What a connection calls the lake. No dataset can have this name."""

_SCANNERS = {"postgres": "postgres_scanner", "sqlite": "sqlite_scanner", "duckdb": None}


class Lake:
    """Making one connects to nothing. Paths in its settings are meant from the working folder."""

    @cached_property
    def credentials(self) -> Any:
        """dlt's, under our alias."""
        from crmcom_pipelines.around_dlt import quiet_dlt
        from crmcom_pipelines.load import PIPELINE

        with quiet_dlt():
            from dlt.common.configuration import inject_section
            from dlt.common.configuration.exceptions import ConfigurationException
            from dlt.common.configuration.specs.config_section_context import ConfigSectionContext
            from dlt.common.exceptions import MissingDependencyException
            from dlt.destinations import ducklake

            try:
                with inject_section(ConfigSectionContext(pipeline_name=PIPELINE)):
                    asked: Any = ducklake().spec()
                    # It names a dataset of each destination's; none is needed to find a lake.
                    asked._bind_dataset_name("crmcom")  # noqa: SLF001 - nothing public does so
                    found: Any = ducklake().configuration(asked).credentials
            except (ConfigurationException, MissingDependencyException, ValueError) as error:
                # Their texts may repeat what was given, and so a password.
                missing = ", ".join(getattr(error, "fields", ())) or type(error).__name__
                raise SettingsError(
                    f"DuckLake is not configured ({missing}): set catalog, storage.bucket_url and, "
                    "for a bucket, storage.credentials in [destination.ducklake.credentials] of "
                    ".dlt/secrets.toml"
                ) from None
        # As DuckDB calls it.
        found.catalog.drivername = found.catalog.drivername.replace("postgresql", "postgres")
        if found.catalog.drivername not in _SCANNERS:
            raise SettingsError(
                "DuckLake's catalog may be in postgres, sqlite or duckdb, not "
                f"{found.catalog.drivername}: change destination.ducklake.credentials.catalog"
            )
        # The name that dlt gives a lake is also the schema of its catalog.
        found.metadata_schema = found.metadata_schema or found.ducklake_name
        found.ducklake_name = ALIAS
        return found

    @staticmethod
    def _in_file(catalog: Any) -> bool:
        return bool(catalog.drivername != "postgres")

    @property
    def kind(self) -> str:
        """What holds its catalog: postgres, sqlite or duckdb."""
        return str(self.credentials.catalog.drivername)

    @property
    def catalog_file(self) -> Path:
        return Path(self.credentials.catalog.database)

    @property
    def address(self) -> str:
        catalog = self.credentials.catalog
        if self._in_file(catalog):
            return f"ducklake:{catalog.drivername}:{catalog.database}"
        host = catalog.query.get("host", catalog.host) if catalog.query else catalog.host
        schema = self.credentials.metadata_schema
        return f"ducklake:postgresql://{host}:{catalog.port or 5432}/{catalog.database}#{schema}"

    @contextlib.contextmanager
    def connected(self, spill: Path, *, read_only: bool = False) -> Iterator[DuckDBPyConnection]:
        """DuckDB with the lake attached. A second of each is the reading of the extensions."""
        import duckdb

        try:
            config: dict[str, Any] = {**DUCKDB, "temp_directory": str(spill)}
            with duckdb.connect(config=config) as connection:
                # Else DuckDB draws one on stdout, which is for what was asked.
                connection.execute("set enable_progress_bar = false; set timezone = 'UTC'")
                self._attach(connection, read_only=read_only)
                yield connection
        except duckdb.Error as error:
            if read_only and any(words in str(error) for words in _NOWHERE):
                raise NoLake(f"there is no {self.address}: run `crmcom sync` to make it") from None
            raise explained([error]) or error from None

    def _attach(self, connection: DuckDBPyConnection, *, read_only: bool) -> None:
        from dlt.destinations.impl.ducklake.sql_client import DuckLakeSqlClient

        storage = self.credentials.storage
        needed = ["ducklake", _SCANNERS[self.kind]]
        if storage.is_local_filesystem:
            Path(self.credentials.storage_url).mkdir(parents=True, exist_ok=True)
        else:
            needed.append("httpfs")
        for name in needed:
            if name is not None:
                load_extension(connection, name)
        client: Any = DuckLakeSqlClient("", "", self.credentials, _capabilities())
        for statement in client.attach_statements(alias=ALIAS):
            sql = statement["sql"]
            if read_only and sql.startswith("ATTACH"):
                sql = f"{sql.removesuffix(')')}, READ_ONLY)"
            connection.execute(sql)

    def target(self, connection: DuckDBPyConnection) -> Any:
        """The lake as dlt loads into it, through this connection.

        dlt would open one for each of its clients, a second each.
        """
        from dlt.destinations import ducklake
        from dlt.destinations.impl.ducklake.ducklake import DuckLakeClient
        from dlt.destinations.impl.ducklake.sql_client import DuckLakeSqlClient

        class SqlClient(DuckLakeSqlClient):
            def open_connection(self) -> DuckDBPyConnection:
                self._conn = connection.cursor()
                self._conn.execute(f"use {quoted(ALIAS)}")
                with contextlib.suppress(Exception):  # before the first load, there is no dataset
                    self._conn.execute(f"set search_path = '{self.fully_qualified_dataset_name()}'")
                return self._conn

            def close_connection(self) -> None:
                opened: Any = self._conn
                if opened:
                    with contextlib.suppress(Exception):  # where there is nothing to roll back
                        opened.execute("rollback")
                    opened.close()
                    self._conn = None  # type: ignore[assignment]

        class Client(DuckLakeClient):
            def __init__(self, schema: Any, config: Any, capabilities: Any) -> None:
                super().__init__(schema, config, capabilities)
                before = self.sql_client
                self.sql_client = SqlClient(
                    before.dataset_name,
                    before.staging_dataset_name,
                    config.credentials,
                    capabilities,
                )

        class Destination(ducklake):
            client_class = Client

        return Destination(
            self.credentials, destination_name="ducklake", staging_dataset_name_layout=STAGING
        )


def _capabilities() -> Any:
    from dlt.destinations import ducklake

    return ducklake().capabilities()


def load_extension(connection: DuckDBPyConnection, name: str) -> None:
    """From its wheel; else as DuckDB has it or fetches it. Raises `SettingsError`."""
    import duckdb

    wheel = importlib.util.find_spec(f"duckdb_extension_{name}")
    folder = Path(wheel.origin).parent if wheel and wheel.origin else Path()
    file = folder / "extensions" / f"v{duckdb.__version__}" / f"{name}.duckdb_extension"
    try:
        if file.is_file():
            connection.load_extension(str(file))
        else:
            connection.install_extension(name)
            connection.load_extension(name)
    except duckdb.Error as error:
        raise SettingsError(
            f"DuckDB's extension {name} is missing, and its server cannot be reached "
            f"({first_line(error)}): pip install 'crmcom-warehouse[ducklake]'"
        ) from None


class NoLake(SettingsError):
    """Nobody has loaded anything there."""


_SETTINGS = (
    *("authentication failed", "does not exist", "permission denied", "Access Denied"),
    *("does not match existing data path", "no password supplied"),
)
_NOWHERE = (
    *("creating a new DuckLake is explicitly disabled", "unable to open database file"),
    "database does not exist",
)
_BUSY = ("Could not set lock on file", "database is locked")
_LATER = ("onflict", "Unable to connect", "could not connect", "connection", "Could not establish")


def explained(errors: Sequence[BaseException]) -> CrmcomError | None:
    """What DuckDB or the catalog's server said, in one line and with an exit code."""
    import duckdb

    from crmcom_pipelines import postgres

    for error in errors:
        if not isinstance(error, duckdb.Error):
            continue
        said = str(error)
        text = f"DuckLake says: {_line(error)}"
        if any(words in said for words in _BUSY):
            return lock.Locked(
                f"another process has the lake's catalog open, which lets in one at a time ({text})"
                ". Wait until it has finished, or keep the catalog in PostgreSQL"
            )
        if any(words in said for words in _SETTINGS):
            return SettingsError(f"{text}. Change destination.ducklake.credentials")
        if isinstance(error, duckdb.HTTPException) or any(words in said for words in _LATER):
            return Unavailable(f"{text}. What was committed is kept; run again")
        return CrmcomError(text)
    return postgres.explained(errors, "destination.ducklake.credentials.catalog")


def _line(error: BaseException) -> str:
    """What the catalog's server said, without the address that DuckDB puts before it twice."""
    return re.sub(r"^.*Unable to connect to Postgres at \"[^\"]*\": ", "", first_line(error))
