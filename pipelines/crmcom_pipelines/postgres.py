"""A dataset in a PostgreSQL database: one run at a time, and marts that change all at once.

dlt commits table by table and dbt model by model, so neither may write what readers read. Of a
dataset `crmcom`, with every part in a schema of its own:

    crmcom                  raw tables and ledger, as dlt commits them
    crmcom_reports          the marts, replaced in one transaction
    crmcom_intermediate     what reports say beside the marts; replaced in the same transaction
    crmcom__build_*         where dbt builds and tests; for no reader
    crmcom__build           which resources a load that was interrupted has left half done

Publishing deletes and inserts the rows that changed. A rename would be cheaper, but a reader whose
transaction began earlier would find new tables empty, and grants and views would go with the old.

The lock is an advisory one, which the server frees when its holder's connection ends. A statement
of a holder that was killed may still be running then: the next holder ends it before it begins.
"""

# ruff: noqa: PLC0415 - dlt, dbt and psycopg2 are imported where they are used: `--help` is fast
# ruff: noqa: S608 - the only names put into SQL are the dataset's, which is checked, and the catalog's

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import socket
from functools import cached_property
from typing import TYPE_CHECKING, Any

from crmcom.errors import CrmcomError, SettingsError, Unavailable
from crmcom_pipelines import lock
from crmcom_pipelines.publish import NoSpace, check_dataset
from crmcom_pipelines.transform import CannotAsk, TransformResult, run_project
from crmcom_pipelines.warehouse import STAGING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from dlt import Pipeline

    from crmcom import Settings
    from crmcom_pipelines.snapshot import Reader
    from crmcom_pipelines.union import Union
    from crmcom_pipelines.warehouse import Draft

_LONGEST_DATASET = 63 - len("__build_intermediate")
_OLDEST = 16
"""The first PostgreSQL that can tell whether a text is a date without an error."""

PUBLISHED = ("int_crmcom__as_of", "int_crmcom__freshness")
"""What reports say beside the marts."""
RUNS, STAMP = "int_crmcom__sync_runs", "int_crmcom__published"
"""The ledger's runs as they were when the marts were published, and the time of that."""

_SECRET = "DBT_ENV_SECRET_CRMCOM_POSTGRES"  # noqa: S105 - the name of a variable, which dbt keeps out of its logs


def quoted(*names: str) -> str:
    return ".".join('"' + name.replace('"', '""') + '"' for name in names)


def literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


