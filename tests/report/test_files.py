"""csv, xlsx and parquet: what is read back is what the mart holds, digit for digit."""

from __future__ import annotations

import csv
import io
import os
import re
from datetime import date
from decimal import Context, Decimal

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crmcom_pipelines import report
from crmcom_pipelines.formats import Report, write_csv, write_parquet, write_xlsx

AMOUNTS = (
    st.none()
    | st.integers(-(10**38) + 1, 10**38 - 1).map(lambda n: Decimal(n).scaleb(-4, Context(prec=40)))
    | st.decimals(-(10**7), 10**7, places=4)
)
TEXTS = st.none() | st.builds(
    str.__add__,
    st.sampled_from(
        ["", "=", "+", "-", "@", "\t", "\r", " =", "\uff1d", "'=", "''+", '"', "_x0041_"]
    ),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
)
DAYS = st.none() | st.dates()
ROWS = st.lists(st.tuples(st.sampled_from(["EUR", "JPY", None]), TEXTS, AMOUNTS, DAYS), max_size=5)
SCHEMA = pa.schema(
    [
        ("n", pa.int32()),
        ("currency_code", pa.string()),
        ("note", pa.string()),
        ("amount", pa.decimal128(38, 4)),
        ("day", pa.date32()),
    ]
)


def numbered(rows):
    """As records, with a leading column that keeps their order."""
    return [{"n": i} | dict(zip(SCHEMA.names[1:], row, strict=True)) for i, row in enumerate(rows)]


def is_formula(cell):
    """As a spreadsheet would see it, ignoring blanks and what cannot be seen."""
    visible = re.sub(r"^[\s\x00-\x1f\x7f-\xa0\u200b-\u200f\u2060\ufeff]+", "", cell)
    return visible.startswith(tuple("=+-@\uff1d\uff0b\uff0d\uff20")) or cell.startswith(
        ("\t", "\r")
    )


@given(rows=ROWS)
@settings(max_examples=60, deadline=None)
def test_csv_gives_back_any_text_and_any_amount(in_memory, rows):
    out = io.BytesIO()
    with in_memory("mart", numbered(rows), SCHEMA) as mart:
        write_csv(Report(mart), out)
    header, *found = csv.reader(io.StringIO(out.getvalue().decode(), newline=""), strict=True)
    assert header == SCHEMA.names
    assert len(found) == len(rows)
    for (_, _, note, amount, day), (_, text, number, when) in zip(found, rows, strict=True):
        assert amount == ("" if number is None else f"{number:f}")
        assert day == ("" if when is None else when.isoformat())
        assert not is_formula(note)
        assert note in {text or "", f"'{text}"}
        if note.startswith("'") and is_formula(note.lstrip("'")):
            assert note[1:] == text


@given(rows=ROWS)
@settings(max_examples=60, deadline=None)
def test_xlsx_gives_back_any_text_and_any_amount_and_never_a_formula(in_memory, rows):
    out = io.BytesIO()
    with in_memory("mart", numbered(rows), SCHEMA) as mart:
        write_xlsx(Report(mart), out)
    sheet = openpyxl.load_workbook(out)["mart"]
    header, *found = sheet.iter_rows()
    assert [cell.value for cell in header] == SCHEMA.names
    assert len(found) == len(rows)
    for (_, _, note, amount, day), (_, text, number, when) in zip(found, rows, strict=True):
        assert note.value is None or note.data_type == "s"
        kept = re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]", "", text or "")
        assert (note.value or "") == kept.replace("\r\n", "\n").replace("\r", "\n")
        if number is None:
            assert amount.value is None
        elif amount.data_type == "n":
            assert Decimal(repr(amount.value)) == number
        else:
            assert Decimal(amount.value) == number
            assert len(number.as_tuple().digits) > 15
        if when is None:
            assert day.value is None
        elif when < date(1900, 3, 1):
            assert day.value == when.isoformat()
        else:
            assert day.value.date() == when


@given(rows=ROWS)
@settings(max_examples=25, deadline=None)
def test_parquet_gives_back_the_mart_itself(in_memory, rows):
    out = io.BytesIO()
    with in_memory("mart", numbered(rows), SCHEMA) as mart:
        write_parquet(Report(mart), out)
        expected = mart.batches().read_all()
    assert pq.read_table(out).equals(expected)


