"""The marts on Apache Spark, by dbt-spark in an environment of its own: `make test-spark`.

What the docs tell a reader to do is done here, with the files of docs/spark.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import duckdb
import pytest

from crmcom_pipelines.transform import transform
from crmcom_transforms import PROJECT_DIR

from ..transforms.histories import START, drawn, tenant
from ..transforms.raw import load, rows
from ..transforms.reference import Settings
from ..transforms.test_histories import BUCKETS, KEYS, ZONE, assert_as_expected, expected
from .test_twins import FIELDS, VALUES

PAGES = Path(__file__).parents[2] / "docs/spark"
PYTHON = os.environ.get("CRMCOM_SPARK")
pytestmark = [
    pytest.mark.skipif(PYTHON is None, reason="Spark is not installed here: make test-spark"),
    pytest.mark.skipif(shutil.which("java") is None, reason="no Java here, which Spark needs"),
    pytest.mark.timeout(1800),
]

LARGEST = Decimal("9" * 29 + "." + "9" * 9)
QUOTED = 'O\'Neil \\n "Ω" 🕑'
VARS = {
    "crmcom_schema": ["told_a", "told_b", "odd"],
    "crmcom_report_timezone": ZONE,
    "crmcom_ageing_buckets": BUCKETS,
    "crmcom_follow_up_types": ["Call", "Visit", QUOTED],
    "crmcom_custom_fields": {"contacts": {**FIELDS, "said": {"key": QUOTED}}},
}
RATIOS = ("overdue_ratio", "utilisation", "cure_rate", "sla")
"""DuckDB divides amounts with sixteen digits; Spark's have all."""

DUMP = """
import sys
from pyspark.sql import SparkSession
spark = SparkSession.builder.enableHiveSupport().getOrCreate()
for mart in sys.argv[2:]:
    spark.table("told_a_reports." + mart).write.parquet(f"{sys.argv[1]}/{mart}")
"""
SMALL = {
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    # A build of small tables waits for compilers and files, not for data.
    "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1\\ -XX:+UseSerialGC",
    "spark.sql.adaptive.enabled": "false",
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.shuffle.partitions": "2",
}


def odd() -> dict[str, list[dict]]:
    """Amounts of 38 digits, custom fields that are none, texts that need quoting, payment terms."""
    moment = START + timedelta(days=11, hours=9)
    seen = {"run_id": "run-1", "observed_at": moment, "_synced_at": moment, "is_missing": False}
    accounts = [
        {
            "account_id": f"{currency}-{name}",
            "contact_id": "contact-0",
            "state": "ACTIVE",
            "currency_code": currency,
            "balance": amount,
            "overdue_amount": amount,
            "credit_limit": limit,
            "payment_terms__name": terms,
            **seen,
        }
        for currency, amount in (("EUR", LARGEST), ("USD", LARGEST.copy_negate()))
        for name, limit, terms in (
            ("a", LARGEST, "Net 30"),
            ("B", Decimal("0.0001"), " net  7 days"),
            (QUOTED, Decimal(0), "Net 12345"),
        )
    ]
    keys = ("vip", "points", "visits", "born_on", "Seen at")
    found = [*VALUES, (" ", "", "1_000", "2024/01/31", "2024-01-31T10:00Z")]
    fields = [
        {"contact_id": f"contact-{n}", "key": key, "value": value, "position": place}
        for n, values in enumerate(found)
        for place, (key, value) in enumerate(zip(keys, values, strict=True))
    ]
    fields += [
        {"contact_id": "contact-0", "key": QUOTED, "value": value, "position": 9 + n}
        for n, value in enumerate((" ", QUOTED, "later"))
    ]
    return {
        "contacts": [{"id": "contact-0", "name": QUOTED, "_synced_at": moment}],
        "account_observations": accounts,
        "contact_custom_fields": fields,
    }


def recent(tables):
    """What was read from the 28th on: the clocks change on the 29th, and each day takes a while."""
    since = START + timedelta(days=10)
    read = [row for row in tables["account_observations"] if row["observed_at"] >= since]
    return {**tables, "account_observations": read}


@pytest.fixture(scope="module")
def told():
    return {
        "told_a": recent(tenant(1, drawn(80, wildly=False))),
        "told_b": recent(tenant(2, drawn(80, wildly=True))),
        "odd": odd(),
    }


@pytest.fixture(scope="module")
def warehouse(told, tmp_path_factory):
    """Its marts are built by DuckDB."""
    folder = tmp_path_factory.mktemp("duckdb")
    for name, tables in told.items():
        load(folder / "warehouse.duckdb", name, tables)
    built = transform(
        folder / "warehouse.duckdb", dataset="told_a", vars=VARS, work_dir=folder / "dbt"
    )
    assert built.ok, built.summary
    return folder / "warehouse.duckdb"


