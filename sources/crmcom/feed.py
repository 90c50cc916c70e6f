"""What the three resources have in common: shape readings, stamp them, account for them."""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa

from crmcom import tables
from crmcom.backlog import Backlog
from crmcom.drift import Drift
from crmcom.errors import (
    Answered,
    BadRequest,
    CrmcomError,
    DeadlineExceeded,
    FilterIgnored,
    Forbidden,
    NotFound,
    Unavailable,
)
from crmcom.facts import NOT_IGNORED, fact
from crmcom.forgotten import Forgotten
from crmcom.listing import Window, listings, probe
from crmcom.merge import carry, stamp, without
from crmcom.protocol import Reply, Request
from crmcom.run import (
    MAX_UNCONFIRMED,
    Result,
    Run,
    at_epoch,
    epoch_s,
    is_widespread,
    naive,
    suspicious,
)
from crmcom.schema import DELETED, RAW_TABLES
from crmcom.tables import Reject, Shaped, Shaper, distinct

if TYPE_CHECKING:
    from collections.abc import (
        AsyncIterator,
        Callable,
        Collection,
        Coroutine,
        Iterable,
        MutableMapping,
    )
    from datetime import datetime

    from crmcom.client import Client
    from crmcom.counting import Count
    from crmcom.endpoints import Endpoint
    from crmcom.listing import Listing
    from crmcom.protocol import Row
    from crmcom.records import Record, Sender
    from crmcom.run import Put
    from crmcom.stored import Stored

R = TypeVar("R")

AT_ONCE = 128
"""Records asked for side by side; the client decides how many of them are in flight."""

OTHERS = 3
"""Known records that are asked for where none could be read, to tell whose fault it is."""

OF_THE_ROWS = frozenset({"columns", "tenant", "synced_us", "half_merged"})
"""What is remembered because of the rows that are loaded. The rest says what to ask next, and may
be forgotten: then everything is asked for again."""

BATCH = 2_000
"""Single replies decoded together: one table for each would cost more than the reading."""


