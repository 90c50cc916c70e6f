"""Finding a mart, reading it without loss, and saying what to do when it cannot be read."""

from __future__ import annotations

import subprocess
import sys
from datetime import date
from decimal import Decimal

import duckdb
import pandas as pd
import pyarrow as pa
import pytest

from crmcom_pipelines import report


def test_aliases_and_other_spellings_name_the_same_mart(filled):
    expected = report.read("overdue_worklist", filled.path)
    for name in ("overdue", "Overdue-Worklist", "crmcom__overdue_worklist"):
        assert report.read(name, filled.path).equals(expected)


def test_rows_come_by_currency_and_rank_whatever_order_they_are_stored_in(filled, worklist):
    rows = report.read("overdue", filled.path).to_pylist()
    assert [(r["currency_code"], r["priority_rank"]) for r in rows] == [
        ("EUR", 1),
        ("EUR", 2),
        ("JPY", 1),
    ]
    tenants = [worklist(i, source_relation=name) for name in "ba" for i in (2, 1)]
    filled.put("overdue_worklist", *tenants)
    found = report.read("overdue", filled.path).to_pylist()
    assert [(r["source_relation"], r["priority_rank"]) for r in found] == [
        ("a", 1),
        ("a", 2),
        ("b", 1),
        ("b", 2),
    ]


def test_a_mart_nobody_knows_comes_by_its_columns_from_the_left(filled):
    assert report.read("mystery", filled.path)["source_relation"].to_pylist() == ["a", "b"]


def test_arrow_keeps_every_type_and_digit(filled):
    table = report.read("overdue", filled.path)
    assert table.schema.field("balance").type == pa.decimal128(38, 4)
    assert table.schema.field("as_of_date").type == pa.date32()
    assert table["balance"][0].as_py() == Decimal("1234567.8912")


def test_a_data_frame_can_be_calculated_with_and_loses_nothing(filled, worklist):
    """Sums, differences and groups of amounts stay exact; dates are dates, nulls are nulls."""
    big = Decimal("99999999999999999999.0001")
    filled.put("overdue_worklist", worklist(1, balance=big), worklist(2, balance=Decimal("0.1")))
    frame = report.load("overdue_worklist", database=filled.path, dataset="crmcom")
    assert frame["balance"].tolist() == [big, Decimal("0.1000")]
    assert frame["balance"].sum() == big + Decimal("0.1")
    assert (frame["balance"] - frame["overdue_net"]).iloc[0] == big - 100
    assert frame.groupby("currency_code")["balance"].sum()["EUR"] == big + Decimal("0.1")
    assert frame["as_of_date"].iloc[0] == date(2026, 10, 31)
    assert frame["as_of_date"].dt.year.tolist() == [2026, 2026]
    assert frame["next_due_date"].isna().all()

    filled.put("overdue_worklist", worklist(1, days_overdue_max=None, balance=None), worklist(2))
    frame = report.load("overdue", filled.path)
    assert frame["days_overdue_max"].tolist() == [pd.NA, 33]
    assert frame["balance"].tolist() == [None, Decimal(150)]


def test_a_sum_of_integers_does_not_become_a_float(filled):
    filled.run("create table crmcom_reports.totals as select sum(9007199254740993) as n")
    assert report.read("totals", filled.path)["n"].to_pylist() == [9007199254740993]


def test_a_file_that_nobody_may_write_can_be_read(filled):
    filled.path.chmod(0o444)
    assert report.read("overdue", filled.path).num_rows == 3


def test_a_file_named_as_its_schema_can_be_read(filled):
    named = filled.path.rename(filled.path.with_name("crmcom_reports.duckdb"))
    assert report.read("overdue", named).num_rows == 3


def test_an_unknown_mart_names_the_nearest_and_all(filled):
    with pytest.raises(report.UnknownMart) as caught:
        report.read("overdue_worklst", filled.path)
    assert "did you mean overdue_worklist?" in str(caught.value)
    assert "balance_summary, mystery, overdue_worklist" in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_missing_file_says_how_to_make_or_name_one(tmp_path):
    with pytest.raises(report.UnreadableDatabase, match=r"crmcom sync.*--database"):
        report.read("overdue", tmp_path / "none.duckdb")
    assert not (tmp_path / "none.duckdb").exists()


@pytest.mark.parametrize("content", [b"", b"hello", b"x" * 20_000])
def test_a_file_that_is_no_database_is_named(tmp_path, content):
    (path := tmp_path / "warehouse.duckdb").write_bytes(content)
    with pytest.raises(report.UnreadableDatabase, match="cannot be opened as a DuckDB database"):
        report.read("overdue", path)


def test_a_directory_is_no_database(tmp_path):
    with pytest.raises(report.UnreadableDatabase, match="is a directory"):
        report.read("overdue", tmp_path)


def test_a_file_without_marts_says_to_transform(warehouse):
    warehouse.run("create table contacts (id text)")
    with pytest.raises(report.NoMarts, match="crmcom transform"):
        report.read("overdue", warehouse.path)


def test_marts_of_another_dataset_are_pointed_at(warehouse, worklist):
    warehouse.put("overdue_worklist", worklist(1), dataset="cyprus")
    with pytest.raises(report.NoMarts, match=r"those of cyprus; choose with --dataset"):
        report.read("overdue", warehouse.path)
    assert report.read("overdue", warehouse.path, "cyprus").num_rows == 1


def test_a_file_held_by_a_writer_is_an_error_of_its_own(filled):
    with duckdb.connect(filled.path), pytest.raises(report.DatabaseBusy) as here:
        report.read("overdue", filled.path)
    assert here.value.exit_code == 6
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print(flush=True); input()",
            str(filled.path),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with holder:
        holder.stdout.readline()
        with pytest.raises(report.DatabaseBusy, match="held open for writing"):
            report.read("overdue", filled.path)
        holder.communicate(b"\n")


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        ("import crmcom_pipelines.report", "pandas pyarrow duckdb rich openpyxl"),
        ("report.write('overdue', database=path, stream=out)", "pandas openpyxl"),
        ("report.write('overdue', database=path, stream=out, file_format='csv')", "pandas rich"),
    ],
)
def test_slow_libraries_are_imported_only_where_they_are_needed(filled, code, absent):
    script = (
        "import io, sys; from crmcom_pipelines import report\n"
        f"path, out = {str(filled.path)!r}, io.StringIO()\n{code}\n"
        f"found = [name for name in {absent.split()!r} if name in sys.modules]\n"
        "sys.exit(f'imported: {found}' if found else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
