"""What holds in the process while a load goes on, and no longer."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest
import uvloop

from crmcom_pipelines.around_dlt import on_uvloop, without_extras


def test_loops_that_are_made_meanwhile_are_uvloops():
    """dlt makes the one that is read in."""
    with on_uvloop():
        inside = asyncio.new_event_loop()
    outside = asyncio.new_event_loop()
    try:
        assert isinstance(inside, uvloop.Loop)
        assert not isinstance(outside, uvloop.Loop)
    finally:
        inside.close()
        outside.close()


def test_a_load_that_fails_leaves_no_trace():
    before = asyncio.get_event_loop_policy(), list(sys.meta_path)
    with pytest.raises(ZeroDivisionError), without_extras(), on_uvloop():
        raise ZeroDivisionError
    assert (asyncio.get_event_loop_policy(), sys.meta_path) == before


@pytest.mark.parametrize(
    ("destination", "imported"), [("duckdb", "[]"), ("sqlalchemy", "['sqlalchemy']")]
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
