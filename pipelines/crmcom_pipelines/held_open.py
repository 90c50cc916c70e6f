"""A DuckDB file that stays open from one job of a load to the next."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import duckdb
from dlt.common.runtime.collector_base import Collector

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from dlt import Pipeline

HELD_BYTES = 48_000_000
"""What DuckDB may keep in memory from one job to the next. It keeps what was loaded until the file
is closed, up to its `memory_limit`."""


@contextlib.contextmanager
def held_open(file: Path, pipeline: Pipeline) -> Iterator[None]:
    """While the pipeline loads into `file`.

    dlt opens it anew for each job and each question, some 30 for a load; to open and close it
    takes 30 to 50 ms.
    """
    held = _Held(file)
    before, pipeline.collector = pipeline.collector, held
    try:
        yield
    finally:
        pipeline.collector = before
        held.close()


class _Held(Collector):
    """What dlt tells of its progress; at the end of each job nobody but this has the file open."""

    def __init__(self, file: Path) -> None:
        self._file = str(file)
        self._connection = duckdb.connect(self._file)

    def update(self, *_: Any, **__: Any) -> None:
        kept = "select sum(memory_usage_bytes) from duckdb_memory()"
        ((size,),) = self._connection.execute(kept).fetchall()
        if size > HELD_BYTES:
            self.close()
            self._connection = duckdb.connect(self._file)

    def close(self) -> None:
        self._connection.close()

    def _start(self, step: str) -> None:
        pass

    def _stop(self) -> None:
        pass
