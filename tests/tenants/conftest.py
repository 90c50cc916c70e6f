"""Several tenants' back offices, and a folder whose settings name them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import duckdb
import pytest

from crmcom_sandbox import Faults, World, serve
from crmcom_sandbox.sessions import Credentials

from ..cli.conftest import Called, call

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from crmcom_sandbox import Server

NO_ACCOUNT = Faults(rate=1, kinds=("500",), places=("GET /accounts/{id}",), max_in_row=None)
"""A back office that dies in the middle: contacts and activities have been read by then."""


@dataclass
class Home:
    """A folder with settings. `tenants`: what stands in the section of each."""

    folder: Path
    tenants: dict[str, dict[str, Any]]
    common: dict[str, Any] = field(default_factory=dict)

    def write(self) -> None:
        sections = {"sources.crmcom": {"tenants": list(self.tenants), **self.common}}
        sections |= {f"sources.crmcom.{name}": values for name, values in self.tenants.items()}
        secret = {"api_key", "access_token"}
        (self.folder / ".dlt").mkdir(exist_ok=True)
        for file, wanted in (("config.toml", False), ("secrets.toml", True)):
            lines = []
            for section, values in sections.items():
                lines.append(f"[{section}]")
                lines += [f"{k} = {v!r}" for k, v in values.items() if (k in secret) is wanted]
            (self.folder / ".dlt" / file).write_text("\n".join(lines))

    def call(self, *args: Any, **more: str) -> Called:
        self.write()
        return call(*args, cwd=self.folder, **more)

    def ask(self, sql: str) -> list[tuple[Any, ...]]:
        with duckdb.connect(str(self.folder / "warehouse.duckdb"), read_only=True) as connection:
            return connection.execute(sql).fetchall()


def of(server: Server, **more: Any) -> dict[str, Any]:
    return {"base_url": server.base_url, "api_key": server.api_key, **more}


@pytest.fixture(scope="session")
def servers() -> Iterator[tuple[Server, Server, Server]]:
    """As one address would, each with a key of its own; the last one fails until it is mended."""

    def world(seed: int) -> World:
        return World.generate(contacts=12, activities=20, seed=seed)

    def keys(name: str) -> Credentials:
        return Credentials(api_key=f"key-of-{name}-0123456789")

    with (
        serve(world(1), behaviour="live", credentials=keys("cyprus")) as cyprus,
        serve(world(2), behaviour="live", credentials=keys("greece")) as greece,
        serve(world(3), behaviour="live", credentials=keys("malta"), faults=NO_ACCOUNT) as malta,
    ):
        yield cyprus, greece, malta
