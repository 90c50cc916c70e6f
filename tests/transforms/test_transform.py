"""What who runs the transforms is promised."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pytest

from crmcom_pipelines.marts import QUESTIONS
from crmcom_pipelines.transform import transform
from crmcom_transforms import PROJECT_DIR

from .conftest import QUICK
from .raw import TABLES, load, rows

if TYPE_CHECKING:
    from .conftest import Build

DAY = datetime(2026, 3, 10, 9)  # noqa: DTZ001 - the warehouse's timestamps are naive UTC
MARTS = tuple(QUESTIONS)


def reading(account: str, day: int, **fields: object) -> dict[str, object]:
    moment = DAY + timedelta(days=day)
    return {
        "account_id": account,
        "contact_id": "anna",
        "run_id": f"run-{moment:%Y%m%d}",
        "observed_at": moment,
        "_synced_at": moment,
        "state": "ACTIVE",
        "currency_code": "EUR",
        "balance": Decimal(100),
        "overdue_amount": Decimal(40),
        "is_missing": False,
        **fields,
    }


def fabricate(database: Path) -> Path:
    load(
        database,
        "crmcom",
        {
            "accounts": [{"id": "one", "number": "N-1", "_synced_at": DAY}],
            "contacts": [{"id": "anna", "first_name": "Anna", "last_name": " ", "name": ""}],
            "account_observations": [reading("one", 0), reading("one", 1)],
        },
    )
    return database


@pytest.fixture
def warehouse(tmp_path: Path) -> Path:
    """One account, overdue on two days, not built yet."""
    return fabricate(tmp_path / "warehouse.work.duckdb")


@pytest.fixture(scope="module")
def built(build: Build, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, built; for tests that leave it as it is."""
    database = fabricate(tmp_path_factory.mktemp("built") / "warehouse.work.duckdb")
    build(database)
    return database


@pytest.fixture
def copy(built: Path, tmp_path: Path) -> Path:
    """The same, built; for tests that do not."""
    return Path(shutil.copy(built, tmp_path))


def test_an_empty_warehouse_has_empty_reports(build: Build, tmp_path: Path) -> None:
    """Nothing was ever loaded: not even the tables are there."""
    database = tmp_path / "warehouse.duckdb"
    build(database)
    for mart in MARTS:
        assert rows(database, f"from crmcom_reports.{mart}") == []


def test_tables_without_rows_have_empty_reports(build: Build, tmp_path: Path) -> None:
    database = tmp_path / "warehouse.duckdb"
    load(database, "crmcom", {})
    build(database)
    for mart in MARTS:
        assert rows(database, f"from crmcom_reports.{mart}") == []


def test_a_build_shows_who_owes_what(built: Path) -> None:
    (row,) = rows(built, "from crmcom_reports.overdue_worklist")
    assert row["contact_name"] == "Anna"
    assert row["overdue_gross"] == Decimal(40)
    assert row["days_overdue_min"] == 2


def test_a_build_says_what_it_did(build: Build, copy: Path) -> None:
    result = build(copy)
    assert {node.kind for node in result.nodes} >= {"model", "test"}
    assert re.fullmatch(r"\d+ models built and \d+ tests passed in \d+\.\d s", result.summary)


def test_everything_is_readable_under_any_name(copy: Path) -> None:
    """Renamed, opened read-only, attached under an alias, beside another such file."""
    renamed = copy.rename(copy.with_name("another name.duckdb"))
    readable = """
        select table_schema || '."' || table_name || '"'
        from information_schema.tables
        where table_schema like 'crmcom%' and table_catalog = current_database()
    """
    with duckdb.connect(renamed, read_only=True) as connection:
        names = [name for (name,) in connection.execute(readable).fetchall()]
        assert len(names) > len(TABLES) * 2
        for name in names:
            connection.execute(f"select * from {name}").fetchall()
        counts = {n: connection.execute(f"select count(*) from {n}").fetchone() for n in names}
    with duckdb.connect() as connection:
        connection.execute("create schema crmcom; create table crmcom.accounts (id varchar)")
        connection.execute(f"attach '{renamed}' as mine (read_only)")
        for name in names:
            found = connection.execute(f"select count(*) from mine.{name}").fetchone()
            assert found == counts[name], name


