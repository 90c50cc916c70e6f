"""What a server brings: others who read and write meanwhile, kills, and refusals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import closing, contextmanager

import psycopg2
import pytest

from crmcom.errors import SettingsError, Unavailable
from crmcom_pipelines.lock import Locked
from crmcom_pipelines.postgres import PUBLISHED, Postgres, explained
from crmcom_pipelines.publish import NoSpace
from crmcom_pipelines.publishing import publish
from crmcom_sandbox import serve_process

from .conftest import CREDENTIALS


@contextmanager
def asking(url, **options):
    with closing(psycopg2.connect(url, **options)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:

            def ask(sql, *values):
                cursor.execute(sql, values or None)
                return cursor.fetchall() if cursor.description else None

            ask.connection = connection
            yield ask


# --- one at a time ---


def test_two_machines_cannot_write_one_dataset(postgres, tmp_path):
    """The lock is the server's own; another dataset is free, and so is this one afterwards."""
    here, there = Postgres("locked", tmp_path / "here"), Postgres("locked", tmp_path / "there")
    with here.draft("crmcom sync"):
        me = f"process {os.getpid()} on .* is at work on"
        with pytest.raises(Locked, match=me) as refused, there.draft("crmcom sync"):
            pass
        assert refused.value.exit_code == 6
        with Postgres("another", tmp_path / "there").draft("crmcom sync"):
            pass
    with there.draft("crmcom sync"):
        pass


def test_what_a_dead_run_left_at_work_is_ended(postgres, tmp_path):
    """Else it would go on writing beside the next run."""
    server = Postgres("orphaned", tmp_path)
    with asking(postgres, application_name="crmcom/orphaned") as orphan:
        orphan("begin")
        with server.draft("crmcom sync") as draft:
            assert "1 connections" in draft.note
        with pytest.raises(psycopg2.OperationalError):
            orphan("select 1")


# --- publishing ---


@pytest.fixture
def built(postgres):
    """Marts that a build has left, and a way to build others."""
    with asking(postgres) as ask:
        for schema in ("pub", "pub__build_reports", "pub__build_intermediate", "pub_reports"):
            ask(f"drop schema if exists {schema} cascade")
            ask(f"create schema {schema}")
        ask("drop schema if exists pub_intermediate cascade")
        ask(
            "create table pub._sync_runs (run_id text, resource text, started_at timestamp, "
            "finished_at timestamp, scope text, verdict text, reason text, requests bigint, "
            "retries bigint, rows bigint, rejected bigint, _synced_at timestamp)"
        )
        for name in PUBLISHED:
            ask(f"create table pub__build_intermediate.{name} (n int)")
        ask("create table pub__build_reports.a (n int, amount numeric(38, 4), t text)")
        ask("create view pub__build_reports.b as select n * 2 as n from pub__build_reports.a")
        ask("comment on column pub__build_reports.a.n is 'It''s \"a\" number'")

        def build(*rows):
            ask("truncate pub__build_reports.a")
            for row in rows:
                ask("insert into pub__build_reports.a values (%s, %s, %s)", *row)
            publish(ask.connection, "pub", ["pub"])

        yield ask, build


def test_readers_find_the_last_marts_or_the_next_ones_and_never_both(built, postgres):
    """In a transaction that began before, all of them stay; nobody waits for anybody."""
    ask, build = built
    build((1, "1.0000", "x"), (2, None, None), (3, "3", ""))
    both = "select array_agg(n order by n) from pub_reports.a union all "
    both += "select array_agg(n order by n) from pub_reports.b"
    with asking(postgres) as reader:
        reader("begin isolation level repeatable read")
        first = reader("select array_agg(n order by n) from pub_reports.a")
        build((2, None, None), (3, "3.1", ""), (4, "4", None))
        second = reader("select array_agg(n order by n) from pub_reports.b")
        assert (first, second) == ([([1, 2, 3],)], [([2, 4, 6],)])
        reader("commit")
        assert reader(both) == [([2, 3, 4],), ([4, 6, 8],)]
    wanted = ask("select * from pub__build_reports.a order by n")
    assert ask("select * from pub_reports.a order by n") == wanted


def test_what_others_made_of_the_marts_stays(built):
    """Grants, views, and rows that did not change."""
    ask, build = built
    build((1, "1", "x"))
    ask("drop role if exists finance")
    ask("create role finance")
    ask("grant select on pub_reports.a to finance")
    ask("create view pub.mine as select n from pub_reports.a")
    at = ask("select ctid from pub_reports.a")
    build((1, "1.0000", "x"), (2, "2", "y"))
    assert ask("select ctid from pub_reports.a where n = 1") == at
    assert ask("select n from pub.mine order by n") == [(1,), (2,)]
    assert ask("select has_table_privilege('finance', 'pub_reports.a', 'select')") == [(True,)]
    (comment,) = ask("select col_description('pub_reports.a'::regclass, 1)")
    assert comment == ('It\'s "a" number',)
    ask("drop view pub.mine")
    ask("alter table pub__build_reports.a add column more date")
    publish(ask.connection, "pub", ["pub"])
    assert ask("select more from pub_reports.a") == [(None,), (None,)]
    assert ask("select has_table_privilege('finance', 'pub_reports.a', 'select')") == [(True,)]
    ask("drop owned by finance")
    ask("drop role finance")


