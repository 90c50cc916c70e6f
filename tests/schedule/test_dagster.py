"""The warehouse in Dagster, run by Dagster: its graph, its jobs, and what it makes of trouble."""

import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import fields, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import duckdb
import pytest

from crmcom.errors import SettingsError
from crmcom.schema import RAW_TABLES
from crmcom.settings import RESOURCES
from crmcom_pipelines.publish import Workspace
from crmcom_sandbox import LIVE, World, serve
from crmcom_transforms import PROJECT_DIR

from .conftest import PAGES, ROOT

dg = pytest.importorskip("dagster", reason="Dagster is not installed: its extra is `dagster`")

from crmcom_pipelines.orchestration.dagster import Warehouse, definitions  # noqa: E402
from crmcom_pipelines.orchestration.lineage import lineage  # noqa: E402

pytestmark = [
    # One parameter that we pass is new in Dagster, which says so.
    pytest.mark.filterwarnings("ignore::dagster.BetaWarning"),
    # What Dagster's own code warns about is not ours to mend.
    pytest.mark.filterwarnings("ignore:::(dagster|sqlalchemy|pydantic)"),
]
RAW = {f"crmcom/{table}" for table in RAW_TABLES}
NEEDS_A_VARIABLE = {"crmcom__contact_custom_fields", "crmcom__activity_custom_fields"}
"""Models that exist only where their custom fields are named."""


@pytest.fixture(scope="module", autouse=True)
def settings(tenant, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        for name, value in tenant.items():
            patch.setenv(name, value)
        patch.setenv("DAGSTER_HOME", "")
        patch.chdir(tmp_path_factory.mktemp("without-settings"))
        yield patch


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory):
    return Warehouse(tmp_path_factory.mktemp("dagster") / "warehouse.duckdb", retry_wait_s=0)


@pytest.fixture(scope="module")
def defs(warehouse):
    return definitions(warehouse)


@pytest.fixture(scope="module")
def daily(defs):
    """What the daily job came to; the warehouse stays for those that follow."""
    return execute(defs, "crmcom_daily")


@pytest.fixture
def elsewhere(warehouse, daily, tmp_path):
    """A copy of the warehouse, to be spoiled, that dbt need not be parsed for."""
    folder = tmp_path / "warehouse"
    shutil.copytree(warehouse.database.parent, folder)
    return Warehouse(folder / warehouse.database.name, retry_wait_s=0)


@pytest.fixture
def nowhere(elsewhere):
    """The same before its first run."""
    elsewhere.database.unlink()
    shutil.rmtree(Workspace(elsewhere.database, "crmcom").working.parent)
    return elsewhere


def execute(defs, job, **options):
    return defs.resolve_job_def(job).execute_in_process(raise_on_error=False, **options)


def keys(*names):
    return [dg.AssetKey(name.split("/")) for name in names]


def materialised(result):
    return {e.asset_key.to_user_string() for e in result.get_asset_materialization_events()}


def failure(result):
    """What the step that failed tells people, and how often it was tried again."""
    (event,) = [e for e in result.all_events if e.is_step_failure]
    again = [e for e in result.all_events if e.event_type_value == "STEP_UP_FOR_RETRY"]
    return event.event_specific_data.user_failure_data, len(again)


def checks(result, name):
    found = (e for e in result.get_asset_check_evaluations() if e.check_name == name)
    return {e.asset_key.path[-1]: e for e in found}


# --- the graph ---


def parents(defs, key):
    graph = defs.resolve_asset_graph()
    return {k.to_user_string() for k in graph.get(dg.AssetKey(key.split("/"))).parent_keys}


def test_every_raw_table_and_every_model_is_an_asset(defs):
    """By the files of the dbt project; beside them, the days that a backfill has read."""
    files = {path.stem for path in (PROJECT_DIR / "models").rglob("*.sql")} - NEEDS_A_VARIABLE
    found = {key.to_user_string() for key in defs.resolve_asset_graph().get_all_asset_keys()}
    assert found >= RAW
    assert {key.rpartition("/")[2] for key in found - RAW - {"crmcom/history"}} == files
    assert len(found) == len(RAW) + len(files) + 1


