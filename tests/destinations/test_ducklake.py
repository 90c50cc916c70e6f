"""What a lake brings: several processes that write and read it at once, kills, and refusals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import duckdb
import pytest

from crmcom import Run, Settings
from crmcom.errors import SettingsError, Unavailable
from crmcom_pipelines import trial
from crmcom_pipelines.ducklake import DuckLake
from crmcom_pipelines.lake import ALIAS, Lake, NoLake, load_extension
from crmcom_pipelines.lake_publishing import publish
from crmcom_pipelines.load import sync
from crmcom_pipelines.lock import Locked
from crmcom_pipelines.marts import NoMarts
from crmcom_pipelines.postgres import PUBLISHED
from crmcom_pipelines.union import Union
from crmcom_sandbox import LIVE, World, serve

from ..sync import worlds
from .conftest import LAKE, SHORT, lake

WRITER = """
import sys
from pathlib import Path
from crmcom import Range, Run, Settings
from crmcom_pipelines.load import sync
url, key, folder, dataset, start, end, transform = sys.argv[1:]
run = Run(
    Settings(base_url=url, api_key=key, page_size=10),
    slice_rows=15,
    backfill=Range(int(start), int(end)) if end != "0" else None,
)
outcome = sync(
    run,
    database=Path(folder) / "warehouse.duckdb",
    dataset=dataset,
    destination="ducklake",
    transform=transform == "yes",
)
sys.exit(outcome.exit_code)
"""


def started(place, *, start=0, end=0, transform="yes"):
    """A run in a process of its own, as on another machine: in another folder."""
    server = place.server
    folder = place.folder / f"machine-{start}-{end}"
    folder.mkdir(exist_ok=True)
    args = (server.base_url, server.api_key, folder, place.dataset, start, end, transform)
    return subprocess.Popen([sys.executable, "-c", WRITER, *map(str, args)])


def slices(place):
    """Whose each slice was, in the order in which they were loaded."""
    found = place.query(
        f"select _synced_at, min(run_id) as run_id, count(distinct run_id) as runs "
        f"from {place.dataset}._sync_windows group by _synced_at order by _synced_at"
    )
    assert {row["runs"] for row in found} == {1}
    return [row["run_id"] for row in found]


def marts(place):
    """What two of the published marts say of all balances; None before the first publishing."""
    schema = f"{place.dataset}_reports"
    try:
        with (
            DuckLake(place.dataset, place.folder).reports(["account_daily"]) as file,
            duckdb.connect(str(file), read_only=True) as connection,
        ):
            return connection.execute(
                f"select (select sum(balance) from {schema}.account_daily where date_day = "
                f"(select max(as_of_date) from {schema}.balance_summary)), "
                f"(select sum(net_balance) from {schema}.balance_summary)"
            ).fetchone()
    except (NoLake, NoMarts):
        return None


@pytest.mark.timeout(900)
def test_one_backfills_while_another_syncs_and_a_third_reads(place):
    """Two machines load one dataset, slice by slice in turns; nothing is lost or doubled, and the
    reader finds marts of one build."""
    world = worlds.small(contacts=60)
    # No page is deeper than 30 records, so a window holds no more of them.
    with serve(world, behaviour=LIVE.but(max_depth=30)) as server:
        at = place("ducklake", server)
        end = world.clock.epoch()
        runs = [started(at), started(at, start=end - 4_000 * 86_400, end=end, transform="no")]
        try:
            while any(run.poll() is None for run in runs):
                time.sleep(2)
                if found := marts(at):
                    assert found[0] == found[1]
        finally:
            for run in runs:
                run.kill()
        assert [run.wait() for run in runs] == [0, 0]
        assert at.differences() == []
        order = slices(at)
        turns = [run for i, run in enumerate(order) if i == 0 or order[i - 1] != run]
        assert len(set(order)) == 2
        assert len(turns) > 3, "they did not take turns"
        for name in ("contacts", "accounts", "activities"):
            at.rows(name, ["id"])  # none is doubled
        assert marts(at) is not None


@pytest.mark.timeout(900)
def test_a_load_that_is_killed_leaves_the_marts_and_is_completed_by_the_next(place):
    """Killed between the tables of a load: nothing is built until a run has come to its end."""
    world = World.generate(seed=4, contacts=20, activities=60)
    with serve(world, behaviour="live") as server:
        at = place("ducklake", server)
        at.sync(transform=True)
        for contact in [r.id for r in world.contacts][:10]:
            world.edit("contacts", contact, language_code="zz")
        before = at.query(f"select * from {at.dataset}_reports.balance_summary")
        run = started(at, transform="no")
        marked = f"select count(*) as n from {at.dataset}__build.unfinished"
        while at.query(marked) == [{"n": 0}]:
            assert run.poll() is None, "the sync ended before it could be killed"
        run.send_signal(signal.SIGKILL)
        run.wait()
        refused = at.transform()
        assert refused.exit_code == 7
        assert "interrupted" in refused.transformed.summary
        assert at.query(f"select * from {at.dataset}_reports.balance_summary") == before
        assert at.sync(transform=True).published
        assert at.differences() == []


# --- catalogs ---


@pytest.fixture
def elsewhere(monkeypatch, tmp_path):
    """Another lake than the tests' own."""

    def set_to(catalog):
        monkeypatch.setenv(f"{LAKE}__CATALOG", catalog.format(tmp_path))
        monkeypatch.setenv(f"{LAKE}__STORAGE__BUCKET_URL", str(tmp_path / "files"))
        return tmp_path

    return set_to