class Feed:
    """One resource in one slice of a run.

    `state` outlives the run: bookmarks and the columns of unknown fields, and nothing that
    grows. It is written only by a slice that came to its end.
    """

    def __init__(
        self,
        run: Run,
        client: Client,
        stored: Stored,
        record: Record,
        *,
        state: MutableMapping[str, Any],
        put: Put,
        forgotten: Forgotten = Forgotten(),  # noqa: B008 - frozen
    ) -> None:
        self.run = run
        self.client = client
        self.stored = stored
        self.record = record
        self.state = state
        self.forgotten = forgotten
        self._put = put
        self.result: Result = run.result(record.table)
        self.drift = Drift.recall(
            tables.reserved_columns(record),
            state.get("columns", {}),
            is_text=lambda path: run.privacy.is_hashed(record.table, path),
        )
        senders: tuple[Sender, ...] = ("list", "single")
        self._shapers = {s: Shaper(record, s, self.drift) for s in senders}
        self.sent: set[str] = set()
        self.half_merged: set[str] = set(state.get("half_merged", ()))
        """Records to read once more, because of a load that was killed; until that is done."""
        self._noticed: set[str] = set()

    # --- time ---

    @property
    def now(self) -> datetime:
        """The server's clock, naive UTC."""
        return naive(self.client.server_now())

    @property
    def end_s(self) -> int:
        """Where this run's windows end: what is younger may still be on its way."""
        return epoch_s(self.now) - self.run.settings.lag_s

    @property
    def synced_at(self) -> datetime:
        """This slice's time: one for all of its rows, and later than any slice's before."""
        if self.run.synced_at is None:
            # The server's clock counts seconds, may stand still, and may be set back.
            at_least = from_us(self.run.after_us + 1) if self.run.after_us else self.now
            self.run.synced_at = max(self.now, at_least)
        return self.run.synced_at

    @property
    def settled_at(self) -> datetime | None:
        """The time of this resource's last slice that was loaded whole. Rows that are younger
        come from a load that was cut short between two tables."""
        before_us: int | None = self.state.get("synced_us")
        return None if before_us is None else from_us(before_us)

    # --- what was read ---

    async def shape(self, raws: Iterable[bytes], sender: Sender) -> Shaped:
        whole, shaper = list(raws), self._shapers[sender]
        privacy, table = self.run.privacy, self.record.table

        def work() -> Shaped:
            found = distinct(shaper.shape(whole), self.record.parent_key)
            found = self.forgotten.leave_out(self.record, found)
            return privacy.of(table, found, self.drift)

        return await self.run.work(work)

    def answered(self, sender: Sender) -> frozenset[str]:
        return self._shapers[sender].answers_for()

    async def load(self, shaped: Shaped, sender: Sender, base: pa.Table | None = None) -> pa.Table:
        """Hand over rows and children, once per record and load. Returns the rows as loaded.

        `base`: rows to carry over what `sender` does not send; by default the stored ones.
        """
        # Rarely any: to look for all that was sent took a tenth of a slice of activities.
        again = self.sent.intersection(shaped.rows.column("id").to_pylist())
        rows = without(shaped.rows, again)
        if base is None:
            base = await self.stored.rows(self.record.table, rows.column("id").to_pylist())
        rows = stamp(carry(rows, base, self.answered(sender)), DELETED.name, None)
        ids = rows.column("id").to_pylist()
        await self.put(self.record.table, rows)
        for table, found in shaped.children.items():
            await self.put(table, without(found, again, self.record.parent_key))
        self.sent.update(ids)
        self.result.rows += len(ids)
        self.tell_retries()
        await self.reject(shaped.rejects)
        return rows

    async def put(self, table: str, rows: pa.Table) -> None:
        if len(rows):
            stamped = stamp(rows, "_synced_at", self.synced_at)
            await self._put(table, RAW_TABLES[table].conform(stamped))

    async def reject(self, rejects: Iterable[Reject]) -> None:
        found = []
        for r in rejects:
            seen = (self.result.resource, r.record_id, r.payload or r.reason)
            if seen in self.run.rejects:
                continue
            self.run.rejects.add(seen)
            found.append(
                {
                    "run_id": self.run.run_id,
                    "resource": self.result.resource,
                    "position": self.result.rejected,
                    "record_id": r.record_id,
                    "reason": r.reason,
                    "payload": r.payload,
                }
            )
            self.result.rejected += 1
        if found:
            await self.put("_rejects", from_rows("_rejects", found))

    async def reject_rows(self, rows: Iterable[Row]) -> None:
        found = tuple(tables.reject(r.raw, "no id") for r in rows)
        await self.reject(self.run.privacy.rejects(self.forgotten.rejects(self.record, found)))

    # --- listings ---

    async def probe(self, endpoint: Endpoint, field: str = "created_on") -> None:
        """Show that the filter works before anything is loaded that relies on it.

        The first question of a resource: it also brings the server's clock.
        """
        if self.result.resource in self.run.settings.full_scan:
            await self.client.get(Request(endpoint, params=(("page", "1"), ("size", "1"))))
        else:
            assumed_s = epoch_s(self.now)
            try:
                await probe(self.client, endpoint, field, assumed_s)
            except FilterIgnored:
                # The first answer brings the server's clock: what was ahead of this machine's
                # may have been the server's past.
                if epoch_s(self.now) <= assumed_s:
                    raise
                await probe(self.client, endpoint, field, epoch_s(self.now))
            self.learn_filter(field, NOT_IGNORED)
        self.result.started_at = self.result.started_at or self.now

    def learn_filter(self, name: str, value: str) -> None:
        self.client.learned.facts[fact(self.result.resource, f"filter {name}")] = value

    async def listings(
        self,
        endpoint: Endpoint,
        window: Window,
        listed: str,
        *,
        params: tuple[tuple[str, str], ...] = (),
        limit_rows: int | None = None,
        limit_bytes: int | None = None,
        divisible: bool | None = None,
    ) -> AsyncIterator[Listing]:
        """As `listing.listings`, with a ledger row for each and its unreadable rows rejected."""
        source = listings(
            self.client,
            endpoint,
            window,
            params=params,
            page_size=self.run.settings.page_size,
            limit_rows=limit_rows,
            limit_bytes=limit_bytes,
            divisible=divisible,
            extent=self.result.extent,
        )
        while True:
            self.tell_retries()
            began_s = time.monotonic()
            with self.client.counting() as count:
                try:
                    found = await anext(source, None)
                except CrmcomError as error:
                    self._tell_window(
                        window, listed, count, began_s, verdict="failed", reason=str(error)
                    )
                    raise
            if found is None:
                return
            await self._enter(found, listed, count.requests, count.retries)
            verdict = "proven" if found.proven else "unproven"
            self._tell_window(
                *(found.window, listed, count, began_s),
                verdict=verdict,
                reason=None if found.proven else found.reason,
                total=found.total,
                ids=len(found.rows),
            )
            self.result.share = self._share(window, found.window)
            await self.reject_rows(found.unreadable)
            if not found.proven:
                self.result.notices.append(
                    f"{endpoint.name}, {listed} {_show(found.window)}: {found.reason}"
                )
            yield found

    def _tell_window(
        self, window: Window, listed: str, count: Count, began_s: float, **found: Any
    ) -> None:
        ends = {"start": _iso(window.start_s), "end": _iso(window.end_s)}
        self.tell_retries(listed=listed, **ends)
        self.run.tell(
            "window",
            level=logging.INFO if found["verdict"] == "proven" else logging.WARNING,
            resource=self.result.resource,
            listed=listed,
            **ends,
            rows=found.get("ids", 0),
            requests=count.requests,
            retries=count.retries,
            seconds=round(time.monotonic() - began_s, 3),
            **found,
        )

    def tell_retries(self, **within: Any) -> None:
        """One event for each cause of what was asked again since the last one."""
        causes = self.result.count.causes
        for cause, number in (causes - self.result.told).items():
            self.run.tell(
                "retry",
                level=logging.WARNING,
                resource=self.result.resource,
                cause=cause,
                retries=number,
                **within,
            )
        self.result.told = causes

    def _share(self, asked: Window, found: Window) -> float | None:
        """How much of the range has been listed, by time; a backfill's range spans its slices."""
        start_s = self.run.backfill.start_s if self.run.backfill else asked.start_s
        if start_s is None or asked.end_s is None or found.end_s is None:
            return None
        return (found.end_s - start_s) / max(1, asked.end_s - start_s)

    async def _enter(self, found: Listing, listed: str, requests: int, retries: int) -> None:
        window = found.window
        row = {
            "run_id": self.run.run_id,
            "resource": self.result.resource,
            "position": self.result.windows,
            "listed": listed,
            "window_start": None if window.start_s is None else at_epoch(window.start_s),
            "window_end": None if window.end_s is None else at_epoch(window.end_s),
            "api_total": found.total,
            "distinct_ids": len(found.rows),
            "rows_loaded": len(found.rows),
            "requests": requests,
            "retries": retries,
            "verdict": "proven" if found.proven else "unproven",
            "reason": found.reason,
        }
        self.result.windows += 1
        await self.put("_sync_windows", from_rows("_sync_windows", [row]))

    # --- single records ---

    async def ask_each(
        self, ids: Iterable[str] | Backlog, ask: Callable[[str], Coroutine[Any, Any, R]]
    ) -> AsyncIterator[tuple[str, R | CrmcomError]]:
        """Ask about many records side by side; an answer or an error for each, in any order.

        What the API says of one record comes back as a value. Other errors end it, and so do the
        end of the run's time, which says nothing of a record, and a refusal of all that is asked.
        """
        backlog = ids if isinstance(ids, Backlog) else Backlog(ids)
        answered, refused = False, 0
        extent = self.result.extent
        extent.begins(None if backlog.is_open else len(backlog))
        before = extent.done
        answers: asyncio.Queue[tuple[str, R | CrmcomError]] = asyncio.Queue(2 * BATCH)

        async def work() -> None:
            nonlocal answered, refused
            async for record_id in backlog:
                try:
                    await answers.put((record_id, await ask(record_id)))
                    answered = True
                except DeadlineExceeded:
                    raise
                except (Answered, Forbidden, Unavailable) as error:
                    refused += isinstance(error, BadRequest | Forbidden)
                    if refused > MAX_UNCONFIRMED and not answered:
                        raise
                    await answers.put((record_id, error))
                extent.done += 1
                extent.planned = before + len(backlog)
                extent.is_known = not backlog.is_open

        workers = asyncio.gather(*(work() for _ in range(AT_ONCE)))
        pending: asyncio.Future[Any] = asyncio.ensure_future(answers.get())
        try:
            while not (workers.done() and answers.empty() and not pending.done()):
                await asyncio.wait({pending, workers}, return_when=asyncio.FIRST_COMPLETED)
                if pending.done():
                    yield pending.result()
                    while not answers.empty():
                        yield answers.get_nowait()
                    pending = asyncio.ensure_future(answers.get())
            await workers
        finally:
            # Whoever is left behind would outlive the loop that dlt closes after a failure.
            workers.cancel()
            pending.cancel()
            await asyncio.gather(workers, pending, return_exceptions=True)

    def list_accounts_of(self, contact_ids: Iterable[str]) -> None:
        """Hand contacts on to whoever lists accounts, save those who were erased."""
        has = self.forgotten.has
        self.run.fan_out.add(i for i in contact_ids if not has("contact", i))

    async def get(self, endpoint: Endpoint, record_id: str) -> Reply:
        return await self.client.get(Request(endpoint, record_id))

    async def unreadable(
        self, endpoint: Endpoint, failed: dict[str, CrmcomError], asked: int
    ) -> None:
        """Records whose endpoint failed for ever: rejects, unless the endpoint itself is down."""
        if not failed:
            return
        if is_widespread(len(failed), asked) or (
            len(failed) == asked and await self._is_down(endpoint, failed)
        ):
            raise next(iter(failed.values()))
        await self.reject(
            Reject(record_id, f"{endpoint.name} could not be read: {error}", "")
            for record_id, error in failed.items()
        )

    async def _is_down(self, endpoint: Endpoint, failed: Collection[str]) -> bool:
        """Whether an endpoint that answers for none of these records answers for no other.

        One broken record, the only one that was due, must not hold up its resource for ever.
        """
        table = endpoint.path.split("/")[1]
        others = [i for i in await self.stored.ids(table) if i not in failed][:OTHERS]
        answers = [a async for _, a in self.ask_each(others, lambda i: self.get(endpoint, i))]
        return all(isinstance(answer, CrmcomError) for answer in answers)

    def ask_again(self, asked: Iterable[str], failed: Iterable[str]) -> None:
        """Remember what could not be read, though nothing else will make us ask for it."""
        again = (set(self.state.get("again", ())) - set(asked)) | set(failed)
        self.state["again"] = sorted(again)

    def notice_once(self, endpoint: Endpoint, text: str) -> None:
        """One notice for an endpoint, however many of its records it is about."""
        if endpoint.name not in self._noticed:
            self._noticed.add(endpoint.name)
            self.result.notices.append(f"{endpoint.name}: {text}")

    # --- what is gone ---

    async def confirm_gone(self, missing: Iterable[str], endpoint: Endpoint) -> pa.Table:
        """Ask for each record that a full listing lacks; mark those that are not there.

        Only the API's own 404 counts as a deletion. Returns the rows marked, as loaded.
        """
        asked = sorted(set(missing) - self.sent)
        gone: list[str] = []
        found: list[bytes] = []
        failed: dict[str, CrmcomError] = {}
        async for record_id, answer in self.ask_each(asked, lambda i: self.get(endpoint, i)):
            if isinstance(answer, NotFound):
                gone.append(record_id)
            elif isinstance(answer, CrmcomError):
                failed[record_id] = answer
            else:
                found.append(answer.body)
        if found:
            await self.load(await self.shape(found, "single"), "single")
        await self.unreadable(endpoint, failed, len(asked))
        return await self.mark_gone(gone)

    async def mark_gone(self, gone: list[str]) -> pa.Table:
        """Set `_deleted_at`, unless so many are gone that the API is the more likely culprit."""
        gone = [i for i in gone if i not in self.sent]  # as another one's answer
        total = self.result.deleted + len(gone)
        # Counted only where it matters: a table may hold millions.
        known = len(await self.stored.ids(self.record.table)) if suspicious(total, 0) else total
        if suspicious(total, known) and not self.run.accept_deletions:
            self.result.notices.append(
                f"{len(gone)} of {known} {self.record.table} are gone from the API, and none was "
                "marked as deleted: look at the tenant, then run again with --accept-deletions"
            )
            gone = []
            self.result.held_back = True
        rows = await self.stored.rows(self.record.table, gone)
        rows = stamp(rows, DELETED.name, self.now)
        await self.put(self.record.table, rows)
        self.sent.update(gone)
        self.result.deleted += len(gone)
        return rows

    # --- the end ---

    def remember(self, state: MutableMapping[str, Any]) -> None:
        """What is remembered of a slice that failed, too: it has loaded rows."""
        privacy = self.run.privacy
        state["columns"] = self.drift.remember()
        # An address at which nothing was read is no tenant: it may be a misspelt one.
        if self.result.rows or (self.result.error is None and self.result.requests):
            state["tenant"] = self.run.settings.base_url
        state.pop("half_merged", None)
        if self.half_merged:
            state["half_merged"] = sorted(self.half_merged)
        if self.client.stats.requests:  # else nobody has told the server's time
            state["synced_us"] = to_us(self.synced_at)
        if privacy or "privacy" in state:
            state["privacy"] = privacy.remember(state.get("privacy", {}))
        self.result.new_columns += [
            c for c in self.drift.added if not privacy.is_dropped(self.record.table, self.drift, c)
        ]


def raws(rows: Iterable[Row]) -> list[bytes]:
    return [r.raw for r in rows]


def from_rows(name: str, rows: list[dict[str, Any]]) -> pa.Table:
    schema = RAW_TABLES[name].schema
    return pa.table({f.name: pa.array([r.get(f.name) for r in rows], f.type) for f in schema})


def from_us(microseconds: int) -> datetime:
    return at_epoch(0) + timedelta(microseconds=microseconds)


def to_us(at: datetime) -> int:
    return (at - at_epoch(0)) // timedelta(microseconds=1)


def _iso(seconds: int | None) -> str | None:
    return None if seconds is None else f"{at_epoch(seconds):%Y-%m-%dT%H:%M:%SZ}"


def _show(window: Window) -> str:
    ends = [
        "…" if s is None else f"{at_epoch(s):%Y-%m-%d %H:%M:%S}"
        for s in (window.start_s, window.end_s)
    ]
    return f"[{ends[0]}, {ends[1]})"
