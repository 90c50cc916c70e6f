"""A dataset in a DuckLake: several machines load and read it, and marts change all at once.

dlt commits table by table, so readers are given the marts alone. Of a dataset `crmcom`, with every
part in a schema of its own:

    crmcom                  raw tables and ledger, as dlt commits them
    crmcom_reports          the marts, replaced in one transaction
    crmcom_intermediate     what reports say beside the marts; replaced in the same transaction
    crmcom__build           which resources a load that was interrupted has left half done

dbt builds and tests in a DuckDB file of this machine, from a copy of the raw tables: the lake sees
neither its models nor its many small statements.
"""

# ruff: noqa: PLC0415 - dlt, dbt and duckdb are imported where they are used: `--help` is fast
# ruff: noqa: S608 - the only names put into SQL are the dataset's, which is checked

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
from typing import TYPE_CHECKING, Any

from crmcom.errors import CrmcomError, SettingsError
from crmcom_pipelines.lake import ALIAS, Lake, explained
from crmcom_pipelines.postgres import literal, quoted
from crmcom_pipelines.publish import check_dataset
from crmcom_pipelines.transform import TransformResult, transform
from crmcom_pipelines.turns import on_files, on_server, waiting

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from dlt import Pipeline
    from duckdb import DuckDBPyConnection

    from crmcom import Settings
    from crmcom_pipelines.snapshot import Reader
    from crmcom_pipelines.turns import Turns
    from crmcom_pipelines.union import Union
    from crmcom_pipelines.warehouse import Draft


class DuckLake:
    """Making one connects to nothing. Below `home` runs keep what this machine needs."""

    has_marts = True

    def __init__(self, dataset: str, home: Path, union: Union | None = None) -> None:
        check_dataset(dataset)
        self.dataset, self.lake, self.union = dataset, Lake(), union
        self._folder = home / ".crmcom"

    @property
    def name(self) -> str:
        return f"dataset {self.dataset} of {self.address}"

    @property
    def address(self) -> str:
        return self.lake.address

    @property
    def folder(self) -> Path:
        digest = hashlib.sha256(f"{self.address} {self.dataset}".encode()).hexdigest()[:12]
        return self._folder / f"ducklake-{self.dataset}-{digest}"

    @contextlib.contextmanager
    def draft(self, command: str, *, work: str = "sync") -> Iterator[Draft]:
        folder = self.folder
        (folder / work).mkdir(parents=True, exist_ok=True)
        ignore = self._folder / ".gitignore"
        if not ignore.exists():
            ignore.write_text("*\n")
        with (
            self._turns(command, work) as turns,
            self.lake.connected(folder / work / "spill") as connection,
            contextlib.ExitStack() as build,
        ):
            if self.union is not None:
                from crmcom_pipelines.lake_publishing import refuse_tables

                refuse_tables(connection, self.union)
            yield _Draft(self, connection, turns, build, folder / work)

    def _turns(self, command: str, work: str) -> AbstractContextManager[Turns]:
        lake = self.lake
        if lake.kind == "postgres":
            me = f"crmcom process {os.getpid()} on {socket.gethostname()}: {command}"
            scope = f"crmcom ducklake {lake.credentials.metadata_schema}"
            mine = f"{self.dataset} {work}"
            return on_server(lake.credentials.catalog, scope, mine, me, self.name)
        locks = lake.catalog_file.with_name(f"{lake.catalog_file.name}.locks")
        if lake.kind == "duckdb":
            return on_files(locks, "all", command, alone=True)
        return on_files(locks, f"{self.dataset}-{work}", command, alone=False)

    def reports(self, names: Sequence[str]) -> AbstractContextManager[Path]:
        from crmcom_pipelines.snapshot import of_reports

        return of_reports(self.reading, self.address, self.dataset, names)

    def history(self, names: Sequence[str]) -> AbstractContextManager[Path]:
        from crmcom_pipelines.snapshot import of_history

        return of_history(self.reading, self.address, self.dataset, names)

    def ledger(self, table: str | None = None, record_id: str = "") -> AbstractContextManager[Path]:
        from crmcom_pipelines.snapshot import of_ledger

        return of_ledger(self.reading, self.address, self.dataset, table, record_id)

    def reading(self) -> AbstractContextManager[Reader]:
        from crmcom_pipelines.lake_reader import LakeReader

        return LakeReader.open(self.lake)


