"""What a listing promises, and what it costs."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from itertools import pairwise

import pytest

from crmcom.endpoints import LIST_ACTIVITIES, LIST_CONTACTS
from crmcom.errors import BadRequest, BrokenReply, FilterIgnored, Unproven
from crmcom.listing import Window, listings, newest_updated, probe
from crmcom.protocol import Reply

from .fake import Server, Thing, ids, listed, things

START, END = 1_400_000_000, 1_700_000_000
PAST = Window(None, END)


def spread(count: int, seed: int = 1) -> list[Thing]:
    rng = random.Random(seed)
    return things(sorted(rng.randrange(START, END) for _ in range(count)))


def assert_all(server: Server, window: Window = PAST, **options) -> list:
    found = listed(server, window, **options)
    assert all(one.proven for one in found), [one.reason for one in found if not one.proven]
    assert ids(found) == sorted(t.id for t in server.table)
    return found


@pytest.mark.parametrize("totals", ["always", "asked", "never"])
@pytest.mark.parametrize("count", [0, 1, 99, 100])
def test_a_page_costs_one_request(count, totals):
    """A list on one page is one snapshot, and proven by it."""
    server = Server(spread(count), totals=totals)
    assert_all(server)
    assert len(server.log) == 1


@pytest.mark.parametrize("totals", ["always", "asked", "never"])
@pytest.mark.parametrize("has_more", [True, False])
@pytest.mark.parametrize("count", [250, 5_000, 21_000])
def test_a_list_costs_a_twentieth_more_than_its_pages(count, totals, has_more):
    """Whatever the server says about the rest, where rows carry dates."""
    server = Server(spread(count), totals=totals, has_more=has_more)
    found = assert_all(server)
    assert len(server.log) <= 1.05 * -(-count // 100) + 2
    assert max(len(one.rows) for one in found) <= 10_100


@pytest.mark.parametrize("totals", ["always", "asked"])
def test_rows_without_dates_are_found_by_halves(totals):
    """A contact may carry no date: the window is halved, and an empty half costs one request."""
    server = Server(spread(25_000), totals=totals, dated=False)
    assert_all(server)
    assert len(server.log) <= 1.05 * 250 + 16


def test_neither_totals_nor_dates_cost_four_passes():
    """Then three different passes in a row must add nothing."""
    server = Server(spread(3_000), totals="never", dated=False)
    assert {one.passes for one in assert_all(server)} == {4}
    assert len(server.log) < 4.5 * 30


def test_the_total_is_asked_before_and_after():
    """And with no other page: counting may be dear."""
    server = Server(spread(950), totals="asked")
    assert_all(server)
    counted = [q for q in server.log if "include_total" in q]
    assert [(q["page"], q["size"]) for q in counted] == [("1", "100"), ("1", "1")]


def test_a_list_without_a_past_is_asked_for_its_total_on_every_page():
    """Records enter it as well as leave it, and two totals could match by chance."""
    server = Server(spread(950), totals="asked")
    assert_all(server, Window(), params=(("states", "PENDING"),))
    assert all("include_total" in q for q in server.log)


@pytest.mark.parametrize("serves", [25, 100])
def test_a_short_page_costs_two_requests_where_nothing_is_told(serves):
    """Neither a total nor `has_more`: it may be short because the server serves no longer ones."""
    server = Server(spread(20), totals="never", has_more=False, dated=False, serves=serves)
    assert_all(server)
    assert len(server.log) == 2


def test_a_short_page_costs_one_request_once_a_longer_one_was_seen():
    """Then the server does serve longer ones."""
    server = Server(spread(120), totals="never", has_more=False)
    assert_all(server)
    assert len(server.log) == 2


def test_oldest_first():
    """So that the end of the last listing is a bookmark."""
    found = assert_all(Server(spread(25_000)))
    latest = [max(r.created_on or 0 for r in one.rows) for one in found if one.rows]
    assert latest == sorted(latest)


def test_nothing_is_asked_after_the_caller_stops():
    """The iteration is lazy."""
    server = Server(spread(25_000))

    async def first_only() -> None:
        async for one in listings(server, LIST_ACTIVITIES, PAST):
            if one.rows:
                break

    asyncio.run(first_only())
    assert len(server.log) <= 105


def test_a_limit_of_rows_ends_with_a_whole_window():
    """At least so many rows where there are as many, and a bookmark to go on from."""
    server = Server(spread(25_000))

    async def some() -> list:
        return [one async for one in listings(server, LIST_ACTIVITIES, PAST, limit_rows=5_000)]

    found = asyncio.run(some())
    rows = sum(len(one.rows) for one in found)
    assert 5_000 <= rows < 11_000
    rest = listed(server, Window(found[-1].window.end_s, END))
    assert rows + sum(len(one.rows) for one in rest) == 25_000


def test_a_deletion_between_pages_loses_no_row():
    """It moves later rows forward; the totals differ, and another pass finds the hidden one."""
    server = Server(spread(950), totals="asked")
    gone = server.table[5].id

    def delete(server: Server) -> None:
        if len(server.log) == 3:
            del server.table[5]

    server.before = delete
    (found,) = listed(server, PAST)
    assert found.proven
    assert found.passes == 2
    assert ids([found]) == [t.id for t in server.table]
    assert gone not in ids([found])


def test_rows_of_one_second_that_change_places_are_all_found():
    """2,000 rows of a bulk import: a pass by date misses some, a pass by name none."""
    server = Server(things([START] * 2_000), totals="asked", shuffles=random.Random(1))
    (found,) = assert_all(server)
    assert found.passes == 2


@pytest.mark.parametrize("has_more", [True, False])
@pytest.mark.parametrize("shuffles", [None, random.Random(1)])
def test_a_second_that_holds_more_than_the_cap(has_more, shuffles):
    """It cannot be cut, so passes that differ are united until three add nothing."""
    table = things([START - 9] * 50 + [START] * 1_234 + [START + 9] * 50)
    server = Server(table, totals="asked", has_more=has_more, shuffles=shuffles, cap=1_000)
    found = assert_all(server, cap=1_000)
    (dense,) = (one for one in found if len(one.rows) > 1_000)
    assert (dense.window.start_s, dense.window.end_s) == (START, START + 1)
    assert dense.total is None


def test_a_second_deeper_than_pages_go_is_not_proven():
    """The rows that can be had are loaded, and the listing says that they are not all."""
    server = Server(things([START] * 12_345), totals="asked", depth=5_000)
    found = [one for one in listed(server, PAST) if one.rows]
    assert [one.proven for one in found] == [False]
    assert found[0].reason.startswith("ids ") or "ended early" in found[0].reason


@pytest.mark.parametrize("deep", ["refused", "empty"])
@pytest.mark.parametrize("totals", ["asked", "never"])
@pytest.mark.parametrize("dated", [True, False])
def test_pages_that_end_early_cut_the_window(deep, totals, dated):
    """A 400, or nothing, beyond a depth is no failure: smaller windows are asked."""
    server = Server(spread(15_000), totals=totals, depth=4_000, deep=deep, dated=dated)
    assert_all(server)


@pytest.mark.parametrize("has_more", [True, False])
def test_a_cap_at_another_number(has_more):
    """Rows beyond a total that did not grow show where totals stop."""
    server = Server(spread(15_000), totals="asked", cap=4_000, has_more=has_more)
    assert_all(server)
    assert len(server.log) <= 1.5 * 150


def test_the_server_may_serve_smaller_pages():
    """The size that counts is that of the first page, when more follow."""
    server = Server(spread(1_000), totals="asked", serves=25)
    assert_all(server)
    assert len(server.log) == 41


def test_a_list_that_begins_anew_ends_where_it_does():
    """The total tells how long it is, though `has_more` never ends."""
    server = Server(spread(950), totals="asked", endless=True)
    assert_all(server)
    assert len(server.log) <= 12


def test_a_page_that_repeats_ends_the_walk():
    """It proves nothing by itself; windows that fit on a page do."""
    assert_all(Server(spread(950), totals="asked", repeats=True))
    server = Server(spread(950), totals="asked", repeats=True)
    (found,) = listed(server, PAST, divisible=False)
    assert not found.proven
    assert found.reason.startswith("ids ")
    assert found.passes <= 8
    assert len(server.log) <= 8 * 15


@pytest.mark.parametrize(("error", "proven"), [(-3, True), (3, False)])
def test_totals_that_are_wrong(error, proven):
    """Too low, they are refuted by the rows; too high, the rows may be missing."""
    server = Server(spread(950), totals="asked", total_error=error)
    found = listed(server, PAST)
    assert ids(found) == [t.id for t in server.table]
    assert all(one.proven for one in found) is proven
    assert len(server.log) < 60


def test_a_sort_that_the_endpoint_does_not_take_is_left_out():
    """Other passes do."""
    server = Server(spread(500), totals="never", dated=False, refuses_sorts=frozenset({"NAME"}))
    assert_all(server)


def test_a_refused_first_page_is_an_error():
    """There is no smaller question to ask."""
    server = Server(spread(10), refuses_sorts=frozenset({"CREATED_DATE"}))
    with pytest.raises(BadRequest):
        listed(server, PAST)


def test_a_broken_row_counts_in_its_place():
    """It goes to the rejects, and the list is proven."""
    table = spread(250)
    table[7] = replace(table[7], raw=b'{"id": null, "name": "?"}')
    (found,) = listed(Server(table), PAST)
    assert found.proven
    assert len(found.rows) == 249
    assert [row.raw for row in found.unreadable] == [table[7].raw]


def test_a_row_outside_its_window_shows_that_the_filter_is_ignored():
    """Each dated row is checked; the error names the endpoint and the filter."""
    server = Server(spread(50), ignores=frozenset({"created_on"}))
    with pytest.raises(FilterIgnored, match=r"created_on.*GET /activities/"):
        listed(server, Window(START - 20, START - 10))


def test_records_before_1970_show_that_the_filter_is_ignored():
    """Without dates on rows, 10,000 records there are not to be believed."""
    server = Server(spread(10_001), ignores=frozenset({"created_on"}), dated=False)
    with pytest.raises(FilterIgnored):
        listed(server, PAST)


@pytest.mark.parametrize("totals", ["always", "never"])
def test_the_probe_asks_for_a_range_that_must_be_empty(totals):
    """One request of one row, a year ahead."""
    server = Server(spread(50), totals=totals)
    asyncio.run(probe(server, LIST_CONTACTS, "created_on", END))
    assert [q["size"] for q in server.log] == ["1"]
    assert int(server.log[0]["created_on[gte]"]) > END + 364 * 86_400
    server.known.clear()
    server.ignores = frozenset({"created_on"})
    with pytest.raises(FilterIgnored, match=r"created_on.*GET /contacts"):
        asyncio.run(probe(server, LIST_CONTACTS, "created_on", END))


@pytest.mark.parametrize("dated", [True, False])
@pytest.mark.parametrize("totals", ["always", "never"])
@pytest.mark.parametrize("field", ["created_on", "completed_on"])
def test_records_that_lie_ahead_do_not_show_that_a_filter_is_ignored(field, totals, dated):
    """A date in milliseconds, or far ahead, is found by a server that does as it is asked: one
    question more tells, of a second in which nothing can lie. An ignored filter still shows."""
    table = things([START, 5_000_000_000, END * 1000])
    for thing in table:
        thing.completed = thing.created
    server = Server(table, totals=totals, dated=dated)
    asyncio.run(probe(server, LIST_ACTIVITIES, field, END))
    assert len(server.log) == 2
    server.known.clear()
    server.ignores = frozenset({field})
    with pytest.raises(FilterIgnored, match=field):
        asyncio.run(probe(server, LIST_ACTIVITIES, field, END))
    server.known.clear()
    del table[0]
    with pytest.raises(FilterIgnored, match=field):
        asyncio.run(probe(server, LIST_ACTIVITIES, field, END))


def test_a_full_scan_asks_for_no_range():
    """For filters that are known not to work: all rows in one window, in passes."""
    server = Server(spread(10_500), totals="asked", ignores=frozenset({"created_on"}))
    (found,) = assert_all(server, Window(), divisible=False)
    assert found.passes == 4
    assert not any("[" in name for q in server.log for name in q)


def test_another_range_and_other_filters():
    """`completed_on`, cut in the middle; and the open set, cut at its rows' dates."""
    table = spread(21_000)
    for thing in table:
        thing.completed = thing.created + 86_400
    assert_all(Server(table), Window(START, END + 86_400, "completed_on"))
    table[0].state = "COMPLETED"
    found = listed(Server(table), Window(), params=(("states", "PENDING"),))
    assert all(one.proven for one in found)
    assert len(ids(found)) == 20_999