@pytest.mark.parametrize("kind", ["sqlite", "duckdb"])
def test_a_catalog_may_be_a_file(kind, elsewhere):
    folder = elsewhere(kind + ":///{}/lake." + kind)
    world = World.generate(seed=5, contacts=5, activities=5)
    with serve(world, behaviour="live") as server:
        run = Run(Settings(base_url=server.base_url, api_key=server.api_key), patience=SHORT)
        database = folder / "warehouse.duckdb"
        outcome = sync(run, database=database, destination="ducklake", transform=False)
    assert outcome.exit_code == 0
    with DuckLake("crmcom", folder).ledger() as file, duckdb.connect(str(file)) as connection:
        found = connection.execute("select count(*) from crmcom.contacts").fetchall()
        assert found == [(len(world.truth()["contacts"]),)]


def test_two_syncs_of_one_dataset_exclude_each_other(elsewhere, tmp_path):
    """A backfill beside a sync does not, nor another dataset."""
    here, there = DuckLake("locked", tmp_path / "here"), DuckLake("locked", tmp_path / "there")
    with here.draft("crmcom sync"):
        with pytest.raises(Locked, match=f"process {os.getpid()} on .* is at work") as refused:
            there.draft("crmcom sync").__enter__()
        assert refused.value.exit_code == 6
        with there.draft("crmcom backfill", work="backfill") as draft, draft.turn():
            pass
        with DuckLake("another", tmp_path / "there").draft("crmcom sync"):
            pass
    elsewhere("sqlite:///{}/lake.sqlite")
    with DuckLake("locked", tmp_path / "here").draft("crmcom sync"):
        with pytest.raises(Locked):
            DuckLake("locked", tmp_path / "there").draft("crmcom sync").__enter__()
        beside = DuckLake("locked", tmp_path / "there").draft("x", work="backfill")
        with beside as draft, draft.turn():
            pass


