"""A budget of account readings: what comes first, what it never exceeds, a turn for each."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import count
from math import log
from typing import TYPE_CHECKING

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crmcom.refresh import KINDS, RECENT, Kind, Known, choose, question
from crmcom_sandbox import World

if TYPE_CHECKING:
    from .conftest import Warehouse

NOW = datetime(2026, 3, 10, 5)  # noqa: DTZ001 - as the warehouse holds times
DAY = timedelta(days=1)

# --- the choice, on any data ---

kinds = st.sampled_from(Kind)
some_accounts = st.lists(st.tuples(kinds, st.integers(-5, 60)), max_size=60).map(
    lambda drawn: [Known(f"{i:03}", kind, NOW - age * DAY) for i, (kind, age) in enumerate(drawn)]
)


@given(some_accounts, st.integers(0, 80))
def test_the_budget_is_used_up_and_never_exceeded(accounts, budget):
    chosen = choose(accounts, budget, NOW)
    assert len(chosen) == len(set(chosen)) == min(budget, len(accounts))
    assert set(chosen) <= {a.id for a in accounts}


@given(some_accounts, st.integers(0, 80))
def test_what_fits_into_half_of_the_budget_is_read_whole(accounts, budget):
    """The overdue first, then what changed: whatever else has waited, and for how long."""
    chosen = set(choose(accounts, budget, NOW))
    for kind in Kind:
        first = {a.id for a in accounts if a.kind <= kind}
        if len(first) <= budget / 2:
            assert first <= chosen


@given(some_accounts, st.integers(0, 80))
def test_of_one_kind_nobody_goes_before_one_who_has_waited_longer(accounts, budget):
    """And of those that have waited equally long, nobody before one of a kind that comes first."""
    chosen = set(choose(accounts, budget, NOW))
    for one in accounts:
        for other in accounts:
            if one.id in chosen and other.id not in chosen:
                assert one.kind != other.kind or one.tried_at <= other.tried_at
                assert one.tried_at != other.tried_at or one.kind <= other.kind


@given(some_accounts, st.integers(0, 80), st.randoms())
def test_the_order_of_the_rows_does_not_matter(accounts, budget, random):
    shuffled = random.sample(accounts, len(accounts))
    assert choose(accounts, budget, NOW) == choose(shuffled, budget, NOW)


def longest_wait(accounts: int, budget: int) -> int:
    """Runs, a day apart, within which each is read, whatever becomes of the others.

    Whoever was read on day u after our turn goes before us again on day 3u/2 at the earliest, so
    log(T) / log(1.5) + 2 times until day T; half of the budget at least is for those who wait.
    """
    slots = budget - budget // 2
    for days in count(1):
        if slots * days > (accounts - 1) * (log(days) / log(1.5) + 2):
            return days
    raise AssertionError


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 12), st.integers(1, 12), st.randoms(use_true_random=False))
def test_nobody_waits_for_ever(accounts, budget, random):
    """Even where what is overdue alone exceeds the budget, and everything turns at random."""
    ids = [f"{i:02}" for i in range(accounts)]
    tried = dict.fromkeys(ids, 0)
    most_are = random.choice(KINDS)
    for day in range(1, 3 * longest_wait(accounts, budget)):
        known = [
            Known(i, random.choice((*KINDS, *[most_are] * 8)), NOW + tried[i] * DAY) for i in ids
        ]
        for i in choose(known, budget, NOW + day * DAY):
            tried[i] = day
        assert day - min(tried.values()) <= longest_wait(accounts, budget)


def test_a_quiet_account_waits_behind_few_debts():
    """A budget of one, two debts: strictly by kind, the quiet ones would never be read."""
    tried = {"debt 1": 0, "debt 2": 0, "quiet 1": 0, "quiet 2": 0}
    for day in range(1, 15):
        known = [
            Known(i, Kind.OVERDUE if "debt" in i else Kind.QUIET, NOW + at * DAY)
            for i, at in tried.items()
        ]
        (first,) = choose(known, 1, NOW + day * DAY)
        tried[first] = day
    assert min(tried.values()) > 0


def test_a_clock_that_was_set_back_turns_nothing_round():
    old, new = Known("old", Kind.OVERDUE, NOW), Known("new", Kind.OVERDUE, NOW + 9 * DAY)
    assert choose([new, old], 1, NOW - 99 * DAY) == ["old"]


# --- the question ---

amounts = st.sampled_from([None, 0, 5, -5])
states = st.sampled_from([None, "ACTIVE", "SUSPENDED"])
what_is_read = st.tuples(states, st.sampled_from([None, "EUR"]), amounts, amounts)
histories = st.dictionaries(st.integers(0, 100), what_is_read, min_size=1, max_size=4)


@pytest.fixture(scope="module")
def tables():
    with duckdb.connect() as connection:
        columns = (
            "state text, currency_code text, balance decimal(38, 9),"
            " overdue_amount decimal(38, 9), _synced_at timestamp"
        )
        connection.execute(
            f"create table accounts (id text, {columns}, _deleted_at timestamp);"
            f"create table readings (account_id text, {columns});"
            "create table rejects (record_id text, resource text, _synced_at timestamp)"
        )
        yield connection


def expected(history, failed_days_ago):
    """In so many words: the last reading, and the one before if it is recent."""
    ages = sorted(history)
    state, currency, balance, overdue = history[ages[0]]
    before = next((history[age] for age in ages[1:] if age * DAY < RECENT), None)
    tried_days_ago = min(ages[0], failed_days_ago)
    if (overdue or 0) > 0:
        kind = Kind.OVERDUE
    elif before is not None and before != (state, currency, balance, overdue):
        kind = Kind.CHANGED
    else:
        kind = Kind.WITH_BALANCE if balance else Kind.QUIET
    return kind, NOW - tried_days_ago * DAY


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(histories, st.integers(0, 200), st.booleans()), max_size=4))
def test_the_question_tells_the_kind_and_the_last_try_of_each(tables, drawn):
    tables.execute("truncate accounts; truncate readings; truncate rejects")
    wanted = set()
    for i, (history, failed, is_deleted) in enumerate(drawn):
        for age, what in history.items():
            tables.execute("insert into readings values (?,?,?,?,?,?)", [i, *what, NOW - age * DAY])
        newest = min(history)
        row = [i, *history[newest], NOW - newest * DAY, NOW if is_deleted else None]
        tables.execute("insert into accounts values (?,?,?,?,?,?,?)", row)
        # Two tries that failed, and a record of another kind that bears the same id.
        for age, resource in ((failed, "accounts"), (failed + 1, "accounts"), (0, "contacts")):
            tables.execute("insert into rejects values (?,?,?)", [i, resource, NOW - age * DAY])
        if not is_deleted:
            wanted.add((str(i), *expected(history, failed)))
    found = tables.execute(question("accounts", "readings", "rejects", NOW)).fetchall()
    assert len(found) == len(wanted)
    assert set(found) == wanted


# --- over HTTP ---


def quiet(warehouse, accounts: int, budget: int) -> tuple[Warehouse, list[str]]:
    """A warehouse that has read each of so many accounts once; none owes anything."""
    world = World.generate(seed=1, contacts=1, activities=0)
    for known in list(world.accounts):
        world.set_balance(known.id, "0", "0")
    contact = next(iter(world.contacts)).id
    while len(world.accounts) < accounts:
        world.create_account(contact, created_on=world.clock.epoch() - 9 * 86_400)
    at = warehouse(world, account_refresh=budget, reconcile_every_days=10_000)
    at.sync()
    return at, [a.id for a in world.accounts]


def read(at: Warehouse, **options) -> list[str]:
    """What the next run, a day later, asks for account by account."""
    at.world.clock.move(DAY)
    at.sync(**options)
    paths = [a.path.rsplit("/", 2) for a in at.server.sandbox.log]
    return [name for *_, kind, name in paths if kind == "accounts"]


def test_all_that_is_overdue_is_read_in_every_run_if_it_fits_into_half(warehouse):
    at, ids = quiet(warehouse, 12, budget=6)
    debts = set(ids[-3:])
    for debt in debts:
        at.world.set_balance(debt, "10", "10")
    rounds = [read(at) for _ in range(6)]
    assert [len(asked) for asked in rounds] == [6] * 6
    found = next(n for n, asked in enumerate(rounds) if debts <= set().union(*rounds[: n + 1]))
    assert found <= 1, "two runs of six read all twelve"
    assert all(debts <= set(asked) for asked in rounds[found + 1 :])
    assert set().union(*rounds) == set(ids)


def test_what_has_changed_is_read_before_what_is_staler(warehouse):
    at, _ = quiet(warehouse, 6, budget=2)
    first = read(at)
    at.world.set_account_state(first[0], "SUSPENDED")
    rest = [read(at) for _ in range(2)]
    assert set(first).isdisjoint(set().union(*rest)), "the round of the others comes first"
    assert first[0] in read(at)
    again = read(at)
    assert first[0] in again, "changed when it was last read"
    assert first[0] not in read(at), "and unchanged now"


@pytest.mark.parametrize("budget", [1, 3])
def test_debts_that_exceed_the_budget_starve_nobody(warehouse, budget):
    """Each account has its turn, and a new debt is found, within the bound."""
    at, ids = quiet(warehouse, 6, budget)
    for debt in ids[:4]:
        at.world.set_balance(debt, "10", "10")
    at.sync(settings={"account_refresh": "all"})
    late = ids[-1]
    at.world.set_balance(late, "99", "99")
    seen: set[str] = set()
    runs = 0
    while seen != set(ids):
        asked = read(at)
        assert len(asked) == budget
        seen |= set(asked)
        runs += 1
        assert runs <= longest_wait(6, budget)
    sql = f"select overdue_amount from crmcom.accounts where id = '{late}'"
    assert at.value(sql) == 99


def test_accounts_of_new_and_changed_contacts_come_on_top(warehouse):
    """They cost nothing of the budget, and it is not spent on them a second time."""
    at, ids = quiet(warehouse, 9, budget=4)
    contact = at.world.create_contact()
    new = [at.world.create_account(contact) for _ in range(2)]
    asked = read(at)
    assert len(asked) == len(set(asked)) == 6
    assert set(new) < set(asked)
    # All of the one contact's accounts are read because of it, and no other needs to be but two.
    at.world.edit("contacts", next(iter(at.world.contacts)).id, first_name="Another")
    asked = read(at)
    assert sorted(asked) == sorted(ids + new)


def test_accounts_that_cannot_be_read_use_up_no_budget_for_ever(warehouse):
    at, ids = quiet(warehouse, 8, budget=2)
    broken = sorted(ids)[:2]
    at.server.sandbox.switch(forbidden=tuple(f"GET /accounts/{i}" for i in broken))
    seen: set[str] = set()
    for _ in range(4):
        seen |= set(read(at, expect=None))
    assert seen == set(ids)


def test_a_full_listing_reads_all_and_a_budget_of_nothing_none(warehouse):
    at, ids = quiet(warehouse, 5, budget=0)
    scope = "select scope from crmcom._sync_runs where resource = 'accounts' order by run_id desc"
    assert read(at) == []
    assert at.value(f"{scope} limit 1") == "partial"
    assert sorted(read(at, reconcile=True)) == sorted(ids)
    assert at.value(f"{scope} limit 1") == "complete"