class Postgres:
    """Making one connects to nothing. `folder` is for what dlt and dbt keep on this machine."""

    has_marts = True

    def __init__(self, dataset: str, folder: Path, union: Union | None = None) -> None:
        check_dataset(dataset, _LONGEST_DATASET)
        self._dataset, self._folder, self.union = dataset, folder, union

    @cached_property
    def credentials(self) -> Any:
        """dlt's, each of whose connections can be told from others on the server."""
        from crmcom_pipelines.around_dlt import quiet_dlt
        from crmcom_pipelines.load import PIPELINE

        with quiet_dlt():
            from dlt.common.configuration import inject_section, resolve_configuration
            from dlt.common.configuration.exceptions import ConfigurationException
            from dlt.common.configuration.specs.config_section_context import ConfigSectionContext
            from dlt.destinations.impl.postgres.configuration import PostgresCredentials

            try:
                with inject_section(ConfigSectionContext(pipeline_name=PIPELINE)):
                    found = resolve_configuration(
                        PostgresCredentials(), sections=("destination", "postgres", "credentials")
                    )
            except (ConfigurationException, ValueError):
                # Their texts may repeat what was given, and so a password.
                raise SettingsError(
                    "PostgreSQL's credentials are missing or cannot be read: set "
                    "destination.postgres.credentials in .dlt/secrets.toml, or the environment "
                    "variable DESTINATION__POSTGRES__CREDENTIALS, to "
                    "postgresql://user:password@host:5432/database"
                ) from None
        found.query = {**(found.query or {}), "application_name": self._worker}
        return found

    @property
    def _worker(self) -> str:
        return f"crmcom/{self._dataset}"

    @property
    def name(self) -> str:
        return f"dataset {self._dataset} of {self.address}"

    @property
    def address(self) -> str:
        given = self.credentials
        host = given.query.get("host", given.host)
        return f"postgresql://{host}:{given.port}/{given.database}"

    @property
    def folder(self) -> Path:
        digest = hashlib.sha256(f"{self.address} {self._dataset}".encode()).hexdigest()[:12]
        return self._folder / f"postgres-{self._dataset}-{digest}"

    @contextlib.contextmanager
    def draft(self, command: str, *, work: str = "sync") -> Iterator[Draft]:  # noqa: ARG002 - one at a time
        me = f"crmcom process {os.getpid()} on {socket.gethostname()}: {command}"
        with connected(self.credentials, me) as connection:
            _check_version(connection)
            from crmcom_pipelines.publishing import refuse_tables

            take(connection, f"crmcom warehouse {self._dataset}", self.name)
            if self.union is not None:
                refuse_tables(connection, self.union)
            ended = self._end_orphans(connection)
            folder = self.folder
            folder.mkdir(parents=True, exist_ok=True)
            ignore = self._folder / ".gitignore"
            if not ignore.exists():
                ignore.write_text("*\n")
            # Of two servers behind one address, or one behind two, the folder is shared.
            with lock.hold(folder / "lock", command=command):
                yield _Draft(self, self._dataset, connection, folder, note=ended)

    def reports(self, names: Sequence[str]) -> AbstractContextManager[Path]:
        from crmcom_pipelines.snapshot import of_reports

        return of_reports(self.reading, self.address, self._dataset, names)

    def history(self, names: Sequence[str]) -> AbstractContextManager[Path]:
        from crmcom_pipelines.snapshot import of_history

        return of_history(self.reading, self.address, self._dataset, names)

    def ledger(self, table: str | None = None, record_id: str = "") -> AbstractContextManager[Path]:
        from crmcom_pipelines.snapshot import of_ledger

        return of_ledger(self.reading, self.address, self._dataset, table, record_id)

    def reading(self) -> AbstractContextManager[Reader]:
        from crmcom_pipelines.snapshot import ServerReader

        return ServerReader.open(self)

    def _end_orphans(self, connection: Any) -> str:
        """Ends what a holder of the lock that was killed has left running, and says so."""
        with connection.cursor() as cursor:
            cursor.execute(
                "select count(*) from (select pg_terminate_backend(pid, 60000) "
                "from pg_stat_activity where application_name = %s and usename = current_user "
                "and datname = current_database()) as ended",
                [self._worker],
            )
            (ended,) = cursor.fetchone()
        return (
            f"a run that was killed had left {ended} connections at work: they were ended"
            if ended
            else ""
        )


@contextlib.contextmanager
def connected(
    credentials: Any, application: str, setting: str = "destination.postgres.credentials"
) -> Iterator[Any]:
    """A connection that commits each statement, unless it is told to begin a transaction. Errors
    name the `setting` that the credentials came from."""
    try:
        import psycopg2
    except ImportError:
        raise SettingsError(
            "PostgreSQL needs the extra `postgres`: pip install 'crmcom-warehouse[postgres]'"
        ) from None
    dsn = credentials.to_native_representation()
    try:
        connection = psycopg2.connect(dsn, application_name=application[:63], keepalives_idle=30)
    except psycopg2.Error as error:
        raise explained([error], setting) or error from None
    try:
        connection.autocommit = True
        yield connection
    except psycopg2.Error as error:
        raise explained([error], setting) or error from None
    finally:
        with contextlib.suppress(psycopg2.Error), connection.cursor() as cursor:
            # A server notices a moment later that a connection was closed; until then the next
            # run would be told that this one is at work.
            cursor.execute("select pg_advisory_unlock_all()")
        connection.close()


def lock_key(what: str) -> int:
    """An advisory lock's, which is a number."""
    return int.from_bytes(hashlib.sha256(what.encode()).digest()[:8], signed=True)


def take(connection: Any, what: str, name: str) -> None:
    """The lock on `what`, until the connection ends. Raises `Locked`; `name` is for people."""
    key = lock_key(what)
    with connection.cursor() as cursor:
        cursor.execute("select pg_try_advisory_lock(%s)", [key])
        if cursor.fetchone() == (True,):
            return
        cursor.execute(
            "select a.application_name, a.backend_start from pg_locks l "
            "join pg_stat_activity a on a.pid = l.pid where l.locktype = 'advisory' "
            "and l.granted and (l.classid::bigint << 32 | l.objid::bigint) = %s "
            "and l.database = (select oid from pg_database where datname = current_database())",
            [key],
        )
        row = cursor.fetchone()
    who = f"{row[0]}, since {row[1]:%Y-%m-%d %H:%M:%S %Z}" if row and row[0] else "Another run"
    raise lock.Locked(f"{who}, is at work on {name}. Wait until it has finished, or stop it.")


