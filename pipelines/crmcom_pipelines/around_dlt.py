"""What holds in the process while dlt works in it: dlt's options, and what is not imported."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING

from crmcom_pipelines.warehouse import WITH_MARTS

if TYPE_CHECKING:
    from collections.abc import Iterator

_ENVIRONMENT = {
    "RUNTIME__DLTHUB_TELEMETRY": "false",
    # What ends a load is raised, and told in a line; dlt would tell of each try, with its stack.
    "RUNTIME__LOG_LEVEL": "CRITICAL",
    # Arrow tables get the id of their load only when asked.
    "NORMALIZE__PARQUET_NORMALIZER__ADD_DLT_LOAD_ID": "true",
    # Whoever may be killed at any moment need not be asked to finish first.
    "RUNTIME__INTERCEPT_SIGNALS": "false",
    # People's data stays in the warehouse alone, not in files beside it.
    "LOAD__DELETE_COMPLETED_JOBS": "true",
    # One table at a time: 20 at once, as dlt would, took 100 MB more at the peak, and on DuckDB
    # no less time where there is much to load.
    "LOAD__WORKERS": "1",
}


@contextlib.contextmanager
def quiet_dlt() -> Iterator[None]:
    """dlt's options that are ours to set, unless the user has set them.

    It tells of a run as soon as it is imported.
    """
    added = {k: v for k, v in _ENVIRONMENT.items() if k not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for key in added:
            os.environ.pop(key, None)


@contextlib.contextmanager
def without_extras(destination: str = "duckdb") -> Iterator[None]:
    """Python packages that are imported only if they are there, and not needed to load. Where they
    cannot be found, nothing can be.

    DuckDB imports pandas to see whether a query's parameter is one of its values: half a second
    and 32 MB, in each sync. dlt imports SQLAlchemy to read an address that it reads as well
    without: a quarter of a second. A destination that is not ours may need it.
    """
    absent = _Absent({"pandas", "sqlalchemy"} if destination in WITH_MARTS else {"pandas"})
    sys.meta_path.insert(0, absent)
    try:
        yield
    finally:
        sys.meta_path.remove(absent)


class _Absent:
    def __init__(self, names: set[str]) -> None:
        self._names = names

    def find_spec(self, name: str, *_: object) -> None:
        if name in self._names:
            raise ModuleNotFoundError(f"{name} is not needed to load", name=name)