def test_a_duckdb_catalog_lets_in_one_process(elsewhere, tmp_path):
    """Whoever else comes is told so, and what would let them in."""
    elsewhere("duckdb:///{}/lake.duckdb")
    at = DuckLake("crmcom", tmp_path)
    read = (
        "from pathlib import Path\nfrom crmcom_pipelines.cli import main\n"
        f"main(['report', 'overdue', '--destination', 'ducklake', '--database', '{tmp_path}/w'])"
    )
    with at.draft("crmcom sync"):
        with pytest.raises(Locked):
            at.draft("crmcom backfill", work="backfill").__enter__()
        found = subprocess.run(
            [sys.executable, "-c", read], capture_output=True, text=True, check=False
        )
    assert found.returncode == 6
    assert "keep the catalog in PostgreSQL" in found.stderr


# --- refusals ---


@pytest.mark.parametrize(
    ("catalog", "error"),
    [
        ("postgresql://u:hunter2@127.0.0.1:1/d", Unavailable),
        ("{}&dbname=nowhere", SettingsError),
        ("{}&user=nobody_here", SettingsError),
        ("mysql://u:hunter2@127.0.0.1:1/d", SettingsError),
    ],
)
def test_a_lake_that_lets_nobody_in_is_told_in_a_line_without_a_secret(
    catalog, error, postgres, tmp_path, monkeypatch
):
    monkeypatch.setenv(f"{LAKE}__CATALOG", catalog.format(postgres))
    at = DuckLake("crmcom", tmp_path)
    for hold in (lambda: at.draft("crmcom sync"), lambda: at.reports([])):
        with pytest.raises(error) as refused:
            hold().__enter__()
        assert "hunter2" not in str(refused.value)
        assert "\n" not in str(refused.value)
        assert "destination.ducklake.credentials" in str(refused.value) or error is Unavailable


def test_where_no_lake_is_a_reader_makes_none(elsewhere, tmp_path):
    for kind in ("sqlite", "duckdb"):
        elsewhere(kind + ":///{}/lake." + kind)
        with pytest.raises(SettingsError, match="run `crmcom sync`"):
            DuckLake("crmcom", tmp_path).reports([]).__enter__()
    assert not list(tmp_path.glob("lake.*"))


def test_files_in_another_folder_than_the_catalog_says(place, monkeypatch, tmp_path):
    """They would not be found by others."""
    lake_there = Lake()
    with lake_there.connected(tmp_path):
        pass
    monkeypatch.setenv(f"{LAKE}__STORAGE__BUCKET_URL", str(tmp_path / "other"))
    with pytest.raises(SettingsError, match="does not match"), Lake().connected(tmp_path):
        pass


def test_an_extension_that_is_nowhere_is_told_with_what_brings_it(monkeypatch, tmp_path):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with duckdb.connect(config={"extension_directory": str(tmp_path)}) as connection:
        connection.execute("set custom_extension_repository = 'http://127.0.0.1:1'")
        with pytest.raises(SettingsError, match=r"pip install 'crmcom-warehouse\[ducklake\]'"):
            load_extension(connection, "ducklake")


# --- publishing ---


@pytest.fixture
def built(tmp_path):
    """Marts that a build has left, and a way to build others."""
    file = tmp_path / "build.duckdb"
    with Lake().connected(tmp_path) as connection:

        def build(*rows, snapshot=0):
            file.unlink(missing_ok=True)
            with duckdb.connect(str(file)) as at:
                for schema in ("pub", "pub_reports", "pub_intermediate"):
                    at.execute(f"create schema {schema}")
                texts = ("run_id", "resource", "scope", "verdict", "reason")
                times = ("started_at", "finished_at", "_synced_at")
                counts = ("requests", "retries", "rows", "rejected")
                typed = [f"{c} text" for c in texts] + [f"{c} timestamp" for c in times]
                typed += [f"{c} bigint" for c in counts]
                at.execute(f"create table pub._sync_runs ({', '.join(typed)})")
                for name in PUBLISHED:
                    at.execute(f"create table pub_intermediate.{name} (n int)")
                at.execute("create table pub_reports.a (n int, amount decimal(38, 4), t text)")
                at.execute("comment on column pub_reports.a.n is 'It''s \"a\" number'")
                at.executemany("insert into pub_reports.a values (?, ?, ?)", rows)
                at.execute("create view pub_reports.b as select n * 2 as n from pub_reports.a")
            return publish(connection, file, "pub", ["pub"], snapshot=snapshot)

        yield connection, build
        for part in ("_reports", "_intermediate"):
            connection.execute(f"drop schema {ALIAS}.pub{part} cascade")


