"""The reports: a mart as a pandas or Arrow table, or written as table, csv, parquet, xlsx, html."""

# ruff: noqa: PLC0415 - libraries are imported where they are used: `crmcom --help` is fast

from __future__ import annotations

import io
import os
import re
import secrets
import shutil
import sys
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TextIO, cast

from crmcom_pipelines.formats import (
    XLSX_MAX_ROWS,
    Report,
    write_csv,
    write_parquet,
    write_xlsx,
)
from crmcom_pipelines.html import Link, needs_extra, write_html, write_mart
from crmcom_pipelines.marts import (
    ALIASES,
    QUESTIONS,
    CannotWrite,
    DatabaseBusy,
    NoMarts,
    ReportError,
    UnknownMart,
    UnreadableDatabase,
    open_mart,
)
from crmcom_pipelines.render import write_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from datetime import datetime

    import pandas as pd
    import pyarrow as pa

    from crmcom_pipelines.marts import Mart

__all__ = [
    "ALIASES",
    "FORMATS",
    "QUESTIONS",
    "CannotWrite",
    "DatabaseBusy",
    "NoMarts",
    "ReportError",
    "UnknownMart",
    "UnreadableDatabase",
    "load",
    "read",
    "write",
    "write_all",
]

_ROWS_OF_A_PAGE = 10_000
"""Of a mart beside the index: thirteen pages are to stay light. One asked for alone has more."""


@dataclass(frozen=True, slots=True)
class Format:
    write: Callable[[Report, BinaryIO], None]
    is_text: bool
    """UTF-8 that may go to a terminal."""
    max_rows: int | None = None
    require: Callable[[], None] | None = None
    """Raises `CannotWrite` where something that it needs is not installed."""
    suffix: str | None = None
    """Of a file's name; None: the format's name."""


FORMATS = {
    "table": Format(write_table, is_text=True, suffix="txt"),
    "csv": Format(write_csv, is_text=True),
    "parquet": Format(write_parquet, is_text=False),
    "xlsx": Format(write_xlsx, is_text=False, max_rows=XLSX_MAX_ROWS),
    "html": Format(write_html, is_text=False, require=needs_extra),
}


def load(
    name: str, database: str | Path = "warehouse.duckdb", dataset: str = "crmcom"
) -> pd.DataFrame:
    """The mart as a DataFrame, rows in their order. Raises `ReportError`.

    Amounts are `decimal.Decimal` objects: exact, and ready for `+`, `-`, `*`, `/`, `sum` and
    `groupby`. (pandas' own Arrow decimals are exact too, but adding two columns of 38 digits
    raises an error.) Every other column has its Arrow type: dates have `.dt` and hold dates,
    whole numbers stay whole beside nulls, and a null is `pd.NA`; in amounts it is `None`.
    """
    import pandas as pd
    import pyarrow as pa

    def dtype(kind: pa.DataType) -> pd.ArrowDtype | None:
        return None if pa.types.is_decimal(kind) else pd.ArrowDtype(kind)

    return cast("pd.DataFrame", read(name, database, dataset).to_pandas(types_mapper=dtype))


def read(name: str, database: str | Path = "warehouse.duckdb", dataset: str = "crmcom") -> pa.Table:
    """The mart as an Arrow table, rows in their order. Raises `ReportError`."""
    with open_mart(name, database=database, dataset=dataset) as mart:
        return mart.batches().read_all()


def write(
    name: str,
    *,
    file_format: str = "table",
    database: str | Path = "warehouse.duckdb",
    dataset: str = "crmcom",
    output: Path | None = None,
    limit: int | None = None,
    stream: TextIO | None = None,
    source: Path | None = None,
    known_at: datetime | None = None,
) -> None:
    """Writes the mart to the file `output`, else to `stream`, else to stdout.

    A file appears whole or not at all. With a `limit`, only the first rows are written; in a
    table of accounts the first of each currency, with totals of all and how many there are more.
    `source` is what a file of the past refers to, see `past.as_known`, and `known_at` what it was
    asked for with. Raises `ReportError`.
    """
    chosen = format_of(file_format, limit)
    with open_mart(name, database=database, dataset=dataset, source=source) as mart:
        _check_room(chosen, mart, limit)
        report = Report(mart, limit, known_at=known_at, is_past=source is not None)
        if output is not None:
            with _replacing(output, source or Path(database)) as out:
                chosen.write(report, out)
        else:
            target = stream or sys.stdout
            if target.isatty():
                report = replace(report, terminal_width=shutil.get_terminal_size().columns)
            with _bytes_of(target, chosen, file_format) as out:
                chosen.write(report, out)


def format_of(name: str, limit: int | None = None) -> Format:
    """Raises `CannotWrite` where there is no such format, or not what it needs."""
    if name not in FORMATS:
        raise CannotWrite(f"there is no format {name!r}; there are: {', '.join(FORMATS)}")
    if limit is not None and limit < 0:
        raise CannotWrite("a limit is 0 or more")
    chosen = FORMATS[name]
    if chosen.require is not None:
        chosen.require()
    return chosen


