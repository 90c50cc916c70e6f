"""The workflow for GitHub Actions: valid by its schema, and its steps work."""

import shutil
import subprocess
import sys

import yaml

from .conftest import CRMCOM, PAGES, ROOT

WORKFLOW = PAGES / "github-actions.yml"
JOB = yaml.safe_load(WORKFLOW.read_text())["jobs"]["sync"]
STEPS = {step["name"]: step for step in JOB["steps"] if "name" in step}


def shell(command, folder, env):
    """As a runner does, whose default shell ends at the first command that fails."""
    return subprocess.run(
        ["bash", "-e", "-c", command],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_workflow_is_valid():
    """By the schema that comes with check-jsonschema; nothing is fetched."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "check_jsonschema"),
            *("--builtin-schema", "vendor.github-workflows", WORKFLOW),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_no_secret_stands_where_every_step_would_see_it():
    """The key reaches the step that syncs alone, and comes from the secrets."""
    text = WORKFLOW.read_text()
    assert text.count("secrets.") == 1
    assert "secrets." in STEPS["Sync"]["env"]["SOURCES__CRMCOM__API_KEY"]


def test_what_was_loaded_is_kept_where_the_run_did_not_end_with_0():
    assert STEPS["Keep the warehouse"]["if"] == "always()"
    kept = STEPS["Keep the warehouse"]["with"]
    assert kept["path"] == STEPS["Fetch the warehouse"]["with"]["path"]
    assert kept["key"].startswith(STEPS["Fetch the warehouse"]["with"]["restore-keys"])


def test_the_install_step_names_files_that_exist():
    assert (ROOT / "requirements.lock").exists()
    assert "--constraint requirements.lock ." in STEPS["Install"]["run"]


def test_a_run_goes_on_from_what_the_last_one_kept(server, tenant, bare, tmp_path):
    """The cache is a tar with exact times: with them, the run knows the file for its own."""
    env = bare | tenant | {"HOME": str(tmp_path), "RECONCILE": ""}
    command = STEPS["Sync"]["run"].replace("crmcom sync", "crmcom sync --no-transform")
    kept = STEPS["Keep the warehouse"]["with"]["path"].split()
    archive = tmp_path / "cache.tar"
    for machine in ("first", "second"):
        folder = tmp_path / machine
        (folder / ".venv/bin").mkdir(parents=True)
        (folder / ".venv/bin/crmcom").symlink_to(CRMCOM)
        if archive.exists():
            subprocess.run(["tar", "--posix", "-xf", archive, "-C", folder], check=True)
        server.sandbox.reset_counters()
        done = shell(command, folder, env)
        assert done.returncode == 0, done.stderr
        assert "restored" not in done.stderr
        subprocess.run(["tar", "--posix", "-cf", archive, "-C", folder, *kept], check=True)
        shutil.rmtree(folder)
    asked = server.sandbox.counters.requests
    assert asked["GET /accounts/{id}"] > 0
    assert asked["GET /contacts/{id}/accounts"] == 0, "those of contacts that are known"


def test_a_run_that_fails_fails_the_step(bare, tmp_path):
    """Nothing between the command and its step swallows the exit code."""
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/crmcom").symlink_to(CRMCOM)
    env = bare | {"HOME": str(tmp_path), "RECONCILE": ""}
    assert shell(STEPS["Sync"]["run"], tmp_path, env).returncode == 2
    assert '"exit_code": 2' in (tmp_path / "result.json").read_text()