def test_every_reference_of_the_sql_is_an_edge(defs):
    """And what stands in staging is made from raw tables."""
    graph = defs.resolve_asset_graph()
    by_name = {key.path[-1]: key.to_user_string() for key in graph.get_all_asset_keys()}
    edges = 0
    for path in (PROJECT_DIR / "models").rglob("*.sql"):
        if path.stem in NEEDS_A_VARIABLE:
            continue
        above = parents(defs, by_name[path.stem])
        text = path.read_text()
        named = set(re.findall(r"ref\('(\w+)'\)", text))
        if "if is_past" not in text:  # one reads other tables for a report of a past day
            assert {by_name[name] for name in named} <= above, path.stem
        assert above, path.stem
        if path.stem.startswith("stg_"):
            assert above <= RAW
        edges += len(above)
    assert edges > 70


def test_who_is_overdue_goes_back_to_accounts_and_activities(defs):
    above, found = {"crmcom_reports/crmcom__overdue_worklist"}, set()
    while above:
        found |= above
        above = {p for key in above for p in parents(defs, key)} - found
    assert {"crmcom/account_observations", "crmcom/contacts", "crmcom/activities"} <= found


def test_a_variable_that_switches_a_model_on_adds_it(tmp_path):
    """The graph is that of the project as it will be built; it is parsed once."""
    named = {"crmcom_custom_fields": {"contacts": {"vip": "boolean"}}}
    found = lineage(tmp_path, dataset="crmcom", variables=named)
    assert "crmcom__contact_custom_fields" in {model.name for model in found.models}
    (kept,) = tmp_path.iterdir()
    kept.write_bytes(kept.read_bytes().replace(b'"unique', b'"known'))
    again = lineage(tmp_path, dataset="crmcom", variables=named)
    assert any(test.name.startswith("known") for test in again.tests)


def test_loading_the_definitions_writes_nothing_into_the_project(defs):
    """It may be installed read-only."""
    assert not list(PROJECT_DIR.rglob("target"))
    assert not list(PROJECT_DIR.rglob("logs"))


# --- the daily run ---


def test_the_daily_job_materialises_everything(daily, defs):
    everything = {k.to_user_string() for k in defs.resolve_asset_graph().get_all_asset_keys()}
    assert daily.success
    assert materialised(daily) == everything - {"crmcom/history"}


def test_every_test_of_the_project_is_a_check_that_ran(daily, defs):
    evaluated = {e.asset_check_key for e in daily.get_asset_check_evaluations()}
    assert evaluated == set(defs.resolve_asset_graph().asset_check_keys) - {
        dg.AssetCheckKey(dg.AssetKey(["crmcom", "history"]), "proven")
    }
    failed = {e.check_name for e in daily.get_asset_check_evaluations() if not e.passed}
    assert failed == {"fresh"}, "the sandbox's clock stands in the past"
    assert set(checks(daily, "proven")) == set(RESOURCES)


def test_a_materialisation_says_how_many_rows_readers_find(daily, warehouse):
    said = {
        e.asset_key.to_user_string(): e.materialization.metadata["dagster/row_count"].value
        for e in daily.get_asset_materialization_events()
        if "dagster/row_count" in e.materialization.metadata
    }
    assert set(said) >= RAW
    with duckdb.connect(str(warehouse.database), read_only=True) as con:
        for table in ("crmcom/contacts", "crmcom/activities", "crmcom/_sync_runs"):
            name = table.replace("/", ".")
            assert said[table] == con.sql(f"select count(*) from {name}").fetchone()[0]
        overdue = con.sql("select count(*) from crmcom_reports.overdue_worklist").fetchone()[0]
    assert said["crmcom_reports/crmcom__overdue_worklist"] == overdue > 0


def test_the_schedule_asks_for_the_daily_job(defs):
    for name, job in (
        ("crmcom_every_day", "crmcom_daily"),
        ("crmcom_freshness_every_hour", "crmcom_freshness"),
    ):
        schedule = defs.resolve_schedule_def(name)
        at = datetime(2026, 3, 1, 5, 15, tzinfo=UTC)
        context = dg.build_schedule_context(scheduled_execution_time=at)
        (request,) = schedule.evaluate_tick(context).run_requests
        assert schedule.job_name == job
        assert dg.validate_run_config(defs.resolve_job_def(job), request.run_config) is not None


# --- parts of it ---


def test_the_tables_of_one_resource_can_be_chosen(elsewhere, server):
    """Their resource alone is asked, and no mart is built."""
    server.sandbox.reset_counters()
    result = execute(
        definitions(elsewhere), "crmcom_daily", asset_selection=keys("crmcom/contacts")
    )
    assert result.success
    assert "crmcom/contact_tags" in materialised(result)
    assert not {m for m in materialised(result) if m.startswith("crmcom_")}
    assert not {r for r in server.sandbox.counters.requests if "activities" in r}


