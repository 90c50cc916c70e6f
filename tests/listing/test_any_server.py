"""Whatever a server does, a proven listing is a complete one."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from crmcom.listing import Window

from .fake import Server, ids_in, listed, things

examples = settings(max_examples=200, deadline=None)

dates = st.one_of(
    st.lists(st.integers(0, 20), max_size=40),
    st.lists(st.integers(0, 10**9), max_size=40),
    st.lists(st.sampled_from([5, 6, 900]), max_size=40),
)
windows = st.sampled_from([Window(), Window(None, 10**9 + 1), Window(0, 10**9), Window(3, 15)])


@st.composite
def servers(draw: st.DrawFn, **fixed: Any) -> tuple[Server, dict[str, int]]:
    """A server, and the options to list it with."""
    size = draw(st.integers(2, 6))
    cap = draw(st.none() | st.integers(8, 20))
    options = {
        "totals": draw(st.sampled_from(["always", "asked", "never"])),
        "has_more": draw(st.booleans()),
        "cap": cap,
        "serves": draw(st.sampled_from([100, size, 2])),
        "depth": draw(st.none() | st.integers(2 * size, 20)),
        "deep": draw(st.sampled_from(["refused", "empty"])),
        "shuffles": draw(st.none() | st.builds(random.Random, st.integers(0, 99))),
        "dated": draw(st.booleans()),
        "always_more": draw(st.booleans()),
        "endless": draw(st.booleans()),
        "refuses_sorts": draw(st.sampled_from([frozenset(), frozenset(["NAME"])])),
    }
    server = Server(things(draw(dates)), **{**options, **fixed})
    return server, {"page_size": size, "cap": cap or 10_000}


def changes(rng: random.Random, chance: float, *, deletes: bool, inserts: bool) -> Any:
    """Something that happens before some requests, and the ids that it left alone."""
    untouched: set[str] = set()

    def change(server: Server) -> None:
        if not server.log:
            untouched.update(t.id for t in server.table)
        if rng.random() > chance:
            return
        if deletes and server.table and (not inserts or rng.random() < 0.5):
            untouched.discard(server.table.pop(rng.randrange(len(server.table))).id)
        elif inserts:
            created = rng.choice([t.created for t in server.table] or [0]) + rng.randrange(-1, 2)
            server.table += things([created], first=100_000 + len(server.log))

    return change, untouched


@examples
@given(servers(), windows)
def test_proven_means_all_and_nothing_else(case, window) -> None:
    """While nothing changes, the ids of a proven listing are exactly those of its window."""
    server, options = case
    for one in listed(server, window, **options):
        assert not one.proven or {row.id for row in one.rows} == ids_in(server.table, one.window)


@examples
@given(servers(has_more=True, endless=False, always_more=False), windows)
def test_a_cap_that_nobody_announced_proves_nothing(case, window) -> None:
    """Totals may stop counting at a number that we do not know of."""
    server, options = case
    options["cap"] = 10_000
    for one in listed(server, window, **options):
        assert not one.proven or {row.id for row in one.rows} == ids_in(server.table, one.window)


quiet = {
    "cap": None,
    "depth": None,
    "shuffles": None,
    "always_more": False,
    "endless": False,
    "serves": 100,
}


@examples
@given(servers(**quiet, totals="asked"), windows)
def test_an_honest_server_is_proven_in_one_pass(case, window) -> None:
    """As many requests as the rows need, one for the total after them, one past a full page."""
    server, options = case
    found = listed(server, window, page_size=options["page_size"])
    assert all(one.proven and one.passes == 1 for one in found)
    rows = len(ids_in(server.table, window))
    assert len(server.log) <= max(1, -(-rows // options["page_size"])) + 2


@examples
@given(
    servers(totals="always") | servers(totals="asked"),
    windows,
    st.integers(0, 10**6),
    st.sampled_from([0.02, 0.1, 0.3]),
    st.booleans(),
)
def test_changes_hide_nothing_from_a_proven_listing(case, window, seed, chance, deletes) -> None:
    """What was there before the first request and after the last one is in the result.

    Records are deleted, or inserted, even into the window that is being listed.
    """
    server, options = case
    server.before, untouched = changes(
        random.Random(seed), chance, deletes=deletes, inserts=not deletes
    )
    for one in listed(server, window, **options):
        left = [t for t in server.table if t.id in untouched]
        assert not one.proven or ids_in(left, one.window) <= {row.id for row in one.rows}


@examples
@given(
    servers(totals="always") | servers(totals="asked"),
    st.integers(0, 10**6),
    st.sampled_from([0.02, 0.1]),
)
def test_a_list_without_a_past_is_proven_by_many_totals(case, seed, chance) -> None:
    """Where records come and go, a deletion and an insertion do not cancel each other out.

    As long as a total is told between them: what is missing has to be asked for all the same.
    """
    server, options = case
    server.before, untouched = changes(random.Random(seed), chance, deletes=True, inserts=True)
    for one in listed(server, Window(), **options):
        left = [t for t in server.table if t.id in untouched]
        assert not one.proven or ids_in(left, one.window) <= {row.id for row in one.rows}


@examples
@given(
    servers(**quiet | {"has_more": True}, totals="never", dated=True),
    windows,
    st.integers(0, 10**6),
    st.sampled_from([0.02, 0.1, 0.3]),
)
def test_dates_prove_what_no_total_can(case, window, seed, chance) -> None:
    """Without totals, records deleted and inserted at once hide nothing, where rows have dates."""
    server, options = case
    # Below the year 9999: beyond it a date is taken for milliseconds, and is none.
    seconds = [min(t.created, 10**8) * 1000 + n for n, t in enumerate(server.table)]
    server.table = things(seconds)
    server.before, untouched = changes(random.Random(seed), chance, deletes=True, inserts=True)
    for one in listed(server, Window(), **options):
        left = [t for t in server.table if t.id in untouched]
        assert one.proven
        assert ids_in(left, one.window) <= {row.id for row in one.rows}
