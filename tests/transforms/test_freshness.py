"""The share of balances that are fresher than a day: known answers, for any day, in the report."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import duckdb
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from crmcom_pipelines.cli import main
from crmcom_pipelines.freshness import Freshness

from .raw import load
from .test_transform import reading

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Build

NOON = datetime(2026, 3, 10, 12)  # noqa: DTZ001 - as the warehouse holds times
TENANTS = ["crmcom_a", "crmcom_b", "crmcom_c"]


def read_at(account: str, moment: datetime, **fields: object) -> dict[str, object]:
    at = {"observed_at": moment, "_synced_at": moment, "run_id": f"run-{moment:%m%d%H%M%S}"}
    return reading(account, 0, **at, **fields)


def ago(hours: float) -> datetime:
    return NOON - timedelta(hours=hours)


READINGS = (
    read_at("now", NOON),
    read_at("this morning", ago(11)),
    read_at("last night", ago(20)),
    read_at("just a day", ago(24)),
    read_at("two days", ago(49)),
    # The amount is from two days ago, whenever the account was read.
    read_at("carried", ago(48)),
    read_at("carried", ago(1), balance=None),
    # Not a balance: never known, and gone.
    read_at("unknown", ago(1), balance=None, overdue_amount=None),
    read_at("gone", ago(30)),
    read_at("gone", ago(2), balance=None, overdue_amount=None, is_missing=True),
    # Two readings are one balance.
    read_at("twice", ago(2)),
    read_at("twice", ago(3)),
)


@pytest.fixture(scope="module")
def published(build: Build, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tenants; of the first, one reading was loaded five days late."""
    database = tmp_path_factory.mktemp("fresh") / "warehouse.duckdb"
    late = read_at("two days", ago(1.5)) | {"_synced_at": NOON + timedelta(days=5)}
    load(database, "crmcom_a", {"account_observations": [*READINGS, late]})
    # Since its accounts were last read, something else was: by then they are older.
    call = {"activity_id": "call", "run_id": "r", "state": "PENDING", "is_deleted": False}
    call |= {"observed_at": ago(-0.5), "_synced_at": NOON}
    beta = [read_at("one", ago(23)), read_at("two", ago(23.5)), read_at("old", ago(50))]
    load(database, "crmcom_b", {"account_observations": beta, "activity_versions": [call]})
    load(database, "crmcom_c", {})
    build(database, vars={"crmcom_schema": TENANTS})
    return database


def crmcom(*args: object) -> str:
    done = CliRunner().invoke(main, [str(arg) for arg in args])
    assert done.exit_code == 0, done.output
    return done.stdout


def said(text: str) -> list[str]:
    return [line for line in text.splitlines() if "fresher than a day" in line]


def test_known_answers(published: Path) -> None:
    """Seven known balances, four of them fresh and one more by what was loaded late."""
    with duckdb.connect(published, read_only=True) as connection:
        found = connection.execute(
            "from crmcom_intermediate.int_crmcom__freshness order by source_relation"
        ).fetchall()
    day = NOON.date()
    assert found == [("crmcom_a", day, NOON, 7, 5), ("crmcom_b", day, ago(-0.5), 3, 1)]


@pytest.mark.parametrize("name", ["overdue", "balances", "overdue_ageing", "overdue_kpis"])
def test_reports_of_money_say_it_of_each_tenant(published: Path, name: str) -> None:
    text = crmcom("report", name, "--database", published)
    assert said(text) == [
        "crmcom_a: 71 % of 7 balances are fresher than a day, as of 2026-03-10 12:00 UTC.",
        "crmcom_b: 33 % of 3 balances are fresher than a day, as of 2026-03-10 12:30 UTC.",
    ]


def test_files_and_other_reports_hold_nothing_of_it(published: Path) -> None:
    assert not said(crmcom("report", "overdue", "--database", published, "--format", "csv"))
    assert not said(crmcom("report", "activity_status", "--database", published))


@pytest.fixture
def configured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crmcom_pipelines.config.dbt_vars", lambda: {"crmcom_schema": TENANTS})


@pytest.mark.usefixtures("configured")
def test_a_past_day_has_the_share_of_that_day(published: Path) -> None:
    """As of its end: `last night`, `just a day` and `gone`, which was still there, are fresh."""
    text = crmcom("report", "balances", "--database", published, "--as-of", "2026-03-09")
    assert said(text) == [
        "crmcom_a: 60 % of 5 balances are fresher than a day, as of 2026-03-10 00:00 UTC.",
        "crmcom_b: 66 % of 3 balances are fresher than a day, as of 2026-03-10 00:00 UTC.",
    ]


@pytest.mark.usefixtures("configured")
def test_what_was_not_loaded_by_then_does_not_count(published: Path) -> None:
    known = ("--known-at", "2026-03-10 12:00")
    text = crmcom("report", "balances", "--database", published, *known)
    assert said(text)[0] == (
        "crmcom_a: 57 % of 7 balances are fresher than a day, as of 2026-03-10 12:00 UTC."
    )


@given(st.integers(1, 10**7), st.data())
def test_a_hundred_percent_is_said_of_all_alone(balances: int, data: st.DataObject) -> None:
    fresh = data.draw(st.integers(0, balances))
    text = str(Freshness("any", NOON, balances, fresh))
    share = int(text.partition(" %")[0])
    assert (share == 100) == (fresh == balances)
    assert share <= 100 * fresh / balances < share + 1
