"""Workspaces to act on, and other processes that do so too."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import pytest

from crmcom_pipelines.publish import Workspace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PRELUDE = """
import os, signal, subprocess, sys, time
from pathlib import Path
import duckdb
from crmcom.errors import CrmcomError
from crmcom_pipelines.publish import Workspace
database = Path(sys.argv[1])
workspace = Workspace(database, "crmcom")
def say(*words):
    print(*words, flush=True)
def become_a_plain_user():  # whom permissions bind, also when the tests run as root
    if not os.geteuid():
        os.setgroups([])
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)
"""


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "warehouse.duckdb"


@pytest.fixture
def workspace(database: Path) -> Workspace:
    return Workspace(database, "crmcom")


@pytest.fixture
def start(database: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts a script in a process of its own, and waits until it says its first word."""
    running = []

    def start(script: str, path: str | Path = database, **how) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", PRELUDE + script, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            **how,
        )
        running.append(process)
        assert process.stdout
        assert process.stdout.readline().strip() == "ready"
        return process

    yield start
    for process in running:
        process.kill()
        process.communicate()


@pytest.fixture
def outcome(database: Path) -> Callable[..., str]:
    """Runs a script in a process of its own, and returns what it says."""

    def outcome(script: str, path: str | Path = database, *, through=(), **how) -> str:
        done = subprocess.run(
            [*through, sys.executable, "-c", PRELUDE + script, str(path)],
            capture_output=True,
            text=True,
            check=False,
            **how,
        )
        assert not done.stderr, done.stderr
        return done.stdout.strip()

    return outcome


@pytest.fixture
def sync(workspace: Workspace) -> Callable[..., str]:
    """A run that leaves `rows` rows, or adds to them, and publishes. Returns its note."""

    def sync(rows: int | None = None, *, publish: bool = True, changed: bool = True) -> str:
        with workspace.draft("crmcom sync") as draft:
            if rows is not None:
                fill(draft.path, rows)
            if publish:
                draft.publish(changed=changed)
            return draft.note

    return sync


def fill(path: Path, rows: int) -> None:
    with duckdb.connect(str(path)) as connection:
        connection.execute(f"create or replace table t as select range n from range({rows})")


def rows_in(path: Path) -> int:
    with duckdb.connect(str(path), read_only=True) as connection:
        (count,) = connection.execute("select count(*) from t").fetchone() or (-1,)
    return int(count)


@pytest.fixture
def rows(workspace: Workspace) -> Callable[[], int]:
    """What a reader of the published file counts."""
    return lambda: rows_in(workspace.published)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user can reach, unlike `tmp_path`."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)