def written(warehouse, name, file_format, **options):
    output = warehouse.path.with_name(f"out.{file_format}")
    report.write(name, database=warehouse.path, file_format=file_format, output=output, **options)
    return output


def test_csv_as_it_looks(filled, worklist):
    filled.put("overdue_worklist", worklist(1, contact_name='=1+1, "x"\nβ', contact_email=""))
    header, *body = written(filled, "overdue", "csv").read_bytes().decode().split("\n")
    assert header.startswith("source_relation,as_of_date,account_id,contact_id,contact_name,")
    assert "\n".join(body) == (
        'crmcom,2026-10-31,id-1,,"\'=1+1, ""x""\nβ",\'+357 22 123456,"",A-0001,ACTIVE,EUR,'
        "150.0000,100.0000,100.0000,2026-10-01,,31,33,false,31-60,collect,,1,uncovered,\n"
    )


def test_an_amount_of_many_decimals_has_no_exponent(filled):
    filled.run("create table crmcom_reports.tiny as select 0.000000001::decimal(38, 9) as x, 1 y")
    assert written(filled, "tiny", "csv").read_text() == "x,y\n0.000000001,1\n"


def test_csv_and_xlsx_have_a_cell_for_every_type(filled):
    filled.run(
        "create table crmcom_reports.odd as select [1, 2] as l, {'a': 1.5} as s, 1e300 as f,"
        " 'nan'::double as nan, timestamp '2026-10-31 12:30:00' as t, uuid() as u, interval 1 day"
        " as i, timestamptz '2026-10-31 12:30:00+00' as z, time '12:30' as c, true as b"
    )
    names = "l,s,f,nan,t,u,i,z,c,b"
    assert written(filled, "odd", "csv").read_text().startswith(names + '\n"[1, 2]",')
    first, row = openpyxl.load_workbook(written(filled, "odd", "xlsx"))["odd"].values
    assert ",".join(first) == names
    assert row[2] == 1e300
    assert str(row[4]) == "2026-10-31 12:30:00"
    report.write("odd", database=filled.path, stream=io.StringIO())


def test_a_sheet_is_ready_to_use(filled):
    sheet = openpyxl.load_workbook(written(filled, "overdue", "xlsx"))["overdue_worklist"]
    columns = {cell.value: cell.column_letter for cell in sheet[1]}
    assert sheet.freeze_panes == "A2"
    assert sheet.auto_filter.ref == "A1:X4"
    assert sheet["A1"].font.bold
    balance, overdue = columns["balance"], columns["overdue_net"]
    assert sheet[f"{balance}2"].value == 1234567.8912
    assert sheet[f"{balance}2"].number_format == "#,##0.0000"
    assert sheet[f"{balance}3"].number_format == "#,##0.00"
    assert sheet[f"{overdue}4"].number_format == "#,##0"  # yen
    assert sheet[f"{columns['as_of_date']}2"].is_date
    phone = sheet[f"{columns['contact_phone']}3"]
    assert (phone.value, phone.data_type, phone.number_format) == ("+357 22 123456", "s", "@")


def test_an_amount_that_a_float_would_change_is_text(filled, worklist):
    """Written by way of a float, 9.95 would be 9.949999999999999."""
    exact, long = Decimal("9.95"), Decimal("1234567890123.4567")
    filled.put("overdue_worklist", worklist(1, balance=exact, overdue_net=long))
    sheet = openpyxl.load_workbook(written(filled, "overdue", "xlsx")).active
    columns = {cell.value: cell.column_letter for cell in sheet[1]}
    assert repr(sheet[f"{columns['balance']}2"].value) == "9.95"
    assert sheet[f"{columns['overdue_net']}2"].value == "1234567890123.4567"


def test_text_too_long_for_a_cell_says_that_it_was_cut(filled, worklist):
    filled.put("overdue_worklist", worklist(1, contact_name="x" * 40_000))
    row = openpyxl.load_workbook(written(filled, "overdue", "xlsx")).active[2]
    assert row[4].value == "x" * 32_766 + "…"


