"""A state machine: a server that changes in every way, and syncs that are faulted and killed.

After each sync the warehouse is checked against the server's truth, for what
`docs/completeness.md` promises of a run of its kind and exit code.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from unittest import mock

from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from crmcom import contacts, listing, run, windows
from crmcom.run import Range, epoch_s
from crmcom_sandbox import BEHAVIOURS, Faults, World
from crmcom_sandbox.faults import QUICK_KINDS, FaultKind

from .driver import Driver, Kill
from .operations import Op, Server, ops
from .promises import KINDS, Check

if TYPE_CHECKING:
    from collections.abc import Iterator

    from crmcom_pipelines.load import Outcome

    from .memory import Memory

LAG_S, LOOKBACK_S = 120, 3_600
BOOKMARKS = ("bookmark_s", "reached_s", "completed_s", "head", "reconciled_s", "listed_us")
PLACES = (
    *("GET /contacts", "GET /contacts/{id}", "GET /contacts/{id}/accounts", "GET /accounts/{id}"),
    *("GET /activities", "GET /activities/{id}", "GET /activities/{id}/tags", "*"),
)
SUBSETS = (
    *((KINDS,) * 4),
    *(("contacts",), ("accounts",), ("activities",), ("contacts", "accounts")),
)
HONEST: dict[str, Any] = {
    "total": "always",
    "has_more": False,
    "size_cap": None,
    "shuffle_ties": False,
    "ignored_filters": {},
    "forbidden": (),
    "broken": (),
}


@dataclass(frozen=True)
class During:
    """`op` happens on the server after its `after`th further answer at `place`."""

    after: int
    place: str
    op: Op


def kills() -> st.SearchStrategy[Kill]:
    return st.one_of(
        st.builds(Kill, request=st.integers(1, 40)),
        st.builds(Kill, slice=st.integers(1, 2), merged=st.integers(0, 2**14 - 1)),
    )


def durings() -> st.SearchStrategy[list[During]]:
    one = st.builds(During, st.integers(1, 6), st.sampled_from(PLACES), ops())
    return st.one_of(st.just([]), st.lists(one, min_size=1, max_size=3))


COUNTS = {"sequences": 0, "steps": 0, "syncs": 0, "kills": 0, "faults": 0, "checked": 0}
"""What was run, over all sequences of this process."""


class Model(RuleBasedStateMachine):
    """One server, one warehouse."""

    fault_kinds: tuple[FaultKind, ...] = QUICK_KINDS
    failed = False

    def __init__(self) -> None:
        super().__init__()
        self._patches: list[Any] = []
        # Each of thousands of sequences would tell of its faults.
        self._patch(logging.getLogger("crmcom"), "disabled", True)
        COUNTS["sequences"] += 1

    # --- the two of them ---

    @initialize(
        live=st.booleans(),
        newest_first=st.booleans(),
        contact_dates=st.sampled_from(("absent", "created_on", "key_dates")),
        cap=st.sampled_from((None, 5)),
        unmoved=st.sampled_from((10, 2)),
        page_size=st.integers(1, 5),
        details=st.sampled_from(("changed", "all", "off")),
        slice_rows=st.sampled_from((None, 3)),
        full_scan=st.sampled_from(((), (), ("activities",), ("contacts", "activities"))),
        suspicious=st.sampled_from((20, 1)),
        start=st.lists(ops(), max_size=8),
    )
    def begin(
        self,
        *,
        live: bool,
        newest_first: bool,
        contact_dates: str,
        cap: int | None,
        unmoved: int,
        page_size: int,
        details: str,
        slice_rows: int | None,
        full_scan: tuple[str, ...],
        suspicious: int,
        start: list[Op],
    ) -> None:
        self.honest = HONEST | {"total": "on_request" if live else "always", "has_more": live}
        if not live:
            cap = None  # a capped total without `has_more` is no dialect that anybody speaks
        behaviour = BEHAVIOURS["live" if live else "reference"].but(
            newest_state_first=newest_first, contact_dates=contact_dates, total_cap=cap
        )
        settings = {
            "page_size": page_size,
            "activity_details": details,
            "lag_s": LAG_S,
            "lookback_s": LOOKBACK_S,
            "full_scan": full_scan,
        }
        self.live, self.newest_first, self.details = live, newest_first, details
        self.slice_rows = slice_rows
        self.driver = self.make_driver(World(), behaviour, settings)
        self.server = Server(self.driver.sandbox)
        self.dishonest = False
        self.half_merged: set[str] = set()
        self.cut: set[str] = set()
        self.torn = False
        self._patch(contacts, "UNMOVED", unmoved)
        self._patch(run, "MAX_UNCONFIRMED", suspicious)
        if cap is not None:
            # What is 10,000 records in production is five here.
            for asking in (listing.listings, listing.newest_updated):
                self._patch_default(asking, "cap", cap)
            self._patch(windows, "CAP", cap)
        self.change(start)

    def make_driver(self, world: World, behaviour: Any, settings: dict[str, Any]) -> Any:
        return Driver(world, behaviour, settings)

    def _patch(self, where: Any, name: str, value: Any) -> None:
        self._patches.append(mock.patch.object(where, name, value))
        self._patches[-1].start()

    def _patch_default(self, function: Any, name: str, value: Any) -> None:
        self._patches.append(mock.patch.dict(function.__kwdefaults__, {name: value}))
        self._patches[-1].start()

    # --- what happens ---

    @rule(what=st.lists(ops(), min_size=1, max_size=5))
    def change(self, what: list[Op]) -> None:
        COUNTS["steps"] += 1
        for op in what:
            self.server.do(op)

    @rule(
        total=st.sampled_from(("honest", "null", "absent")),
        size_cap=st.sampled_from((None, 2)),
        shuffle=st.booleans(),
        ignored=st.sampled_from(({}, {"*": ("created_on",)}, {"*": ("states", "completed_on")})),
    )
    def behave(self, total: str, size_cap: int | None, shuffle: bool, ignored: Any) -> None:
        COUNTS["steps"] += 1
        self.server.sandbox.switch(
            total=self.honest["total"] if total == "honest" else total,
            size_cap=size_cap,
            shuffle_ties=shuffle,
            ignored_filters=ignored,
        )

    @rule(place=st.sampled_from(PLACES[:-1]), forbidden=st.booleans())
    def breaks(self, place: str, forbidden: bool) -> None:
        COUNTS["steps"] += 1
        self.server.sandbox.switch(**{"forbidden" if forbidden else "broken": (place,)})

    @rule(
        rate=st.sampled_from((0.1, 0.3, 0.6)),
        seed=st.integers(0, 99),
        max_in_row=st.sampled_from((1, 2, None)),
    )
    def faults(self, rate: float, seed: int, max_in_row: int | None) -> None:
        COUNTS["steps"] += 1
        plan = Faults(rate=rate, seed=seed, max_in_row=max_in_row, kinds=self.fault_kinds)
        self.server.sandbox.set_faults(plan)

    @rule()
    def calm(self) -> None:
        COUNTS["steps"] += 1
        self.server.sandbox.switch(**self.honest)
        self.server.sandbox.set_faults(Faults())

    # --- syncs ---

    @rule(kinds=st.sampled_from(SUBSETS), during=durings(), reconcile=st.booleans())
    def sync(self, kinds: tuple[str, ...], during: list[During], reconcile: bool) -> None:
        COUNTS["steps"] += 1
        self._sync(kinds, during, None, reconcile=reconcile)

    @rule(kill=kills(), kinds=st.sampled_from(SUBSETS), during=durings(), reconcile=st.booleans())
    def killed_sync(
        self, kill: Kill, kinds: tuple[str, ...], during: list[During], reconcile: bool
    ) -> None:
        COUNTS["steps"] += 1
        self._sync(kinds, during, kill, reconcile=reconcile)

    @rule(ago=st.sampled_from((3_000, 10_000, 600_000)), kill=st.one_of(st.none(), kills()))
    def backfill(self, ago: int, kill: Kill | None) -> None:
        COUNTS["steps"] += 1
        now = self.server.now
        self._sync(KINDS, [], kill, backfill=Range(now - ago, now - ago // 2))

    def _sync(
        self, kinds: tuple[str, ...], during: list[During], kill: Kill | None, **options: Any
    ) -> Outcome | None:
        sandbox, driver = self.server.sandbox, self.driver
        for d in during:
            sandbox.after(d.after, d.place, lambda _, op=d.op: self.server.do(op))
        before, truth = driver.memory.copy(), self.server.world.truth()
        sandbox.reset_counters()
        COUNTS["syncs"] += 1
        outcome = driver.sync(kill=kill, resources=kinds, slice_rows=self.slice_rows, **options)
        COUNTS["faults"] += sandbox.counters.faults.total()
        quiet = not during or len(sandbox._hooks) == len(during)
        sandbox._hooks.clear()
        self.server.looked_at()
        if outcome is None:
            COUNTS["kills"] += 1
            self.cut |= {*kinds}
            self.torn = True
            self._not_before_it()
            self._remember_half_merged(before)
            return None
        said = {kind: result.reason or "ok" for kind, result in outcome.resources.items()}
        note(f"    exit {outcome.exit_code}: {said}")
        check = Check(
            driver.memory, self.server.world.truth(), self.live, self.details, self.newest_first
        )
        wrong = self._always(check, before, truth, outcome)
        if quiet and outcome.exit_code == 0 and "backfill" not in options:
            COUNTS["checked"] += 1
            if options["reconcile"] and kinds == KINDS:
                wrong += check.equal(self.server.now - LAG_S)
                self.server.reconciled()
                self.torn = False
            else:
                wrong += self._plain(check, before, kinds)
        self.failed |= bool(wrong)
        assert not wrong, wrong
        return outcome

    def _not_before_it(self) -> None:
        """Times order what is loaded. Nobody remembers the time of a load that was killed, so
        that a clock set back behind it would mislead: too rare a pair to ask the tables for."""
        tables = self.driver.memory.tables.values()
        behind = max((r["_synced_at"] for rows in tables for r in rows.values()), default=None)
        if behind is not None:
            self.server.not_before = max(self.server.now, epoch_s(behind) + 1)
            self.server.wait_for(self.server.not_before)

    def _remember_half_merged(self, before: Memory) -> None:
        was, now = before.tables["activities"], self.driver.memory.tables["activities"]
        self.half_merged |= {
            key[0]
            for key, row in now.items()
            if key in was and was[key]["state"] == "PENDING" != row["state"]
        }

    def _always(
        self, check: Check, before: Memory, truth: dict[str, Any], outcome: Outcome
    ) -> list[str]:
        """What holds after every run that came to its end, whatever its exit code."""
        wrong = [*self._failures(before, outcome), *self._deletions(before, truth, check)]
        after = self.driver.memory
        for table in ("account_observations", "activity_versions"):
            for key, row in before.tables[table].items():
                if after.tables[table].get(key) != row and row["run_id"] != outcome.run_id:
                    wrong.append(f"{table}: {key} is no longer as it was")
        if outcome.exit_code == 0 and not self._is_backfill(outcome):
            self.cut -= outcome.resources.keys()
            if not self.cut:
                self.server.not_before = None
        if not self.torn:
            wrong += [w for kind in KINDS for w in check.orphans(kind)]
        if "activities" not in self.cut and not self.torn:
            wrong += check.versions()
        if "accounts" not in self.cut and outcome.exit_code == 0:
            wrong += check.observations()
        return wrong

    def _failures(self, before: Memory, outcome: Outcome) -> Iterator[str]:
        for kind, result in outcome.resources.items():
            if result.error is None:
                continue
            was, now = before.states.get(kind, {}), self.driver.memory.states.get(kind, {})
            moved = [b for b in BOOKMARKS if was.get(b) != now.get(b)]
            if moved and outcome.slices == 1:
                yield f"{kind} failed, and its {moved} moved"
            if outcome.exit_code == 0:
                yield f"{kind} failed, and the exit code is 0"

    def _deletions(self, before: Memory, truth: dict[str, Any], check: Check) -> Iterator[str]:
        """Nothing is marked that was there before the run and is there after it.

        But for a record that was deleted and created again while the run read it.
        """
        for kind in KINDS:
            there = {r["id"]: r["created_on"] for r in truth[kind]}
            for (record_id,), row in self.driver.memory.tables[kind].items():
                was = before.tables[kind].get((record_id,))
                newly = was is not None and was["_deleted_at"] is None and row["_deleted_at"]
                if newly and there.get(record_id) == check.created[kind].get(record_id, 0):
                    yield f"{kind} {record_id} was marked as deleted, and is not"

    def _is_backfill(self, outcome: Outcome) -> bool:
        return all(r.partial for r in outcome.resources.values())

    # --- what a plain sync promises ---

    def _plain(self, check: Check, before: Memory, kinds: tuple[str, ...]) -> list[str]:
        wrong: list[str] = []
        if "contacts" in kinds:
            for i in self._promised_contacts(check, before):
                wrong += check.record("contacts", i)
        if "accounts" in kinds:
            for i in self._promised_accounts(check, kinds):
                wrong += check.record("accounts", i)
        if "activities" in kinds:
            promised = self._promised_activities(check, before)
            for i in promised:
                wrong += check.record("activities", i)
            self.half_merged -= promised
            wrong += check.versions(promised)
        return [f"plain: {w}" for w in wrong]

    def _window(self, kind: str, before: Memory) -> tuple[int, int, bool]:
        """Created dates that the sync has listed, and whether it followed changes."""
        state = before.states.get(kind, {})
        end_s = self.server.now - LAG_S
        bookmark_s, reached_s = state.get("bookmark_s"), state.get("reached_s")
        if reached_s is not None:
            return reached_s, end_s, bookmark_s is not None
        if bookmark_s is None:
            return -(2**60), end_s, False
        return bookmark_s - LOOKBACK_S, end_s, True

    def _promised_contacts(self, check: Check, before: Memory) -> set[str]:
        start_s, end_s, followed = self._window("contacts", before)
        known = {r["id"] for r in before.list("contacts") if r["_deleted_at"] is None}
        listed = {i for i, at in check.created["contacts"].items() if start_s <= at < end_s}
        there = check.wanted["contacts"].keys()
        walked = (known & there) - self.server.unseen["contacts"] if followed else set()
        return listed | walked

    def _promised_accounts(self, check: Check, kinds: tuple[str, ...]) -> set[str]:
        promised = set(check.alive["accounts"])
        if "contacts" in kinds:
            promised |= {
                i
                for i, row in check.wanted["accounts"].items()
                if row["contact_id"] in check.alive["contacts"]
                and i not in self.server.unseen["accounts"]
                and row["contact_id"] not in self.server.unseen["contacts"]
            }
        return promised

    def _promised_activities(self, check: Check, before: Memory) -> set[str]:
        start_s, end_s, followed = self._window("activities", before)
        created = check.created["activities"]
        listed = {i for i, at in created.items() if start_s <= at < end_s}
        if not followed:
            return listed
        rows = {r["id"]: r for r in before.list("activities") if r["_deleted_at"] is None}
        was_open = {i for i, r in rows.items() if r["state"] == "PENDING"}
        wanted = check.wanted["activities"]
        is_open = {i for i, r in wanted.items() if r["state"] == "PENDING"}
        since_s = before.states["activities"].get("completed_s")
        completed = {
            a["id"]
            for a in check.truth["activities"]
            if since_s is not None
            and a["completed_on"] is not None
            and since_s - LOOKBACK_S <= a["completed_on"] < end_s
        }
        return listed | was_open | is_open | completed | (self.half_merged & wanted.keys())

    # --- the end ---

    def teardown(self) -> None:
        try:
            if hasattr(self, "server") and not self.failed:
                self._end()
        finally:
            for patch in reversed(self._patches):
                patch.stop()

    def _end(self) -> None:
        """On a calm server a plain run and a reconcile end with 0, and with the truth."""
        self.calm()
        for reconcile in (False, True):
            outcome = self._sync(KINDS, [], None, reconcile=reconcile, accept_deletions=True)
            assert outcome is not None
            assert outcome.exit_code == 0, outcome.as_json()
