"""A mart as a file for machines: csv, parquet, xlsx. No amount passes through a float.

A writer takes a `Report` and a binary file; that is all a new format needs to be.
"""

# ruff: noqa: PLC0415 - libraries are imported where they are used: `crmcom --help` is fast

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from itertools import zip_longest
from math import isfinite
from typing import TYPE_CHECKING, Any, BinaryIO

from crmcom_pipelines.money import digits, usual_decimals

if TYPE_CHECKING:
    import pyarrow as pa

    from crmcom_pipelines.marts import Mart


@dataclass(frozen=True, slots=True)
class Report:
    """What to write: the first `limit` rows of a mart, or all."""

    mart: Mart
    limit: int | None = None
    terminal_width: int | None = None
    """Columns of the terminal it is printed on; None when it goes anywhere else."""
    made_at: datetime | None = None
    """None: now."""
    known_at: datetime | None = None
    """Only what was loaded until then counts (UTC, without zone); None: everything."""
    is_past: bool = False
    """Told of a past day, or as it was known then."""


# --- csv ---------------------------------------------------------------------------------

_FORMULA = re.compile(
    r"'*(?:[\t\r\n]|[\s\x00-\x1f\x7f-\xa0\u200b-\u200f\u2060\ufeff]*[-=+@＝＋－＠﹦﹢﹣﹫−])"  # noqa: RUF001
)
"""Text that a spreadsheet may run: a formula's first character, also after blanks, control or
invisible characters, or in a form that input methods turn into it."""

_NEEDS_QUOTES = re.compile(r'[",\r\n]|^\s|\s$|^$')


def write_csv(report: Report, out: BinaryIO) -> None:
    """UTF-8 without a byte order mark, comma, `\\n`; the first line holds the column names.

    Null is empty, the empty string `""`, a decimal its plain digits, a date ISO 8601.

    Text that a spreadsheet may run as a formula gets a leading apostrophe. That includes phone
    numbers (`'+357 22 123456`): a spreadsheet would turn those into numbers and drop the plus.
    Text that already has apostrophes there gets one more, so that taking one away always gives
    the original. Numbers stay numbers: `-5.0000`.
    """
    batches = report.mart.batches(limit=report.limit, cells=True)
    out.write((",".join(_csv_text(name) for name in batches.schema.names) + "\n").encode())
    for batch in batches:
        columns = [[_csv_cell(value) for value in column.to_pylist()] for column in batch.columns]
        out.write("".join(",".join(row) + "\n" for row in zip(*columns, strict=True)).encode())


def _csv_cell(value: Any) -> str:
    match value:
        case None:
            return ""
        case str():
            return _csv_text(value)
        case Decimal():
            return f"{value:f}"
        case bool():
            return str(value).lower()
        case date():
            return value.isoformat()
        case _:
            return str(value)


def _csv_text(text: str) -> str:
    if _FORMULA.match(text):
        text = "'" + text
    return '"' + text.replace('"', '""') + '"' if _NEEDS_QUOTES.search(text) else text


# --- parquet -----------------------------------------------------------------------------


def write_parquet(report: Report, out: BinaryIO) -> None:
    """The mart's own types; decimals exact."""
    import pyarrow.parquet as pq

    batches = report.mart.batches(limit=report.limit)
    with pq.ParquetWriter(out, batches.schema, compression="zstd") as writer:
        for batch in batches:
            writer.write_batch(batch)


# --- xlsx --------------------------------------------------------------------------------

XLSX_MAX_ROWS = 1_048_576 - 1
"""Rows that fit on an Excel sheet below the header."""

_XLSX_MAX_TEXT = 32_767
_XLSX_MAX_DIGITS = 15  # Excel turns the sixteenth significant digit into a zero
_XLSX_FIRST_MONTH = (1900, 3)  # before it, Excel's calendar is a day off, then ends
_XLSX_ILLEGAL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")


