"""Whatever happens to an account, the marts say what their definitions say."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import cache
from typing import TYPE_CHECKING, Any

import duckdb
import pytest

from . import reference
from .conftest import QUICK
from .histories import DAYS, START, drawn, tenant
from .raw import load, rows
from .reference import Settings

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from .conftest import Build
    from .reference import Row

ACCOUNTS = 700
ZONE = "Europe/Nicosia"
NAMES = ("crmcom_a", "crmcom_b", "crmcom_c")
BUCKETS = (2, 6, 9)
BEGIN, END = datetime.min, datetime.max  # noqa: DTZ901 - before and after all readings
VARS = {
    "crmcom_schema": list(NAMES),
    "crmcom_report_timezone": ZONE,
    "crmcom_ageing_buckets": BUCKETS,
}

KEYS = {
    "account_daily": "source_relation, account_id, date_day",
    "overdue_worklist": "source_relation, account_id",
    "collections_coverage": "source_relation, account_id",
    "balance_summary": "source_relation, currency_code, classification, state",
    "overdue_ageing": "source_relation, account_id, bucket",
    "balance_movement": (
        "source_relation, period, period_start_date, account_id, currency_code, measure"
    ),
    "overdue_kpis": "source_relation, period, period_start_date, currency_code",
    "credit_exposure": "source_relation, account_id",
    "activity_status": "source_relation, activity_id",
    "follow_up_summary": "source_relation, team_id, user_id, type_name",
    "contact_balances": "source_relation, contact_id, currency_code",
    "contact_360": "source_relation, contact_id",
    "data_anomalies": "source_relation, entity_type, entity_id, rule",
}
SHARES = ("utilisation", "overdue_ratio", "cure_rate", "sla")
QUICK_MARTS = ("account_daily", "overdue_worklist", "balance_summary")


@cache
def tenants() -> dict[str, dict[str, list[Row]]]:
    """1,050 histories; those of the second tenant are the wild ones, the third has none."""
    return {
        "crmcom_a": tenant(1, drawn(ACCOUNTS, wildly=False)),
        "crmcom_b": tenant(2, drawn(ACCOUNTS // 2, wildly=True)),
        "crmcom_c": {},
    }


def marts(database: Path, where: str = "true", names: Iterable[str] = KEYS) -> dict[str, list[Row]]:
    return {
        mart: rows(
            database, f"select * from crmcom_reports.{mart} where {where} order by {KEYS[mart]}"
        )
        for mart in names
    }


def expected(raw: dict[str, dict[str, list[Row]]], settings: Settings) -> dict[str, list[Row]]:
    told: dict[str, list[Row]] = {mart: [] for mart in KEYS}
    for name, tables in raw.items():
        for mart, found in reference.marts(name, tables, settings).items():
            told[mart] += found
    return told


def assert_as_expected(
    database: Path,
    told: dict[str, list[Row]],
    names: Iterable[str] = KEYS,
    source: Path | None = None,
) -> None:
    for mart in names:
        key = KEYS[mart].split(", ")
        wanted = {tuple(row[k] for k in key): row for row in told[mart]}
        assert len(wanted) == len(told[mart])
        found = rows(database, f"from crmcom_reports.{mart}", source)
        keys = [tuple(row[k] for k in key) for row in found]
        assert len(keys) == len(set(keys)), f"{mart} repeats a key"
        assert set(keys) == set(wanted), f"{mart} has other rows"
        for identity, row in zip(keys, found, strict=True):
            assert differences(row, wanted[identity]) == {}, (mart, identity)


def differences(got: Row, want: Row) -> dict[str, tuple[Any, Any]]:
    """The common columns that differ; a share of very unlike amounts has twelve right digits."""
    return {
        c: (got[c], want[c])
        for c in got.keys() & want.keys()
        if got[c] != want[c]
        and not (c == "utilisation" and abs(got[c] - want[c]) <= want[c] / 10**12)
    }


@pytest.fixture(scope="module")
def everything(build: Build, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All histories of all tenants, built at once."""
    database = tmp_path_factory.mktemp("everything") / "warehouse.duckdb"
    for name, raw in tenants().items():
        load(database, name, raw)
    build(database, vars=VARS)
    return database


