"""The warehouse's file stays open from job to job, and its memory does not grow with the load."""

from __future__ import annotations

import contextlib
import random
import time

import dlt
import duckdb
import pytest
from dlt.destinations.impl.duckdb.duck import DuckDbCopyJob

from crmcom.errors import CrmcomError
from crmcom_pipelines import load
from crmcom_pipelines.around_dlt import quiet_dlt
from crmcom_pipelines.kept_small import IDLE_BYTES, KEPT_BYTES, kept_small
from crmcom_pipelines.load import sync
from crmcom_pipelines.warehouse import DUCKDB, connected

from . import worlds

KEPT = "select sum(memory_usage_bytes) from duckdb_memory()"
LIMIT = "select current_setting('memory_limit')"
ROWS = "select n, repeat(md5(n::text), 8) as text from range(600000) as numbers (n)"


@pytest.fixture
def file(tmp_path):
    return tmp_path / "warehouse.duckdb"


@contextlib.contextmanager
def opened(file, tmp_path):
    with quiet_dlt(), connected(file) as (connection, target):
        yield connection, load.pipeline_on(target, tmp_path / "pipelines", "crmcom")


def asked(file, *statements):
    """What a job does: connects, works, and closes."""
    with duckdb.connect(str(file)) as connection:
        for statement in statements:
            found = connection.execute(statement).fetchall()
    return found


def numbers(pipeline):
    pipeline.run([{"n": 1}], table_name="numbers", loader_file_format="parquet")
    with pipeline.sql_client() as client:
        return client.execute_sql("select n from numbers")


def test_dlt_loads_and_asks_through_the_connection_that_is_open(file, tmp_path, monkeypatch):
    connect, told = duckdb.connect, []
    monkeypatch.setattr(duckdb, "connect", lambda *a, **k: (told.append(a), connect(*a, **k))[1])
    with opened(file, tmp_path) as (_, pipeline):
        assert numbers(pipeline) == [(1,)]
    assert told == [(str(file),)]
    assert asked(file, "select n from crmcom.numbers") == [(1,)]
    duckdb.connect(str(file), config={"threads": "3"}).close()  # refused where it is open


def test_the_options_are_ours_whatever_dlt_sets(file, tmp_path):
    with opened(file, tmp_path) as (_, pipeline):
        numbers(pipeline)
        with pipeline.sql_client() as client:
            names = ("memory_limit", "threads", "preserve_insertion_order", "checkpoint_threshold")
            settings = [f"current_setting('{name}')" for name in names]
            ((*found,),) = client.execute_sql(f"select {', '.join(settings)}")
    assert found == ["953.6 MiB", 1, False, "15.2 MiB"]


def test_a_large_transaction_is_not_written_into_the_log_first(file, tmp_path):
    log = file.with_name(f"{file.name}.wal")
    with opened(file, tmp_path) as (_, pipeline), pipeline.sql_client() as client:
        client.execute_sql(f"create table main.large as {ROWS}")
        assert not log.exists() or log.stat().st_size < 1_000_000
        assert file.stat().st_size > 16_000_000


def test_one_job_at_a_time_whatever_dlt_is_told(file, tmp_path, monkeypatch):
    """A lower limit while another works would fail what it does."""
    monkeypatch.setenv("LOAD__WORKERS", "8")
    at_work, most = set(), []

    def run(job, run=DuckDbCopyJob.run):
        at_work.add(job)
        most.append(len(at_work))
        time.sleep(0.05)
        run(job)
        at_work.remove(job)

    monkeypatch.setattr(DuckDbCopyJob, "run", run)
    with opened(file, tmp_path) as (connection, pipeline):
        rows = [dlt.resource([{"n": 1}], name=f"numbers_{n}") for n in range(4)]
        pipeline.extract(rows, loader_file_format="parquet")
        pipeline.normalize()
        with kept_small(connection, pipeline):
            pipeline.load()
    assert most == [1] * 4


def test_what_jobs_have_left_in_memory_is_given_back(file, tmp_path):
    with opened(file, tmp_path) as (connection, pipeline), kept_small(connection, pipeline):
        for number in range(4):
            ((kept,),) = asked(file, f"create table large_{number} as {ROWS}", KEPT)
            assert kept > KEPT_BYTES, "else this shows nothing"
            pipeline.collector.update("Jobs")
            assert asked(file, KEPT)[0][0] <= KEPT_BYTES
            assert asked(file, LIMIT) == [("953.6 MiB",)]


def test_nearly_all_of_it_is_given_back_before_the_next_slice_is_read(file, tmp_path):
    with opened(file, tmp_path) as (connection, pipeline):
        with kept_small(connection, pipeline):
            asked(file, f"create table large as {ROWS}")
        ((kept,),) = asked(file, KEPT)
        assert asked(file, LIMIT) == [("953.6 MiB",)]
    assert kept <= IDLE_BYTES


def test_what_is_in_use_is_left_where_it_is(file, tmp_path):
    with opened(file, tmp_path) as (connection, pipeline), kept_small(connection, pipeline):
        asked(file, f"create table large as {ROWS}")
        reading = connection.cursor()
        reading.execute("select * from large order by text")  # sorted in memory, and not fetched
        reading.fetchmany(10)
        pipeline.collector.update("Jobs")
        assert len(reading.fetchmany(10)) == 10


def test_a_load_tells_of_each_job_that_has_ended(file, tmp_path):
    """What the memory is looked at by: dlt's own progress."""
    told = []
    with opened(file, tmp_path) as (connection, pipeline):
        pipeline.extract([{"n": 1}], table_name="numbers", loader_file_format="parquet")
        pipeline.normalize()
        with kept_small(connection, pipeline):
            update = pipeline.collector.update
            pipeline.collector.update = lambda *a, **k: (told.append(a), update(*a, **k))
            pipeline.load()
    assert [a for a in told if a == ("Jobs",)]


def test_all_is_as_before_where_a_load_fails(file, tmp_path):
    with opened(file, tmp_path) as (connection, pipeline):
        before = pipeline.collector
        with pytest.raises(RuntimeError), kept_small(connection, pipeline):
            raise RuntimeError
        assert pipeline.collector is before


def test_a_file_that_cannot_be_opened_is_told_in_a_line(warehouse):
    """It is opened before dlt is asked for anything, and so outside of what dlt wraps."""
    at = warehouse(worlds.small())

    def spoil(step):
        folder = at.database.parent / ".crmcom" / at.database.name / "working"
        folder.joinpath(at.database.name).write_bytes(b"no database" * 1000)

    run = at.run()
    with pytest.raises(CrmcomError, match=r"the load failed: IOException: .*not a valid DuckDB"):
        sync(run, database=at.database, transform=False, on_step=spoil)


def test_a_full_listing_of_long_records_fits_into_memory(warehouse, monkeypatch):
    """A merge that looks for doubles among them holds them all."""
    monkeypatch.setitem(DUCKDB, "memory_limit", "250MB")
    world = worlds.small(activities=16_000)
    chance = random.Random(1)
    for record in world.activities:
        record.body["description"] = chance.randbytes(6_000).hex()
    at = warehouse(world)
    at.sync()
    at.sync(reconcile=True)
    assert at.differences() == []
