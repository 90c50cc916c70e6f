"""`dlt init crmcom duckdb --location …` gives a folder that works by itself."""

import sys

import duckdb
import pytest

from crmcom_sandbox import World, serve

from .conftest import ROOT, run

WITHOUT_THE_PROJECT = f"""
import runpy, sys
roots = ["sources", "pipelines", "transforms", "sandbox"]
sys.path = [p for p in sys.path if p not in {{f"{ROOT}/{{r}}" for r in roots}}]
sys.path.insert(0, "")
for name in ("crmcom_pipelines", "crmcom_sandbox", "crmcom_transforms"):
    sys.modules[name] = None
"""
RUN_THE_SCRIPT = WITHOUT_THE_PROJECT + "runpy.run_path('crmcom_pipeline.py', run_name='__main__')"
SHOW_THE_HOME = WITHOUT_THE_PROJECT + "import crmcom.source; print(crmcom.source.__file__)"


@pytest.fixture
def project(clone, stranger, tmp_path):
    """An empty folder after `dlt init`."""
    folder = tmp_path / "project"
    folder.mkdir()
    init = ("-m", "dlt", "--non-interactive", "init", "crmcom", "duckdb", "--location", clone)
    run(sys.executable, *init, cwd=folder, env=stranger)
    return folder


def test_the_copy_holds_the_source_and_a_script(project):
    """What is copied is the source alone, with the places to fill in and what to install."""
    copied = {p.name for p in (project / "crmcom").glob("*.py")}
    assert copied == {p.name for p in (ROOT / "sources/crmcom").glob("*.py")}
    assert (project / "crmcom_pipeline.py").exists()
    secrets = (project / ".dlt/secrets.toml").read_text()
    assert "api_key = " in secrets
    assert "password" not in secrets
    assert "base_url = " in (project / ".dlt/config.toml").read_text()
    needed = (project / "requirements.txt").read_text().splitlines()
    assert any(line.startswith("dlt[duckdb]") for line in needed)
    assert any(line.startswith("aiohttp") for line in needed)


def test_the_copied_source_needs_none_of_the_other_packages(project, stranger):
    """It imports from its own folder, where nothing of this project is installed."""
    home = run(sys.executable, "-c", SHOW_THE_HOME, cwd=project, env=stranger).stdout.strip()
    assert home == str(project / "crmcom/source.py")


def test_the_copied_script_loads_rows(project, stranger):
    """Two settings from the environment, one command, twice: every row once."""
    world = World.generate(seed=3, contacts=25, activities=60)
    with serve(world, behaviour="live") as server:
        env = stranger | {
            "SOURCES__CRMCOM__BASE_URL": server.base_url,
            "SOURCES__CRMCOM__API_KEY": server.api_key,
        }
        for _ in range(2):
            done = run(sys.executable, "-c", RUN_THE_SCRIPT, cwd=project, env=env)
            assert "Placeholder" not in done.stderr
    with duckdb.connect(project / "crmcom_warehouse.duckdb", read_only=True) as warehouse:
        found = {
            table: warehouse.sql(f"select count(*), count(distinct id) from crmcom.{table}")
            .fetchall()
            .pop()
            for table in ("contacts", "accounts", "activities")
        }
        verdicts = warehouse.sql("select distinct verdict from crmcom._sync_runs").fetchall()
    assert found["contacts"] == (25, 25)
    assert found["activities"] == (60, 60)
    assert found["accounts"][0] == found["accounts"][1] > 0
    assert verdicts == [("proven",)]


def test_a_place_left_empty_is_a_setting_that_is_not_set(project, stranger):
    """The message names the setting as it is written, rather than what the API says of it."""
    env = stranger | {"SOURCES__CRMCOM__BASE_URL": "http://127.0.0.1:1"}
    done = run(sys.executable, "crmcom_pipeline.py", cwd=project, env=env, check=False)
    assert done.returncode == 1
    assert "SOURCES__CRMCOM__API_KEY) is missing" in done.stderr
