"""The warehouse's file stays open from job to job, and its memory does not grow with the load."""

from __future__ import annotations

import duckdb
import pytest

from crmcom_pipelines import load
from crmcom_pipelines.around_dlt import quiet_dlt
from crmcom_pipelines.held_open import HELD_BYTES, held_open
from crmcom_pipelines.warehouse import duckdb_target

KEPT = "select sum(memory_usage_bytes) from duckdb_memory()"


@pytest.fixture
def file(tmp_path):
    return tmp_path / "warehouse.duckdb"


@pytest.fixture
def pipeline(file, tmp_path):
    with quiet_dlt():
        yield load.pipeline_on(duckdb_target(file), tmp_path / "pipelines", "crmcom")


def asked(file, *statements):
    """What a job does: connects, works, and closes."""
    with duckdb.connect(str(file)) as connection:
        for statement in statements:
            found = connection.execute(statement).fetchall()
    return found


def test_it_is_one_and_the_same_from_job_to_job(file, pipeline):
    threads = "select current_setting('threads')"
    with held_open(file, pipeline):
        asked(file, "create table small (n bigint)", "set global threads = 7")
        pipeline.collector.update("Jobs")
        assert asked(file, threads) == [(7,)]  # an option that ends with the open file
    assert asked(file, threads) != [(7,)]


def test_what_jobs_have_left_in_memory_is_given_back(file, pipeline):
    with held_open(file, pipeline):
        for number in range(4):
            rows = "select n, repeat(md5(n::text), 8) as text from range(600000) as numbers (n)"
            ((kept,),) = asked(file, f"create table large_{number} as {rows}", KEPT)
            assert kept > HELD_BYTES, "else this shows nothing"
            pipeline.collector.update("Jobs")
            assert asked(file, KEPT)[0][0] < HELD_BYTES


def test_a_load_tells_of_each_job_that_has_ended(file, pipeline):
    """What the memory is looked at by: dlt's own progress."""
    told = []
    pipeline.extract([{"n": 1}], table_name="numbers", loader_file_format="parquet")
    pipeline.normalize()
    with held_open(file, pipeline):
        update = pipeline.collector.update
        pipeline.collector.update = lambda *a, **k: (told.append(a), update(*a, **k))
        pipeline.load()
    assert [a for a in told if a == ("Jobs",)]
    assert asked(file, "select n from crmcom.numbers") == [(1,)]


def test_the_file_is_closed_where_a_load_fails(file, pipeline):
    before = pipeline.collector
    with pytest.raises(RuntimeError), held_open(file, pipeline):
        raise RuntimeError
    assert pipeline.collector is before
    duckdb.connect(str(file), config={"threads": "3"}).close()  # refused where it is open
