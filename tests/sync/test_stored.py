"""What a slice asks of the warehouse."""

from __future__ import annotations

import asyncio

import duckdb
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crmcom.stored import Destination
from crmcom_pipelines import load
from crmcom_pipelines.around_dlt import quiet_dlt
from crmcom_pipelines.warehouse import duckdb_target


async def work(do):
    return do()


IDS = st.sets(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)
)


@given(stored=IDS, asked=IDS, quoted=st.sampled_from(["'", '"', "\\", "\n", "%s", "?", "']"]))
@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_rows_are_found_by_any_text_that_may_be_an_id(tmp_path, stored, asked, quoted):
    stored, asked = stored | {quoted}, asked | {quoted}
    file = tmp_path / "warehouse.duckdb"
    with duckdb.connect(str(file)) as connection:
        connection.execute("create schema if not exists crmcom")
        connection.execute("create or replace table crmcom.contacts (id varchar)")
        connection.executemany("insert into crmcom.contacts values (?)", [[i] for i in stored])
    with quiet_dlt():
        pipeline = load.pipeline_on(duckdb_target(file), tmp_path / "pipelines", "crmcom")
        found = asyncio.run(Destination(pipeline, work).rows("contacts", asked))
    assert sorted(found.column("id").to_pylist()) == sorted(stored & asked)


def test_a_table_that_is_not_there_is_asked_for_once_in_a_slice(tmp_path):
    """A first load would ask once more for each batch of ids that it reads."""
    file = tmp_path / "warehouse.duckdb"
    with quiet_dlt():
        pipeline = load.pipeline_on(duckdb_target(file), tmp_path / "pipelines", "crmcom")
        pipeline.sync_destination()
        slices = Destination(pipeline, work), Destination(pipeline, work)
        before = asyncio.run(slices[0].rows("contacts", ["one"]))
        with duckdb.connect(str(file)) as connection:
            connection.execute("create schema if not exists crmcom")
            connection.execute("create table crmcom.contacts as select 'one' as id")
        after = [asyncio.run(one.rows("contacts", ["one"])) for one in slices]
    assert len(before) == 0
    assert [len(rows) for rows in after] == [0, 1]
