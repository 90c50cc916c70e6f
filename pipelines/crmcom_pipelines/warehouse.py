"""Where a run loads, builds and publishes, and what readers open: a DuckDB file, a server, a lake.

`warehouse_at` finds the one that is meant. What reads a warehouse reads a DuckDB file: the
published one, or a copy of what it asks for, taken from the server or the lake in one moment.
"""

# ruff: noqa: PLC0415 - dlt, dbt and duckdb are imported where they are used: `--help` is fast

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Protocol

from crmcom.errors import CrmcomError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from dlt import Pipeline
    from duckdb import DuckDBPyConnection

    from crmcom import Settings
    from crmcom_pipelines.publish import Draft as FileDraft
    from crmcom_pipelines.publish import Workspace
    from crmcom_pipelines.transform import TransformResult
    from crmcom_pipelines.union import Union

STAGING = "%s_load"
"""dlt's staging dataset; its default, `%s_staging`, is where the `stg_*` views live."""

WITH_MARTS = ("duckdb", "postgres", "ducklake")
"""The destinations that marts are built and published on."""

DUCKDB = {"memory_limit": "1GB", "threads": 1, "preserve_insertion_order": False}
"""What a merge may take before it spills to disk; DuckDB's default is 80 % of the machine. It
handles 2,000 rows together, so 128 MB failed where rows have 25 kB."""

_TO_FILE_AT_ONCE = "checkpoint_threshold = '16MB'"
"""DuckDB's default: a transaction of this size goes into the file itself. With dlt's 1 GB all of a
large load is written into the log first: a sixth of the time that loading takes, and memory. As a
pragma, since dlt sets its own each time that it asks for a connection, and pragmas after it."""


class Draft(Protocol):
    """One run's hold on a warehouse: nobody else changes it meanwhile."""

    note: str
    """What a person should know of its state; empty when all is as usual."""
    folder: Path
    """Where runs keep notes of their own, on this machine."""
    pipelines_dir: Path
    loads_once: bool
    """Whether nothing is ever loaded twice. dlt repeats a job that failed, and a server may have
    done it all the same. A DuckDB file has not: where a commit fails, nothing of it is there
    (measured with a full disk), and where a checkpoint fails, no connection works any more."""

    def hide(self, settings: Settings) -> bool:
        """Lets what was stored before follow `privacy`; whether anything had to be changed."""
        ...

    def target(self) -> AbstractContextManager[Any]:
        """The destination, as dlt takes it; held while slices are read and loaded."""
        ...

    def turn(self) -> AbstractContextManager[bool]:
        """Held while a slice is read and loaded, where other processes may load too. Whether one
        of them has, since this one's last turn."""
        ...

    def loading(
        self, pipeline: Pipeline, resources: Sequence[str]
    ) -> AbstractContextManager[object]:
        """Held while the pipeline loads a slice of these resources."""
        ...

    def loaded(self, complete: Iterable[str]) -> None:
        """All slices are loaded; `complete` are the resources that came to their end."""
        ...

    def build(
        self, variables: Mapping[str, object], *, full_refresh: bool = False
    ) -> TransformResult:
        """Builds and tests the marts, where no reader sees them yet."""
        ...

    def publish(self) -> bool:
        """Lets readers see what was loaded and built, at once; whether there was anything."""
        ...

    def cause(self, errors: Sequence[BaseException]) -> CrmcomError | None:
        """What one of these says of the warehouse, for people; None where none does."""
        ...


class Warehouse(Protocol):
    has_marts: bool
    """Whether marts are built there; else the raw tables are all there is."""

    @property
    def name(self) -> str:
        """For people; holds no secret, nor does `address`."""
        ...

    @property
    def address(self) -> str: ...

    @property
    def folder(self) -> Path:
        """Where runs keep notes of their own, on this machine."""
        ...

    def draft(self, command: str, *, work: str = "sync") -> AbstractContextManager[Draft]:
        """Holds the lock while the block runs. `command` tells others what is under way. `work`:
        its kind, where runs of different kinds go on side by side.

        Raises `Locked` where somebody else is at work, and what `publish.py` names.
        """
        ...

    def reports(self, names: Sequence[str]) -> AbstractContextManager[Path]:
        """A DuckDB file with at least these reports. Raises `ReportError`."""
        ...

    def history(self, names: Sequence[str]) -> AbstractContextManager[Path]:
        """A DuckDB file with these reports and the raw tables. Raises `ReportError`."""
        ...

    def ledger(self, table: str | None = None, record_id: str = "") -> AbstractContextManager[Path]:
        """A DuckDB file with what `ledger.status` asks for, or with what `ledger.explain` does
        of one record of `table`."""
        ...