def test_the_marts_are_what_their_definitions_say(everything: Path) -> None:
    """Gaps, nulls, credits, absences, returns, currencies, ties, clock changes, tenants."""
    assert_as_expected(everything, expected(tenants(), Settings(ZONE, BUCKETS)))


def test_histories_exercise_what_they_should(everything: Path) -> None:
    """A property that no history tests would hold of anything."""
    found = rows(
        everything,
        """
        select
            count(*) as days,
            count_if(not is_observed) as gaps,
            count_if(presence = 'missing') as missing,
            count_if(balance is null) as unknown,
            count_if(is_overdue_carried and is_observed) as nulls_carried,
            count_if(is_start_censored) as censored,
            count_if(days_overdue_max > days_overdue_min) as uncertain,
            count_if(overdue_net < overdue_gross) as capped,
            count_if(credit > 0) as credits,
            count(distinct currency_code) as currencies,
            count(distinct bucket) as buckets
        from crmcom_reports.account_daily
        """,
    )[0]
    found |= rows(
        everything,
        "select "
        + ", ".join(f"count_if({flow} <> 0) as {flow}" for flow in reference.FLOWS)
        + " from crmcom_reports.balance_movement where period = 'day'",
    )[0]
    found |= {
        f"{column} of {mart} is {value}": count
        for mart, column in (
            ("overdue_ageing", "bucket"),
            ("overdue_worklist", "queue"),
            ("collections_coverage", "status"),
            ("credit_exposure", "limit_status"),
            ("activity_status", "is_on_time"),
            ("activity_status", "is_history_known"),
            ("contact_360", "currencies"),
            ("data_anomalies", "rule"),
        )
        for value, count in (
            row.values()
            for row in rows(
                everything,
                f"select {column}, count(*) as times from crmcom_reports.{mart} group by all",
            )
        )
    }
    assert all(count > 3 for count in found.values()), found
    assert len(found) > 45, "some value of a column does not occur"


def load_what_came(database: Path, since: datetime, until: datetime) -> None:
    """The readings by the order of their loading, late ones among them; the rest comes first."""
    for name, raw in tenants().items():
        came = [r for r in raw.get("account_observations", ()) if since <= r["_synced_at"] < until]
        others = {t: rs for t, rs in raw.items() if t != "account_observations"}
        load(database, name, {"account_observations": came, **(others if since == BEGIN else {})})


def test_building_day_after_day_is_building_at_once(
    build: Build, everything: Path, tmp_path: Path
) -> None:
    database = tmp_path / "warehouse.duckdb"
    since = BEGIN
    for until in [START + timedelta(days=d) for d in (6, 11, 12)] + [END]:
        load_what_came(database, since, until)
        build(database, vars=VARS)
        since = until
    assert marts(database) == marts(everything)


@pytest.mark.parametrize("seed", [1, 2])
def test_any_split_of_the_history_builds_the_same(
    build: Build, everything: Path, tmp_path: Path, seed: int
) -> None:
    """Readings come in parts of any size and order, tenants at any time; account numbers change."""
    rng = random.Random(seed)
    database = tmp_path / "warehouse.duckdb"
    parts: list[dict[str, list[Row]]] = [{name: [] for name in NAMES} for _ in range(3)]
    for name, raw in tenants().items():
        starts = rng.choice([0, 0, 1])
        ends = sorted(rng.randrange(DAYS) for _ in parts[1:])
        for row in raw.get("account_observations", ()):
            day = (row["observed_at"] - START).days
            in_order = sum(day > end for end in ends)
            is_late = rng.random() < 0.02 * rng.choice([0, 1, 5])
            number = rng.randrange(3) if is_late else in_order
            parts[max(number, starts)][name].append(row)
    for number, part in enumerate(parts):
        for name, observed in part.items():
            raw = tenants()[name] if number == 0 else {}
            load(database, name, {**raw, "account_observations": observed})
            with duckdb.connect(database) as connection:
                connection.execute(
                    f"update {name}.accounts set number = 'N-' || id || "
                    f"case when {number} < 2 and hash(id) % 3 = {number} then '-old' else '' end"
                )
        build(database, vars=VARS, tests=False)
    assert marts(database) == marts(everything)


