"""Two tenants on one PostgreSQL: marts of their own, and views of both."""

from __future__ import annotations

from contextlib import closing

import duckdb
import psycopg2
import pytest

from crmcom import Run, Settings
from crmcom.errors import SettingsError
from crmcom_pipelines.load import rebuild, sync
from crmcom_pipelines.publishing import publish
from crmcom_pipelines.union import Union
from crmcom_pipelines.warehouse import warehouse_at
from crmcom_sandbox import World, serve

from .conftest import SHORT

UNION = Union("many", ("many_one", "many_two"))


@pytest.fixture(scope="module")
def loaded(postgres, tmp_path_factory):
    """What a tenant's run is given, and a way to ask the server."""
    where = {
        "destination": "postgres",
        "database": tmp_path_factory.mktemp("many") / "warehouse.duckdb",
        "union": UNION,
    }
    with closing(psycopg2.connect(postgres)) as connection:
        connection.autocommit = True

        def ask(sql):
            with connection.cursor() as cursor:
                cursor.execute(sql)
                return cursor.fetchall() if cursor.description else []

        for seed, dataset in enumerate(UNION.members):
            world = World.generate(contacts=8, activities=12, seed=seed)
            with serve(world, behaviour="live") as server:
                settings = Settings(base_url=server.base_url, api_key=server.api_key)
                outcome = sync(Run(settings, patience=SHORT), dataset=dataset, **where)
                assert (outcome.exit_code, outcome.published) == (0, True), outcome
        yield where, ask, connection


def test_the_views_hold_the_rows_of_both(loaded):
    where, ask, _ = loaded
    for name in ("account_daily", "overdue_worklist", "activity_status", "balance_summary"):
        both = ask(f"select * from many_reports.{name}")
        each = [row for d in UNION.members for row in ask(f"select * from {d}_reports.{name}")]
        assert sorted(map(repr, both)) == sorted(map(repr, each))
    tenants = ask("select distinct source_relation from many_reports.account_daily")
    assert sorted(tenants) == [("many_one",), ("many_two",)]
    server = warehouse_at("postgres", where["database"], "many")
    with server.reports(["account_daily"]) as file, duckdb.connect(str(file)) as connection:
        kind = connection.sql("select balance from many_reports.account_daily").types[0]
        assert str(kind) == "DECIMAL(38,4)"
    with server.history(["balance_summary"]) as file, duckdb.connect(str(file)) as connection:
        assert connection.execute("select count(*) from many_two.contacts").fetchall() == [(8,)]


def test_a_view_that_stays_the_same_is_left_alone(loaded):
    """To replace it, its readers would have to be waited for."""
    _, ask, connection = loaded
    oid = "select oid from pg_class where relnamespace = 'many_reports'::regnamespace order by 1"
    before = ask(oid)
    assert before
    publish(connection, "many_two", ["many_two"], UNION)
    assert ask(oid) == before
    ask("create view public.of_an_analyst as select * from many_reports.account_daily")
    # Without one of them the others' rows are left.
    publish(connection, "many_two", ["many_two"], Union("many", ("many_two",)))
    assert ask("select distinct source_relation from many_reports.account_daily") == [("many_two",)]
    publish(connection, "many_two", ["many_two"], UNION)
    assert len(ask("select distinct source_relation from many_reports.account_daily")) == 2
    ask("drop view public.of_an_analyst")


def test_columns_change_and_what_was_granted_stays(loaded):
    """As after an upgrade, or with other custom fields."""
    _, ask, connection = loaded
    ask("create role analyst")
    ask("grant select on many_reports.overdue_worklist to analyst")
    ask("alter table many_one__build_reports.overdue_worklist add column more numeric(38, 4)")
    ask("alter table many_one__build_reports.overdue_worklist drop column queue")
    ask(
        "alter table many_one__build_reports.overdue_worklist alter column bucket type integer "
        "using 7"
    )
    publish(connection, "many_one", ["many_one"], UNION)
    found = ask(
        "select distinct source_relation, more, queue is null, bucket = '7' "
        "from many_reports.overdue_worklist order by 1"
    )
    assert found[0] == ("many_one", None, True, True)
    assert {row[0] for row in found[1:]} == {"many_two"}
    assert not {row[2:] for row in found[1:]} & {(True, True)}
    assert ask(
        "select has_table_privilege('analyst', 'many_reports.overdue_worklist', 'select')"
    ) == [(True,)]
    ask("drop owned by analyst")
    ask("drop role analyst")


def test_tables_are_never_replaced_by_views(loaded):
    where, _, _ = loaded
    elsewhere = {**where, "union": Union("many_one", ("many_two",))}
    with pytest.raises(SettingsError, match="schema many_one_"):
        rebuild(dataset="many_two", **elsewhere)
