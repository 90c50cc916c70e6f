"""The same syncs through dlt into a DuckDB file; what is killed has a process of its own."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
from dlt.pipeline.state_sync import decompress_state

from crmcom import Run, Settings
from crmcom.retrying import Patience
from crmcom.schema import RAW_TABLES
from crmcom_pipelines.load import Outcome, sync
from crmcom_pipelines.publish import Workspace
from crmcom_sandbox import World, serve

from .memory import Memory

if TYPE_CHECKING:
    from .driver import Kill

CHILD = Path(__file__).with_name("killed.py")
SOON = Patience(tries=5, first_wait_s=0.01, longest_wait_s=0.05, total_s=20)


class FullDriver:
    """What `Driver` is, with a server on a port and a warehouse on disk."""

    def __init__(self, world: World, behaviour: Any, settings: dict[str, Any]) -> None:
        self._stack = ExitStack()
        self.world = world
        self.server = self._stack.enter_context(serve(world, behaviour=behaviour))
        self.sandbox = self.server.sandbox
        self.settings = settings
        folder = self._stack.enter_context(tempfile.TemporaryDirectory())
        self.database = Path(folder) / "warehouse.duckdb"
        self.memory = Memory()

    def close(self) -> None:
        self._stack.close()

    def sync(self, *, kill: Kill | None = None, **options: Any) -> Outcome | None:
        access = {"base_url": self.server.base_url, "api_key": self.server.api_key}
        if kill is not None:
            self._killed(kill, access, options)
            self.memory = self._read(Workspace(self.database, "crmcom").working)
            return None
        run = Run(Settings(**access, **self.settings), patience=SOON, **options)
        outcome = sync(run, database=self.database, transform=False)
        working = self._read(Workspace(self.database, "crmcom").working)
        if outcome.published:
            assert self._read(self.database).tables == working.tables
        self.memory = working
        return outcome

    def _killed(self, kill: Kill, access: dict[str, str], options: dict[str, Any]) -> None:
        told = {
            "settings": access | self.settings,
            "options": {k: v for k, v in options.items() if k != "backfill"},
            "request": kill.request,
            "merges": kill.merged.bit_count() + 10 * (kill.slice - 1),
        }
        if window := options.get("backfill"):
            told["backfill"] = [window.start_s, window.end_s]
        command = [sys.executable, str(CHILD), str(self.database), json.dumps(told)]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        assert done.returncode == 9, done.stderr

    def _read(self, path: Path) -> Memory:
        """What is in a file, its log of a killed writer included."""
        memory = Memory()
        if not path.exists():
            return memory
        with tempfile.TemporaryDirectory() as folder:
            for part in path.parent.glob(f"{path.name}*"):
                if part.is_file():
                    shutil.copy(part, folder)
            copy = Path(folder) / path.name
            copy.chmod(0o600)
            with duckdb.connect(str(copy)) as con:
                _read_tables(con, memory)
        return memory


def _read_tables(con: duckdb.DuckDBPyConnection, memory: Memory) -> None:
    found = con.execute(
        "select table_name from information_schema.tables where table_schema = 'crmcom'"
    ).fetchall()
    there = {name for (name,) in found}
    for name in there & RAW_TABLES.keys():
        result = con.execute(f"from crmcom.{name}")
        columns = [d[0] for d in result.description]
        keys = RAW_TABLES[name].primary_key
        for values in result.fetchall():
            cells = dict(zip(columns, values, strict=True))
            row = {c: v for c, v in cells.items() if c != "_gone" and not c.startswith("_dlt")}
            key = tuple(row[k] for k in keys)
            assert key not in memory.tables[name], f"{name} holds {key} twice"
            memory.tables[name][key] = row
    if "_dlt_pipeline_state" in there:
        states = con.execute(
            "select s.state from crmcom._dlt_pipeline_state s join crmcom._dlt_loads l "
            "on l.load_id = s._dlt_load_id and l.status = 0 order by l.load_id desc limit 1"
        ).fetchall()
        for (state,) in states:
            known = decompress_state(state).get("sources", {}).get("crmcom", {})
            memory.states = known.get("resources", {})