def _check_room(chosen: Format, mart: Mart, limit: int | None) -> None:
    if chosen.max_rows is None:
        return
    rows = mart.ask("count(*)")
    if min(rows, rows if limit is None else limit) > chosen.max_rows:
        raise CannotWrite(
            f"{mart.name} has {rows:,} rows, a sheet has room for {chosen.max_rows:,}:"
            " use csv or parquet, or set a limit"
        )


def write_all(
    folder: Path,
    *,
    file_format: str = "html",
    database: str | Path = "warehouse.duckdb",
    dataset: str = "crmcom",
    limit: int | None = None,
    source: Path | None = None,
    known_at: datetime | None = None,
) -> list[Path]:
    """Writes every mart to a file in `folder`, which is made if need be; as html also an index.

    Nothing is changed in the folder unless all files could be made; files of other names that
    are there stay. Options as in `write`. Raises `ReportError`.
    """
    chosen = format_of(file_format, limit)
    suffix = chosen.suffix or file_format
    first = next(iter(QUESTIONS))
    with (
        open_mart(first, database=database, dataset=dataset, source=source) as mart,
        _filling(folder) as draft,
    ):
        files = _file_names(mart.names, suffix)
        is_html = file_format == "html"
        home = [Link(f"index.{suffix}", "Overdue debt")]
        for name, file in files.items():
            report = Report(
                replace(mart, name=name), limit, known_at=known_at, is_past=source is not None
            )
            _check_room(chosen, report.mart, limit)
            with (draft / file).open("xb") as out:
                if is_html:
                    write_mart(report, out, links=home, max_rows=_ROWS_OF_A_PAGE)
                else:
                    chosen.write(report, out)
        if is_html:
            links = [
                Link(file, name, QUESTIONS.get(name, ""), replace(mart, name=name).ask("count(*)"))
                for name, file in files.items()
            ]
            report = Report(mart, limit, known_at=known_at, is_past=source is not None)
            with (draft / f"index.{suffix}").open("xb") as out:
                write_html(report, out, links=links)
        return [folder / path.name for path in sorted(draft.iterdir())]


def _file_names(names: Iterable[str], suffix: str) -> dict[str, str]:
    """A file for each mart, those that are asked for most first; `index` is another's name."""
    taken = {"index"}
    files = {}
    for name in sorted(names, key=lambda name: ([*QUESTIONS, name].index(name), name)):
        plain = base = re.sub(r"[^\w-]", "_", name)[:100]
        n = 1
        while plain.casefold() in taken:  # not every file system tells A from a
            n += 1
            plain = f"{base}_{n}"
        taken.add(plain.casefold())
        files[name] = f"{plain}.{suffix}"
    return files


@contextmanager
def _filling(folder: Path) -> Iterator[Path]:
    """A folder whose files are moved into `folder` once all of them are complete."""
    if folder.exists() and not folder.is_dir():
        raise CannotWrite(f"{folder} is a file: name a folder")
    folder = folder.resolve()
    draft = folder.with_name(f".{folder.name[:80]}.{secrets.token_hex(4)}.tmp")
    try:
        draft.mkdir()
        yield draft
        if not folder.exists():
            draft.rename(folder)
        else:
            # The index last, so that it leads to nothing older than itself.
            for file in sorted(draft.iterdir(), key=lambda file: file.stem == "index"):
                file.replace(folder / file.name)
    except OSError as error:
        raise CannotWrite(f"cannot write {folder}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


@contextmanager
def _replacing(output: Path, database: Path) -> Iterator[BinaryIO]:
    """A new file that takes the place of `output` once it is complete."""
    if output.is_dir():
        raise CannotWrite(f"{output} is a directory: name a file in it")
    if output.exists() and output.samefile(database):
        raise CannotWrite(f"{output} is the warehouse itself: name another file")
    if output.exists() and not output.is_file():  # /dev/stdout, a named pipe
        with output.open("wb") as device:
            yield device
        return
    output = output.resolve()  # a link stays one
    draft = output.with_name(f".{output.name[:80]}.{secrets.token_hex(4)}.tmp")
    try:
        with draft.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        draft.replace(output)
    except OSError as error:
        raise CannotWrite(f"cannot write {output}: {error.strerror or error}") from error
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def _bytes_of(stream: TextIO, chosen: Format, file_format: str) -> Iterator[BinaryIO]:
    """The bytes under a text stream; text alone can also go where there are none."""
    buffer: BinaryIO | None = getattr(stream, "buffer", None)
    if not chosen.is_text and (buffer is None or stream.isatty()):
        raise CannotWrite(f"{file_format} is not for a terminal: name a file with --output")
    stream.flush()
    if buffer is not None:
        yield buffer
        buffer.flush()
    else:
        text = io.BytesIO()
        yield text
        stream.write(text.getvalue().decode())
