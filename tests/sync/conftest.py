"""A warehouse that is synced from a sandbox, and what can be asked of both."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import duckdb
import pytest

from crmcom import Run, Settings
from crmcom.retrying import Patience
from crmcom_pipelines.load import Outcome, sync
from crmcom_sandbox import Behaviour, Server, World, serve

from . import truth

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

# What fails for ever is given up in half a second instead of two minutes.
SHORT = Patience(tries=4, first_wait_s=0.01, longest_wait_s=0.05, total_s=20)


@dataclass
class Warehouse:
    """One database file and the server that it is synced from."""

    server: Server
    database: Path
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def world(self) -> World:
        return self.server.world

    @property
    def live(self) -> bool:
        return self.server.sandbox.behaviour.email_field == "email_address"

    def run(self, **options: Any) -> Run:
        settings = {"base_url": self.server.base_url, "api_key": self.server.api_key}
        chosen = {**settings, **self.settings, **options.pop("settings", {})}
        return Run(Settings(**chosen), **{"patience": SHORT, **options})

    def sync(self, *, expect: int | None = 0, **options: Any) -> Outcome:
        """One run; the server's counters then hold its requests alone."""
        self.server.sandbox.reset_counters()
        outcome = sync(self.run(**options), database=self.database, transform=False)
        if expect is not None:
            reasons = {name: r.reason for name, r in outcome.resources.items()}
            assert outcome.exit_code == expect, reasons
        return outcome

    @contextmanager
    def open(self) -> Iterator[duckdb.DuckDBPyConnection]:
        with duckdb.connect(str(self.database), read_only=True) as con:
            yield con

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        with self.open() as con:
            return con.execute(sql).fetchall()

    def value(self, sql: str) -> Any:
        ((found,),) = self.query(sql)
        return found

    def rows(self, sql: str) -> list[dict[str, Any]]:
        with self.open() as con:
            return truth.read(con, sql)

    def differences(self, **options: Any) -> list[str]:
        """From the sandbox's truth, none of whose activities was read in detail by default."""
        with self.open() as con:
            return truth.differences(
                con, self.world.truth(), live=self.live, **{"detailed": set(), **options}
            )

    def detailed(self) -> set[str]:
        """The activities whose single reply was read."""
        return {i for (i,) in self.query("select activity_id from crmcom.activity_states")}

    def asked(self, text: str = "") -> int:
        """How many requests had this in their URL."""
        return sum(text in f"{a.path}?{a.query}" for a in self.server.sandbox.log)


@pytest.fixture
def warehouse(tmp_path: Path) -> Iterator[Callable[..., Warehouse]]:
    """Makes warehouses: of a world, a behaviour, and settings."""
    with ExitStack() as stack:

        def make(
            world: World, behaviour: Behaviour | str = "live", *, name: str = "", **settings: Any
        ) -> Warehouse:
            server = stack.enter_context(serve(world, behaviour=behaviour))
            folder = tmp_path / (name or server.base_url.split(":")[2].split("/")[0])
            folder.mkdir()
            return Warehouse(server, folder / "warehouse.duckdb", settings)

        yield make
