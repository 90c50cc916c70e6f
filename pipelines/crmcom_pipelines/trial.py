"""Whether a sync could write where it is to write: tried with a table of one row, then removed."""

# ruff: noqa: PLC0415 - dlt costs a second to import

from __future__ import annotations

import secrets
import shutil
import tempfile
from pathlib import Path
from typing import Any

import duckdb

from crmcom.errors import CrmcomError, SettingsError, Unavailable
from crmcom.findings import Finding, failed
from crmcom_pipelines.load import PIPELINE
from crmcom_pipelines.publish import (
    PublishBlocked,
    StorageFailed,
    Workspace,
    check_dataset,
    explained,
)
from crmcom_pipelines.refusals import first_line, refusal

NAME = "destination"
ROOM_BYTES = 500_000_000
"""Beside the warehouse's own copies: a load, DuckDB's spill, dbt's logs."""


def destination(name: str, database: Path, dataset: str) -> Finding:
    """Whether a destination can be created, written, read and renamed in."""
    try:
        check_dataset(dataset)
        if name == "duckdb":
            return _duckdb(Workspace(database, dataset))
        if name == "ducklake":
            return _lake(dataset)
        return _elsewhere(name, dataset)
    except CrmcomError as error:
        return failed(NAME, error)


def disk(database: Path, dataset: str) -> Finding:
    """Whether there is room for another working file and another published one."""
    try:
        home = Workspace(database, dataset).published
    except CrmcomError:
        home = database.absolute()
    size = home.stat().st_size if home.is_file() else 0
    while not home.is_dir():
        home = home.parent
    free, need = shutil.disk_usage(home).free, 2 * size + ROOM_BYTES
    told = f"{free / 1e9:,.1f} GB free in {home}"
    if free >= need:
        return Finding("disk", ok=True, message=told, value=free)
    return Finding(
        "disk",
        ok=False,
        message=f"{told}, and a sync may need {need / 1e9:,.1f} GB: make room",
        value=free,
        exit_code=StorageFailed.exit_code,
    )


def _duckdb(at: Workspace) -> Finding:
    """In the folders that a sync uses, beside its files: one may be under way."""
    with explained(f"write beside {at.published}"):
        at.make_folder()
        with tempfile.TemporaryDirectory(prefix="check-", dir=at.folder) as folder:
            made = Path(folder) / at.published.name
            _try_file(made)
            # As publishing does: copied beside, then renamed into its place.
            published = at.published.with_name(f".{at.published.name}.{secrets.token_hex(4)}")
            try:
                made.rename(published)
            finally:
                published.unlink(missing_ok=True)
    if Path(f"{at.published}.wal").exists():
        raise PublishBlocked(
            f"{at.published}.wal stands beside the published file: somebody has it open for "
            "writing, and nothing can be published. Close that session; to read, use -readonly"
        )
    if not at.published.exists():
        return _works(f"{at.published} can be made")
    try:
        duckdb.connect(str(at.published), read_only=True).close()
    except duckdb.Error as error:
        raise SettingsError(
            f"{at.published} is no database that this DuckDB can open ({first_line(error)}): "
            "restore it from a backup, or name another file with --database"
        ) from None
    holder = at.holder()
    busy = f"; {holder.command} is under way" if holder else ""
    return _works(f"{at.published} can be replaced{busy}")


def _try_file(path: Path) -> None:
    try:
        with duckdb.connect(str(path)) as connection:
            connection.execute("create table probe as select 1 as id")
            connection.execute("alter table probe rename to probed")
            found = connection.execute("select id from probed").fetchall()
    except duckdb.Error as error:
        raise StorageFailed(f"DuckDB cannot write {path.parent}: {first_line(error)}") from None
    if found != [(1,)]:
        raise StorageFailed(f"DuckDB does not find what it wrote in {path.parent}")


def _elsewhere(name: str, dataset: str) -> Finding:
    """In a schema of its own, which is dropped again."""
    with tempfile.TemporaryDirectory(prefix="crmcom-check-") as folder:
        try:
            return _try_schema(name, name, _probed(dataset), folder)
        except CrmcomError:
            raise
        except Exception as error:  # whatever its driver raises while it connects
            failure = refusal(name, [error]) or Unavailable(
                f"{name} cannot be reached: {first_line(error)}"
            )
    raise failure


def _lake(dataset: str) -> Finding:
    """As `_elsewhere`; a lake that is not there yet is made, without a table in it."""
    from crmcom_pipelines.lake import Lake

    lake = Lake()
    with (
        tempfile.TemporaryDirectory(prefix="crmcom-check-") as folder,
        lake.connected(Path(folder) / "spill") as connection,
    ):
        return _try_schema("ducklake", lake.target(connection), _probed(dataset), folder)


def _probed(dataset: str) -> str:
    return f"{dataset}_check_{secrets.token_hex(4)}"


def _try_schema(name: str, target: Any, dataset: str, folder: str) -> Finding:
    import dlt
    from dlt.destinations.job_client_impl import SqlJobClientBase

    # Under the sync's own name, which its credentials may be configured for.
    pipeline = dlt.pipeline(
        PIPELINE, destination=target, dataset_name=dataset, pipelines_dir=folder
    )
    merges = pipeline.destination.capabilities().supported_merge_strategies or ()
    if "delete-insert" not in merges:
        raise SettingsError(
            f"{name} cannot replace rows (delete-insert), so every run would double them: name "
            "another --destination, such as duckdb or postgres"
        )
    if not issubclass(pipeline.destination.client_class, SqlJobClientBase):
        return Finding(NAME, ok=None, message=f"could not tell: {name} is no SQL database")
    with pipeline.sql_client() as client:
        client.create_dataset()
        try:
            renames = _try_table(client)
        finally:
            client.drop_dataset()
    more = "renamed in" if renames else "dropped; tables cannot be renamed, and no sync does"
    return _works(f"{name}: a schema can be made, written, read and {more}")


def _try_table(client: Any) -> bool:
    """Whether its table could be renamed, which not every SQL says in the same way."""
    table = client.make_qualified_table_name("probe")
    client.execute_sql(f"create table {table} (id integer)")
    client.execute_sql(f"insert into {table} values (1)")  # noqa: S608 - ours
    if [tuple(r) for r in client.execute_sql(f"select id from {table}")] != [(1,)]:  # noqa: S608
        raise StorageFailed("what was written is not found again")
    try:
        client.execute_sql(f"alter table {table} rename to probed")
    except Exception:
        return False
    return True


def _works(message: str) -> Finding:
    return Finding(NAME, ok=True, message=message, value=NAME)
