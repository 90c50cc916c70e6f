"""The reports as a package: `tests/downstream` is somebody else's dbt project with ours in it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pytest

from crmcom_transforms import PROJECT_DIR

from .raw import TABLES, load

if TYPE_CHECKING:
    from collections.abc import Callable

    Build = Callable[[Path], str]

EVENING = datetime(2026, 3, 10, 20)  # noqa: DTZ001 - as the warehouse holds times
TENANT = "tenant_north"


def reading(days: int, overdue: int) -> dict[str, Any]:
    moment = EVENING + timedelta(days=days)
    return {
        "account_id": "one",
        "run_id": f"run-{days}",
        "observed_at": moment,
        "_synced_at": moment,
        "state": "ACTIVE",
        "currency_code": "EUR",
        "balance": Decimal(100),
        "overdue_amount": Decimal(overdue),
        "is_missing": False,
    }


@pytest.fixture(scope="module")
def finance(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project with ours installed, by dbt and without a network."""
    folder = tmp_path_factory.mktemp("downstream") / "finance"
    shutil.copytree(
        Path(__file__).parents[1] / "downstream",
        folder,
        ignore=shutil.ignore_patterns("dbt_packages", "target", "logs", "*.duckdb", "*.lock.yml"),
    )
    dbt(folder, "deps")
    return folder


def dbt(folder: Path, *command: str, **env: str) -> str:
    """What dbt says; whatever it warns of, deprecations included, is an error."""
    run = subprocess.run(
        [
            Path(sys.executable).with_name("dbt"),
            *("--no-send-anonymous-usage-stats", "--warn-error", *command),
        ],
        cwd=folder,
        env={**os.environ, "CRMCOM_TRANSFORMS": str(PROJECT_DIR), **env},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout
    return run.stdout


def found(folder: Path, raw: Path, query: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(folder / "finance.duckdb", read_only=True) as connection:
        connection.execute(f"attach '{raw}' as raw (read_only)")
        return connection.execute(query).fetchall()


def test_a_project_with_variables_of_its_own_builds_on_the_worklist(
    finance: Path, tmp_path: Path
) -> None:
    """On a first day with one reading and without tables of activities; and on the next one. Its
    midnight, its buckets and its raw dataset hold, and our tests run with its own."""
    raw = tmp_path / "raw.duckdb"
    worklist = "select account_id, as_of_date, bucket, coverage_status, overdue_net"
    worklist += " from mine.to_call_today"
    load(raw, TENANT, {"account_observations": [reading(0, 0)]})
    with duckdb.connect(raw) as connection:
        for table in TABLES:
            if table.startswith(("activit", "_")):
                connection.execute(f"drop table {TENANT}.{table}")
    said = dbt(finance, "build", RAW_FILE=str(raw))
    assert "every_overdue_account_is_on_the_worklist_once" in said
    assert "relationships_to_call_today" in said
    assert found(finance, raw, worklist) == []
    (account,) = found(finance, raw, f"select * from {TENANT}_reports.credit_exposure")
    assert account[1] == date(2026, 3, 11)  # already tomorrow in Tokyo

    load(raw, TENANT, {"account_observations": [reading(1, 40)]})
    dbt(finance, "build", RAW_FILE=str(raw))
    assert found(finance, raw, worklist) == [
        ("one", date(2026, 3, 12), "1-1", "unlinkable", Decimal(40))
    ]
    assert found(finance, raw, f"from {TENANT}_reports.activity_status") == []


def test_a_tenant_without_any_rows_has_an_empty_worklist(finance: Path, tmp_path: Path) -> None:
    raw = tmp_path / "raw.duckdb"
    load(raw, TENANT, {})
    (finance / "finance.duckdb").unlink(missing_ok=True)
    dbt(finance, "build", RAW_FILE=str(raw))
    assert found(finance, raw, "from mine.to_call_today") == []