class _Draft:
    """One run's hold on a dataset: the only one of its kind; others take turns with it."""

    note = ""
    loads_once = False

    def __init__(
        self,
        at: DuckLake,
        connection: DuckDBPyConnection,
        turns: Turns,
        build: contextlib.ExitStack,
        folder: Path,
    ) -> None:
        self.folder, self.pipelines_dir = folder.parent, folder / "pipelines"
        self._at, self._connection, self._turns, self._build = at, connection, turns, build
        self._build_file = self.folder / "build.duckdb"
        self._unfinished = quoted(ALIAS, f"{at.dataset}__build", "unfinished")
        self._inherited: set[str] = set()
        self._seen = -1
        self._built: tuple[list[str], int] | None = None

    def hide(self, settings: Settings) -> bool:  # noqa: ARG002 - not done there
        return False

    def target(self) -> AbstractContextManager[Any]:
        return contextlib.nullcontext(self._at.lake.target(self._connection))

    @contextlib.contextmanager
    def turn(self) -> Iterator[bool]:
        with self._turns.turn(self._what):
            others = self._snapshot() != self._seen
            # Nobody else has a turn: what is marked is left by who was killed in his.
            self._inherited = self._marked()
            yield others
            self._seen = self._snapshot()

    @property
    def _what(self) -> str:
        """A catalog in a file lets one process write at a time, whatever it writes."""
        return f"{self._at.dataset} slice" if self._at.lake.kind == "postgres" else "lake"

    @contextlib.contextmanager
    def loading(self, pipeline: Pipeline, resources: Sequence[str]) -> Iterator[None]:  # noqa: ARG002 - dlt loads on its own
        """A load that is killed meanwhile leaves some tables ahead of others: it is on record."""
        self._mark(set(resources) - self._inherited)
        yield
        self._clear(set(resources) - self._inherited)

    def loaded(self, complete: Iterable[str]) -> None:
        self._clear(set(complete))

    def build(
        self, variables: Mapping[str, object], *, full_refresh: bool = False
    ) -> TransformResult:
        dataset = self._at.dataset
        named: Any = variables.get("crmcom_schema", dataset)
        tenants = [named] if isinstance(named, str) else list(named)
        # Of two processes on this machine one builds at a time, until it has published.
        self._build.enter_context(waiting(self.folder / "build.lock", "crmcom transform"))
        with self.turn():
            if self._inherited:
                names = ", ".join(sorted(self._inherited))
                return TransformResult(
                    ok=False,
                    nodes=(),
                    seconds=0,
                    error=f"the last load of {names} was interrupted, and some of its tables are "
                    "ahead of others: run `crmcom sync` to complete it",
                )
            if not self._has(dataset, "_sync_runs"):
                raise SettingsError(
                    f"there is no {self._at.name} to build marts in: run `crmcom sync` first, or "
                    "name the dataset with --dataset"
                )
            from crmcom_pipelines.lake_reader import copy_raw

            snapshot = copy_raw(self._connection, tenants, self._build_file)
        result = transform(
            self._build_file,
            dataset=dataset,
            vars=variables,
            full_refresh=full_refresh,
            work_dir=self.folder / "dbt",
        )
        if result.ok:
            self._built = tenants, snapshot
        return result

    def publish(self) -> bool:
        if self._built is None:
            return False  # raw tables alone, which readers see as they are
        from crmcom_pipelines.lake_publishing import publish

        tenants, snapshot = self._built
        at = self._at
        with self._build, contextlib.ExitStack() as held:
            if at.union is not None:
                # Two tenants' runs may publish at once.
                held.enter_context(self._turns.turn(f"{at.union.dataset} union"))
            held.enter_context(self.turn())
            return publish(
                self._connection,
                self._build_file,
                at.dataset,
                tenants,
                snapshot=snapshot,
                union=at.union,
            )

    def cause(self, errors: Sequence[BaseException]) -> CrmcomError | None:
        return explained(errors)

    def _snapshot(self) -> int:
        found = self._connection.execute(
            f"select max(snapshot_id) from ducklake_snapshots({literal(ALIAS)})"
        ).fetchone()
        return int(found[0]) if found else -1

    def _has(self, schema: str, table: str) -> bool:
        from crmcom_pipelines.lake_reader import tables

        return table in tables(self._connection, schema)

    def _marked(self) -> set[str]:
        if not self._has(f"{self._at.dataset}__build", "unfinished"):
            return set()
        found = self._connection.execute(f"select resource from {self._unfinished}").fetchall()
        return {name for (name,) in found}

    def _mark(self, resources: set[str]) -> None:
        schema = quoted(ALIAS, f"{self._at.dataset}__build")
        self._connection.execute(f"create schema if not exists {schema}")
        self._connection.execute(f"create table if not exists {self._unfinished} (resource text)")
        if resources:
            values = ", ".join(f"({literal(name)})" for name in sorted(resources))
            self._connection.execute(f"insert into {self._unfinished} values {values}")

    def _clear(self, resources: set[str]) -> None:
        if names := ", ".join(map(literal, sorted(resources & self._marked()))):
            self._connection.execute(f"delete from {self._unfinished} where resource in ({names})")
