"""Whatever happens to an account, the marts on PostgreSQL say what their definitions say."""

from __future__ import annotations

from contextlib import closing

import psycopg2
import pyarrow as pa
import pytest
from adbc_driver_postgresql import dbapi

from crmcom_pipelines.postgres import Postgres
from crmcom_pipelines.snapshot import Copy, ServerReader

from ..transforms.histories import drawn, tenant
from ..transforms.raw import _ARROW, TABLES, _exact
from ..transforms.reference import Settings
from ..transforms.test_histories import BUCKETS, KEYS, ZONE, assert_as_expected, expected

TENANTS = ("told_a", "told_b")
VARS = {
    "crmcom_schema": list(TENANTS),
    "crmcom_report_timezone": ZONE,
    "crmcom_ageing_buckets": BUCKETS,
}


def load(url, dataset, tables):
    """A raw dataset made by hand, as `raw.load` makes one in a file."""
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute(f"drop schema if exists {dataset} cascade; create schema {dataset}")
        for name, columns in TABLES.items():
            all_columns = columns | ({"reason": "varchar"} if name == "_sync_runs" else {})
            typed = ", ".join(f'"{column}" {kind}' for column, kind in all_columns.items())
            cursor.execute(f'create table {dataset}."{name}" ({typed})')
        connection.commit()
    with dbapi.connect(url) as connection, connection.cursor() as cursor:
        for name, rows in tables.items():
            arrow = {
                column: pa.array([_exact(row.get(column)) for row in rows], _ARROW[kind])
                for column, kind in TABLES[name].items()
            }
            if rows:
                cursor.adbc_ingest(name, pa.table(arrow), mode="append", db_schema_name=dataset)
        connection.commit()


@pytest.mark.timeout(900)
def test_the_marts_are_what_their_definitions_say(postgres, tmp_path):
    """Gaps, nulls, credits, absences, returns, currencies, ties, clock changes, tenants."""
    told = {
        "told_a": tenant(1, drawn(80, wildly=False)),
        "told_b": tenant(2, drawn(80, wildly=True)),
    }
    for name, tables in told.items():
        load(postgres, name, tables)
    # Nothing is loaded, so there is nothing to be marked as half done.
    server = Postgres("told_a", tmp_path)
    with server.draft("crmcom transform") as draft:
        result = draft.build(VARS)
        assert result.ok, result.summary
        draft.publish()
    with ServerReader.open(server) as reader:
        copies = [Copy("told_a_reports", name, into=("crmcom_reports", name)) for name in KEYS]
        assert_as_expected(reader.file(copies), expected(told, Settings(ZONE, BUCKETS)))
