"""Datasets that share a file: each is published as its own last good run left it."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crmcom.errors import SettingsError
from crmcom_pipelines.publish import Draft, Workspace
from crmcom_pipelines.union import Union

DATASETS = ("one", "two", "three_d")
UNION = Union("all", DATASETS)
ENDS = ("published", "failed", "killed", "idle", "lost")


def write(file, dataset, number):
    """As a run does: raw tables, a view of them, and marts."""
    with duckdb.connect(str(file)) as connection:
        for part in ("", "_staging", "_reports"):
            connection.execute(f'create schema if not exists "{dataset}{part}"')
        connection.execute(
            f'create or replace table "{dataset}".t (n integer not null, d decimal(38, 4))'
        )
        connection.execute(f'insert into "{dataset}".t values ({number}, {number}.25)')
        # By name the first to be made is the last of the two, and reads the other.
        connection.execute(
            f"""create or replace view "{dataset}_staging".b as from "{dataset}".t"""
        )
        connection.execute(
            f"""create or replace view "{dataset}_staging".a as from "{dataset}_staging".b"""
        )
        connection.execute(
            f'create or replace table "{dataset}_reports".m as '
            f"""select '{dataset}' as source_relation, n from "{dataset}_staging".a"""
        )
        connection.execute(f"""comment on column "{dataset}_reports".m.n is 'it''s a number'""")
        connection.execute(f"""comment on view "{dataset}_staging".b is 'a view'""")


def kill(workspace, number):
    """A run that ends after it has written, and can say nothing of that."""
    workspace.make_folder()
    write(Draft(workspace).path, workspace.dataset, number)


def seen(file):
    """What a reader finds of each dataset, in each of its parts."""
    found = {}
    with duckdb.connect(str(file), read_only=True) as connection:
        for dataset in DATASETS:
            try:
                rows = [
                    connection.execute(f'select n from "{dataset}{table}').fetchall()
                    for table in ('".t', '_staging".a', '_reports".m')
                ]
            except duckdb.CatalogException:
                continue
            (said,) = connection.execute(
                "select (select comment from duckdb_columns() where schema_name = "
                f"'{dataset}_reports' and column_name = 'n'), (select comment from "
                f"duckdb_views() where schema_name = '{dataset}_staging' and view_name = 'b'), "
                "(select data_type from duckdb_columns() where "
                f"schema_name = '{dataset}' and column_name = 'd')"
            ).fetchall()
            assert said == ("it's a number", "a view", "DECIMAL(38,4)")
            assert rows[0] == rows[1] == rows[2]
            found[dataset] = rows[0][0][0]
        united = connection.execute("from all_reports.m").fetchall()
    assert dict(united) == found
    return found


@settings(max_examples=12, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(DATASETS), st.sampled_from(ENDS)), max_size=7))
def test_readers_find_what_each_datasets_last_good_run_left(runs):
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "warehouse.duckdb"
        published: dict[str, int] = {}
        for number, (dataset, end) in enumerate(runs):
            workspace = Workspace(file, dataset, UNION)
            if end == "lost":
                shutil.rmtree(workspace.folder.parent, ignore_errors=True)
            elif end == "killed":
                kill(workspace, number)
            else:
                with workspace.draft("test") as draft:
                    if end != "idle":
                        write(draft.path, dataset, number)
                    if end == "published":
                        draft.publish()
                        published[dataset] = number
            if published:
                assert seen(file) == published
            assert file.exists() == bool(published)


def test_the_next_run_goes_on_from_what_was_kept_from_readers(tmp_path):
    file = tmp_path / "warehouse.duckdb"
    kill(Workspace(file, "one", UNION), 1)
    with Workspace(file, "two", UNION).draft("test") as draft:
        write(draft.path, "two", 2)
        draft.publish()
    assert seen(file) == {"two": 2}
    assert Workspace(file, "one", UNION).next_start() == Workspace(file, "one").working
    assert Workspace(file, "two", UNION).next_start() == file
    with Workspace(file, "one", UNION).draft("test") as draft:
        with duckdb.connect(str(draft.path)) as connection:
            assert connection.execute("select n from one.t").fetchall() == [(1,)]
        draft.publish()
    assert seen(file) == {"one": 1, "two": 2}


def test_tables_are_never_replaced_by_the_views(tmp_path):
    """As those of a warehouse that had one tenant."""
    file = tmp_path / "warehouse.duckdb"
    with Workspace(file, "all").draft("test") as draft:
        write(draft.path, "all", 1)
        draft.publish()
    with (
        pytest.raises(SettingsError, match=r'all_reports holds tables.* dataset = "all"'),
        Workspace(file, "one", UNION).draft("test"),
    ):
        raise AssertionError
    with duckdb.connect(str(file), read_only=True) as connection:
        assert connection.execute("select n from all_reports.m").fetchall() == [(1,)]


def test_a_run_that_wrote_nothing_keeps_nothing_from_readers(tmp_path):
    """So that no run after it copies what is the same."""
    file = tmp_path / "warehouse.duckdb"
    with Workspace(file, "one").draft("test") as draft:
        write(draft.path, "one", 1)
        draft.publish()
    with Workspace(file, "one").draft("test") as draft:
        duckdb.connect(str(draft.path)).close()
    assert Workspace(file, "one").read_record().ahead == ()