KILLED = """
import os, signal, sys
from pathlib import Path

from dbt.adapters.duckdb.connections import DuckDBConnectionManager as Connections

from crmcom_pipelines.transform import transform

begun = [0]
add_query = Connections.add_query


def add_query_or_die(self, sql, *args, **kwargs):
    begun[0] += "insert into" in sql and sys.argv[2] in sql
    if begun[0] == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
    return add_query(self, sql, *args, **kwargs)


Connections.add_query = add_query_or_die
transform(Path(sys.argv[1]), vars=eval(sys.argv[4]), tests=False)
"""


@pytest.mark.parametrize("is_first", [True, False])
def test_a_build_that_is_killed_anywhere_is_completed_by_the_next(
    build: Build, everything: Path, tmp_path: Path, is_first: bool
) -> None:
    """Once among the days of the accounts, once among those of their changes."""
    database = tmp_path / "warehouse.duckdb"
    cut = BEGIN if is_first else START + timedelta(days=12)
    if not is_first:
        load_what_came(database, BEGIN, cut)
        build(database, vars=VARS, tests=False)
    load_what_came(database, cut, END)
    for table, nth in (("account_daily", 3), ("account_changes", 2)):
        command = [sys.executable, "-c", KILLED, str(database), table, str(nth), repr(VARS)]
        assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
        # Takes in the log beside the file, which the builds of these tests move without it.
        duckdb.connect(database).close()
    build(database, vars=VARS)
    assert marts(database) == marts(everything)


def test_order_repetition_and_other_tenants_change_nothing(
    build: Build, everything: Path, tmp_path: Path
) -> None:
    database = tmp_path / "warehouse.duckdb"
    raw = {name: list(table) for name, table in tenants()["crmcom_a"].items()}
    raw["account_observations"] += random.Random(3).sample(raw["account_observations"], 300)
    random.Random(4).shuffle(raw["account_observations"])
    load(database, "crmcom_a", raw)
    build(database, vars=VARS, tests=False)
    assert marts(database) == marts(everything, where="source_relation = 'crmcom_a'")


def test_a_past_day_is_told_from_what_was_observed_by_then(
    build: Build, everything: Path, tmp_path: Path
) -> None:
    """In a file of its own, or in place; and the later days come back as they were."""
    settings = Settings(ZONE, BUCKETS, as_of=date(2026, 3, 29))
    told = expected(
        {
            name: {
                **raw,
                "account_observations": [
                    o
                    for o in raw.get("account_observations", ())
                    if settings.local_date(o["observed_at"]) <= settings.as_of
                ],
            }
            for name, raw in tenants().items()
        },
        settings,
    )
    past = {**VARS, "crmcom_as_of": settings.as_of}
    apart, in_place = tmp_path / "past.duckdb", tmp_path / "warehouse.duckdb"
    shutil.copy(everything, in_place)

    build(apart, source=everything, vars=past, tests=False)
    assert_as_expected(apart, told, source=everything)

    build(in_place, vars=past, **QUICK)
    assert_as_expected(in_place, told, QUICK_MARTS)
    build(in_place, vars=VARS, tests=False)
    assert marts(in_place) == marts(everything)


def test_what_was_loaded_later_was_not_known(build: Build, tmp_path: Path) -> None:
    known_at = START + timedelta(days=12, hours=6)
    database = tmp_path / "warehouse.duckdb"
    raw = tenants()["crmcom_a"]
    load(database, "crmcom", raw)
    build(database, vars={"crmcom_known_at": known_at}, tests=False)
    assert_as_expected(database, expected({"crmcom": raw}, Settings(known_at=known_at)))


