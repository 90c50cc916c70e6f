"""One run: its clock, its ledger, and what each resource of it came to."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from crmcom.backlog import Backlog
from crmcom.client import Client, Learned
from crmcom.counting import Count, Extent
from crmcom.errors import CrmcomError, Unproven
from crmcom.events import tell
from crmcom.privacy import Privacy
from crmcom.settings import RESOURCES

if TYPE_CHECKING:
    import httpx
    import pyarrow as pa

    from crmcom.retrying import Patience
    from crmcom.settings import Settings

Verdict = Literal["proven", "unproven", "failed"]
Put = Callable[[str, "pa.Table"], Awaitable[None]]
"""Hands a table of rows to the destination; waits while it is busy."""
T = TypeVar("T")

MAX_UNCONFIRMED = 20
MAX_UNCONFIRMED_SHARE = 0.05


@dataclass(slots=True)
class Result:
    """What one resource came to. `notices`: for people, what it could not show or held back."""

    resource: str
    rows: int = 0
    count: Count = field(default_factory=Count)
    """What was asked for it so far."""
    told: Counter[str] = field(default_factory=Counter)
    """Retries by cause that an event has told."""
    extent: Extent = field(default_factory=Extent)
    rejected: int = 0
    windows: int = 0
    deleted: int = 0
    partial: bool = False
    held_back: bool = False
    """Whether deletions were found, too many of them to be marked."""
    notices: list[str] = field(default_factory=list)
    new_columns: list[str] = field(default_factory=list)
    error: CrmcomError | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    begun_s: float | None = None
    """On `time.monotonic`."""
    share: float | None = None
    """How much of its range has been listed, 0 to 1; None where the range has no beginning."""
    caught_up: bool = True
    """Whether nothing is left for a further slice."""

    @property
    def requests(self) -> int:
        return self.count.requests

    @property
    def retries(self) -> int:
        return self.count.retries

    @property
    def is_finished(self) -> bool:
        """Whether this run asks no more for it."""
        return self.finished_at is not None and (self.caught_up or self.error is not None)

    @property
    def verdict(self) -> Verdict:
        if self.error is not None and not isinstance(self.error, Unproven):
            return "failed"
        return "unproven" if self.error or self.notices or self.rejected else "proven"

    @property
    def scope(self) -> Literal["complete", "partial"]:
        return "partial" if self.error or self.partial or not self.caught_up else "complete"

    @property
    def reason(self) -> str | None:
        found = [*([str(self.error)] if self.error else []), *self.notices]
        return "; ".join(found) or None

    @property
    def exit_code(self) -> int:
        """0, or what the command line ends with because of this resource."""
        if self.error is not None:
            return self.error.exit_code
        return 0 if self.verdict == "proven" else Unproven.exit_code


@dataclass(frozen=True, slots=True)
class Range:
    """A backfill's half-open range of `created_on`, epoch seconds."""

    start_s: int
    end_s: int


def new_run_id() -> str:
    """Sorts by the time of its making on this machine, and no two are equal."""
    return f"{time.time_ns() // 1000:016d}-{secrets.token_hex(4)}"


