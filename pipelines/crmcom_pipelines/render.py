"""A mart as a table for people: one section per currency, each with its own total.

Amounts of two currencies are never added, nor those of two tenants. Nothing is ever cut,
however narrow the terminal: text is folded first, then the columns that matter least are left
out and named, and at last the rows are written as lists.
"""

# ruff: noqa: PLC0415 - libraries are imported where they are used: `crmcom --help` is fast

from __future__ import annotations

import io
from dataclasses import dataclass, field
from decimal import Context, localcontext
from itertools import groupby, zip_longest
from typing import TYPE_CHECKING, Any, BinaryIO

from crmcom_pipelines.freshness import freshness
from crmcom_pipelines.views import NAMES, printable, view_of, when_empty

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Sequence

    from crmcom_pipelines.formats import Report
    from crmcom_pipelines.marts import Mart
    from crmcom_pipelines.views import Column, Row, View

_ROWS_PER_BLOCK = 10_000
"""A longer section is laid out in blocks, each with a header, so as never to be held whole."""

_GAP = "  "


def write_table(report: Report, out: BinaryIO) -> None:
    """UTF-8; bold headings on a terminal, elsewhere plain and as wide as the data."""
    from rich.console import Console
    from rich.text import Text

    text = io.TextIOWrapper(out, "utf-8", newline="\n")
    console = Console(file=text, force_terminal=report.terminal_width is not None)
    # The default context would round a sum to 28 digits; an amount alone may have 38.
    try:
        with localcontext(Context(prec=100)):
            for line in _Printer(report).lines():
                if isinstance(line, _Heading):
                    console.print(Text(line, "bold"), soft_wrap=True)
                else:  # rich takes a hundred times longer
                    text.write(f"{line}\n")
    finally:
        text.detach()  # else it would close what it was given


class _Heading(str):
    """A line that stands out."""

    __slots__ = ()


@dataclass(slots=True)
class _Printer:
    report: Report
    left_out: dict[str, None] = field(default_factory=dict)
    """Headings for which the terminal had no room, in order."""

    def lines(self) -> Iterator[str]:
        mart, room = self.report.mart, self.report.limit
        view = view_of(mart)
        many_tenants = view.sections and mart.ask("count(distinct source_relation)") > 1
        is_empty = True
        # A total takes all rows. Without one, a row more than asked for tells a full mart
        # from an empty one.
        limit = None if view.sums or room is None else room + 1
        found = _rows(mart, view.needs, limit)
        for key, rows in groupby(found, lambda row: [row[c] for c in view.sections]):
            if not is_empty:
                yield ""
            is_empty = False
            names = [NAMES.get(name, name) for name in (key if many_tenants else key[1:])]
            shown = yield from self._section(view, names, rows, room)
            if room is not None and not view.sums:
                room -= shown  # currencies are apart, and each has its own first rows
        if is_empty:
            yield f"{view.when_empty}{when_empty(self.report)}."
        if self.left_out:
            yield ""
            yield f"Left out, the terminal is too narrow: {', '.join(self.left_out)}."
        tenants = freshness(mart)
        if tenants:
            yield ""
        for one in tenants:
            tenant = f"{printable(one.source_relation)}: " if len(tenants) > 1 else ""
            yield f"{tenant}{one}."

    def _section(
        self, view: View, names: Sequence[str], rows: Iterable[Row], room: int | None
    ) -> Generator[str, None, int]:
        """Returns how many rows were shown."""
        block: list[list[str]] = []
        total: dict[str, Any] = {"rows": 0, **dict.fromkeys(view.sums, 0)}
        shown = 0
        for row in rows:
            if not total["rows"]:
                as_of = (f"as of {row['as_of_date']}",) if view.sums else ()
                yield _Heading(printable(", ".join([view.title, *names, *as_of])))
                total = {**row, **total}
            total["rows"] += 1
            for column in view.sums:
                total[column] += row[column] or 0
            if room is not None and shown == room:
                continue
            shown += 1
            block.append([printable(column.cell(row)) for column in view.columns])
            if len(block) == _ROWS_PER_BLOCK:
                yield from self._block(view, block, None)
                block = []
        sums = [printable(column.total(total)) if column.total else "" for column in view.columns]
        yield from self._block(view, block, sums if view.sums else None)
        known = (
            total["rows"]
            if view.sums or shown == total["rows"]
            else self.report.mart.ask("count(*)")
        )
        if more := known - shown:
            yield (
                f"{more:,} more {view.noun}{'s' if more > 1 else ''}"
                + (", counted in the total" if view.sums else "")
                + ": raise --limit, or use another --format"
            )
        return shown

    def _block(self, view: View, rows: list[list[str]], total: list[str] | None) -> Iterator[str]:
        """Headings, rows and total, as wide as they need or as the terminal allows."""
        table = rows if total is None else [*rows, total]
        kept = [
            _Laid(column, [row[i] for row in table])
            for i, column in enumerate(view.columns)
            if not column.is_optional or any(row[i] for row in table)
        ]
        if not table:
            return
        room = self.report.terminal_width
        if room is not None:
            everything, left_out = kept, []
            while _line_width(laid.narrowest for laid in kept) > room:
                spare = next((laid for laid in reversed(kept) if laid.column.is_spare), None)
                if spare is None:
                    yield from _as_lists(everything, len(table))
                    return
                kept = [laid for laid in kept if laid is not spare]
                left_out.append(spare.column.heading)
            self.left_out.update(dict.fromkeys(left_out))
            while _line_width(laid.width for laid in kept) > room:
                widest = max(
                    (laid for laid in kept if laid.width > laid.narrowest),
                    key=lambda laid: laid.width,
                )
                widest.width -= 1
        rule = _GAP.join("─" * laid.width for laid in kept)
        yield from map(_Heading, _lines(kept, [laid.column.heading for laid in kept]))
        for i in range(len(rows)):
            if i == 0:
                yield rule
            yield from _lines(kept, [laid.cells[i] for laid in kept])
        if total is not None:
            yield rule
            yield from map(_Heading, _lines(kept, [laid.cells[-1] for laid in kept]))