def test_more_rows_than_a_sheet_has_is_said_at_once(filled):
    filled.run("create table crmcom_reports.huge as select range as n from range(1048576)")
    with pytest.raises(report.CannotWrite, match=r"1,048,576 rows.*csv or parquet"):
        written(filled, "huge", "xlsx")
    assert written(filled, "huge", "xlsx", limit=5).exists()


@pytest.mark.parametrize("file_format", report.FORMATS)
def test_an_empty_mart_is_a_file_too(filled, file_format):
    filled.put("overdue_worklist")
    output = written(filled, "overdue", file_format)
    if file_format == "csv":
        assert output.read_text().count("\n") == 1
    if file_format == "parquet":
        assert pq.read_table(output).num_rows == 0
    if file_format == "xlsx":
        assert openpyxl.load_workbook(output).active.max_row == 1


def test_a_limit_gives_the_first_rows(filled):
    assert len(written(filled, "overdue", "csv", limit=2).read_text().splitlines()) == 3
    assert pq.read_table(written(filled, "overdue", "parquet", limit=0)).num_rows == 0
    with pytest.raises(report.CannotWrite, match="0 or more"):
        written(filled, "overdue", "csv", limit=-1)


def test_a_file_appears_whole_or_not_at_all(filled, monkeypatch):
    output = written(filled, "overdue", "csv")
    before = output.read_text()

    def break_off(asked, out):
        out.write(b"half a rep")
        raise KeyboardInterrupt

    broken = report.Format(break_off, is_text=True)
    monkeypatch.setitem(report.FORMATS, "csv", broken)
    with pytest.raises(KeyboardInterrupt):
        written(filled, "overdue", "csv")
    assert output.read_text() == before
    assert sorted(p.name for p in output.parent.iterdir()) == ["out.csv", "warehouse.duckdb"]


def test_a_link_stays_a_link(filled, tmp_path):
    (tmp_path / "real.csv").write_text("old")
    (link := tmp_path / "link.csv").symlink_to("real.csv")
    report.write("overdue", file_format="csv", database=filled.path, output=link)
    assert link.is_symlink()
    assert (tmp_path / "real.csv").read_text().startswith("source_relation")


def test_a_device_is_written_to_and_not_replaced(filled, tmp_path):
    os.mkfifo(pipe := tmp_path / "pipe")
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        report.write("overdue", file_format="csv", database=filled.path, output=pipe)
        assert os.read(reader, 100).startswith(b"source_relation")
    finally:
        os.close(reader)
    assert pipe.is_fifo()


def test_a_report_does_not_go_where_it_would_do_harm(filled, tmp_path):
    with pytest.raises(report.CannotWrite, match="is a directory"):
        report.write("overdue", database=filled.path, output=tmp_path)
    with pytest.raises(report.CannotWrite, match="is the warehouse itself"):
        report.write("overdue", database=filled.path, output=filled.path)
    with pytest.raises(report.CannotWrite, match="No such file or directory"):
        report.write("overdue", database=filled.path, output=tmp_path / "none" / "x.csv")
    with pytest.raises(report.CannotWrite, match="there are: table, csv, parquet, xlsx"):
        report.write("overdue", file_format="pdf", database=filled.path)


class Terminal(io.TextIOWrapper):
    def isatty(self):
        return True


@pytest.mark.parametrize("file_format", ["parquet", "xlsx"])
def test_binary_goes_to_a_pipe_but_not_to_a_terminal(filled, file_format):
    terminal = Terminal(io.BytesIO())
    with pytest.raises(report.CannotWrite, match="--output"):
        report.write("overdue", file_format=file_format, database=filled.path, stream=terminal)
    assert terminal.buffer.getvalue() == b""
    pipe = io.TextIOWrapper(io.BytesIO())
    report.write("overdue", file_format=file_format, database=filled.path, stream=pipe)
    if file_format == "parquet":
        assert pq.read_table(pipe.buffer).num_rows == 3
    else:
        assert openpyxl.load_workbook(pipe.buffer).active.max_row == 4


def test_csv_is_utf8_wherever_it_goes(filled):
    latin = io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
    report.write("overdue", file_format="csv", database=filled.path, stream=latin)
    text = io.StringIO()
    report.write("overdue", file_format="csv", database=filled.path, stream=text)
    assert "Ελένη" in text.getvalue()
    assert latin.buffer.getvalue().decode() == text.getvalue()
