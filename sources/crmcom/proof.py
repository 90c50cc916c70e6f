"""When is a listing complete? Fed with pages, says so or says what is missing; no I/O.

What counts as proof, strongest first:

- **One reply.** A list that fits on one page is one snapshot of the server's table.
- **A total that matches.** A pass whose distinct ids are as many as the total asked before it
  and the total asked after it. A deletion between two pages shifts the later rows forward and
  hides one: the ids or the second total then give it away.
- **A total that passes reach together.** Rows that change places between pages (rows of one
  second may) hide each other. Passes that differ in sort, order and page size are united; as
  long as the total stays the same nothing came or went, so as many ids as that are all of them.
- **Three different passes in a row that add nothing**, where the API gives no total to trust.
  Two are not enough: measured, two agreed and both missed 204 of 2,000 rows.

Whenever the total changes, records came or went, and ids of earlier passes may be gone: the
union starts anew. What was seen only before it is in the result of an unproven listing alone.

What totals cannot show is a deletion paired with an insertion between the same two of them. In
a window of the past nothing is inserted. A filter such as `states=PENDING` has no past, so there
every page is asked for its total, and what is missing is still a question, never an answer.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from crmcom.protocol import range_params

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from crmcom.protocol import Page, Row

QUIET_PASSES = 3
MAX_PASSES = 8
_END_OF_TIME_S = 2**31
"""Where a window without an end is taken to end when a point inside it is sought."""


@dataclass(frozen=True, slots=True)
class Window:
    """Half-open `[start_s, end_s)`, epoch seconds of `field`; None leaves an end open."""

    start_s: int | None = None
    end_s: int | None = None
    field: str = "created_on"

    @property
    def params(self) -> tuple[tuple[str, str], ...]:
        return tuple(range_params(self.field, self.start_s, self.end_s))

    def holds(self, row: Row) -> bool:
        """Whether the row may be here; one whose date cannot be read may."""
        at = row.created_on
        if at is None or self.field != "created_on":
            return True
        return (self.start_s is None or self.start_s <= at) and (
            self.end_s is None or at < self.end_s
        )

    def cut(self, latest_s: int | None = None) -> list[int]:
        """The second at which to cut the window in two; none where it is but one second.

        `latest_s`: the date of the last row that could be reached. As much as one listing can
        hold lies before it. Without it: 0 for an open start, else the middle.
        """
        low, high = self.start_s, self.end_s
        if latest_s is not None and self.field == "created_on":
            at = latest_s if low is None or latest_s > low else low + 1
        elif low is None:
            at = 0
        else:
            at = (low + (max(low, _END_OF_TIME_S) if high is None else high)) // 2
        inside = (low is None or low < at) and (high is None or at < high)
        return [at] if inside else []

    def parts(self, cuts: list[int]) -> list[Window]:
        """The windows between ascending cuts, oldest first."""
        starts, ends = [self.start_s, *cuts], [*cuts, self.end_s]
        return [Window(a, b, self.field) for a, b in zip(starts, ends, strict=True)]


@dataclass(frozen=True, slots=True)
class Listing:
    """All that was read of one window, and whether that is everything.

    `rows`: one per id, the latest reading. `unreadable`: rows without an id, for the rejects.
    `total`: the API's last word, None where it gives none or stops counting before it.
    `reason`: for people, why it is proven or what is missing.
    """

    window: Window
    rows: tuple[Row, ...]
    unreadable: tuple[Row, ...]
    total: int | None
    proven: bool
    reason: str
    passes: int = 1


@dataclass(slots=True)
class Pass:
    """One walk through a window, page by page.

    `counted`: its totals can be trusted. `totals`: each that was heard, from page 1 to the one
    asked after the last page. `whole`: the walk came to the list's own end. `stopped`: the
    server gave no more though there is more, which a smaller window avoids. `doubtful`: nothing
    came after a full page, and nothing was told: its end, or how deep one may go.
    """

    counted: bool = False
    totals: list[int | None] = field(default_factory=list)
    whole: bool = False
    stopped: bool = False
    doubtful: bool = False
    rows: dict[str, Row] = field(default_factory=dict)
    odd: dict[bytes, Row] = field(default_factory=dict)
    odd_counts: Counter[bytes] = field(default_factory=Counter)

    @property
    def total(self) -> int | None:
        return self.totals[-1] if self.counted else None

    @property
    def steady(self) -> bool:
        """No total says that a record came or went meanwhile."""
        return not self.counted or len(set(self.totals)) == 1

    def add(self, page: Page) -> bool:
        """Take a page in; whether it brought anything new."""
        known = len(self)
        self.rows.update((r.id, r) for r in page.rows if r.id is not None)
        self.odd.update((r.raw, r) for r in page.rows if r.id is None)
        # A row without an id counts in its place. Equal ones on two pages may be one row that
        # moved; equal ones on one page are two.
        self.odd_counts |= Counter(r.raw for r in page.rows if r.id is None)
        if page.total is not None:
            self.totals.append(page.total)
        return len(self) > known

    def __len__(self) -> int:
        return len(self.rows) + self.odd_counts.total()

    def unite(self, other: Pass) -> bool:
        """Take another pass in, its readings being the later ones; whether it added anything."""
        known = len(self)
        self.rows.update(other.rows)
        self.odd.update(other.odd)
        self.odd_counts |= other.odd_counts
        return len(self) > known


class Proof:
    """Passes over one window, united until they prove it or cannot.

    `at_least`: a total that is not trusted as a count and is believed as a lower bound.
    """

    def __init__(self, window: Window, at_least: int = 0) -> None:
        self.window = window
        self.at_least = at_least
        self.passes = 0
        self.proven = False
        self.reason = ""
        self._everything = Pass()
        self._united = Pass()
        self._total: int | None = None
        self._quiet = 0

    def add(self, new: Pass) -> None:
        self.passes += 1
        self._everything.unite(new)
        if new.whole and new.steady and new.total == len(new):
            self._united, self._total = new, new.total
            self._settle("the total matched before and after")
            return
        if not new.steady or new.total != self._total:
            self._united, self._total, self._quiet = Pass(), new.total, 0
        if not new.steady:
            self.reason = f"the total changed meanwhile: {new.totals[0]}, {new.total}"
            return
        added = self._united.unite(new)
        self._united.whole |= new.whole
        # A pass that was cut off tells nothing by adding nothing.
        self._quiet = 0 if added else self._quiet + new.whole
        self._judge(new)

    def _judge(self, new: Pass) -> None:
        ids, total = len(self._united), self._total
        if ids == total and self._united.whole:
            self._settle(f"{self.passes} passes together reached the total")
        elif ids < (total if total is not None else self.at_least):
            self.reason = f"ids {ids} of {self.at_least if total is None else total}"
        elif self._quiet >= QUIET_PASSES:
            self._settle(f"{QUIET_PASSES} different passes in a row added nothing")
        elif not new.whole:
            self.reason = f"a pass ended early, after {len(new)} rows"
        else:
            self.reason = f"passes still differed after {self.passes}"

    def _settle(self, reason: str) -> None:
        self.proven, self.reason = True, reason

    @property
    def finished(self) -> bool:
        """It is proven, or nothing new came for long enough, or there were passes enough."""
        return self.proven or self._quiet >= QUIET_PASSES or self.passes >= MAX_PASSES

    @property
    def rows(self) -> tuple[Row, ...]:
        """All that any pass saw."""
        return tuple(self._everything.rows.values())

    @property
    def moving(self) -> bool:
        """The last pass still differed from those before it."""
        return self._quiet == 0

    def listing(self) -> Listing:
        seen = self._united if self.proven else self._everything
        return Listing(
            self.window,
            tuple(seen.rows.values()),
            tuple(seen.odd.values()),
            self._total,
            self.proven,
            self.reason,
            self.passes,
        )


def snapshot(window: Window, rows: Iterable[Row], total: int | None, reason: str) -> Listing:
    """A proven listing of rows that cannot have moved between replies."""
    rows = tuple(rows)
    readable = {r.id: r for r in rows if r.id is not None}
    odd = {r.raw: r for r in rows if r.id is None}
    return Listing(
        window, tuple(readable.values()), tuple(odd.values()), total, proven=True, reason=reason
    )


def is_snapshot(page: Page, size: int, served: int) -> bool:
    """Whether page 1 is the whole list. `size`: as asked for; `served`: the longest page so far.

    A page may be shorter than asked for because the server serves no longer ones, and a full
    page that only a total calls the last may be where the totals stop.
    """
    if page.has_more is not None:
        return not page.has_more and page.total in {None, len(page.rows)}
    if page.total is not None:
        return page.total == len(page.rows) < size
    return not page.rows or len(page.rows) < served


def ascending(page: Page) -> bool:
    """Whether the page shows by its dates that the list is sorted by created date, ascending."""
    dates = [r.created_on for r in page.rows]
    known = [d for d in dates if d is not None]
    return len(known) == len(dates) > 1 and known[0] < known[-1] and known == sorted(known)


def untold(page: Page) -> Page:
    """The page without its total."""
    return replace(page, total=None)


def shards(window: Window, rows: Sequence[Row], size: int, total: int = 0) -> list[int]:
    """Where to cut a window so that each part fits on one page, judging by the rows' dates.

    Where only some of `total` rows were seen, they stand for those that were not.
    """
    dates = sorted(r.created_on for r in rows if r.created_on is not None)
    step = max(1, size * 9 * len(rows) // (10 * max(total, len(rows), 1)))
    points = {dates[n] for n in range(step, len(dates), step)}
    return sorted(p for p in points if window.start_s is None or p > window.start_s)


def orders(size: int, count: int = 0) -> Iterator[tuple[str, str, int]]:
    """Sort, order and page size of the passes after the first.

    `size` is what is served, `count` the rows that the first one found. By name comes first:
    where rows of one second change places, a pass by name found them all. The last page should
    be a short one, for that shows the end even where nothing is told of it.
    """
    plan = (
        ("NAME", "ASC"),
        ("UPDATED_DATE", "DESC"),
        ("CREATED_DATE", "DESC"),
        ("NAME", "DESC"),
        ("UPDATED_DATE", "ASC"),
        ("CREATED_DATE", "ASC"),
        ("NAME", "ASC"),
    )
    all_sizes = range(size, 0, -1)
    sizes = [s for s in all_sizes if count % s] or all_sizes
    step = max(1, size // 30)
    for number, (sort, order) in enumerate(plan, start=1):
        yield sort, order, sizes[min(number * step, len(sizes) - 1)]
