"""Runs that are killed, and what must hold afterwards. A script: it forks before any thread.

    crashes.py steps SCENARIO FOLDER     killed at every step of a run
    crashes.py random TIMES FOLDER       killed at random moments

A step is whatever the interpreter does that changes a file or a folder. DuckDB's own steps are not
among them, nor the middle of a copy; the random moments are for those.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import time
import traceback
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb

from crmcom_pipelines.publish import Workspace

if TYPE_CHECKING:
    from collections.abc import Callable

# `import duckdb` starts a thread that no fork of ours needs; Python warns of it from 3.12 on.
warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)

STEPS = {
    *("os.rename", "os.mkdir", "os.rmdir", "os.remove", "os.truncate", "os.chmod", "os.chown"),
    *("fcntl.ioctl", "fcntl.flock"),
}


def apart(act: Callable[[], None]) -> int:
    """Does something in a fork, and returns its wait status."""
    child = os.fork()
    if not child:
        try:
            act()
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1]


def fill(path: Path, rows: int) -> None:
    with duckdb.connect(str(path)) as connection:
        connection.execute(f"create or replace table t as select range n from range({rows})")


def rows(path: Path) -> int:
    with duckdb.connect(str(path), read_only=True) as connection:
        return connection.execute("select count(*) from t").fetchone()[0]


def run(workspace: Workspace, loads: int | None) -> None:
    with workspace.draft("crmcom sync") as draft:
        if loads:
            fill(draft.path, loads)
            (workspace.published.parent / "loaded").touch()
        draft.publish(changed=bool(loads))


def prepare(workspace: Workspace, scenario: str) -> None:
    workspace.published.parent.mkdir()
    if scenario == "first":
        return
    run(workspace, 1000)
    if scenario == "restored":
        workspace.published.unlink()
        fill(workspace.published, 500)
    if scenario == "deleted":
        workspace.published.unlink()
    if scenario == "broken":
        workspace.working.write_bytes(workspace.working.read_bytes()[:9000])
    (workspace.published.parent / "loaded").unlink()


def killed_at(step: int, act: Callable[[], None]) -> None:
    met = 0

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal met
        writes = event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if writes or event in STEPS:
            met += 1
            if met == step:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    act()


def steps(scenario: str, folder: Path) -> None:
    before = {"first": None, "next": 1000, "restored": 500, "deleted": None, "broken": 1000}
    origin = folder / "origin"
    apart(lambda: prepare(Workspace(origin / "warehouse.duckdb", "crmcom"), scenario))
    step = 1
    while crash(step, origin, folder / f"step-{step}", before[scenario], 2000):
        step += 1
    sys.stdout.write(f"{step}\n")


def crash(step: int, origin: Path, here: Path, old: int | None, new: int) -> bool:
    """Kills a run at its step number `step`. Says whether it came that far."""
    shutil.copytree(origin, here)
    workspace = Workspace(here / "warehouse.duckdb", "crmcom")
    killed = apart(lambda: killed_at(step, lambda: run(workspace, new)))
    loaded = (here / "loaded").exists()

    def check(when: str, *wanted: int | None) -> None:
        found = rows(workspace.published) if workspace.published.exists() else None
        assert found in wanted, f"step {step}, {when}: {found} not in {wanted}"

    def afterwards() -> None:
        check("killed", *((old, new) if loaded else (old,)))
        run(workspace, None)
        check("run again", *((new,) if loaded else (old, new)))

    apart(afterwards)
    return killed == signal.SIGKILL


def loop(workspace: Workspace) -> None:
    """Runs for ever, each adding 1,000 rows in two commits."""
    while True:
        with workspace.draft("crmcom sync") as draft:
            with duckdb.connect(str(draft.path)) as connection:
                connection.execute("create table if not exists t (run bigint, n bigint)")
                # What a sync does after a crash: it begins the unfinished slice again.
                (last,) = connection.execute("select coalesce(max(run), 0) from t").fetchone()
                (count,) = connection.execute(
                    f"select count(*) from t where run = {last}"
                ).fetchone()
                current = last + 1 if count in (0, 1000) else last
                connection.execute(f"delete from t where run = {current}")
                for half in (0, 500):
                    connection.execute(
                        f"insert into t select {current}, {half} + range from range(500)"
                    )
            draft.publish()


def at_random(times: int, folder: Path) -> None:
    seed = random.randrange(10**6)
    choose = random.Random(seed)
    workspace = Workspace(folder / "warehouse.duckdb", "crmcom")
    last = folder / "last"
    last.write_text("0")

    def check() -> None:
        found = rows(workspace.published) if workspace.published.exists() else 0
        before = int(last.read_text())
        assert not found % 1000, f"half a run was published: {found} (seed {seed})"
        assert found >= before, f"{found} after {before} (seed {seed})"
        last.write_text(str(found))

    for _ in range(times):
        child = os.fork()
        if not child:
            loop(workspace)
        time.sleep(choose.uniform(0.01, 0.4))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        apart(check)
    assert int(last.read_text()), f"nothing was ever published (seed {seed})"


if __name__ == "__main__":
    what, which, where = sys.argv[1:]
    if what == "steps":
        steps(which, Path(where))
    else:
        at_random(int(which), Path(where))