def duckdb_target(file: Path, *, read_only: bool = False) -> Any:
    """A DuckDB file as dlt takes it, which opens it for each of its questions."""
    return _duckdb_at(str(file), read_only=read_only, global_config=DUCKDB)


@contextlib.contextmanager
def connected(file: Path) -> Iterator[tuple[DuckDBPyConnection, Any]]:
    """A DuckDB file that stays open, and as dlt takes it.

    dlt would open it some 60 times in a first load and set its options each time, 5 ms each.
    """
    import duckdb

    with duckdb.connect(str(file)) as connection:
        for option, value in DUCKDB.items():
            connection.execute(f"set global {option} = '{value}'")
        yield connection, _duckdb_at(connection)


def _duckdb_at(where: str | DuckDBPyConnection, **options: Any) -> Any:
    import dlt
    from dlt.destinations.impl.duckdb.configuration import DuckDbCredentials

    return dlt.destinations.duckdb(
        DuckDbCredentials(where, pragmas=[_TO_FILE_AT_ONCE], **options),
        staging_dataset_name_layout=STAGING,
        loader_parallelism_strategy="sequential",  # what `kept_small.py` relies on
    )


def warehouse_at(
    destination: str, database: Path, dataset: str, union: Union | None = None
) -> Warehouse:
    """`union`: what the dataset's marts are a part of, where there are several tenants."""
    if destination == "duckdb":
        return DuckDBFile(database, dataset, union)
    if destination == "postgres":
        from crmcom_pipelines.postgres import Postgres

        # Absolute: dbt works in the folder of its project.
        return Postgres(dataset, database.expanduser().absolute().parent / ".crmcom", union)
    if destination == "ducklake":
        from crmcom_pipelines.ducklake import DuckLake

        return DuckLake(dataset, database.expanduser().absolute().parent, union)
    return Elsewhere(destination, database, dataset)


class _OfOneMachine:
    """What locks and works in a folder of this machine, beside `database`."""

    def __init__(self, database: Path, dataset: str, union: Union | None = None) -> None:
        self._database, self._dataset, self._union = database, dataset, union

    @property
    def workspace(self) -> Workspace:
        from crmcom_pipelines.publish import Workspace

        return Workspace(self._database, self._dataset, self._union)

    @property
    def folder(self) -> Path:
        return self.workspace.folder

    @contextlib.contextmanager
    def draft(self, command: str, *, work: str = "sync") -> Iterator[Draft]:  # noqa: ARG002 - one at a time
        workspace = self.workspace
        with workspace.draft(command) as draft:
            yield self._draft(workspace, draft)

    def _draft(self, workspace: Workspace, draft: FileDraft) -> Draft:
        return _FileDraft(workspace, draft, self._dataset)


class DuckDBFile(_OfOneMachine):
    """A file that `publish.py` replaces as a whole; readers open it as it is."""

    has_marts = True

    def __init__(self, database: Path, dataset: str, union: Union | None = None) -> None:
        super().__init__(database, dataset, union)
        self.name, self.address = database.name, str(database.resolve())

    def reports(self, names: Sequence[str]) -> AbstractContextManager[Path]:  # noqa: ARG002 - all are there
        return contextlib.nullcontext(self._database)

    def history(self, names: Sequence[str]) -> AbstractContextManager[Path]:  # noqa: ARG002 - as above
        return contextlib.nullcontext(self._database)

    def ledger(
        self,
        table: str | None = None,  # noqa: ARG002 - all is there
        record_id: str = "",  # noqa: ARG002
    ) -> AbstractContextManager[Path]:
        return contextlib.nullcontext(self._database)


