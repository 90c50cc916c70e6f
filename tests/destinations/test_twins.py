"""A life in each destination: what is told of it is what a DuckDB file tells."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from click.testing import CliRunner

from crmcom_pipelines.cli import main
from crmcom_pipelines.marts import QUESTIONS
from crmcom_sandbox import World, serve

from ..sync import worlds
from .claims import DESTINATIONS

DAY = 86_400
FIELDS = {
    "vip": "boolean",
    "points": "decimal",
    "visits": "integer",
    "born_on": "date",
    "seen_at": {"key": "Seen at", "type": "timestamp"},
}
VARS = {
    "crmcom_report_timezone": "Europe/Nicosia",
    "crmcom_custom_fields": {"contacts": FIELDS},
}
VALUES = (
    ("yes", "1e3", "12.0", "2024-02-29", "2024-01-31T10:00:00+02:00"),
    ("no", "NaN", "12.5", "2023-02-29", "2024-01-31 10:00:00.1234567"),
    ("maybe", "1,5", "99999999999999999999", "today", "soon"),
    (" T ", "123456789012345678901234567890", "-0", "2024-1-31 25:00", "31.01.2024"),
    ("0", ".5", "0x1F", "20240131", "now"),
    ("1", "5.", "1e2", "2024/01/31", "2024-01-31T10:00Z"),
)


@pytest.fixture(scope="module")
def triplets(place):
    """One world, synced into each on two days, with three between them; the second build goes on
    from the first."""
    world = worlds.odd()
    now = world.clock.epoch()
    for values in VALUES:
        keys = ("vip", "points", "visits", "born_on", "Seen at")
        fields = [{"key": k, "value": v} for k, v in zip(keys, values, strict=True)]
        contact = world.create_contact(created_on=now - 3 * DAY, custom_fields=fields)
        # Equal debts are put in order by their ids, capitals before small letters.
        for i in "aB":
            world.create_account(
                contact,
                id=f"{i}{values[0].strip()}",
                created_on=now - 3 * DAY,
                currency_code="EUR",
                balance=Decimal(77),
                overdue_amount=Decimal(77),
            )
    with serve(world, behaviour="live") as server:
        # Under one name: a table is as wide as the names in it.
        each = {d: place(d, server, dataset="crmcom") for d in DESTINATIONS}
        for day in range(2):
            for one in each.values():
                one.sync(transform=True, vars=VARS)
            for _ in range(3 if day == 0 else 0):
                world.pass_business_day()
        yield each


@pytest.fixture(params=DESTINATIONS[1:])
def twins(triplets, request):
    """The DuckDB file, and another destination."""
    return triplets["duckdb"], triplets[request.param]


@pytest.mark.timeout(900)
def test_the_marts_are_the_same_row_by_row(twins):
    """Amounts, dates, ratios and texts, of all marts, and of fields that became columns."""
    for name in (*QUESTIONS, "contact_custom_fields"):
        theirs, ours = (
            sorted(map(repr, one.query(f"select * from crmcom_reports.{name}"))) for one in twins
        )
        assert theirs == ours, name
        assert ours, name


def called(place, command, *args):
    where = ["--destination", place.destination, "--database", str(place.database)]
    result = CliRunner().invoke(main, [command, *args, *where])
    assert result.exit_code == 0, result.output
    return result.stdout_bytes


# What is read from a lake goes through a file as it is; a server's types are another's.
REPORTS = [
    *(("postgres", name) for name in (*QUESTIONS, "contact_custom_fields")),
    *(("ducklake", name) for name in ("overdue_worklist", "contact_custom_fields")),
]


@pytest.mark.parametrize(("twins", "name"), REPORTS, indirect=["twins"])
def test_a_report_is_the_same_to_the_byte(twins, name):
    for file_format in ("csv", "table"):
        theirs, ours = (called(one, "report", name, "--format", file_format) for one in twins)
        assert theirs == ours


def test_a_page_is_the_same(twins, tmp_path):
    """With figures, trend, anomalies, what each column means, and when the runs were."""
    pages = []
    for one in twins:
        out = tmp_path / f"{one.destination}.html"
        called(one, "report", "overdue", "--format", "html", "--output", str(out))
        lines = out.read_text().splitlines()
        its_own = ("generator", "made at", "Page made")
        pages.append([line for line in lines if not any(word in line for word in its_own)])
    assert pages[0] == pages[1]


def test_a_past_day_is_the_same(twins):
    """Worked out anew from what was observed, in a file of its own."""
    day = twins[0].query("select min(date_day) as day from crmcom_reports.account_daily")[0]["day"]
    args = ("balances", "--format", "csv", "--as-of", str(day))
    theirs, ours = (called(one, "report", *args) for one in twins)
    assert theirs == ours
    assert str(day).encode() in ours


def test_the_ledger_says_the_same(twins):
    """Of runs, tables and one record; but for the runs' own ids and times."""
    statuses = [json.loads(called(one, "status", "--json")) for one in twins]
    for part in ("bookmarks", "freshness", "rows", "open", "held_back", "may_miss"):
        assert statuses[0][part] == statuses[1][part]
    assert statuses[1]["database"].startswith(("postgresql://", "ducklake:postgresql://"))
    assert "ago" in called(twins[1], "status").decode()
    account = twins[0].query("select min(id) as id from crmcom.accounts")[0]["id"]
    theirs, ours = (
        json.loads(called(one, "explain", "account", account, "--json")) for one in twins
    )
    assert theirs["row"].keys() == ours["row"].keys()
    own = theirs["row"].keys() - {"_dlt_load_id"}
    assert {k: theirs["row"][k] for k in own} == {k: ours["row"][k] for k in own}
    assert len(theirs["history"]) == len(ours["history"]) > 0


@pytest.mark.parametrize("destination", DESTINATIONS[1:])
def test_a_plan_says_nothing_but_the_plan(place, destination):
    """Neither dlt, which finds another class of destination than it has on record."""
    world = World.generate(contacts=3, activities=3, now=datetime.now(UTC))
    with serve(world, behaviour="live") as server:
        there = place(destination, server)
        there.sync()
        code = "from crmcom_pipelines.cli import main; main()"
        where = ("--destination", destination, "--dataset", there.dataset)
        found = subprocess.run(
            [sys.executable, "-c", code, "plan", *where, "--base-url", server.base_url],
            cwd=there.folder,
            env=os.environ | {"SOURCES__CRMCOM__API_KEY": server.api_key},
            capture_output=True,
            text=True,
            check=True,
        )
    assert found.stderr == ""
    assert "contacts: incremental" in found.stdout
