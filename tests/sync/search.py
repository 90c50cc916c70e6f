"""Looks for texts in every file of a folder, however they may be written there."""

from __future__ import annotations

import base64
import gzip
import json
import zlib
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import quote

import duckdb
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path


def found(folder: Path, texts: Iterable[str]) -> dict[str, set[str]]:
    """Each text that stands in some file below `folder`, and where.

    Files are read as bytes, unpacked, and as tables: DuckDB and parquet pack what they hold.
    """
    wanted = {text: forms(text) for text in texts}
    places: dict[str, set[str]] = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        for where, body in contents(path):
            for text, known in wanted.items():
                if any(form in body for form in known):
                    places.setdefault(text, set()).add(where)
    return places


def forms(text: str) -> set[bytes]:
    raw = text.encode()
    # Of base64 what does not depend on what stands before and behind.
    packed = {base64.b64encode(b"\0" * n + raw)[4:-4] for n in range(3)}
    plain = {raw, raw.hex().encode(), text.encode("utf-16-le"), quote(text).encode()}
    return {f for f in plain | packed | {json.dumps(text)[1:-1].encode()} if len(f) >= 6}


def contents(path: Path) -> Iterator[tuple[str, bytes]]:
    with suppress(FileNotFoundError):
        body = path.read_bytes()
        yield path.name, body
        if body[:2] == b"\x1f\x8b":
            yield path.name, gzip.decompress(body)
        if path.suffix == ".parquet":
            yield path.name, str(pq.read_table(path).to_pylist()).encode()
        if body[8:12] == b"DUCK":
            yield from tables(path)


def tables(path: Path) -> Iterator[tuple[str, bytes]]:
    with duckdb.connect(str(path), read_only=True) as con:
        named = con.execute(
            "select table_schema, table_name, column_name from information_schema.columns"
        ).fetchall()
        for schema, table, column in named:
            values = con.execute(
                f'select distinct "{column}"::varchar from "{schema}"."{table}"'
            ).fetchall()
            texts = [value for (value,) in values if value is not None]
            where = f"{path.name}: {schema}.{table}.{column}"
            yield where, "\n".join(texts).encode()
            if table.startswith("_dlt_"):
                yield where, b"\n".join(map(unpacked, texts))


def unpacked(text: str) -> bytes:
    """What dlt keeps of its state."""
    with suppress(ValueError, zlib.error):
        return zlib.decompress(base64.b64decode(text))
    return b""
