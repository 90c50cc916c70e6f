"""Tables -> marts: runs the dbt project on a DuckDB file or on a server, in this process.

Nothing is printed, nothing leaves the machine, and nothing is written into the project's own
folder (it may be installed read-only): dbt's profile, logs and parsed project go to `work_dir`.
"""

# ruff: noqa: PLC0415 - dbt takes 2.6 s to import, and who only loads must not pay for it

from __future__ import annotations

import hashlib
import json
import os
import time
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from crmcom.errors import SettingsError
from crmcom_pipelines.marts import SOURCE_CATALOG

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

Status = Literal["ok", "warn", "fail", "error", "skipped"]
"""ok: built, or passed; warn: a test that only warns found rows; fail: a test found rows;
error: it could not run; skipped: something that it needs was not built."""

_STATUS: dict[str, Status] = {
    "success": "ok",
    "pass": "ok",
    "no-op": "ok",
    "warn": "warn",
    "fail": "fail",
    "skipped": "skipped",
}
_ROWS_SHOWN = 3
MEMORY_GIB = 2
"""DuckDB takes half as much again, and more, beside what it counts, where two queries sort."""


@dataclass(frozen=True, slots=True)
class NodeResult:
    """What came of one model or test."""

    name: str
    kind: str
    """dbt's word: `model`, `test`, `unit_test`, `exposure`."""
    status: Status
    failures: int | None
    """Rows that a test found; None for what is not a test."""
    message: str
    """Of a failed test its first rows, of an error its cause."""
    seconds: float

    @property
    def summary(self) -> str:
        if self.status in ("fail", "warn"):
            rows = "1 row" if self.failures == 1 else f"{self.failures} rows"
            said = f"test {self.name} failed with {rows}"
        elif self.status == "error":
            said = f"{self.kind} {self.name} could not run"
        else:
            return f"{self.kind} {self.name}: {self.status}"
        return f"{said}: {self.message}" if self.message else said


@dataclass(frozen=True, slots=True)
class TransformResult:
    """What came of a run of the project."""

    ok: bool
    """Every model was built and every test passed."""
    nodes: tuple[NodeResult, ...]
    seconds: float
    error: str | None = None
    """Why the project could not run at all; then there are no nodes."""

    @property
    def failed(self) -> tuple[NodeResult, ...]:
        return tuple(node for node in self.nodes if node.status in ("fail", "error"))

    @property
    def summary(self) -> str:
        """A line for each cause of failure, or one line that says that all is well."""
        if self.error is not None:
            return f"the marts could not be built: {self.error}"
        if not self.ok:
            skipped = sum(node.status == "skipped" for node in self.nodes)
            lines = [node.summary for node in self.failed]
            return "\n".join([*lines, f"{skipped} more were skipped"] if skipped else lines)
        models = sum(node.kind == "model" for node in self.nodes)
        tests = sum(node.kind in ("test", "unit_test") for node in self.nodes)
        return f"{models} models built and {tests} tests passed in {self.seconds:.1f} s"


def transform(
    database: Path,
    *,
    dataset: str = "crmcom",
    vars: Mapping[str, object] | None = None,  # noqa: A002 - dbt's own word
    full_refresh: bool = False,
    select: Sequence[str] = (),
    source: Path | None = None,
    tests: bool = True,
    unit_tests: bool = False,
    work_dir: Path | None = None,
    memory_limit: str | None = None,
) -> TransformResult:
    """Builds and tests the marts in the DuckDB file `database`, in `<dataset>_reports`.

    `vars` are dbt's variables; one that changes what history says rebuilds it, and `full_refresh`
    does in any case. `select` takes dbt's node selectors; empty: everything. With `source`, the raw
    tables are read from that file, which stays as it is, and so is the history built there where
    it serves: a report as of a past day is made like this, in a file of its own. `tests` checks the
    data; `unit_tests` the project's logic, on rows of its own. `work_dir` holds what dbt keeps
    between runs, which spares the next one 3 s if `database` and `vars` are the same.
    `memory_limit` is DuckDB's; 2 GiB unless given, or what DuckDB takes where there is less.

    A model or test that fails is told in the result, never raised.
    """
    return run_project(
        _DuckDB(database, dataset, source, memory_limit),
        dataset=dataset,
        vars={**({"crmcom_database": SOURCE_CATALOG} if source else {}), **(vars or {})},
        full_refresh=full_refresh,
        select=select,
        tests=tests,
        unit_tests=unit_tests,
        work_dir=work_dir or database.parent / ".crmcom" / "dbt",
    )


