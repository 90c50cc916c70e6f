"""The command line killed at any moment: loading, building the marts, publishing."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import duckdb
import pytest

from crmcom_sandbox import World, serve

LOOKS_WHOLE = """
select (select count(*) - count(distinct id) from crmcom.activities)
     + (select count(*) - count(distinct (account_id, run_id)) from crmcom.account_observations)
     + (select count(*) from crmcom_reports.overdue_worklist w
        full join (select account_id from crmcom_reports.account_daily d
                   where date_day = (select max(date_day) from crmcom_reports.account_daily)
                     and overdue_gross > 0) d using (account_id)
        where w.account_id is null or d.account_id is null)
"""
"""Rows that are doubled, and overdue accounts that one report has and the other lacks."""


def killed_after(seconds, args, cwd, env):
    """Run `crmcom` and kill it after a while; whether it was still running."""
    command = [str(Path(sys.executable).parent / "crmcom"), *args]
    with subprocess.Popen(
        command, cwd=cwd, env=env, start_new_session=True, stderr=subprocess.DEVNULL
    ) as process:
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
        return process.wait() == -signal.SIGKILL


def killed_often(times, seed, folder, call, environ):
    rng = random.Random(seed)
    world = World.generate(seed=seed, contacts=30, activities=60)
    database = folder / "warehouse.duckdb"
    with serve(world, behaviour="live") as server:
        args = ["sync", "--quiet", "--base-url", server.base_url]
        begun = time.monotonic()
        assert call(*args, cwd=folder, api_key=server.api_key).code == 0
        takes_s = time.monotonic() - begun
        kills = 0
        while kills < times:
            world.pass_business_day()
            env = environ(folder, server.api_key)
            kills += killed_after(rng.uniform(0, takes_s), args, folder, env)
            with duckdb.connect(str(database), read_only=True) as published:
                assert published.execute(LOOKS_WHOLE).fetchone() == (0,)
        last = call(*args, "--reconcile", cwd=folder, api_key=server.api_key)
        assert last.code == 0, last.err
        with duckdb.connect(str(database), read_only=True) as published:
            assert published.execute(LOOKS_WHOLE).fetchone() == (0,)
            for table, kept in (("contacts", world.contacts), ("activities", world.activities)):
                ids = f"select id from crmcom.{table} where _deleted_at is null"
                have = {row[0] for row in published.execute(ids).fetchall()}
                assert have == {record.id for record in kept}
            balances = "select id, balance from crmcom.accounts where _deleted_at is null"
            assert dict(published.execute(balances).fetchall()) == {
                account.id: account.body["balance"] for account in world.accounts
            }


@pytest.mark.timeout(600)
def test_readers_never_see_a_half_made_file_and_the_next_run_completes(tmp_path, call, environ):
    killed_often(3, 5, tmp_path, call, environ)


@pytest.mark.slow
@pytest.mark.timeout(3_000)
@pytest.mark.parametrize("seed", range(4))
def test_a_hundred_kills_of_the_command_line_lose_nothing(tmp_path, call, environ, seed):
    killed_often(25, 100 + seed, tmp_path, call, environ)
