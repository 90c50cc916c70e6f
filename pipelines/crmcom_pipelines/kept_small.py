"""What DuckDB keeps in memory between the jobs of a load, while its file stays open."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import duckdb
from dlt.common.runtime.collector_base import Collector

from crmcom_pipelines.warehouse import DUCKDB

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dlt import Pipeline
    from duckdb import DuckDBPyConnection

KEPT_BYTES = 20_000_000
"""Of what a job has read and written. DuckDB keeps all of it, up to its `memory_limit`."""
IDLE_BYTES = 4_000_000
"""While a slice is read, which may take an hour. To change a limit takes some, too."""


@contextlib.contextmanager
def kept_small(connection: DuckDBPyConnection, pipeline: Pipeline) -> Iterator[None]:
    """While the pipeline loads through `connection`."""
    ours = _AfterEachJob(connection)
    before, pipeline.collector = pipeline.collector, ours
    try:
        yield
        ours.give_back(to_bytes=IDLE_BYTES)
    finally:
        pipeline.collector = before


class _AfterEachJob(Collector):
    """What dlt tells of its progress; at the end of each job nobody but us is connected."""

    def __init__(self, connection: DuckDBPyConnection) -> None:
        self._connection = connection

    def update(self, *_: Any, **__: Any) -> None:
        kept = "select sum(memory_usage_bytes) from duckdb_memory()"
        ((size,),) = self._connection.execute(kept).fetchall()
        if size > KEPT_BYTES:
            self.give_back(to_bytes=KEPT_BYTES)

    def give_back(self, *, to_bytes: int) -> None:
        """A lower limit gives back at once what nobody uses; if all of the rest is in use, it is
        refused. What is not in the file yet would go into another one, beside it; a job that is
        writing, where dlt was told to do several at once, keeps it from going into the file."""
        with contextlib.suppress(duckdb.OutOfMemoryException, duckdb.TransactionException):
            self._connection.execute("checkpoint")
            self._connection.execute(f"set memory_limit = '{to_bytes} B'")
        self._connection.execute(f"set memory_limit = '{DUCKDB['memory_limit']}'")

    def _start(self, step: str) -> None:
        pass

    def _stop(self) -> None:
        pass