class Engine(Protocol):
    """A database that dbt builds in."""

    def output(self, work_dir: Path) -> Mapping[str, object]:
        """How dbt connects: its entry in the profile, without a secret."""
        ...

    def session(self) -> AbstractContextManager[None]:
        """Held while dbt runs; nothing is left open afterwards."""
        ...

    def first_rows(self, sql: str, count: int) -> tuple[Sequence[str], Sequence[Sequence[object]]]:
        """Names of columns, and some rows. Raises `CannotAsk`."""
        ...


class CannotAsk(Exception):
    """The database does not answer; the message is its own."""


def run_project(
    engine: Engine,
    *,
    dataset: str,
    vars: Mapping[str, object],  # noqa: A002 - dbt's own word
    work_dir: Path,
    full_refresh: bool = False,
    select: Sequence[str] = (),
    tests: bool = True,
    unit_tests: bool = False,
) -> TransformResult:
    """`transform` on any engine; its options mean the same."""
    started_s = time.monotonic()
    work_dir.mkdir(parents=True, exist_ok=True)
    _write_profile(work_dir, engine)
    args = [
        *_arguments("build", work_dir, dataset, vars),
        *([] if tests else ["--exclude-resource-type", "test"]),
        *([] if unit_tests else ["--exclude-resource-type", "unit_test"]),
        *(["--full-refresh"] if full_refresh else []),
        # Of the tests, those whose models all are selected or were built for them.
        *(["--select", *select, "--indirect-selection", "buildable"] if select else []),
    ]
    with _quiet_dbt(engine) as runner:
        reply = runner.invoke(args)
    nodes = tuple(_node_result(run, engine) for run in getattr(reply.result, "results", ()))
    return TransformResult(
        ok=bool(reply.success),
        nodes=nodes,
        seconds=time.monotonic() - started_s,
        error=None if nodes or reply.success else _one_line(reply.exception),
    )


def manifest(
    *,
    dataset: str = "crmcom",
    vars: Mapping[str, object] | None = None,  # noqa: A002 - dbt's own word
    work_dir: Path,
) -> Any:
    """dbt's manifest of the project, which is parsed for this: 6 s. No warehouse is opened.

    Raises `SettingsError` where the project cannot be parsed with these `vars`.
    """
    work_dir.mkdir(parents=True, exist_ok=True)
    engine = _DuckDB(work_dir / "warehouse.duckdb", dataset, None, None)
    _write_profile(work_dir, engine)
    with _quiet_dbt(engine) as runner:
        reply = runner.invoke(_arguments("parse", work_dir, dataset, vars or {}))
    if not reply.success:
        raise SettingsError(f"the dbt project cannot be parsed: {_one_line(reply.exception)}")
    return reply.result


def _arguments(
    command: str, work_dir: Path, dataset: str, variables: Mapping[str, object]
) -> list[str]:
    """A command line for dbt that prints nothing and writes into `work_dir` alone."""
    known = {
        "crmcom_schema": dataset,
        "crmcom_dataset": dataset,
        "crmcom_build": project_digest(),
    }
    return [
        "--quiet",
        "--no-print",
        "--no-use-colors",
        "--no-send-anonymous-usage-stats",
        "--no-version-check",
        *("--log-level", "none"),
        *("--log-level-file", "info"),
        *("--log-path", str(work_dir / "logs")),
        command,
        *("--project-dir", str(project_dir())),
        *("--profiles-dir", str(work_dir)),
        *("--target-path", str(work_dir / "target")),
        # As they are: YAML knows no surrogates, which are JSON's escape of an emoji.
        *("--vars", json.dumps({**known, **variables}, default=str, ensure_ascii=False)),
        "--partial-parse",
        "--no-write-json",
    ]


def project_dir() -> Path:
    """The folder of the dbt project, wherever the package is installed."""
    from crmcom_transforms import PROJECT_DIR

    return PROJECT_DIR