def test_a_publishing_that_fails_changes_nothing(built):
    ask, build = built
    build((1, "1", "x"))
    ask("create view pub.mine as select n from pub_reports.a")
    ask("alter table pub__build_reports.a add column more date")
    ask("truncate pub__build_reports.a")
    with pytest.raises(psycopg2.Error) as refused:
        publish(ask.connection, "pub", ["pub"])
    assert "view pub.mine depends on table pub_reports.a" in str(explained([refused.value]))
    assert ask("select n, (select n from pub_reports.b) from pub_reports.a") == [(1, 2)]


# --- refusals ---


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("", SettingsError),
        ("postgresql://u:hunter2@127.0.0.1:notaport/d", SettingsError),
        ("postgresql://u:hunter2@127.0.0.1:1/d", Unavailable),
        ("postgresql://u:hunter2@no.such.host.invalid/d", Unavailable),
        ("{}&dbname=nowhere", SettingsError),
        ("{}&user=nobody_here", SettingsError),
    ],
)
def test_a_server_that_lets_nobody_in_is_told_in_a_line_without_a_secret(
    url, error, postgres, tmp_path, monkeypatch
):
    monkeypatch.setenv(CREDENTIALS, url.format(postgres))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error) as refused, Postgres("x", tmp_path).draft("crmcom sync"):
        pass
    assert "hunter2" not in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("53100", NoSpace),
        ("57P01", Unavailable),
        ("42501", SettingsError),
        ("25006", SettingsError),
    ],
)
def test_what_the_server_says_has_its_exit_code(code, error, postgres):
    with asking(postgres) as ask, pytest.raises(psycopg2.Error) as said:
        ask(f"do $$ begin raise exception using errcode = '{code}', message = 'so it is'; end $$")
    found = explained([ValueError("led to by"), said.value])
    assert isinstance(found, error)
    assert "so it is" in str(found)


def test_who_may_make_no_schema_is_told_so(postgres, tmp_path, monkeypatch):
    with asking(postgres) as ask:
        ask("drop role if exists reader")
        ask("create role reader login")
        monkeypatch.setenv(CREDENTIALS, f"{postgres}&user=reader")
        server = Postgres("forbidden", tmp_path)
        with pytest.raises(SettingsError, match="permission denied"):  # noqa: SIM117 - as a run is
            with server.draft("crmcom sync") as draft:
                draft.target()
        ask("drop role reader")


@pytest.mark.parametrize("name", ["a__build", "A", "a-b", "", "x" * 60, "a b", "a;drop"])
def test_a_dataset_has_a_name_that_schemas_can_have(name, tmp_path):
    with pytest.raises(SettingsError, match="--dataset"):
        Postgres(name, tmp_path)


# --- kills ---


@pytest.mark.timeout(900)
def test_a_load_that_is_killed_leaves_the_marts_and_is_completed_by_the_next(place):
    """Killed while one table is merged and others wait: nothing is built until a run has come to
    its end."""
    with serve_process("--contacts", "12", "--activities", "30", "--behaviour", "live") as server:
        at = place("postgres", server)
        at.sync(transform=True)
        schema, marts = at.dataset, f"select count(*) as n from {at.dataset}_reports.account_daily"
        before = at.query(marts)
        with asking(at.url) as blocker:
            blocker("begin")
            blocker(f"lock table {schema}.activity_tags in access exclusive mode")
            args = [str(p) for pair in at.where.items() for p in (f"--{pair[0]}", pair[1])]
            code = "from crmcom_pipelines.cli import main; main()"
            command = [sys.executable, "-c", code, "sync", "--reconcile", *args]
            env = {**os.environ, "SOURCES__CRMCOM__API_KEY": server.api_key}
            with subprocess.Popen(
                [*command, "--base-url", server.base_url], env=env, stderr=subprocess.DEVNULL
            ) as process:
                with asking(at.url) as ask:
                    waits = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' "
                    waits += f"and application_name = 'crmcom/{schema}'"
                    while ask(waits) == [(0,)]:
                        assert process.poll() is None, "the sync ended before it met the lock"
                        time.sleep(0.1)
                process.send_signal(signal.SIGKILL)
            blocker("rollback")
        refused = at.transform()
        assert refused.exit_code == 7
        assert "interrupted" in refused.transformed.summary
        assert at.query(marts) == before
        again = at.sync(transform=True)
        assert again.published