def test_a_failed_test_is_a_failed_check_and_readers_keep_the_last_good_file(elsewhere):
    """Of a mart that is chosen alone: all are built, tested, and published together."""
    defs = definitions(elsewhere)
    with duckdb.connect(str(Workspace(elsewhere.database, "crmcom").working)) as con:
        con.execute("insert into crmcom.contacts select * from crmcom.contacts limit 1")
    before = elsewhere.database.read_bytes()
    mart = keys("crmcom_reports/crmcom__activity_status")
    result = execute(defs, "crmcom_daily", asset_selection=mart)
    said, again = failure(result)
    assert said.metadata["exit_code"].value == 7
    assert "failed with" in said.description
    assert again == 0
    failed = [e for e in result.get_asset_check_evaluations() if not e.passed]
    assert any(e.severity == dg.AssetCheckSeverity.ERROR for e in failed)
    assert {e.asset_key for e in failed} == set(mart)
    assert materialised(result) == set()
    assert elsewhere.database.read_bytes() == before


# --- backfill ---


def test_a_range_of_days_is_one_run_over_exactly_those(defs, daily, warehouse):
    """Days are partitions; a run takes all that were chosen together."""
    tags = {
        "dagster/asset_partition_range_start": "2025-06-01",
        "dagster/asset_partition_range_end": "2025-06-30",
    }
    result = execute(defs, "crmcom_backfill", tags=tags)
    assert result.success, failure(result)
    assert {"crmcom/history", "crmcom/contacts"} <= materialised(result)
    assert checks(result, "proven")["history"].passed
    with duckdb.connect(str(warehouse.database), read_only=True) as con:
        asked = con.sql(
            "select min(window_start), max(window_end) from crmcom._sync_windows "
            "where run_id = (select max(run_id) from crmcom._sync_runs) and resource = 'activities'"
        ).fetchone()
    assert asked == (datetime(2025, 6, 1), datetime(2025, 7, 1))  # noqa: DTZ001 - UTC, naive


def test_days_begin_where_the_setting_says(warehouse):
    days = replace(warehouse, first_day=date(2020, 2, 29))
    history = definitions(days).resolve_assets_def(dg.AssetKey(["crmcom", "history"]))
    assert history.partitions_def.get_first_partition_key() == "2020-02-29"
    assert history.backfill_policy == dg.BackfillPolicy.single_run()


# --- freshness ---


@pytest.mark.parametrize(("hours", "fresh"), [(35, True), (37, False)])
def test_freshness_is_the_age_of_the_last_complete_run(daily, warehouse, hours, fresh):
    with duckdb.connect(str(warehouse.database), read_only=True) as con:
        at = con.sql("select min(finished_at) from crmcom._sync_runs").fetchone()[0]
    later = at.replace(tzinfo=UTC) + timedelta(hours=hours)
    result = execute(definitions(warehouse, now=lambda: later), "crmcom_freshness")
    assert result.success
    assert {name: e.passed for name, e in checks(result, "fresh").items()} == dict.fromkeys(
        RESOURCES, fresh
    )


def test_a_warehouse_that_is_not_there_is_not_fresh(nowhere):
    result = execute(definitions(nowhere), "crmcom_freshness")
    told = checks(result, "fresh")["contacts"]
    assert not told.passed
    assert "crmcom sync" in told.metadata["last_complete_run"].value


# --- trouble ---

CONTACTS = {"asset_selection": keys("crmcom/contacts")}


def test_what_is_loaded_and_not_proven_is_a_warning(nowhere, settings):
    """Exit code 5: the step succeeds, and the check says why."""
    ignores = LIVE.but(ignored_filters={"GET /contacts": ("created_on[gte]", "created_on[lt]")})
    world = World.generate(contacts=5, activities=5)
    with serve(world, behaviour=ignores) as odd, settings.context() as patch:
        patch.setenv("SOURCES__CRMCOM__BASE_URL", odd.base_url)
        result = execute(definitions(nowhere), "crmcom_daily", **CONTACTS)
    proven = checks(result, "proven")["contacts"]
    assert result.success
    assert not proven.passed
    assert proven.severity == dg.AssetCheckSeverity.WARN
    assert "filter" in proven.metadata["reason"].value