def test_the_reports_explain_themselves(built: Path) -> None:
    """Descriptions travel in the file, where an analyst's tools show them."""
    found = rows(
        built,
        "select table_name, column_name, comment from duckdb_columns()"
        " where schema_name = 'crmcom_reports'",
    )
    assert found
    assert [f for f in found if not f["comment"]] == []


def test_a_failing_test_is_told_with_its_rows(
    attempt: Build, copy: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with duckdb.connect(copy) as connection:
        connection.execute("update crmcom_reports.account_daily set balance = 99")
    result = attempt(copy)
    assert not result.ok
    assert result.error is None
    assert "test latest_report_is_the_latest_reading failed with 1 row" in result.summary
    assert "account_id=one" in result.summary
    assert "balance=99.0000" in result.summary
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "change",
    [
        "delete from {changes}",
        "update {changes} set balance = 90",
        "update {changes} set currency_before = 'EUR', overdue_before = 5",
        # A day on which nothing moved.
        "insert into {changes} from (select * replace (date_day + 1 as date_day) from {changes})",
    ],
)
def test_a_movement_that_does_not_lead_from_day_to_day_is_found(
    attempt: Build, copy: Path, change: str
) -> None:
    changes = "crmcom_intermediate.int_crmcom__account_changes"
    with duckdb.connect(copy) as connection:
        connection.execute(change.format(changes=changes))
    result = attempt(copy, select=["movements_lead_from_day_to_day"])
    assert [node.status for node in result.nodes] == ["fail"]


def test_a_model_that_cannot_run_is_told_with_its_cause(attempt: Build, warehouse: Path) -> None:
    with duckdb.connect(warehouse) as connection:
        connection.execute("alter table crmcom.account_observations alter observed_at type varchar")
        connection.execute("update crmcom.account_observations set observed_at = 'yesterday'")
    result = attempt(warehouse)
    assert not result.ok
    assert "could not run" in result.summary
    assert "yesterday" in result.summary
    assert "were skipped" in result.summary


def test_a_variable_that_makes_no_sense_is_told(warehouse: Path) -> None:
    result = transform(
        warehouse, vars={"crmcom_balance_sign": "sideways"}, work_dir=warehouse.parent / "dbt"
    )
    assert not result.ok
    assert "crmcom_balance_sign is 'positive'" in result.summary


def test_a_file_that_another_process_holds_is_told(warehouse: Path) -> None:
    hold = "import duckdb, sys, time; c = duckdb.connect(sys.argv[1]); print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(warehouse)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout
        assert holder.stdin
        holder.stdout.readline()
        result = transform(warehouse, work_dir=warehouse.parent / "dbt")
        holder.stdin.close()
    assert not result.ok
    assert "lock" in result.summary.lower()


def test_a_change_of_variables_rebuilds_history(build: Build, warehouse: Path) -> None:
    ages = "select bucket from crmcom_reports.account_daily order by date_day"
    load(warehouse, "crmcom", {"account_observations": [reading("one", -1, overdue_amount=0)]})
    build(warehouse, **QUICK)
    assert [r["bucket"] for r in rows(warehouse, ages)] == [None, "1-30", "1-30"]
    build(warehouse, vars={"crmcom_ageing_buckets": [1]}, **QUICK)
    assert [r["bucket"] for r in rows(warehouse, ages)] == [None, "1-1", "2+"]


def test_a_negative_balance_may_be_what_is_owed(build: Build, warehouse: Path) -> None:
    load(warehouse, "crmcom", {"account_observations": [reading("two", 1, balance=-70)]})
    build(warehouse, vars={"crmcom_balance_sign": "negative"}, **QUICK)
    (row,) = rows(warehouse, "from crmcom_reports.balance_summary")
    assert (row["receivable"], row["credit"]) == (Decimal(70), Decimal(100))


