"""Syncs a sandbox in this process into a warehouse in memory, and kills a sync where told."""

from __future__ import annotations

import asyncio
import copy
import json
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any
from unittest import mock

import httpx

from crmcom import Run, Settings, feed, resources
from crmcom import run as run_module
from crmcom.client import Client
from crmcom.retrying import Patience
from crmcom.schema import RAW_TABLES
from crmcom_pipelines.load import Outcome
from crmcom_sandbox import API_KEY, World, create_app

from . import clockwork
from .memory import Load, Memory

if TYPE_CHECKING:
    import pyarrow as pa

PATIENCE = Patience(tries=5, first_wait_s=0.5, longest_wait_s=5, total_s=120)
BASE_URL = "http://127.0.0.1/backoffice/v2"


class Killed(BaseException):
    """The process is no more."""


@dataclass
class Kill:
    """When a sync is killed: at the nth request, or while the nth slice is merged.

    `merged`: a bit for each table of that slice, in the order of their names: whether it was
    merged by then; `tables` names them instead. The slice's state is not.
    """

    request: int | None = None
    slice: int = 1
    merged: int = 0
    tables: tuple[str, ...] = ()

    def leaves(self, tables: list[str]) -> list[str]:
        """Those of the slice's tables that were merged."""
        bits = [t for n, t in enumerate(tables) if self.merged >> n & 1]
        return bits + [t for t in self.tables if t in tables]


@dataclass
class Driver:
    """One server, one warehouse, and the settings that both are used with."""

    world: World
    behaviour: Any = "reference"
    settings: dict[str, Any] = field(default_factory=dict)
    memory: Memory = field(default_factory=Memory)
    syncs: int = 0
    kills: int = 0
    kill: Kill | None = None

    def __post_init__(self) -> None:
        self.app = create_app(self.world, behaviour=self.behaviour)
        self.sandbox = self.app.state.sandbox

    def sync(self, *, kill: Kill | None = None, **options: Any) -> Outcome | None:
        """One run; None where it was killed."""
        self.syncs += 1
        self.kill = kill
        run = Run(Settings(base_url=BASE_URL, api_key=API_KEY, **self.settings), **options)
        run.run_id = f"{self.syncs:06d}"
        outcome = Outcome(run.run_id, run.results)
        try:
            while True:
                outcome.slices += 1
                self._slice(run, outcome.slices)
                if run.caught_up:
                    break
        except Killed:
            self.kills += 1
            return None
        outcome.notes += run.notices
        return outcome

    def _slice(self, run: Run, number: int) -> None:
        load = Load(self.memory)
        states = copy.deepcopy(self.memory.states)
        with (
            mock.patch.object(run_module, "Client", self._client),
            mock.patch.object(resources, "Destination", return_value=self.memory),
            mock.patch.object(resources, "_marked", _marked),
            mock.patch.object(feed, "AT_ONCE", 4),
        ):
            clockwork.run(self._read(run, states, load))
        if self.kill and self.kill.request is None and self.kill.slice == number:
            load.merge(self.kill.leaves(load.tables))
            raise Killed
        load.merge()
        self.memory.states = json.loads(json.dumps(states))

    async def _read(self, run: Run, states: dict[str, Any], load: Load) -> None:
        run.next_slice(
            set(run.resources),
            after_us=max((s.get("synced_us", 0) for s in states.values()), default=0),
        )
        reading = [
            asyncio.create_task(self._receive(name, run, states.setdefault(name, {}), load))
            for name in run.resources
        ]
        try:
            await asyncio.gather(*reading)
        finally:
            for task in reading:
                task.cancel()
            await asyncio.gather(*reading, return_exceptions=True)

    async def _receive(self, name: str, run: Run, state: dict[str, Any], load: Load) -> None:
        queue: asyncio.Queue[Any] = asyncio.Queue(resources.QUEUED_TABLES)
        reading = asyncio.create_task(resources._read(name, run, state, queue, ()))
        try:
            while (item := await queue.get()) is not None:
                load.put(*item)
            await reading
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    def _client(self, settings: Settings, **_: object) -> Client:
        return Client(
            settings,
            transport=_Transport(self),
            patience=PATIENCE,
            clock=asyncio.get_running_loop().time,
            utcnow=self.world.clock.now,
            rng=Random(0),
        )


class _Transport(httpx.AsyncBaseTransport):
    """The sandbox, until the kill. Its answers take their time, each its own."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._inner = httpx.ASGITransport(driver.app)
        self._asked = 0
        self._latency = Random(driver.syncs)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self._asked += 1
        await asyncio.sleep(self._latency.choice((0.05, 0.07, 0.2)))
        kill = self._driver.kill
        if kill is not None and kill.request == self._asked:
            raise Killed
        return await self._inner.handle_async_request(request)


def _marked(table: str, rows: pa.Table, *, append: bool, once: bool) -> tuple[str, pa.Table]:
    """Without dlt's hints, which take longer than everything else."""
    assert (append, once) == (False, False), "the model merges, and may repeat a load"
    return table, RAW_TABLES[table].conform(rows)