class _FileDraft:
    loads_once = True

    def __init__(self, workspace: Workspace, draft: FileDraft, dataset: str) -> None:
        self.note, self.folder = draft.note, workspace.folder
        self.pipelines_dir = workspace.pipelines_dir
        self._workspace, self._draft, self._dataset = workspace, draft, dataset
        self._connection: Any = None  # while slices are read and loaded

    def hide(self, settings: Settings) -> bool:
        from crmcom_pipelines.hide import hide_stored

        return hide_stored(self._draft, self._dataset, settings)

    @contextlib.contextmanager
    def target(self) -> Iterator[Any]:
        with connected(self._draft.path) as (self._connection, target):
            yield target

    def turn(self) -> AbstractContextManager[bool]:
        return contextlib.nullcontext(enter_result=False)

    def loading(
        self,
        pipeline: Pipeline,
        resources: Sequence[str],  # noqa: ARG002 - the rename hides what is half done
    ) -> AbstractContextManager[object]:
        from crmcom_pipelines.kept_small import kept_small

        return kept_small(self._connection, pipeline)

    def loaded(self, complete: Iterable[str]) -> None:
        pass

    def build(
        self, variables: Mapping[str, object], *, full_refresh: bool = False
    ) -> TransformResult:
        from crmcom_pipelines.transform import transform

        if not self._draft.path.exists():
            raise SettingsError(
                f"there is no {self._workspace.published} to build marts in: run `crmcom sync` "
                "first, or name the file with --database"
            )
        return transform(
            self._draft.path,
            dataset=self._dataset,
            vars=variables,
            full_refresh=full_refresh,
            work_dir=self._workspace.dbt_of_dataset,
        )

    def publish(self) -> bool:
        return self._draft.publish()

    def cause(self, errors: Sequence[BaseException]) -> CrmcomError | None:  # noqa: ARG002 - `publish.is_full` knows DuckDB's
        return None


class Elsewhere(_OfOneMachine):
    """Any other destination of dlt's: raw tables alone."""

    has_marts = False

    def __init__(self, destination: str, database: Path, dataset: str) -> None:
        super().__init__(database, dataset)
        self.name = self.address = destination

    def _draft(self, workspace: Workspace, draft: FileDraft) -> Draft:
        return _LoadOnly(self, workspace, draft, self._dataset)

    def reports(self, names: Sequence[str]) -> AbstractContextManager[Path]:  # noqa: ARG002 - there are none
        raise self.refusal()

    history = reports

    def ledger(
        self,
        table: str | None = None,  # noqa: ARG002 - nothing is read there
        record_id: str = "",  # noqa: ARG002
    ) -> AbstractContextManager[Path]:
        raise self.refusal()

    def refusal(self) -> SettingsError:
        return SettingsError(
            f"marts and reports are made on {' and '.join(WITH_MARTS)}, not on {self.name}: "
            "name another --destination"
        )


class _LoadOnly(_FileDraft):
    loads_once = False

    def __init__(
        self, elsewhere: Elsewhere, workspace: Workspace, draft: FileDraft, dataset: str
    ) -> None:
        super().__init__(workspace, draft, dataset)
        self._elsewhere = elsewhere

    def hide(self, settings: Settings) -> bool:  # noqa: ARG002 - not done there
        return False

    @contextlib.contextmanager
    def target(self) -> Iterator[Any]:
        yield self._elsewhere.name

    def cause(self, errors: Sequence[BaseException]) -> CrmcomError | None:
        from crmcom_pipelines.refusals import refusal

        return refusal(self._elsewhere.name, errors)

    def loading(
        self,
        pipeline: Pipeline,  # noqa: ARG002 - dlt loads on its own
        resources: Sequence[str],  # noqa: ARG002
    ) -> AbstractContextManager[object]:
        return contextlib.nullcontext()

    def build(
        self,
        variables: Mapping[str, object],  # noqa: ARG002 - nothing is built there
        *,
        full_refresh: bool = False,  # noqa: ARG002
    ) -> TransformResult:
        raise self._elsewhere.refusal()