def test_a_new_account_number_holds_on_every_day(build: Build, copy: Path) -> None:
    with duckdb.connect(copy) as connection:
        connection.execute("update crmcom.accounts set number = 'N-2'")
    load(copy, "crmcom", {"account_observations": [reading("one", 2)]})
    build(copy, **QUICK)
    found = rows(copy, "select date_day, account_number from crmcom_reports.account_daily")
    assert len(found) == 3
    assert {row["account_number"] for row in found} == {"N-2"}


def test_terms_that_were_read_long_ago_are_found_without_reading_on_from_there(
    warehouse: Path, tmp_path: Path
) -> None:
    """An account may stay overdue and unread for years, and the worklist is made every day."""
    terms = {"payment_terms__name": "Net 30"}
    read_daily = [reading("two", day, **terms) for day in range(2, 100)]
    load(warehouse, "crmcom", {"account_observations": [*read_daily, reading("old", 0, **terms)]})
    result = transform(warehouse, work_dir=tmp_path / "dbt", **QUICK)  # type: ignore[arg-type]
    assert result.ok, result.summary
    found = rows(warehouse, "from crmcom_reports.overdue_worklist")
    assert {row["account_id"]: row["payment_terms_days"] for row in found} == {
        "old": 30,
        "one": None,
        "two": 30,
    }

    (compiled,) = tmp_path.glob("dbt/target/compiled/**/crmcom__overdue_worklist.sql")
    with duckdb.connect(warehouse, read_only=True) as db:
        plan = db.execute("explain (analyze, format json) " + compiled.read_text()).fetchall()
    # Of the days between the first two and the last none.
    assert rows_scanned(json.loads(plan[0][1]), "account_observations") == 4


def rows_scanned(operator: dict[str, Any], table: str) -> int:
    """How many rows of a table a query reads, by DuckDB's profile of it."""
    below = sum(rows_scanned(child, table) for child in operator["children"])
    if not str(operator.get("extra_info", {}).get("Table", "")).endswith(table):
        return below
    return below + int(operator["operator_cardinality"])


def test_no_amount_is_too_large(build: Build, tmp_path: Path) -> None:
    """The raw tables hold 29 digits before the point, and nine after it."""
    database = tmp_path / "warehouse.duckdb"
    largest = "9" * 29 + "." + "9" * 9
    amounts = {"EUR": Decimal(largest), "USD": Decimal("-" + largest)}
    load(
        database,
        "crmcom",
        {
            "account_observations": [
                reading(
                    f"{currency}-{n}",
                    0,
                    currency_code=currency,
                    balance=amount,
                    overdue_amount=amount,
                    credit_limit=amount if n % 2 else Decimal("0.0001"),
                )
                for n in range(100)
                for currency, amount in amounts.items()
            ]
        },
    )
    build(database)
    found = rows(database, "from crmcom_reports.balance_summary order by currency_code")
    assert [row["net_balance"] for row in found] == [Decimal(10) ** 31, -(Decimal(10) ** 31)]


def test_a_build_that_does_not_fit_into_memory_goes_on_from_the_disk(
    build: Build, warehouse: Path
) -> None:
    with duckdb.connect(warehouse) as db:
        db.execute(
            """
            insert into crmcom.account_observations by name
            select
                * exclude (n, day) replace (
                    md5('' || n) as account_id, observed_at + interval 1 day * day as observed_at
                )
            from (select * from crmcom.account_observations limit 1)
            cross join range(3000) as accounts (n) cross join range(20) as days (day)
            """
        )
    build(warehouse, memory_limit="55MB", tests=False)


def test_nothing_is_written_into_the_project(build: Build, copy: Path) -> None:
    """It may be installed where nobody may write."""
    before = {p for p in PROJECT_DIR.rglob("*") if "__pycache__" not in p.parts}
    build(copy)
    assert {p for p in PROJECT_DIR.rglob("*") if "__pycache__" not in p.parts} == before


