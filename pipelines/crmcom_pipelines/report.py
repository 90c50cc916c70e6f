"""The reports: a mart as a pandas or Arrow table, or written as table, csv, parquet or xlsx."""

# ruff: noqa: PLC0415 - libraries are imported where they are used: `crmcom --help` is fast

from __future__ import annotations

import io
import os
import secrets
import shutil
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TextIO, cast

from crmcom_pipelines.formats import (
    XLSX_MAX_ROWS,
    Report,
    write_csv,
    write_parquet,
    write_xlsx,
)
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
    from collections.abc import Callable, Iterator

    import pandas as pd
    import pyarrow as pa

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
]


@dataclass(frozen=True, slots=True)
class Format:
    write: Callable[[Report, BinaryIO], None]
    is_text: bool
    """UTF-8 that may go to a terminal."""
    max_rows: int | None = None


FORMATS = {
    "table": Format(write_table, is_text=True),
    "csv": Format(write_csv, is_text=True),
    "parquet": Format(write_parquet, is_text=False),
    "xlsx": Format(write_xlsx, is_text=False, max_rows=XLSX_MAX_ROWS),
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
) -> None:
    """Writes the mart to the file `output`, else to `stream`, else to stdout.

    A file appears whole or not at all. With a `limit`, only the first rows are written; in a
    table of accounts the first of each currency, with totals of all and how many there are more.
    `source` is what a file of the past refers to, see `past.as_known`. Raises `ReportError`.
    """
    if file_format not in FORMATS:
        raise CannotWrite(f"there is no format {file_format!r}; there are: {', '.join(FORMATS)}")
    if limit is not None and limit < 0:
        raise CannotWrite("a limit is 0 or more")
    chosen = FORMATS[file_format]
    width = None
    with open_mart(name, database=database, dataset=dataset, source=source) as mart:
        if chosen.max_rows is not None:
            rows = mart.ask("count(*)")
            if min(rows, rows if limit is None else limit) > chosen.max_rows:
                raise CannotWrite(
                    f"{mart.name} has {rows:,} rows, a sheet has room for {chosen.max_rows:,}:"
                    " use csv or parquet, or set a limit"
                )
        if output is not None:
            with _replacing(output, source or Path(database)) as out:
                chosen.write(Report(mart, limit), out)
        else:
            target = stream or sys.stdout
            if target.isatty():
                width = shutil.get_terminal_size().columns
            with _bytes_of(target, chosen, file_format) as out:
                chosen.write(Report(mart, limit, width), out)


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