def test_readers_find_the_last_marts_or_the_next_ones_and_never_both(built):
    connection, build = built
    assert build((1, 1, "x"), (2, None, None), (3, 3, ""))
    reader = lake()
    reader.execute("begin")
    first = reader.execute("select list(n order by n) from pub_reports.a").fetchall()
    assert build((2, None, None), (3, 3.1, ""), (4, 4, None))
    second = reader.execute("select list(n order by n) from pub_reports.b").fetchall()
    reader.execute("commit")
    assert (first, second) == ([([1, 2, 3],)], [([2, 4, 6],)])
    both = "select list(n order by n) from pub_reports.a union all "
    both += "select list(n order by n) from pub_reports.b"
    assert reader.execute(both).fetchall() == [([2, 3, 4],), ([4, 6, 8],)]
    (comment,) = connection.execute(
        "select comment from duckdb_columns() where schema_name = 'pub_reports' "
        f"and database_name = '{ALIAS}' and table_name = 'a' and column_name = 'n'"
    ).fetchall()
    assert comment == ('It\'s "a" number',)


def test_rows_that_stay_the_same_are_not_written_again(built):
    connection, build = built
    rows = [(n, n, "x") for n in range(100)]
    build(*rows)
    files = f"select count(*) from ducklake_list_files('{ALIAS}', 'a', schema => 'pub_reports')"
    before = connection.execute(files).fetchall()
    build(*rows)
    assert connection.execute(files).fetchall() == before


def test_marts_of_an_older_snapshot_replace_none(built):
    """Whose build took longer does not undo what another has published meanwhile."""
    connection, build = built
    assert build((2, 2, "new"), snapshot=20)
    assert not build((1, 1, "old"), snapshot=10)
    assert connection.execute(f"select n from {ALIAS}.pub_reports.a").fetchall() == [(2,)]


@pytest.mark.timeout(900)
def test_two_tenants_have_marts_of_their_own_and_views_of_both(tmp_path):
    union = Union("lakes", ("lakes_one", "lakes_two"))
    where = {"destination": "ducklake", "database": Path(tmp_path / "w.duckdb"), "union": union}
    for seed, dataset in enumerate(union.members):
        with serve(World.generate(contacts=6, activities=6, seed=seed), behaviour="live") as server:
            settings = Settings(base_url=server.base_url, api_key=server.api_key)
            outcome = sync(Run(settings, patience=SHORT), dataset=dataset, **where)
            assert (outcome.exit_code, outcome.published) == (0, True), outcome
    counted = "select source_relation, count(*) from lakes_reports.account_daily group by all"
    found = lake().execute(f"{counted} order by 1").fetchall()
    own = [
        (d, lake().execute(f"select count(*) from {d}_reports.account_daily").fetchone()[0])
        for d in union.members
    ]
    assert found == own
    elsewhere = DuckLake("lakes_two", tmp_path, Union("lakes_one", ("lakes_two",)))
    with pytest.raises(SettingsError, match="schema lakes_one_"):
        elsewhere.draft("crmcom transform").__enter__()


def test_a_check_tries_the_lake_and_leaves_nothing(elsewhere):
    folder = elsewhere("sqlite:///{}/lake.sqlite")
    found = trial.destination("ducklake", folder / "warehouse.duckdb", "crmcom")
    assert found.ok, found.message
    with Lake().connected(folder, read_only=True) as connection:
        schemas = connection.execute(
            f"select schema_name from duckdb_schemas() where database_name = '{ALIAS}'"
        ).fetchall()
    assert [name for (name,) in schemas if name.startswith("crmcom")] == []
