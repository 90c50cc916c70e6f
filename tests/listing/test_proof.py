"""What proves a listing, page by page and without a server."""

from __future__ import annotations

import pytest

from crmcom.proof import Pass, Proof, Window, ascending, is_snapshot, shards
from crmcom.protocol import Page, Row


def page(*ids: str | None, total: int | None = None, has_more: bool | None = None) -> Page:
    rows = tuple(Row(x, None, (x or "{}").encode()) for x in ids)
    return Page(rows, total, has_more, None)


def dated(*dates: int | None) -> Page:
    return Page(tuple(Row(f"r{n}", at, b"") for n, at in enumerate(dates)), None, None, None)


def walk(ids: str, *totals: int, whole: bool = True) -> Pass:
    done = Pass(counted=bool(totals), totals=list(totals), whole=whole)
    done.add(page(*ids))
    return done


def judged(*passes: Pass, at_least: int = 0) -> Proof:
    proof = Proof(Window(), at_least)
    for one in passes:
        proof.add(one)
    return proof


def ids(proof: Proof) -> set[str | None]:
    return {row.id for row in proof.listing().rows}


def test_a_pass_that_meets_both_totals_is_proof():
    """The distinct ids equal the total before and the total after."""
    assert judged(walk("abc", 3, 3)).proven


@pytest.mark.parametrize("totals", [(3, 2), (2, 3), (4, 4), (2, 2), (3, 4, 3)])
def test_totals_that_do_not_match_prove_nothing(totals):
    """Whichever of them differs, in between too."""
    assert not judged(walk("abc", *totals)).proven


def test_a_pass_that_was_cut_off_is_no_proof():
    """A total may stop where the pages do."""
    assert not judged(walk("abc", 3, 3, whole=False)).proven


def test_passes_may_reach_the_total_together():
    """Rows that hide each other in one pass are found by another."""
    proof = judged(walk("abc", 4, 4), walk("abd", 4, 4))
    assert proof.proven
    assert ids(proof) == set("abcd")


def test_passes_are_not_united_over_a_change():
    """A deleted row must not make up for a hidden one."""
    proof = judged(walk("abc", 4, 3), walk("cd", 3, 3))
    assert not proof.proven
    assert proof.listing().reason == "ids 2 of 3"


def test_what_a_later_exact_pass_lacks_is_gone():
    """Ids that only earlier passes saw were deleted, or left the filter."""
    assert ids(judged(walk("abcx", 4, 3), walk("abc", 3, 3))) == set("abc")


def test_an_unproven_listing_still_has_all_that_was_seen():
    """Rows are loaded anyway; the ledger says that they may not be all."""
    proof = judged(walk("abc", 4, 3), walk("bd", 3, 3))
    assert ids(proof) == set("abcd")


def test_without_totals_three_further_passes_must_add_nothing():
    """Two agreeing passes prove nothing: measured, two agreed and both missed 204 of 2,000."""
    assert not judged(walk("abc"), walk("abc"), walk("abc")).proven
    assert judged(walk("abc"), walk("abc"), walk("abc"), walk("abc")).proven


def test_a_pass_that_adds_something_starts_the_count_anew():
    """Three in a row."""
    passes = [walk("abc"), walk("abc"), walk("abd"), walk("abc"), walk("abc")]
    assert not judged(*passes).proven
    assert judged(*passes, walk("abc")).proven


def test_passes_cut_off_do_not_count_as_adding_nothing():
    """All of them may end at the same depth."""
    assert not judged(*(walk("abc", whole=False) for _ in range(8))).proven


def test_fewer_ids_than_a_total_at_its_cap_are_never_all():
    """A capped total is no count, but there are at least as many."""
    proof = judged(*(walk("abc") for _ in range(4)), at_least=5)
    assert not proof.proven
    assert proof.finished
    assert proof.listing().reason == "ids 3 of 5"


def test_a_row_without_an_id_counts_in_its_place():
    """It goes to the rejects, and the list is complete all the same."""
    done = Pass(counted=True, totals=[], whole=True)
    done.add(page("a", None, total=2))
    done.totals.append(2)
    proof = judged(done)
    assert proof.proven
    assert [row.raw for row in proof.listing().unreadable] == [b"{}"]


def test_equal_rows_without_ids_count_once_unless_they_share_a_page():
    """On two pages they may be one row that moved, and hid another."""
    moved = Pass()
    moved.add(page("a", None))
    moved.add(page(None, "b"))
    assert len(moved) == 3
    twice = Pass()
    twice.add(page(None, None))
    assert len(twice) == 2


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (page(*"ab", total=2, has_more=False), True),
        (page(*"ab", has_more=False), True),
        (page(*"abc", has_more=False), True),
        (page(*"ab", total=3, has_more=False), False),
        (page(*"ab", total=2, has_more=True), False),
        (page(*"ab", has_more=True), False),
        (page(*"ab", total=2), True),
        (page(*"ab", total=3), False),
        # The totals may stop where the page does.
        (page(*"abc", total=3), False),
        # The server may serve no longer pages than this one.
        (page(*"abc"), False),
        (page(*"ab"), True),
        (page(), True),
    ],
)
def test_one_reply_is_proof_if_it_says_that_it_is_all(reply, expected):
    """A single page is a snapshot; three rows were asked for, and once three came."""
    assert is_snapshot(reply, size=3, served=3) is expected


def test_a_short_page_is_no_proof_before_a_longer_one_was_seen():
    """Neither a total nor `has_more`: the server may serve two rows a page at most."""
    assert not is_snapshot(page(*"ab"), size=3, served=2)


@pytest.mark.parametrize(
    ("window", "latest_s", "cuts"),
    [
        (Window(10, 20), None, [15]),
        (Window(10, 20), 17, [17]),
        (Window(10, 20), 10, [11]),
        (Window(10, 11), 10, []),
        (Window(10, 11), None, []),
        (Window(None, 20), None, [0]),
        (Window(None, 0), None, []),
        (Window(0, None), None, [2**30]),
        (Window(2**31, None), None, []),
        (Window(10, 20, "completed_on"), 17, [15]),
    ],
)
def test_a_window_is_cut_strictly_inside(window, latest_s, cuts):
    """At the date given, else in the middle; a single second is not cut."""
    assert window.cut(latest_s) == cuts


def test_parts_are_the_window_again():
    """Half-open, without a gap or an overlap."""
    assert Window(0, None).parts([5, 7]) == [Window(0, 5), Window(5, 7), Window(7, None)]


def test_shards_fit_on_a_page_each():
    """Nine tenths of a page, to leave room for what comes meanwhile."""
    rows = dated(*range(100, 140)).rows
    assert shards(Window(100, 140), rows, 10) == [109, 118, 127, 136]
    assert shards(Window(5, 6), dated(5, 5, 5).rows, 1) == []
    assert shards(Window(100, 140), rows[::2], 10, total=40) == [108, 116, 124, 132]


def test_a_page_shows_its_order_only_by_different_dates():
    """A page of one second would look the same the other way round."""
    assert ascending(dated(1, 1, 2))
    assert not ascending(dated(1, 1, 1))
    assert not ascending(dated(2, 1))
    assert not ascending(dated(1, None, 2))