def plain_table(columns: Sequence[Column], rows: Sequence[Row]) -> Iterator[str]:
    """Rows under their headings, as wide as they need."""
    laid = [_Laid(column, [printable(column.cell(row)) for row in rows]) for column in columns]
    yield from _lines(laid, [column.heading for column in columns])
    yield _GAP.join("─" * one.width for one in laid)
    for i in range(len(rows)):
        yield from _lines(laid, [one.cells[i] for one in laid])


class _Laid:
    """A column with its cells and the width it is given."""

    def __init__(self, column: Column, cells: list[str]) -> None:
        self.column = column
        self.cells = cells
        self.width = max(_width(text) for text in (column.heading, *cells))
        self.narrowest = self.width if column.is_number else min(self.width, column.fold_at)


def _lines(columns: list[_Laid], cells: list[str]) -> Iterator[str]:
    """One row: a line, or several where text is folded."""
    folded = [_folded(cell, laid.width) for laid, cell in zip(columns, cells, strict=True)]
    for parts in zip_longest(*folded, fillvalue=""):
        padded = []
        for laid, part in zip(columns, parts, strict=True):
            blank = " " * (laid.width - _width(part))
            padded.append(blank + part if laid.column.is_number else part + blank)
        yield _GAP.join(padded).rstrip()


def _as_lists(columns: list[_Laid], rows: int) -> Iterator[str]:
    width = max(_width(laid.column.heading) for laid in columns)
    for i in range(rows):
        for laid in columns:
            if laid.cells[i]:
                heading = laid.column.heading
                yield f"{heading}{' ' * (width - _width(heading))}{_GAP}{laid.cells[i]}"
        if i < rows - 1:
            yield ""


def _line_width(widths: Iterable[int]) -> int:
    widths = list(widths)
    return sum(widths) + len(_GAP) * (len(widths) - 1)


def _width(text: str) -> int:
    """Columns on a terminal: two for a Chinese character, none for a combining accent."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def _folded(text: str, width: int) -> list[str]:
    if _width(text) <= width:
        return [text]
    from rich.console import Console
    from rich.text import Text

    lines = Text(text).wrap(Console(width=width), width, overflow="fold")
    return [line.plain.rstrip() for line in lines]


def _rows(mart: Mart, columns: Sequence[str], limit: int | None) -> Iterator[Row]:
    for batch in mart.batches(columns=columns, limit=limit, cells=True):
        yield from batch.to_pylist()