def run(folder, *args, fails=False):
    """In Spark's environment; its catalog and its tables are in the folder."""
    settings = " ".join(f"--conf {k}={v}" for k, v in SMALL.items())
    done = subprocess.run(
        [PYTHON, *map(str, args)],
        cwd=folder,
        # A machine's own zone and locale are nobody's business.
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "TZ": "America/St_Johns",
            "PYSPARK_SUBMIT_ARGS": f"{settings} pyspark-shell",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode != 0) == fails, done.stdout[-6000:] + done.stderr[-3000:]
    return done.stdout


def dbt(folder, command, *options, profiles=PAGES, **how):
    return run(
        folder,
        Path(PYTHON).with_name("dbt"),
        "--no-use-colors",
        *(command, "--project-dir", PROJECT_DIR, "--profiles-dir", profiles),
        *("--target-path", folder / "target", "--log-path", folder / "logs"),
        *("--vars", json.dumps(VARS, ensure_ascii=False), *options),
        **how,
    )


@pytest.fixture(scope="module")
def spark(warehouse, tmp_path_factory):
    """The same raw tables as Parquet, registered in Spark, and the marts built there."""
    folder = tmp_path_factory.mktemp("spark")
    exported = [sys.executable, PAGES / "export.py", warehouse, folder / "raw"]
    subprocess.run(exported, check=True)
    run(folder, PAGES / "register.py", folder / "raw")
    dbt(folder, "build", "--exclude-resource-type", "unit_test")
    return folder


@pytest.fixture(scope="module")
def twin(spark, tmp_path_factory):
    """A DuckDB file with the marts that Spark built."""
    marts = [*KEYS, "contact_custom_fields"]
    run(spark, "-c", DUMP, spark / "marts", *marts)
    file = tmp_path_factory.mktemp("twin") / "twin.duckdb"
    with duckdb.connect(str(file)) as connection:
        connection.execute("create schema crmcom_reports")
        for mart in marts:
            found = f"from '{spark}/marts/{mart}/*.parquet'"
            connection.execute(f"create table crmcom_reports.{mart} as {found}")
    return file


def test_every_model_and_every_test_of_the_data_holds(spark):
    """None is left out, and none only warns."""
    results = json.loads((spark / "target/run_results.json").read_text())["results"]
    made = [r for r in results if not r["unique_id"].startswith("exposure")]
    assert {r["status"] for r in made} == {"success", "pass"}
    assert len(made) > 70


@pytest.mark.parametrize("mart", [*KEYS, "contact_custom_fields"])
def test_a_mart_is_the_same_row_by_row(warehouse, twin, mart):
    """Columns, their order, decimals, dates, nulls and texts; ratios to the last of six digits."""
    key = KEYS.get(mart, "source_relation, contact_id")
    theirs = rows(warehouse, f"from told_a_reports.{mart} order by {key}")
    ours = rows(twin, f"from crmcom_reports.{mart} order by {key}")
    assert len(theirs) == len(ours) > 0
    for wanted, found in zip(theirs, ours, strict=True):
        assert list(found) == list(wanted)
        different = {c: (found[c], wanted[c]) for c in wanted if found[c] != wanted[c]}
        for column in RATIOS:
            got, want = different.pop(column, (None, None))
            if got != want:
                assert abs(got - want) <= max(Decimal("0.000001"), abs(want) / 10**14)
        assert different == {}
    assert types(twin, "crmcom_reports", mart) == types(warehouse, "told_a_reports", mart)


def types(file, schema, mart):
    found = rows(file, f"describe from {schema}.{mart}")
    return {column["column_name"]: column["column_type"] for column in found}


def test_the_marts_are_what_their_definitions_say(told, twin):
    """Gaps, nulls, credits, absences, returns, currencies, ties, clock changes, tenants."""
    settled = {name: tables for name, tables in told.items() if name != "odd"}
    with duckdb.connect(str(twin)) as connection:
        for mart in KEYS:
            connection.execute(f"delete from crmcom_reports.{mart} where source_relation = 'odd'")
    assert_as_expected(twin, expected(settled, Settings(ZONE, BUCKETS)))


def test_without_the_setting_that_keeps_times_exact_nothing_is_built(spark, tmp_path):
    """dbt says which setting is missing."""
    profile = (PAGES / "profiles.yml").read_text()
    (tmp_path / "profiles.yml").write_text(profile.replace("TIMESTAMP_NTZ", "TIMESTAMP_LTZ"))
    said = dbt(spark, "build", "--select", "stg_crmcom__contacts", profiles=tmp_path, fails=True)
    assert "spark.sql.timestampType must be TIMESTAMP_NTZ, not TIMESTAMP_LTZ" in said
