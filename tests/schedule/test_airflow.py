"""The DAG under real Airflow, in whichever environment holds it: `make test-airflow` makes one."""

import importlib.util
import json
import os
import subprocess
import sys

import duckdb
import pytest

from .conftest import CRMCOM, PAGES

DAG = PAGES / "airflow/crmcom_daily.py"
PYTHON = os.environ.get("CRMCOM_AIRFLOW") or (
    sys.executable if importlib.util.find_spec("airflow") else None
)
pytestmark = pytest.mark.skipif(
    PYTHON is None, reason="Airflow is not installed here: make test-airflow"
)

CALL = """
import importlib.util, json, sys
spec = importlib.util.spec_from_file_location("crmcom_daily", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
dag = module.crmcom_daily()
said = {"tasks": {t.task_id: [t.retries, sorted(t.downstream_task_ids)] for t in dag.tasks},
        "catchup": dag.catchup, "at_once": dag.max_active_runs}
if len(sys.argv) > 2:
    try:
        said["result"] = dag.task_dict["sync"].python_callable()
        dag.task_dict["proven"].python_callable(said["result"])
    except Exception as error:
        said |= {"raised": type(error).__name__, "text": str(error)}
print(json.dumps(said))
"""
RESULT = {"exit_code": 0, "resources": {"contacts": {"reason": None}}}


@pytest.fixture(scope="module")
def airflow(tmp_path_factory):
    """The environment of an Airflow of its own, with its database."""
    home = tmp_path_factory.mktemp("airflow")
    env = {
        "PATH": os.defpath,
        "HOME": str(home),
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(DAG.parent),
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        "CRMCOM_FOLDER": str(home),
    }
    run(env, "-m", "airflow", "db", "migrate", code=0)
    return env


def run(env, *args, code=None):
    done = subprocess.run(
        [PYTHON, *map(str, args)], env=env, capture_output=True, text=True, check=False
    )
    if code is not None:
        assert done.returncode == code, done.stdout + done.stderr
    return done


def ended_with(code, airflow, folder, result=None):
    """What the tasks make of a command that ends like this."""
    command = folder / "crmcom"
    said = json.dumps({**RESULT, "exit_code": code, **(result or {})})
    command.write_text(f"#!/bin/sh\necho '{said}'\necho 'told on stderr' >&2\nexit {code}\n")
    command.chmod(0o755)
    done = run(airflow | {"CRMCOM_COMMAND": str(command)}, "-c", CALL, DAG, "call", code=0)
    return json.loads(done.stdout.splitlines()[-1])


def test_the_dag_is_what_it_says(airflow):
    """One run at a time, none for the days that were missed; only `sync` is tried again."""
    said = json.loads(run(airflow, "-c", CALL, DAG, code=0).stdout.splitlines()[-1])
    assert said == {
        "tasks": {"sync": [3, ["proven"]], "proven": [0, []]},
        "catchup": False,
        "at_once": 1,
    }


@pytest.mark.parametrize(
    ("code", "raised"),
    [
        (0, None),
        (1, "AirflowFailException"),
        (2, "AirflowFailException"),
        (3, "AirflowFailException"),
        (4, "AirflowException"),
        (6, "AirflowException"),
        (7, "AirflowFailException"),
    ],
)
def test_what_passes_by_itself_is_tried_again_and_the_rest_fails(airflow, tmp_path, code, raised):
    said = ended_with(code, airflow, tmp_path)
    assert said.get("raised") == raised
    if raised:
        assert said["text"] == f"crmcom sync ended with {code}: told on stderr"


def test_what_is_loaded_and_not_proven_fails_the_second_task_alone(airflow, tmp_path):
    result = {"resources": {"contacts": {"reason": "a filter is ignored"}}}
    said = ended_with(5, airflow, tmp_path, result)
    assert said["result"]["exit_code"] == 5
    assert said["raised"] == "AirflowFailException"
    assert said["text"] == "contacts: a filter is ignored"


@pytest.mark.slow
def test_a_run_of_the_dag_fills_the_warehouse(airflow, tenant, tmp_path):
    """By `airflow dags test`, against a tenant."""
    env = airflow | tenant | {"CRMCOM_COMMAND": str(CRMCOM), "CRMCOM_FOLDER": str(tmp_path)}
    done = run(env, "-m", "airflow", "dags", "test", "crmcom_daily", "--dagfile-path", DAG)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    with duckdb.connect(str(tmp_path / "warehouse.duckdb"), read_only=True) as con:
        assert con.sql("select count(*) from crmcom.contacts").fetchone() == (40,)
        assert con.sql("select count(*) from crmcom_reports.overdue_worklist").fetchone()[0]