def test_a_strange_path_is_a_path(tmp_path: Path) -> None:
    """Spaces, quotes, braces and letters of any alphabet; dots make DuckDB's names short."""
    folder = tmp_path / "it's {{ mine }} - λογιστήριο"
    folder.mkdir()
    database = folder / "ware-house.2026.duckdb"
    load(database, "crmcom", {"account_observations": [reading("one", 0)]})
    result = transform(database, work_dir=folder / "dbt")
    assert result.ok, result.summary
    assert len(rows(database, "from crmcom_reports.overdue_worklist")) == 1


def test_a_past_day_is_covered_by_what_was_pending_then(build: Build, warehouse: Path) -> None:
    """A call that was made since covers the day before it was made, and no later one; what was
    deleted by then covers nothing."""
    call = {"activity_id": "call", "contact__id": "anna", "type__name": "Call"}
    due = {"scheduled_from": DAY + timedelta(days=5), "is_deleted": False}
    load(
        warehouse,
        "crmcom",
        {
            "activities": [
                {
                    "id": "call",
                    "contact__id": "anna",
                    "state": "COMPLETED",
                    "key_dates__scheduled_on__from_date": due["scheduled_from"],
                    "_synced_at": DAY + timedelta(days=1),
                },
                {"id": "gone", "contact__id": "anna", "state": "PENDING", "_deleted_at": DAY},
            ],
            "activity_versions": [
                {
                    **call,
                    "activity_id": "gone",
                    "state": "PENDING",
                    "scheduled_from": DAY + timedelta(days=2),
                    "observed_at": DAY,
                    "_synced_at": DAY,
                },
                *(
                    {
                        **call,
                        **due,
                        "state": state,
                        "run_id": f"run-{day}",
                        "observed_at": DAY + timedelta(days=day),
                        "_synced_at": DAY + timedelta(days=day),
                    }
                    for day, state in enumerate(["PENDING", "COMPLETED"])
                ),
            ],
        },
    )
    covered = "select as_of_date, coverage_status, next_due_date"
    covered += " from crmcom_reports.overdue_worklist"
    build(warehouse, **QUICK)
    assert [tuple(r.values()) for r in rows(warehouse, covered)] == [
        (date(2026, 3, 11), "uncovered", None)
    ]
    build(warehouse, vars={"crmcom_as_of": "2026-03-10"}, **QUICK)
    assert [tuple(r.values()) for r in rows(warehouse, covered)] == [
        (date(2026, 3, 10), "covered", date(2026, 3, 15))
    ]


def test_the_day_of_the_reports_is_the_last_one_on_which_anything_was_observed(
    build: Build, warehouse: Path
) -> None:
    """Accounts that were not read that day are carried, and counted as such."""
    later = {"run_id": "run-9", "observed_at": DAY + timedelta(days=3), "_synced_at": DAY}
    load(warehouse, "crmcom", {"activity_versions": [{"activity_id": "call", **later}]})
    build(warehouse, **QUICK)
    (row,) = rows(warehouse, "from crmcom_reports.balance_summary")
    assert row["as_of_date"] == date(2026, 3, 13)
    assert (row["accounts"], row["carried_accounts"]) == (1, 1)


def test_the_projects_own_logic_holds(build: Build, warehouse: Path) -> None:
    """On a first build, whatever the variables."""
    result = build(warehouse, unit_tests=True, vars={"crmcom_ageing_buckets": [7]})
    assert sum(node.kind == "unit_test" for node in result.nodes) > 10


CUSTOM_FIELDS = {
    "contacts": {
        "points": {"key": "Client's points", "type": "integer"},
        "worth": {"type": "decimal"},
        "vip": "boolean",
        "birthday": "date",
        "nickname": "text",
        "seen": {"key": "Zuletzt gesehen 🕑", "type": "timestamp"},
    }
}