def test_scaling_a_currency_scales_its_money_alone(build: Build, tmp_path: Path) -> None:
    """In every report: amounts grow, whatever is counted, shared, ranked or dated does not."""
    database = tmp_path / "warehouse.duckdb"
    raw = tenants()["crmcom_a"]
    amounts = ("balance", "overdue_amount", "credit_limit")
    # Four digits are kept of an amount: with more, rounding would tell the two apart.
    plain = [o | {c: reference.money(o[c]) for c in amounts} for o in raw["account_observations"]]
    scaled = [
        o | {c: o[c] * 3 for c in amounts if o[c] is not None and o["currency_code"] == "EUR"}
        for o in plain
    ]
    load(database, "crmcom_a", {**raw, "account_observations": plain})
    load(database, "crmcom_b", {**raw, "account_observations": scaled})
    build(database, vars=VARS, tests=False)
    before = marts(database, where="source_relation = 'crmcom_a'")
    after = marts(database, where="source_relation = 'crmcom_b'")
    for mart in KEYS:
        assert len(before[mart]) == len(after[mart]) > 0
        for was, now in zip(before[mart], after[mart], strict=True):
            factor = 3 if was.get("currency_code") == "EUR" else 1
            wanted = {
                column: value * factor
                if isinstance(value, Decimal) and column not in SHARES
                else value
                for column, value in was.items()
            }
            assert differences(now, wanted | {"source_relation": "crmcom_b"}) == {}, mart


def test_a_reading_that_repeats_the_last_one_adds_only_certainty(
    build: Build, everything: Path, tmp_path: Path
) -> None:
    """Without it no amount differs, only the flags and how old a debt can be at most."""
    database = tmp_path / "warehouse.duckdb"
    rng = random.Random(5)
    facts = ("state", "currency_code", "classification__name", "contact_id", "credit_limit")
    kept: list[Row] = []
    last_of: dict[str, Row] = {}
    dropped = 0
    ordered = sorted(
        tenants()["crmcom_a"]["account_observations"], key=lambda o: (o["observed_at"], o["run_id"])
    )
    end = max(o["observed_at"] for o in ordered)
    for observation in ordered:
        last = last_of.get(observation["account_id"])
        compared = (*facts, "balance", "overdue_amount", "is_missing")
        if (
            last
            and all(observation[c] == last[c] for c in compared)
            and None not in (observation["balance"], observation["overdue_amount"])
            and observation["observed_at"] < end
            and rng.random() < 0.5
        ):
            dropped += 1
            continue
        last_of[observation["account_id"]] = observation
        kept.append(observation)
    assert dropped > 100
    load(database, "crmcom_a", {**tenants()["crmcom_a"], "account_observations": kept})
    build(database, vars=VARS, tests=False)
    certainty = {
        *("is_observed", "last_observed_date", "days_since_observed", "gap_days"),
        *("is_balance_carried", "is_overdue_carried", "carried_accounts"),
        *("last_not_overdue_date", "days_overdue_max", "detail"),
    }
    before = marts(everything, where="source_relation = 'crmcom_a'")
    after = marts(database)
    for mart in KEYS:
        assert len(before[mart]) == len(after[mart]) > 0
        for was, now in zip(before[mart], after[mart], strict=True):
            assert differences(now, was).keys() <= certainty, mart


def test_one_more_day_without_data_adds_one_to_both_ages(
    build: Build, everything: Path, tmp_path: Path
) -> None:
    database = tmp_path / "warehouse.duckdb"
    shutil.copy(everything, database)
    ages = "select as_of_date, account_id, days_overdue_min, days_overdue_max"
    ages += " from crmcom_reports.overdue_worklist"
    ages += " where source_relation = 'crmcom_a' order by all"
    before = rows(database, ages)
    tomorrow = before[0]["as_of_date"] + timedelta(days=1)
    build(database, vars={**VARS, "crmcom_as_of": tomorrow}, **QUICK)
    older = [
        {
            **row,
            "as_of_date": tomorrow,
            "days_overdue_min": row["days_overdue_min"] + 1,
            "days_overdue_max": row["days_overdue_max"] and row["days_overdue_max"] + 1,
        }
        for row in before
    ]
    assert rows(database, ages) == older