def test_json_that_is_no_list_is_asked_again():
    """An error in a 200 must not pass for an empty list."""
    server = Server(spread(50))
    answers = [b'{"error": "later"}', b'{"content": 5}']

    class Flaky:
        async def get(self, request):
            return Reply(request, answers.pop()) if answers else await server.get(request)

        def saw(self, request, page):
            """The client's part."""

    async def collect() -> list:
        return [one async for one in listings(Flaky(), LIST_ACTIVITIES, PAST)]

    assert len(ids(asyncio.run(collect()))) == 50
    answers = [b'{"error": "never"}'] * 3
    with pytest.raises(BrokenReply):
        asyncio.run(collect())


def walked(server: Server, pages: int = 1_000) -> list[str | None]:
    async def collect() -> list[str | None]:
        found: list[str | None] = []
        async for page in newest_updated(server, LIST_ACTIVITIES):
            found += [row.id for row in page.rows]
            if len(server.log) >= pages:
                break
        return found

    return asyncio.run(collect())


@pytest.mark.parametrize("totals", ["always", "asked", "never"])
@pytest.mark.parametrize("has_more", [True, False])
def test_the_latest_updates_come_first(totals, has_more):
    """Page by page until the caller stops, or to the end."""
    server = Server(spread(10_050), totals=totals, has_more=has_more)
    updated = {t.id: t.updated for t in server.table}
    found = walked(server, pages=3)
    assert len(found) == 300
    assert all(updated[a or ""] >= updated[b or ""] for a, b in pairwise(found))
    server.log.clear()
    assert len(walked(server)) == 10_050


@pytest.mark.parametrize(
    "trouble",
    [{"repeats": True}, {"endless": True}, {"depth": 400}, {"depth": 400, "deep": "empty"}],
)
def test_a_walk_that_cannot_reach_the_end_says_so(trouble):
    """Or the caller would take it for the whole list."""
    server = Server(spread(950), **trouble)
    with pytest.raises(Unproven):
        walked(server)
    assert len(server.log) <= 20