def project_digest() -> str:
    """Changes with the project's SQL, so that an upgrade rebuilds history as a variable does."""
    digest = hashlib.sha256()
    root = project_dir()
    for path in sorted(root.rglob("*.sql")):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def _write_profile(work_dir: Path, engine: Engine) -> None:
    outputs = {"warehouse": engine.output(work_dir)}
    profile = {"crmcom": {"target": "warehouse", "outputs": outputs}}
    # JSON is YAML.
    text = json.dumps(profile, indent=2, ensure_ascii=False)
    (work_dir / "profiles.yml").write_text(text, encoding="utf-8")


@dataclass(frozen=True, slots=True)
class _DuckDB:
    database: Path
    dataset: str
    source: Path | None
    memory_limit: str | None

    def output(self, work_dir: Path) -> Mapping[str, object]:
        attached = (
            {"path": _literal(self.source), "alias": SOURCE_CATALOG, "read_only": True}
            if self.source
            else None
        )
        return {
            "type": "duckdb",
            "path": _literal(self.database),
            "schema": self.dataset,
            "threads": min(4, os.cpu_count() or 1),
            # Not as dbt's `settings`: each of its cursors sets these anew, and DuckDB refuses to
            # hear of another temporary directory once it has spilled.
            "config_options": {
                # Everything that is used is built in; nothing is ever fetched.
                "autoinstall_known_extensions": False,
                "temp_directory": _literal(work_dir / "spill"),
                "memory_limit": self.memory_limit or _memory_limit(),
            },
            **({"attach": [attached]} if attached else {}),
        }

    @contextmanager
    def session(self) -> Iterator[None]:
        """Lets go of the file when done: other programs need it."""
        from dbt.adapters.duckdb.connections import DuckDBConnectionManager

        try:
            yield
        finally:
            manager: Any = DuckDBConnectionManager
            if manager._ENV is not None:  # noqa: SLF001 - nothing public closes the file
                manager._ENV.close()  # noqa: SLF001
            manager.close_all_connections()

    def first_rows(self, sql: str, count: int) -> tuple[Sequence[str], Sequence[Sequence[object]]]:
        import duckdb

        with duckdb.connect(self.database, read_only=True) as connection:
            try:
                found = connection.execute(f"select * from ({sql}) limit {count}")  # noqa: S608 - dbt's own compiled test
            except duckdb.Error as error:
                raise CannotAsk(str(error)) from error
            return [column[0] for column in found.description or ()], found.fetchall()


def _memory_limit() -> str:
    """So that a full build stays within 4 GiB, dbt included; DuckDB's own limit is 80 % of the
    machine or container, which may be less."""
    import duckdb

    with duckdb.connect() as connection:
        row = connection.execute("select current_setting('memory_limit')").fetchone()
    own = str(row[0]) if row else ""
    number, unit = own.split()
    is_more = unit == "TiB" or (unit == "GiB" and float(number) > MEMORY_GIB)
    return f"{MEMORY_GIB}GiB" if is_more else own


def _literal(path: Path) -> str:
    """A path in a profile, which dbt reads as a Jinja template: braces are its syntax."""
    return str(path.absolute()).replace("{", "{{ '{' }}")


@contextmanager
def _quiet_dbt(engine: Engine) -> Iterator[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of dbt's dependencies, which are not ours to mend
        from dbt.cli.main import dbtRunner

        with engine.session():
            yield dbtRunner()


def _node_result(run: Any, engine: Engine) -> NodeResult:
    status = _STATUS.get(str(run.status), "error")
    message = ""
    if status in ("fail", "warn"):
        message = _first_rows(engine, run.node.compiled_code)
    elif status == "error":
        message = _one_line(run.message)
    return NodeResult(
        name=run.node.name,
        kind=str(run.node.resource_type),
        status=status,
        failures=run.failures,
        message=message,
        seconds=float(run.execution_time),
    )


def _first_rows(engine: Engine, sql: str) -> str:
    try:
        names, rows = engine.first_rows(sql, _ROWS_SHOWN)
    except CannotAsk as error:
        return f"its rows cannot be shown: {_one_line(error)}"
    return "; ".join(
        ", ".join(f"{name}={value}" for name, value in zip(names, row, strict=True)) for row in rows
    )


def _one_line(said: object) -> str:
    lines = (line.strip() for line in str(said or "").splitlines())
    return " ".join(line for line in lines if line and not line.startswith("compiled code at"))
