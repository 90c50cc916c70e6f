"""One process at a time, whatever becomes of it."""

from __future__ import annotations

import errno
import fcntl
import os
import time

import pytest

from crmcom.errors import SettingsError
from crmcom_pipelines import lock
from crmcom_pipelines.lock import Locked
from crmcom_pipelines.publish import Workspace

HOLD = """
with workspace.draft("crmcom backfill"):
    say("ready")
    time.sleep(60)
"""


def test_a_second_process_fails_at_once_and_says_who_is_at_work(start, workspace):
    """Exit code 6, within a second, with the holder's process, host, time and command."""
    other = start(HOLD)
    began = time.monotonic()
    with pytest.raises(Locked) as caught, workspace.draft("crmcom sync"):
        pass
    assert time.monotonic() - began < 1
    assert caught.value.exit_code == 6
    assert caught.value.holder == workspace.holder()
    assert caught.value.holder.pid == other.pid
    for word in (f"process {other.pid}", os.uname().nodename, "UTC", "(crmcom backfill)"):
        assert word in str(caught.value)


def test_a_killed_holder_leaves_nothing_to_clean_up(start, workspace):
    """After SIGKILL the next run simply starts, under its own name."""
    other = start(HOLD)
    other.kill()
    other.wait()
    assert str(other.pid) in workspace.lock_file.read_text()
    assert workspace.holder() is None
    with workspace.draft("crmcom sync"):
        assert workspace.holder().pid == os.getpid()
    assert workspace.holder() is None


@pytest.mark.parametrize("way", ["symlink to the file", "symlink to the folder", "relative path"])
def test_every_way_to_one_file_meets_one_lock(way, outcome, workspace, tmp_path, sync):
    """The lock belongs to the file, not to the words that name it."""
    sync(1)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    if way == "symlink to the file":
        path = elsewhere / "mine.duckdb"
        path.symlink_to(workspace.published)
    elif way == "symlink to the folder":
        (elsewhere / "folder").symlink_to(tmp_path)
        path = elsewhere / "folder" / workspace.published.name
    else:
        path = f"../{workspace.published.name}"
    with workspace.draft("crmcom sync"):
        said = outcome(
            """
try:
    with workspace.draft("crmcom sync"):
        say("both")
except CrmcomError as error:
    say(type(error).__name__)
""",
            path,
            cwd=elsewhere,
        )
    assert said == "Locked"


def test_two_warehouses_in_one_folder_do_not_meet(workspace, tmp_path):
    """Neither by name nor by suffix."""
    with (
        workspace.draft("crmcom sync"),
        Workspace(tmp_path / "other.duckdb", "crmcom").draft("crmcom sync"),
        Workspace(tmp_path / "warehouse.db", "crmcom").draft("crmcom sync"),
    ):
        pass


def test_a_program_that_outlives_its_run_does_not_keep_the_lock(start, workspace):
    """dbt is started by a run; when the run is killed, the next one need not wait for dbt."""
    other = start(
        """
with workspace.draft("crmcom sync"):
    child = subprocess.Popen(["sleep", "5"], close_fds=False, stdout=subprocess.DEVNULL)
    say("ready")
    say(child.pid)
    time.sleep(60)
"""
    )
    child = int(other.stdout.readline())
    other.kill()
    other.wait()
    try:
        with workspace.draft("crmcom sync"):
            os.kill(child, 0)  # it does outlive it
    finally:
        os.kill(child, 9)


def test_a_fork_does_not_keep_the_lock_of_a_finished_run(outcome):
    """A worker forked during a run shares the open file, but not the lock's end."""
    said = outcome(
        """
import warnings
from crmcom_pipelines import lock
# `import duckdb` starts a thread; Python warns of a fork beside one from 3.12 on.
warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
with lock.hold(database, command="one"):
    child = os.fork()
    if not child:
        time.sleep(60)
with lock.hold(database, command="two"):
    say("free")
os.kill(child, signal.SIGKILL)
"""
    )
    assert said == "free"


def test_a_file_system_without_locks_is_refused(monkeypatch, workspace):
    """Better no sync than two at once. The refusal is simulated: no such mount is at hand."""

    def flock(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(SettingsError, match="no file locks"), workspace.draft("crmcom sync"):
        pass


def test_an_error_in_the_block_frees_the_lock(workspace):
    """And reaches the caller as it was."""
    with pytest.raises(ZeroDivisionError), workspace.draft("crmcom sync"):
        _ = 1 / 0
    assert workspace.holder() is None


def test_looking_who_is_at_work_makes_nothing(workspace):
    """`crmcom status` may ask before anything was ever synced."""
    assert workspace.holder() is None
    assert not workspace.folder.exists()
    assert lock.users(workspace.published) == ""