@dataclass(slots=True)
class Run:
    """What the resources of one run share. A long run is several slices, each its own load.

    `reconcile`: list everything and look for what is gone. `slice_rows`: rows of one resource
    after which a slice ends, of contacts fewer; None for never. `raises`: a resource that fails
    ends the load. `loads_once`: no load is ever repeated, so that rows may go straight into a
    table that holds none, and no merge looks for doubles. `transport` replaces the network,
    `patience` says how long a server that fails is worth asking.
    """

    settings: Settings
    resources: tuple[str, ...] = RESOURCES
    reconcile: bool = False
    accept_deletions: bool = False
    backfill: Range | None = None
    slice_rows: int | None = None
    raises: bool = False
    loads_once: bool = False
    transport: httpx.AsyncBaseTransport | None = None
    patience: Patience | None = None
    run_id: str = field(default_factory=new_run_id)
    results: dict[str, Result] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)
    client: Client | None = None
    learned: Learned = field(default_factory=Learned)
    synced_at: datetime | None = None
    fan_out: Backlog = field(default_factory=Backlog)
    """Contacts whose accounts are to be listed, as the contacts of this slice show them; open while
    these are read."""
    observed: set[str] = field(default_factory=set)
    """Accounts that this run has read, in whichever of its slices."""
    rejects: set[tuple[str, str | None, str]] = field(default_factory=set)
    """What was rejected: several listings may bring the same record."""
    slices: int = 0
    slice_of: object = None
    """The source that reads the current slice."""
    begun: set[str] = field(default_factory=set)
    """The resources that the current slice has begun to read."""
    after_us: int = 0
    """The time of the last slice that was loaded."""
    privacy: Privacy = field(init=False)
    _worker: ThreadPoolExecutor = field(init=False)
    _open: int = 0
    _opening: asyncio.Lock = field(default_factory=asyncio.Lock)
    _asked: int = 0
    _started_s: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.privacy = Privacy(self.settings)

    def result(self, resource: str) -> Result:
        return self.results.setdefault(resource, Result(resource))

    @property
    def caught_up(self) -> bool:
        """Whether no resource has a further slice."""
        return all(r.caught_up or r.error for r in self.results.values())

    @property
    def requests(self) -> int:
        """What this run has asked so far, in all of its slices."""
        return self._asked + (self.client.stats.requests if self.client else 0)

    def next_slice(self, selected: set[str], after_us: int = 0) -> None:
        """Make ready for a slice; what waits belongs to the event loop that will run it."""
        self._opening = asyncio.Lock()
        self.fan_out = Backlog(is_open="contacts" in selected)
        self.begun = set()
        self.slices += 1
        self.synced_at, self.after_us = None, after_us

    def start_anew(self) -> None:
        """Forget what this run has done: it becomes another one."""
        self.run_id = new_run_id()
        self.slice_of = None
        self.results, self.notices = {}, []
        self.observed, self.rejects = set(), set()

    async def enter(self) -> Client:
        """The client, opened by the first resource that needs it."""
        async with self._opening:
            self._open += 1
            if self.client is None:
                self._worker = ThreadPoolExecutor(1, "crmcom")
                client = Client(
                    self.settings,
                    transport=self.transport,
                    patience=self.patience,
                    started_s=self._started_s,
                    learned=self.learned,
                )
                self.client = await client.__aenter__()
            return self.client

    async def leave(self) -> None:
        """The last resource closes the client."""
        async with self._opening:
            self._open -= 1
            if self._open == 0 and self.client is not None:
                client, self.client = self.client, None
                self._asked += client.stats.requests
                told = self.learned.notices.values()
                self.notices += [n for n in told if n not in self.notices]
                self._worker.shutdown(wait=False)
                await client.__aexit__(None, None, None)

    async def work(self, do: Callable[[], T]) -> T:
        """Calls what takes long in a thread, so that reading goes on meanwhile. One at a time for
        all resources: each holds a batch in memory. Between `enter` and `leave`."""
        return await asyncio.get_running_loop().run_in_executor(self._worker, do)

    def tell(self, event: str, *, level: int = logging.INFO, **fields: Any) -> None:
        """As `events.tell`, with this run's id."""
        tell(event, level=level, run_id=self.run_id, **fields)


def naive(at: datetime) -> datetime:
    """UTC without its zone, as the warehouse holds times."""
    return at.astimezone(UTC).replace(tzinfo=None)


def epoch_s(at: datetime) -> int:
    return int(at.replace(tzinfo=at.tzinfo or UTC).timestamp())


def at_epoch(seconds: int) -> datetime:
    """Naive UTC; unlike `fromtimestamp` it knows the years before 1970 everywhere."""
    return datetime(1970, 1, 1) + timedelta(seconds=seconds)  # noqa: DTZ001


def suspicious(gone: int, known: int) -> bool:
    """Whether so many deletions are more likely an API that shows less than it has."""
    return gone > MAX_UNCONFIRMED and gone > MAX_UNCONFIRMED_SHARE * known


def is_widespread(failed: int, asked: int) -> bool:
    """Whether failing records mean that their endpoint is down."""
    return failed > MAX_UNCONFIRMED and failed > MAX_UNCONFIRMED_SHARE * asked
