"""The files for systemd and cron: accepted by their own tools, and their commands work."""

import configparser
import os
import re
import shlex
import shutil
import subprocess
import time

import duckdb
import pytest
from croniter import croniter

from crmcom_pipelines.publish import Workspace
from crmcom_sandbox import serve_process

from .conftest import CRMCOM, PAGES

SERVICE = PAGES / "systemd/crmcom-sync.service"
TIMER = PAGES / "systemd/crmcom-sync.timer"
CRON = [line for line in (PAGES / "crontab").read_text().splitlines() if re.match(r"[\d*@]", line)]


def unit(path):
    found = configparser.ConfigParser(interpolation=None, strict=False)
    found.optionxform = str
    found.read_string(path.read_text())
    return found


@pytest.fixture
def home(tmp_path):
    """Stands for /srv/crmcom."""
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/crmcom").symlink_to(CRMCOM)
    return tmp_path


def run(command, home, env, **how):
    return subprocess.run(
        command, cwd=home, env=env, capture_output=True, text=True, check=False, **how
    )


# --- systemd ---


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed")
def test_systemd_accepts_the_units(home, tmp_path):
    """All directives are known, and the timer finds its service."""
    folder = tmp_path / "units"
    folder.mkdir()
    for path in (SERVICE, TIMER):
        (folder / path.name).write_text(path.read_text().replace("/srv/crmcom", str(home)))
    done = run(
        ["systemd-analyze", "verify", "--man=no", *folder.iterdir()], folder, dict(os.environ)
    )
    assert done.returncode == 0, done.stderr
    ours = [line for line in done.stderr.splitlines() if "crmcom" in line]
    assert ours == []


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed")
def test_the_timer_rings_once_a_day():
    said = unit(TIMER)["Timer"]["OnCalendar"]
    done = run(["systemd-analyze", "calendar", "--iterations=3", said], ".", dict(os.environ))
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r"05:15:00 UTC", done.stdout)) >= 3


def test_the_service_syncs(home, tenant, bare):
    """Its command, in its folder, with its environment, and nothing of ours."""
    service = unit(SERVICE)["Service"]
    assert service["WorkingDirectory"] == "/srv/crmcom"
    command = shlex.split(service["ExecStart"].replace("/srv/crmcom", str(home)))
    given = dict(pair.split("=") for pair in shlex.split(service["Environment"]))
    done = run([*command, "--no-transform"], home, bare | given | tenant)
    assert done.returncode == 0, done.stderr
    assert (home / "finance.duckdb").exists()


def test_the_exit_codes_that_pass_by_themselves_are_those_tried_again():
    service = unit(SERVICE)["Service"]
    assert service["RestartPreventExitStatus"].split() == ["1", "2", "3", "5", "7"]


# --- cron ---


@pytest.mark.parametrize("line", CRON)
def test_a_line_of_the_crontab_is_silent_when_all_is_well(line, home, tenant, bare):
    """And shows what is wrong: cron mails what is written. In cron's shell, with its PATH."""
    schedule, command = line.split("  ", 1)
    assert croniter.is_valid(schedule)
    assert "%" not in command, "cron reads it as the end of the line"
    command = command.replace("/srv/crmcom", str(home)).replace("--quiet", "--quiet --no-transform")
    env = bare | {"PATH": "/usr/bin:/bin", "HOME": str(home)}
    good = run(["/bin/sh", "-c", command], home, env | tenant)
    assert (good.returncode, good.stdout, good.stderr) == (0, "", "")
    assert (home / "finance.duckdb").exists()
    bad = run(["/bin/sh", "-c", command], home, env)
    assert "SOURCES__CRMCOM__BASE_URL" in bad.stdout


# --- what all of them rely on ---


def test_a_second_run_ends_at_once_and_says_who_works(home, tenant, bare):
    """Exit code 6, so that no schedule needs a lock of its own."""
    with Workspace(home / "warehouse.duckdb", "crmcom").draft("somebody's long load"):
        second = run([CRMCOM, "sync", "--quiet", "--no-transform"], home, bare | tenant)
    assert second.returncode == 6
    assert "somebody's long load" in second.stderr


def test_sigterm_ends_a_run_and_the_next_one_goes_on(home, bare):
    """As systemd, Airflow and container runtimes end one; nothing is lost, nothing doubled."""
    size = ("--contacts", "300", "--activities", "300", "--behaviour", "live")
    with serve_process(*size) as tenant:
        env = bare | {
            "SOURCES__CRMCOM__BASE_URL": tenant.base_url,
            "SOURCES__CRMCOM__API_KEY": tenant.api_key,
        }
        command = [CRMCOM, "sync", "--quiet", "--no-transform"]
        with subprocess.Popen(command, cwd=home, env=env, stderr=subprocess.DEVNULL) as process:
            lock = Workspace(home / "warehouse.duckdb", "crmcom").lock_file
            while not lock.exists() and process.poll() is None:
                time.sleep(0.01)
            process.terminate()
        assert process.returncode != 0
        again = run(command, home, env)
    assert again.returncode == 0, again.stderr
    with duckdb.connect(str(home / "warehouse.duckdb"), read_only=True) as con:
        found = con.sql("select count(*), count(distinct id) from crmcom.activities").fetchone()
    assert found == (300, 300)
