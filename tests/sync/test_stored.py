"""What a slice asks of the warehouse."""

from __future__ import annotations

import asyncio

import duckdb

from crmcom.stored import Destination
from crmcom_pipelines import load
from crmcom_pipelines.around_dlt import quiet_dlt
from crmcom_pipelines.warehouse import duckdb_target


def test_a_table_that_is_not_there_is_asked_for_once_in_a_slice(tmp_path):
    """A first load would ask once more for each batch of ids that it reads."""
    file = tmp_path / "warehouse.duckdb"

    async def work(do):
        return do()

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
