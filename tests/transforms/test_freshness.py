"""The share of balances that are fresher than a day: known answers, for any day, in the report."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import duckdb
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crmcom_pipelines.cli import main
from crmcom_pipelines.freshness import Freshness

from .raw import load
from .test_transform import reading

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Build

NOON = datetime(2026, 3, 10, 12)


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


def crmcom(*args: object) -> str:
    done = CliRunner().invoke(main, [str(arg) for arg in args])
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.fixture(scope="module")
def published(build: Build, tmp_path_factory: pytest.TempPathFactory) -> Path:
    database = tmp_path_factory.mktemp("fresh") / "warehouse.duckdb"
    late = read_at("two days", ago(1.5)) | {"_synced_at": NOON + timedelta(days=5)}
    activity = {"activity_id": "call", "run_id": "r", "state": "PENDING", "is_deleted": False}
    tables = {
        "acme": {"account_observations": [*READINGS, late]},
        "beta": {
            "account_observations": [read_at("one", ago(23)), read_at("two", ago(26))],
            # Nobody has read its accounts since: the newest that is known of it is this.
            "activity_versions": [
                {**activity, "observed_at": NOON + timedelta(hours=0.5), "_synced_at": NOON}
            ],
        },
    }
    for tenant, rows in tables.items():
        load(database, tenant, rows)
    build(database, dataset="acme")
    return database


def test_known_answers(published: Path) -> None:
    """Of seven known balances, five; 24 hours is not fresher than a day."""
    with duckdb.connect(published, read_only=True) as connection:
        found = connection.execute("from acme_intermediate.int_crmcom__freshness").fetchall()
    assert found == [("acme", NOON.date(), NOON, 7, 5)]
