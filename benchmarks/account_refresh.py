"""A year under `account_refresh = N`, beside a plain round-robin: `make bench-refresh`.

Asks and chooses with the source's own `crmcom.refresh`, in DuckDB. Writes docs/account-refresh.svg
and the figures of docs/account-refresh.md. The same seed always gives the same figures.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import altair as alt
import duckdb
import numpy as np
import pandas as pd

from crmcom.refresh import KINDS, Kind, Known, choose, question

DOCS = Path(__file__).parent.parent / "docs"
ACCOUNTS = 20_000
DAYS = 365
WARM_UP = 60
"""Days before the year, so that it does not begin with everything just read."""
START = datetime(2025, 1, 1, 5, 15)  # noqa: DTZ001 - as the warehouse holds times
Choose = Callable[[list[Known], int, datetime], list[str]]
Money = np.ndarray
"""Cents, a row for each day and a column for each account."""


def world(seed: int = 1) -> tuple[Money, Money]:
    """Balances and overdue amounts, as CRM.COM would show them at each day's run."""
    random = np.random.default_rng(seed)
    days = DAYS + WARM_UP
    changes = np.zeros((2, days + 1, ACCOUNTS), np.int64)
    # 57 % are quiet, 33 % are billed monthly, 3 % are and mostly pay late, 5 % move every day,
    # 2 % owe an old debt that never moves.
    kind = random.choice(5, ACCOUNTS, p=(0.57, 0.33, 0.03, 0.05, 0.02))
    quiet, daily, chronic = (np.flatnonzero(kind == k) for k in (0, 3, 4))
    billed = np.flatnonzero((kind == 1) | (kind == 2))
    usual = np.exp(random.normal(4, 1, ACCOUNTS)) * 100

    def owe(who: Money, cents: Money, since: Money, due: Money, until: Money) -> None:
        """A debt that is owed from `since`, overdue from `due`, and gone on `until`."""
        for change, begin in zip(changes, (since, np.maximum(since, due)), strict=True):
            first, last = np.clip(begin, 0, days), np.clip(until, 0, days)
            real = first < last
            np.add.at(change, (first[real], who[real]), cents[real])
            np.add.at(change, (last[real], who[real]), -cents[real])

    day_of_bill = random.choice((1, 5, 10, 15, 20, 28), ACCOUNTS, p=(0.4, 0.1, 0.1, 0.2, 0.1, 0.1))
    is_slow = kind[billed] == 2
    for month in range(-4, days // 30 + 1):
        since = int(month * 365 / 12) + day_of_bill[billed]
        due = since + 14
        is_late = random.random(billed.size) < np.where(is_slow, 0.8, 0.17)
        late = 1 + random.exponential(np.where(is_slow, 25, 9)).astype(int)
        early = random.integers(0, 14, billed.size)
        cents = (usual[billed] * random.uniform(0.7, 1.4, billed.size)).astype(int)
        owe(billed, cents, since, due, due + np.where(is_late, late, -early))
    never = np.zeros(chronic.size, int)
    owe(chronic, (3 * usual[chronic]).astype(int), never, never, never + days)
    # Out of nowhere: a chargeback, say, on an account that nothing had happened to. 8 a day.
    size = random.poisson(ACCOUNTS * 0.0004 * days)
    since = random.integers(0, days, size)
    until = since + 2 + random.exponential(20, size).astype(int)
    cents = (np.exp(random.normal(4.5, 1, size)) * 100).astype(int)
    owe(random.choice(quiet, size), cents, since, since, until)

    balance, overdue = changes.cumsum(1)[:, :days]
    balance[:, daily] += random.normal(0, 500, (days, daily.size)).astype(int).cumsum(0)
    return balance, overdue


class Warehouse:
    """The three tables that `question` reads, with what a year's runs have read."""

    def __init__(self, balance: Money, overdue: Money) -> None:
        self.ids = [f"{n:05}" for n in range(ACCOUNTS)]
        self.db = duckdb.connect()
        self.db.execute(
            "create table accounts (id text primary key, state text, currency_code text,"
            " balance bigint, overdue_amount bigint, _synced_at timestamp, _deleted_at timestamp);"
            "create table observations (account_id text, state text, currency_code text,"
            " balance bigint, overdue_amount bigint, _synced_at timestamp);"
            "create table rejects (record_id text, resource text, _synced_at timestamp)"
        )
        self.read(range(ACCOUNTS), balance, overdue, START)

    def read(self, who: range | list[int], balance: Money, overdue: Money, at: datetime) -> None:
        rows = pd.DataFrame(
            {
                "id": [self.ids[n] for n in who],
                "state": "ACTIVE",
                "currency_code": "EUR",
                "balance": balance[who],
                "overdue_amount": overdue[who],
                "_synced_at": at,
            }
        )
        self.db.register("rows", rows)
        self.db.execute("insert or replace into accounts select *, null from rows")
        self.db.execute("insert into observations select * from rows")

    def known(self, now: datetime) -> list[Known]:
        found = self.db.execute(question("accounts", "observations", "rejects", now)).fetchall()
        return [Known(i, KINDS[kind], at) for i, kind, at in found]


def round_robin(accounts: list[Known], budget: int, now: datetime) -> list[str]:
    """The stalest first, whatever they are."""
    return choose([a._replace(kind=Kind.QUIET) for a in accounts], budget, now)


def strictly(accounts: list[Known], budget: int, _now: datetime) -> list[str]:
    """All that is overdue, whatever it costs the others; then what changed; then the stalest."""
    order = sorted(accounts, key=lambda a: (min(a.kind, Kind.WITH_BALANCE), a.tried_at, a.id))
    return [a.id for a in order[:budget]]


WAYS: dict[str, Choose] = {
    "account_refresh": choose,
    "round-robin": round_robin,
    "strictly overdue first": strictly,
}


@dataclass(frozen=True)
class Year:
    """One figure for each day; shares of the true overdue total in percent."""

    strays: Money
    """Known total less the true one."""
    differs: Money
    """The same account by account, all differences added up."""
    found: Money
    """Of the overdue accounts, how many are known to be."""
    wrong: Money
    """Of those known to be overdue, how many no longer are."""
    age: Money
    """Mean age of a reading, in days."""


def year(way: str, share: float, balance: Money, overdue: Money) -> Year:
    budget, warehouse = int(ACCOUNTS * share), Warehouse(balance[0], overdue[0])
    known, read_on = overdue[0].copy(), np.zeros(ACCOUNTS, int)
    figures = []
    for day in range(1, len(overdue)):
        now, true = START + timedelta(days=day), overdue[day]
        who = sorted(map(int, WAYS[way](warehouse.known(now), budget, now)))
        assert len(set(who)) == len(who) == budget
        warehouse.read(who, balance[day], true, now)
        known[who], read_on[who] = true[who], day
        total, is_known, is_true = true.sum() / 100, known > 0, true > 0
        figures.append(
            (
                (known.sum() - true.sum()) / total,
                np.abs(known - true).sum() / total,
                100 * (is_known & is_true).sum() / is_true.sum(),
                100 * (is_known & ~is_true).sum() / is_known.sum(),
                (day - read_on).mean(),
            )
        )
    return Year(*np.array(figures[WARM_UP - 1 :]).T)


# --- the page ---


def table(years: dict[tuple[str, float], Year]) -> str:
    headings = ("budget", "order", "total off: mean", "p95", "worst")
    headings += ("account by account", "found", "wrong", "mean age")
    lines = [f"| {' | '.join(headings)} |", "|---" * len(headings) + "|"]
    for (way, share), one in years.items():
        off = np.abs(one.strays)
        percents = (off.mean(), np.quantile(off, 0.95), off.max(), one.differs.mean())
        percents += (one.found.mean(), one.wrong.mean())
        cells = " | ".join(f"{p:.1f} %" for p in percents)
        lines.append(f"| {share:.0%} | {way} | {cells} | {one.age.mean():.1f} days |")
    return "\n".join(lines)


def plot(years: dict[str, Year]) -> alt.VConcatChart:
    rows = pd.concat(
        pd.DataFrame({"order": way, "day": range(1, DAYS + 1)} | vars(one))
        for way, one in years.items()
    )
    colour = alt.Color(
        "order:N",
        title=None,
        sort=list(years),
        scale=alt.Scale(range=["#0b6e4f", "#d1660a"]),
        legend=alt.Legend(orient="top", labelFontSize=13, symbolStrokeWidth=3, symbolSize=300),
    )

    def panel(column: str, title: str, height: int) -> alt.Chart:
        return (
            alt.Chart(rows, title=alt.Title(title, anchor="start", fontSize=13))
            .mark_line(strokeWidth=1.6)
            .encode(
                alt.X("day:Q", title="day of the year", scale=alt.Scale(domain=[0, DAYS])),
                alt.Y(f"{column}:Q", title="% of the true total"),
                colour,
            )
            .properties(width=720, height=height)
        )

    zero = alt.Chart(pd.DataFrame({"y": [0]})).mark_rule(color="#888").encode(y="y:Q")
    return (
        alt.vconcat(
            zero + panel("strays", "The known overdue total, above or below the true one", 200),
            panel("differs", "Account by account: all that is known wrongly, added up", 150),
        )
        .properties(
            background="white",
            padding=12,
            title=alt.Title(
                f"{ACCOUNTS:,} accounts, 5 % of them read each day",
                anchor="start",
                fontSize=16,
                offset=10,
            ),
        )
        .configure_axis(labelFontSize=11, titleFontSize=12, gridColor="#e6e6e6")
    )


def main() -> None:
    balance, overdue = world()
    asked = [(way, 0.05) for way in WAYS]
    asked += [(way, share) for share in (0.02, 0.1, 0.2) for way in list(WAYS)[:2]]
    years = {}
    for way, share in asked:
        years[way, share] = year(way, share, balance, overdue)
        print(table({(way, share): years[way, share]}).splitlines()[-1], flush=True)
    plot({way: years[way, 0.05] for way in list(WAYS)[:2]}).save(str(DOCS / "account-refresh.svg"))
    page = DOCS / "account-refresh.md"
    is_overdue = (overdue[WARM_UP:] > 0).mean(1) * 100
    written = f"""<!-- figures: written by `make bench-refresh` -->
{table(years)}

On a day of that year {is_overdue.min():.1f} % to {is_overdue.max():.1f} % are overdue.
<!-- end of figures -->"""
    text = page.read_text()
    page.write_text(
        re.sub(r"<!-- figures.*end of figures -->", lambda _: written, text, flags=re.DOTALL)
    )


if __name__ == "__main__":
    main()