def write_xlsx(report: Report, out: BinaryIO) -> None:
    """One sheet, named after the mart, with a frozen bold header and a filter.

    Amounts and dates are numbers and dates as Excel knows them, except those that it would
    change (over 15 significant digits; days before March 1900): these are text. Text is never
    a formula. Control characters, which a workbook cannot hold, are left out, a carriage
    return becomes a line feed, and text over 32,767 characters ends in `…`.
    """
    from openpyxl import Workbook
    from openpyxl.styles import Font
    from openpyxl.utils import get_column_letter

    batches = report.mart.batches(limit=report.limit, cells=True)
    names = batches.schema.names
    workbook = Workbook(write_only=True)
    sheet = workbook.create_sheet(re.sub(r"[\[\]:*?/\\]", "_", report.mart.name)[:31])
    sheet.freeze_panes = "A2"
    for index, name in enumerate(names, 1):
        sheet.column_dimensions[get_column_letter(index)].width = max(14, len(name) + 4)

    cells = _Cells(sheet)
    header = [cells.text(name) for name in names]
    for cell in header:
        cell.font = Font(bold=True)
    sheet.append(header)
    rows = 1
    for batch in batches:
        money = [_is_money(field.type) for field in batch.schema]
        columns = [column.to_pylist() for column in batch.columns]
        currencies = columns[names.index("currency_code")] if "currency_code" in names else ()
        for currency, *row in zip_longest(currencies, *columns):
            usual = usual_decimals(currency) if currency else 0
            sheet.append(
                [
                    cells.any(value, usual if is_money else 0)
                    for value, is_money in zip(row, money, strict=True)
                ]
            )
        rows += batch.num_rows
    sheet.auto_filter.ref = f"A1:{get_column_letter(len(names))}{rows}"
    workbook.save(out)


def _is_money(kind: pa.DataType) -> bool:
    """Amounts are `decimal(38,4)`, ratios `decimal(38,6)`."""
    import pyarrow.types

    return bool(pyarrow.types.is_decimal(kind) and kind.scale == 4)


@dataclass(frozen=True, slots=True)
class _Cells:
    """Makes cells whose type is ours, not what openpyxl reads into a value."""

    sheet: Any

    def any(self, value: Any, decimals: int) -> Any:
        match value:
            case None | bool():
                return value
            case str():
                return self.text(value)
            case int() | Decimal():
                return self.number(value, decimals)
            case float() if isfinite(value):
                return self._cell(repr(value), "n")
            case date() if (value.year, value.month) >= _XLSX_FIRST_MONTH:
                shape = "yyyy-mm-dd hh:mm:ss" if isinstance(value, datetime) else "yyyy-mm-dd"
                return self._cell(value, "d", shape)
            case _:
                return self.text(str(value))

    def text(self, value: str) -> Any:
        legal = _XLSX_ILLEGAL.sub("", value.replace("\r\n", "\n").replace("\r", "\n"))
        if len(legal) > _XLSX_MAX_TEXT:
            legal = legal[: _XLSX_MAX_TEXT - 1] + "…"
        if not legal:
            return None
        # As Excel's "Text", it stays text when somebody edits the cell.
        return self._cell(legal, "s", "@" if _FORMULA.match(legal) else "General")

    def number(self, value: Decimal | int, decimals: int) -> Any:
        plain = digits(value)
        if len(plain.lstrip("-").replace(".", "").strip("0")) > _XLSX_MAX_DIGITS:
            return self._cell(plain, "s", "@")
        if isinstance(value, int):
            return self._cell(plain, "n")
        decimals = max(decimals, len(plain.partition(".")[2]))
        # As digits: openpyxl writes a number as "%.16g" of a float, which makes 9.95 into
        # 9.949999999999999.
        return self._cell(plain, "n", f"#,##0.{'0' * decimals}" if decimals else "#,##0")

    def _cell(self, value: Any, kind: str, number_format: str = "General") -> Any:
        from openpyxl.cell import WriteOnlyCell

        cell = WriteOnlyCell(self.sheet, value)
        # After the value, since openpyxl takes text that begins with = for a formula.
        cell.data_type = kind
        cell.number_format = number_format
        return cell
