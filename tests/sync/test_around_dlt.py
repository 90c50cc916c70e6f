"""What holds in the process while a load goes on, and no longer."""

from __future__ import annotations

import subprocess
import sys

import pytest

from crmcom_pipelines.around_dlt import without_extras


def test_a_load_that_fails_leaves_no_trace():
    before = list(sys.meta_path)
    with pytest.raises(ZeroDivisionError), without_extras():
        raise ZeroDivisionError
    assert sys.meta_path == before


@pytest.mark.parametrize(
    ("destination", "imported"),
    [
        ("duckdb", "[]"),
        ("sqlalchemy", "['sqlalchemy']"),
        ("dlt.destinations.sqlalchemy", "['sqlalchemy']"),
        ("a_name_of_ones_own", "['sqlalchemy']"),
    ],
)
def test_extras_are_imported_only_where_they_are_needed(destination, imported):
    """As they would not be there: dlt and DuckDB do without."""
    code = f"""
import contextlib, sys
from crmcom_pipelines.around_dlt import without_extras
with without_extras({destination!r}):
    for name in ("pandas", "sqlalchemy"):
        with contextlib.suppress(ImportError):
            __import__(name)
print([n for n in ("pandas", "sqlalchemy") if n in sys.modules])
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == imported
