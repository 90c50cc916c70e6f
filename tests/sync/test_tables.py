"""What stands in DuckDB after a sync: tables, types, ledger, times; and what is said meanwhile."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import duckdb
import pytest

from crmcom_sandbox import LIVE, World, serve_process

from . import worlds

KILLED = Path(__file__).with_name("killed.py")

RECORDS = {
    "contacts": 13,
    "accounts": 21,
    "activities": 33,
    "contact_custom_fields": 4,
    "contact_tags": 5,
    "activity_custom_fields": 4,
    "activity_tags": 5,
    "activity_states": 4,
    "account_observations": 12,
    "activity_versions": 11,
    "_sync_runs": 11,
    "_sync_windows": 13,
    "_rejects": 6,
}


def test_every_table_is_there_after_the_first_load_of_an_empty_server(warehouse):
    """With its documented columns and types: no zone, no float, no text that is a flag; and a
    second run of nothing changes nothing."""
    at = warehouse(World())
    for _ in range(2):
        outcome = at.sync()
        assert {n: r.verdict for n, r in outcome.resources.items()} == dict.fromkeys(
            ("contacts", "accounts", "activities"), "proven"
        )
    have = {}
    for table, column, kind in at.query(
        "select table_name, column_name, data_type from duckdb_columns() "
        "where schema_name = 'crmcom' and not starts_with(table_name, '_dlt')"
    ):
        have.setdefault(table, {})[column] = kind
    own = {"_synced_at", "_deleted_at", "_dlt_load_id", "_gone"}
    assert {t: len(columns.keys() - own) for t, columns in have.items()} == RECORDS
    assert all("_synced_at" in columns for columns in have.values())
    kinds = {k for columns in have.values() for k in columns.values()}
    assert kinds == {"VARCHAR", "BOOLEAN", "BIGINT", "TIMESTAMP", "DECIMAL(38,9)"}
    assert have["accounts"]["is_primary"] == "BOOLEAN"
    assert have["accounts"]["balance"] == have["activities"]["address__lat"] == "DECIMAL(38,9)"
    assert have["activities"]["key_dates__created_on"] == "TIMESTAMP"
    assert at.value("select count(*) from duckdb_schemas() where schema_name = 'crmcom_load'") == 0


def test_the_ledger_tells_what_was_asked_and_what_came(warehouse):
    at = warehouse(worlds.small())
    outcome = at.sync()
    now = at.world.clock.now().replace(tzinfo=None)
    runs = at.rows("from crmcom._sync_runs order by resource")
    assert [
        {k: r[k] for k in ("run_id", "resource", "scope", "verdict", "reason", "rejected")}
        for r in runs
    ] == [
        {
            "run_id": outcome.run_id,
            "resource": name,
            "scope": "complete",
            "verdict": "proven",
            "reason": None,
            "rejected": 0,
        }
        for name in ("accounts", "activities", "contacts")
    ]
    assert {r["started_at"] for r in runs} == {r["finished_at"] for r in runs} == {now}
    assert [r["rows"] for r in runs] == [len(at.world.accounts), 90, 30]
    assert sum(r["requests"] for r in runs) == sum(at.server.sandbox.counters.requests.values())
    windows = at.rows("from crmcom._sync_windows order by resource, position")
    end = now - timedelta(seconds=120)
    assert [
        (w["resource"], w["listed"], w["window_start"], w["window_end"], w["verdict"])
        for w in windows
    ] == [
        (name, *asked, "proven")
        for name in ("activities", "contacts")
        for asked in (("created_on", None, end), ("latest", end, None))
    ]
    assert [w["distinct_ids"] for w in windows] == [90, 0, 30, 0]
    stamps = at.query("select distinct _synced_at from crmcom.contacts")
    assert stamps == [(now,)]


def test_a_field_that_changes_its_type_between_loads_loses_no_value(warehouse):
    """Nor does a field whose name another one already took, nor one that a table reserves."""
    world = World()
    contact = world.create_contact(created_on=world.clock.epoch() - 3600)
    at = warehouse(world)
    world.edit("contacts", contact, score=5, _synced_at="mine", _gone=True, _dlt_id="x", Code="C")
    world.edit("contacts", contact, contact_id="c", ключ="v", ключи="w", Score="S")
    at.sync()
    assert at.differences(kinds=("accounts",)) == []
    first = at.rows("from crmcom.contacts")[0]
    kept = {k: v for k, v in first.items() if v is not None and k not in ("id", "_dlt_load_id")}
    assert kept.pop("_synced_at") == world.clock.now().replace(tzinfo=None)
    assert kept.pop("score") == Decimal(5)
    assert kept.pop("synced_at") == "mine"
    assert kept.pop("dlt_id") == "x"
    assert kept.pop("gone") is True
    assert sorted(kept.values()) == ["C", "S", "c", "v", "w"]
    world.clock.move(timedelta(minutes=10))
    world.edit("contacts", contact, score="high", _gone="no")
    world.edit("contacts", world.create_contact(), score=Decimal("2.75"))
    world.clock.move(timedelta(minutes=10))
    at.sync()
    assert at.query(
        "select score, score__v_text, gone, gone__v_text from crmcom.contacts order by score"
    ) == [(Decimal("2.75"), None, None, None), (None, "high", None, "no")]
    names = [r[0] for r in at.query("select column_name from (describe crmcom.contacts)")]
    assert set(first) <= set(names)


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Kathmandu"])
def test_the_hosts_zone_and_clock_change_nothing_and_nothing_is_said(tmp_path, zone):
    """Times are the server's, UTC; a run that goes well writes nothing to stderr, but for the
    clocks where they are far apart."""
    now = datetime.now(UTC) + (timedelta(days=800) if zone.startswith("Asia") else timedelta(0))
    options = ["--contacts", "20", "--activities", "40", "--behaviour", "live"]
    with serve_process(*options, "--now", now.isoformat(), "--frozen") as server:
        database = tmp_path / "warehouse.duckdb"
        command = [sys.executable, "-W", "error", str(KILLED), server.base_url, server.api_key]
        done = subprocess.run(
            [*command, str(database), "plain"],
            env={**os.environ, "TZ": zone},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stdout
    if zone.startswith("Asia"):
        assert done.stderr.count("\n") == 1
        assert "clock" in done.stderr
    else:
        assert done.stderr == ""
    import duckdb  # noqa: PLC0415

    with duckdb.connect(str(database), read_only=True) as con:
        wanted = now.replace(tzinfo=None, microsecond=0)
        for column, table in (
            ("_synced_at", "contacts"),
            ("observed_at", "account_observations"),
            ("observed_at", "activity_versions"),
            ("finished_at", "_sync_runs"),
        ):
            assert con.execute(f"select distinct {column} from crmcom.{table}").fetchall() == [
                (wanted,)
            ]
        assert con.execute("select max(window_end) from crmcom._sync_windows").fetchall() == [
            (wanted - timedelta(seconds=120),)
        ]


def test_a_clock_that_is_set_back_makes_no_row_older(warehouse):
    """What is loaded later is stamped later, and no window ends before it begins."""
    at = warehouse(worlds.small(contacts=5, activities=10), LIVE)
    at.sync()
    before = at.value("select max(_synced_at) from crmcom.accounts")
    at.world.clock.move(timedelta(days=-3))
    at.sync()
    assert at.value("select min(_synced_at) from crmcom.accounts") > before
    at.world.clock.move(timedelta(days=4))
    fresh = at.world.create_contact()
    at.world.create_account(fresh)
    at.world.clock.move(timedelta(minutes=10))
    at.sync()
    assert at.differences() == []


def test_a_budget_reads_so_many_accounts_the_indebted_first(warehouse):
    """Then what has changed, then the stalest; each has its turn. More in test_refresh.py."""
    world = worlds.small(contacts=12, activities=5)
    at = warehouse(world, account_refresh=7)
    at.sync()
    assert 7 < len(world.accounts) <= 14
    for account in world.accounts:
        world.set_balance(account.id, "1", "0")
    for _ in range(4):
        world.clock.move(timedelta(minutes=10))
        outcome = at.sync()
        assert at.server.sandbox.counters.requests["GET /accounts/{id}"] == 7
        assert outcome.resources["accounts"].scope == "partial"
    assert at.differences() == []
    # Of those with a debt that the warehouse knows of, none waits for its turn.
    poor = at.query("select id from crmcom.accounts order by _synced_at, id limit 1")[0][0]
    for amount in ("10", "20", "30"):
        world.set_balance(poor, amount, amount)
        world.clock.move(timedelta(minutes=10))
        at.sync()
        assert at.value(f"select balance from crmcom.accounts where id = '{poor}'") == int(amount)


def test_wide_rows_load_though_duckdb_gets_little_memory(warehouse):
    """150 MB in one load, and once more where they are known: 128 MB did not do."""
    world = World.generate(seed=3, contacts=5, activities=1_500)
    for record in list(world.activities):
        world.edit("activities", record.id, description=world.random.randbytes(50_000).hex())
    at = warehouse(world)
    at.sync()
    assert at.value("select min(len(description)) from crmcom.activities") == 100_000
    assert at.sync().resources["activities"].verdict == "proven"


def test_an_account_that_a_killed_load_marked_and_that_is_back_is_observed_once(warehouse):
    """As it is now, and not as missing too: a load that held both would keep either, or both."""
    at = warehouse(worlds.small())
    at.sync()
    account_id = at.value("select min(id) from crmcom.accounts")
    at.database.chmod(0o644)
    with duckdb.connect(str(at.database)) as killed:  # after `accounts`, before the observations
        killed.execute(
            "update crmcom.accounts set _deleted_at = _synced_at,"
            " _synced_at = _synced_at + interval 1 microsecond where id = ?",
            [account_id],
        )
    run_id = at.sync(reconcile=True).run_id
    assert at.query(
        "select is_missing from crmcom.account_observations"
        f" where account_id = '{account_id}' and run_id = '{run_id}'"
    ) == [(False,)]