def test_named_custom_fields_are_typed_columns_and_bad_values_are_counted(
    build: Build, warehouse: Path
) -> None:
    fields = [
        ("anna", "Client's points", "12"),
        ("anna", "worth", " 99999999999999999999.123456789 "),
        ("anna", "vip", "Yes"),
        ("anna", "birthday", "1990-02-28"),
        ("anna", "nickname", " "),
        ("anna", "nickname", "Ann"),
        ("anna", "nickname", "Annie"),
        ("anna", "never asked for", "x"),
        ("anna", "Zuletzt gesehen 🕑", "2026-01-02T03:04:05"),
        ("bert", "Client's points", "12.5"),
        ("bert", "worth", "a lot"),
        ("bert", "vip", ""),
        ("bert", "birthday", "1990-02-30"),
        ("bert", "Zuletzt gesehen 🕑", "gestern"),
    ]
    load(
        warehouse,
        "crmcom",
        {
            "contact_custom_fields": [
                {"contact_id": contact, "key": key, "value": value, "position": n}
                for n, (contact, key, value) in enumerate(fields)
            ]
        },
    )
    build(
        warehouse,
        vars={"crmcom_custom_fields": CUSTOM_FIELDS},
        select=["+crmcom__contact_custom_fields"],
    )
    anna, bert = rows(warehouse, "from crmcom_reports.contact_custom_fields order by contact_id")
    assert anna == {
        "source_relation": "crmcom",
        "contact_id": "anna",
        "points": 12,
        "worth": Decimal("99999999999999999999.123456789"),
        "vip": True,
        "birthday": date(1990, 2, 28),
        "nickname": "Ann",
        "seen": datetime(2026, 1, 2, 3, 4, 5),  # noqa: DTZ001 - as above
        "unreadable_custom_fields": 0,
    }
    assert {v for k, v in bert.items() if k in CUSTOM_FIELDS["contacts"]} == {None}
    assert bert["unreadable_custom_fields"] == 4
    assert rows(warehouse, "from duckdb_views() where view_name = 'activity_custom_fields'") == []


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"vip; drop": "text"}, "is no name for a column"),
        ({"vip": "float"}, "text, integer, decimal, date, timestamp or boolean, not float"),
    ],
)
def test_a_custom_field_that_makes_no_sense_is_told(
    warehouse: Path, fields: dict[str, str], said: str
) -> None:
    result = transform(
        warehouse,
        vars={"crmcom_custom_fields": {"contacts": fields}},
        work_dir=warehouse.parent / "dbt",
    )
    assert not result.ok
    assert said in result.summary


def test_a_first_day_says_what_there_is_to_say(built: Path) -> None:
    """One account, two readings, no activities: nothing is made up, nothing is left out."""
    found = {mart: rows(built, f"from crmcom_reports.{mart}") for mart in MARTS}
    assert {mart for mart, rows_found in found.items() if not rows_found} == {
        "activity_status",
        "follow_up_summary",
        "data_anomalies",
    }
    (layer,) = found["overdue_ageing"]
    assert (layer["bucket"], layer["amount"]) == ("unknown_start", Decimal(40))
    (contact,) = found["contact_360"]
    assert (contact["contact_name"], contact["balance"]) == ("Anna", Decimal(100))
    months = [m for m in found["balance_movement"] if m["period"] == "month"]
    assert {m["measure"]: (m["new"], m["closing"]) for m in months} == {
        "balance": (Decimal(100), Decimal(100)),
        "overdue": (Decimal(40), Decimal(40)),
    }


def test_a_tenant_without_accounts_has_its_activities(build: Build, tmp_path: Path) -> None:
    database = tmp_path / "warehouse.work.duckdb"
    due = DAY - timedelta(days=1)
    load(
        database,
        "crmcom",
        {
            "activities": [
                {
                    "id": "call",
                    "state": "PENDING",
                    "key_dates__scheduled_on__to_date": due,
                    "_synced_at": DAY,
                }
            ]
        },
    )
    build(database)
    (activity,) = rows(database, "from crmcom_reports.activity_status")
    assert (activity["is_overdue"], activity["days_overdue"]) == (True, 1)
    assert rows(database, "from crmcom_reports.account_daily") == []


def test_a_variable_for_credit_limits_that_makes_no_sense_is_told(warehouse: Path) -> None:
    result = transform(
        warehouse,
        vars={"crmcom_zero_credit_limit_means": "nothing"},
        work_dir=warehouse.parent / "dbt",
    )
    assert not result.ok
    assert "crmcom_zero_credit_limit_means is 'none'" in result.summary