class _Draft:
    """One run's hold on a dataset, by the lock of `connection`."""

    loads_once = False

    def __init__(
        self, server: Postgres, dataset: str, connection: Any, folder: Path, *, note: str
    ) -> None:
        self.note, self.folder, self.pipelines_dir = note, folder, folder / "pipelines"
        self._server, self._dataset, self._connection = server, dataset, connection
        self._dbt_dir = folder / "dbt"
        self._state = quoted(f"{dataset}__build")
        self._built_for: list[str] | None = None
        self._unfinished: set[str] = set()
        if self._has(f"{dataset}__build", "unfinished"):
            found = self._run(f"select resource from {self._state}.unfinished")
            self._unfinished = {name for (name,) in found}

    def hide(self, settings: Settings) -> bool:  # noqa: ARG002 - not done there
        return False

    def target(self) -> AbstractContextManager[Any]:
        from dlt.destinations import postgres
        from dlt.destinations.impl.postgres.postgres import PostgresClient, PostgresParquetCopyJob

        # Here, so that who may make no schema is told before the API is asked.
        self._run(f"create schema if not exists {self._state}")
        self._run(
            f"create table if not exists {self._state}.unfinished "
            "(resource text primary key, since timestamptz not null default now())"
        )

        class Client(PostgresClient):
            def create_load_job(self, *args: Any, **options: Any) -> Any:
                job = super().create_load_job(*args, **options)
                if isinstance(job, PostgresParquetCopyJob):
                    # As a whole, a file without rows fails (dlt 1.31).
                    job._ingest_per_rowgroup = True  # noqa: SLF001 - nothing public says so
                return job

        class Destination(postgres):
            client_class = Client

        target = Destination(
            self._server.credentials,
            destination_name="postgres",
            staging_dataset_name_layout=STAGING,
        )
        return contextlib.nullcontext(target)

    def turn(self) -> AbstractContextManager[bool]:
        return contextlib.nullcontext(enter_result=False)

    @contextlib.contextmanager
    def loading(self, pipeline: Pipeline, resources: Sequence[str]) -> Iterator[None]:  # noqa: ARG002 - dlt loads on its own
        """A load that is killed meanwhile leaves some tables ahead of others: it is on record."""
        self._run(
            f"insert into {self._state}.unfinished select unnest(%s) on conflict do nothing",
            [*resources],
        )
        yield
        self._finished(set(resources) - self._unfinished)

    def loaded(self, complete: Iterable[str]) -> None:
        self._finished(set(complete))

    def build(
        self, variables: Mapping[str, object], *, full_refresh: bool = False
    ) -> TransformResult:
        if self._unfinished:
            names = ", ".join(sorted(self._unfinished))
            return TransformResult(
                ok=False,
                nodes=(),
                seconds=0,
                error=f"the last load of {names} was interrupted, and some of its tables are ahead "
                "of others: run `crmcom sync` to complete it",
            )
        if not self._has(self._dataset, "_sync_runs"):
            raise SettingsError(
                f"there is no {self._server.name} to build marts in: run `crmcom sync` first, or "
                "name the dataset with --dataset"
            )
        result = run_project(
            _Engine(self._connection, self._server, self._dataset),
            dataset=self._dataset,
            vars={**variables, "crmcom_dataset": f"{self._dataset}__build"},
            full_refresh=full_refresh,
            work_dir=self._dbt_dir,
        )
        if result.ok:
            schemas: Any = variables.get("crmcom_schema", self._dataset)
            self._built_for = [schemas] if isinstance(schemas, str) else list(schemas)
        return result

    def publish(self) -> bool:
        if self._built_for is None:
            return False  # raw tables alone, which readers see as they are
        from crmcom_pipelines.publishing import publish

        publish(self._connection, self._dataset, self._built_for, self._server.union)
        return True

    def cause(self, errors: Sequence[BaseException]) -> CrmcomError | None:
        return explained(errors)

    def _has(self, schema: str, table: str) -> bool:
        return self._run("select to_regclass(%s) is not null", quoted(schema, table)) == [(True,)]

    def _finished(self, resources: set[str]) -> None:
        self._run(f"delete from {self._state}.unfinished where resource = any(%s)", [*resources])
        self._unfinished -= resources

    def _run(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        with self._connection.cursor() as cursor:
            cursor.execute(sql, values or None)
            return list(cursor.fetchall()) if cursor.description else []


class _Engine:
    """dbt on the server that `connection` leads to."""

    def __init__(self, connection: Any, server: Postgres, dataset: str) -> None:
        self._connection, self._server, self._dataset = connection, server, dataset

    def output(self, work_dir: Path) -> Mapping[str, object]:  # noqa: ARG002 - nothing is kept there
        # As the lock's connection was made, whichever way libpq found it out.
        used, options = self._connection.info, self._connection.get_dsn_parameters()
        ssl = ("sslmode", "sslcert", "sslkey", "sslrootcert")
        return {
            "type": "postgres",
            "host": _templated(options.get("host") or used.host),
            "port": int(used.port),
            "user": _templated(used.user),
            "password": f"{{{{ env_var('{_SECRET}') }}}}",
            "dbname": _templated(used.dbname),
            "schema": self._dataset,
            "threads": min(4, os.cpu_count() or 1),
            "application_name": self._server.credentials.query["application_name"],
            **{key: _templated(options[key]) for key in ssl if options.get(key)},
        }

    @contextlib.contextmanager
    def session(self) -> Iterator[None]:
        """dbt takes options that its profile has no place for from libpq's own variables."""
        given = self._connection.get_dsn_parameters().get("options", "")
        added = {
            _SECRET: self._connection.info.password or "",
            "PGOPTIONS": f"{given} -ctimezone=UTC".strip(),
        }
        before = {key: os.environ.get(key) for key in added}
        os.environ.update(added)
        try:
            yield
        finally:
            for key, value in before.items():
                os.environ.pop(key)
                if value is not None:
                    os.environ[key] = value

    def first_rows(self, sql: str, count: int) -> tuple[Sequence[str], Sequence[Sequence[object]]]:
        import psycopg2

        with self._connection.cursor() as cursor:
            try:
                cursor.execute(f"select * from ({sql}) as found limit {count}")
            except psycopg2.Error as error:
                raise CannotAsk(str(error)) from error
            return [column.name for column in cursor.description], cursor.fetchall()


def _templated(text: str) -> str:
    """In a profile, braces would begin a template."""
    return text.replace("{", "{{ '{' }}")


def _check_version(connection: Any) -> None:
    if connection.server_version < _OLDEST * 10_000:
        raise SettingsError(
            f"this is PostgreSQL {connection.server_version // 10_000}: {_OLDEST} or newer is "
            "needed"
        )


_SETTINGS = ("28", "3D", "3F", "42501", "25006")
"""Who we are, which database, which schema, what we may do, a server that is read-only."""
_LATER = ("08", "53", "57P", "55P03", "40")
"""A lost connection, no room for another one, a server that shuts down, a lock, a conflict."""
_FULL = ("53100",)
_OURS_TO_CHANGE = re.compile(
    r"FATAL: .*(authentication|does not exist|pg_hba|permission|not permitted)"
    r"|no password supplied|certificate|support SSL|invalid (dsn|port|connection|integer|URI)"
)
"""libpq gives no code where there is no connection: its words are all there is."""


def explained(
    errors: Sequence[BaseException], setting: str = "destination.postgres.credentials"
) -> CrmcomError | None:
    """What PostgreSQL said, in one line and with an exit code; None where it said nothing."""
    told = [e for e in errors if type(e).__module__.partition(".")[0] in _DRIVERS]
    coded = [e for e in told if _code(e)]
    for error in coded or told:
        code = _code(error)
        text = f"PostgreSQL says: {_line(error)}"
        if code.startswith(_FULL):
            return NoSpace(text)
        if code.startswith(_SETTINGS) or (not code and _OURS_TO_CHANGE.search(text)):
            return SettingsError(f"{text}. Change {setting}, or the grants")
        if code.startswith(_LATER) or (not code and type(error).__name__ == "OperationalError"):
            return Unavailable(f"{text}. What was committed is kept; run again")
        return CrmcomError(text)
    return None


_DRIVERS = ("psycopg2", "adbc_driver_manager")


def _code(error: BaseException) -> str:
    return str(getattr(error, "pgcode", None) or getattr(error, "sqlstate", None) or "")


def _line(error: BaseException) -> str:
    diagnosed = getattr(error, "diag", None)
    said = getattr(diagnosed, "message_primary", None) or str(error)
    if _code(error) == _DEPENDED_UPON:
        said = f"{said}: {getattr(diagnosed, 'message_detail', '')}"
    return str(said).strip().split("\n", 1)[0].rstrip(".")


_DEPENDED_UPON = "2BP01"
"""Only its details say by what; those of other errors hold people's data."""