def test_a_refused_login_fails_at_once_with_the_reason(elsewhere, settings):
    """Exit code 3; the key is not told."""
    with settings.context() as patch:
        patch.setenv("SOURCES__CRMCOM__API_KEY", "wrong-key-of-somebody")
        result = execute(definitions(elsewhere), "crmcom_daily", **CONTACTS)
    said, again = failure(result)
    assert said.metadata["exit_code"].value == 3
    assert again == 0
    assert said.description
    assert not any("wrong-key" in str(event) for event in result.all_events)


def test_a_setting_that_is_missing_is_named(elsewhere, settings):
    """Exit code 2."""
    with settings.context() as patch:
        patch.delenv("SOURCES__CRMCOM__BASE_URL")
        result = execute(definitions(elsewhere), "crmcom_daily", **CONTACTS)
    said, again = failure(result)
    assert said.metadata["exit_code"].value == 2
    assert "SOURCES__CRMCOM__BASE_URL" in said.description
    assert again == 0


def test_what_is_unavailable_is_tried_again(nowhere, settings):
    """Exit code 4; in the end it says what."""
    with settings.context() as patch:
        patch.setenv("SOURCES__CRMCOM__BASE_URL", "http://127.0.0.1:1")
        patch.setenv("SOURCES__CRMCOM__RUN_TIMEOUT_S", "1")
        result = execute(definitions(nowhere), "crmcom_daily", **CONTACTS)
    said, again = failure(result)
    assert said.metadata["exit_code"].value == 4
    assert "contacts" in said.description
    assert again == 2
    assert materialised(result) == set()


def test_while_somebody_else_writes_it_is_tried_again(elsewhere):
    """Exit code 6; in the end it says who."""
    with Workspace(elsewhere.database, "crmcom").draft("somebody's long load"):
        result = execute(definitions(elsewhere), "crmcom_daily", **CONTACTS)
    said, again = failure(result)
    assert said.metadata["exit_code"].value == 6
    assert "somebody's long load" in said.description
    assert again == 2


# --- settings ---


def test_settings_come_from_the_environment(settings):
    with settings.context() as patch:
        patch.setenv("ORCHESTRATION__CRMCOM__DATABASE", "/srv/finance.duckdb")
        patch.setenv("ORCHESTRATION__CRMCOM__FIRST_DAY", "2019-01-01")
        patch.setenv("ORCHESTRATION__CRMCOM__FRESH_FOR_S", "3600")
        found = Warehouse.from_config()
    assert found.database == Path("/srv/finance.duckdb")
    assert found.first_day.isoformat() == "2019-01-01"
    assert found.fresh_for_s == 3600
    assert Warehouse.from_config() == Warehouse()


@pytest.mark.parametrize(
    ("name", "value"),
    [("FIRST_DAY", "yesterday"), ("FRESH_FOR_S", "a day"), ("RETRY_WAIT_S", "-1")],
)
def test_a_setting_that_makes_no_sense_is_named(settings, name, value):
    with settings.context() as patch:
        patch.setenv(f"ORCHESTRATION__CRMCOM__{name}", value)
        with pytest.raises(SettingsError, match=f"crmcom.{name.lower()}"):
            Warehouse.from_config()


def test_dagster_finds_the_definitions_valid(warehouse, daily, bare, tmp_path):
    """By its own command, with the instance's settings that the docs give."""
    shutil.copy(PAGES / "dagster/dagster.yaml", tmp_path)
    dagster = Path(sys.executable).parent / "dagster"
    done = subprocess.run(
        [dagster, "definitions", "validate", "-m", "crmcom_pipelines.orchestration.dagster"],
        cwd=tmp_path,
        env=bare
        | {
            "HOME": str(tmp_path),
            "DAGSTER_HOME": str(tmp_path),
            "ORCHESTRATION__CRMCOM__DATABASE": str(warehouse.database),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "All code locations passed validation" in done.stdout + done.stderr


def test_the_settings_that_the_file_shows_are_the_defaults():
    shown = re.sub(r"^#: ", "", (ROOT / ".dlt/config.toml").read_text(), flags=re.MULTILINE)
    said = tomllib.loads(shown)["orchestration"]["crmcom"]
    said |= {"database": Path(said["database"]), "first_day": date.fromisoformat(said["first_day"])}
    assert Warehouse(**said) == Warehouse()
    assert set(said) == {field.name for field in fields(Warehouse)}
