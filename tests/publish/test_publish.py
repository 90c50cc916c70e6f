"""What readers of the published file are promised, and those who run syncs."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import duckdb
import pytest
from dlt.common.normalizers.naming.snake_case import NamingConvention
from hypothesis import given
from hypothesis import strategies as st

from crmcom.errors import SettingsError
from crmcom_pipelines.lock import Locked
from crmcom_pipelines.publish import (
    NoSpace,
    NotWritable,
    Origin,
    PublishBlocked,
    Published,
    Workspace,
    check_dataset,
    origin,
)

CRASHES = Path(__file__).with_name("crashes.py")

READ = """
connection = duckdb.connect(str(database), read_only=True)
say("ready")
for _ in sys.stdin:
    say(connection.execute("select count(*) from t").fetchone()[0])
"""
WRITE = """
connection = duckdb.connect(str(database))
say("ready")
for _ in sys.stdin:
    connection.execute("insert into t values (0)")
    say("written")
"""


def ask(process):
    process.stdin.write("\n")
    process.stdin.flush()
    return process.stdout.readline().strip()


def fill(path, rows):
    with duckdb.connect(str(path)) as connection:
        connection.execute(f"create or replace table t as select range n from range({rows})")


def replace(path, rows):
    """Puts another database under a name, as somebody does who restores a backup."""
    path.unlink(missing_ok=True)
    fill(path, rows)


# Readers


def test_a_reader_is_never_disturbed(start, sync, rows):
    """Who has the file open reads on in the old state; who opens it anew sees the new one."""
    sync(10)
    reader = start(READ)
    assert ask(reader) == "10"
    sync(20)
    assert ask(reader) == "10"
    assert rows() == 20
    sync(30)
    assert ask(reader) == "10"


def test_readers_see_nothing_of_a_run_before_it_publishes(workspace, sync, rows):
    """Nor does an open reader keep the run from working, or the run a reader from opening."""
    sync(10)
    with workspace.draft("crmcom sync") as draft, duckdb.connect(str(draft.path)) as connection:
        connection.execute("delete from t")
        assert rows() == 10


def test_a_failed_run_leaves_the_last_good_file(workspace, sync, rows):
    """And what it loaded is published by the next run, even if that one has nothing new."""
    sync(10)
    sync(20, publish=False)
    assert rows() == 10
    sync(changed=False)
    assert rows() == 20


def test_nothing_is_copied_when_nothing_changed(workspace, sync):
    """The published file stays the same file, so that copying costs nothing."""
    sync(10)
    before = workspace.published.stat()
    sync(changed=False)
    sync(changed=False)
    assert workspace.published.stat() == before


def test_a_run_that_loads_nothing_at_all_publishes_nothing(workspace):
    with workspace.draft("crmcom sync") as draft:
        assert draft.origin is Origin.FRESH
        assert draft.publish() is False
    assert not workspace.published.exists()


def test_nobody_can_write_the_published_file(outcome, open_folder):
    """DuckDB refuses at once whoever would write it, so that no stray changes come about."""
    said = outcome(
        """
with workspace.draft("crmcom sync") as draft:
    duckdb.connect(str(draft.path)).execute("create table t as select 1 n").close()
    draft.publish()
say(oct(database.stat().st_mode))
become_a_plain_user()
try:
    duckdb.connect(str(database))
except duckdb.IOException as error:
    say("Permission denied" in str(error))
say(duckdb.connect(str(database), read_only=True).execute("select n from t").fetchone()[0])
""",
        open_folder / "warehouse.duckdb",
        umask=0o022,
    )
    assert said.split() == ["0o100444", "True", "1"]


def test_who_may_not_read_the_last_file_may_not_read_the_next(outcome, workspace, sync):
    """It holds people's data: neither a umask nor a `chmod` is undone by publishing."""
    outcome(
        """
with workspace.draft("crmcom sync") as draft:
    duckdb.connect(str(draft.path)).execute("create table t as select 1 n").close()
    draft.publish()
""",
        umask=0o077,
    )
    assert workspace.published.stat().st_mode & 0o777 == 0o400
    workspace.published.chmod(0o440)
    theirs = 65534 if os.geteuid() == 0 else os.geteuid()
    os.chown(workspace.published, theirs, -1)
    sync(20)
    assert workspace.published.stat().st_mode & 0o777 == 0o440
    assert workspace.published.stat().st_uid == theirs


def test_a_symlink_stays_one(workspace, tmp_path):
    """Publishing replaces the file that it leads to."""
    link = tmp_path / "link" / "warehouse.duckdb"
    link.parent.mkdir()
    link.symlink_to(workspace.published)
    with Workspace(link, "crmcom").draft("crmcom sync") as draft:
        fill(draft.path, 10)
        draft.publish()
    assert link.is_symlink()
    assert workspace.published.exists()


def test_views_work_in_the_published_file(workspace, rows):
    """DuckDB names the catalog after the file, so both files have one name."""
    with workspace.draft("crmcom sync") as draft:
        fill(draft.path, 10)
        with duckdb.connect(str(draft.path)) as connection:
            connection.execute("create view v as select * from warehouse.main.t")
        draft.publish()
    with duckdb.connect(str(workspace.published), read_only=True) as connection:
        assert connection.execute("select count(*) from v").fetchone() == (10,)


# Somebody writes the published file


@pytest.mark.parametrize("asked", [True, False], ids=["has written", "has only opened"])
def test_a_session_that_writes_the_published_file_blocks_publishing(
    asked, start, sync, workspace, rows
):
    """DuckDB would put its changes into the next file. Exit code 6, and who it is."""
    sync(10)
    workspace.published.chmod(0o644)
    writer = start(WRITE)
    if asked:
        assert ask(writer) == "written"
    with workspace.draft("crmcom sync") as draft:
        assert f"process {writer.pid}" in draft.note
        fill(draft.path, 20)
        with pytest.raises(PublishBlocked, match=f"process {writer.pid}, python") as caught:
            draft.publish()
        assert caught.value.exit_code == 6
    writer.kill()
    writer.wait()


def test_a_wal_that_nobody_holds_blocks_publishing_until_it_is_moved_away(
    start, sync, workspace, rows
):
    """What was loaded meanwhile is kept, and published by the next run."""
    sync(10)
    workspace.published.chmod(0o644)
    writer = start(WRITE)
    ask(writer)
    writer.kill()
    writer.wait()
    wal = Path(f"{workspace.published}.wal")
    with workspace.draft("crmcom sync") as draft:
        fill(draft.path, 20)
        with pytest.raises(PublishBlocked, match=r"move the \.wal away"):
            draft.publish()
    wal.rename(f"{wal}.old")
    assert rows() == 10
    assert sync(changed=False) == ""
    assert rows() == 20


def test_a_file_put_there_during_a_run_is_not_overwritten(workspace, sync, rows):
    """It is somebody's wish; the next run starts from it."""
    sync(10)
    with workspace.draft("crmcom sync") as draft:
        fill(draft.path, 20)
        replace(workspace.published, 5)
        with pytest.raises(PublishBlocked, match="replaced or deleted"):
            draft.publish()
    assert rows() == 5
    assert "not the file that the last run published" in sync()
    assert rows() == 5


# Which file is the truth when a run starts


@pytest.mark.parametrize(
    ("published", "working", "ever_published", "expected"),
    [
        (Published.MISSING, False, False, Origin.FRESH),
        (Published.MISSING, True, False, Origin.CONTINUED),
        (Published.MISSING, False, True, Origin.STARTED_OVER),
        (Published.MISSING, True, True, Origin.STARTED_OVER),
        (Published.OURS, False, True, Origin.COPIED),
        (Published.OURS, True, True, Origin.CONTINUED),
        (Published.THEIRS, False, False, Origin.COPIED),
        (Published.THEIRS, True, False, Origin.RESTORED),
        (Published.THEIRS, False, True, Origin.COPIED),
        (Published.THEIRS, True, True, Origin.RESTORED),
    ],
)
def test_the_truth_of_a_start(published, working, ever_published, expected):
    """The working file, unless somebody wished otherwise."""
    assert origin(published, working=working, ever_published=ever_published) is expected


def begin(workspace):
    """Where a run starts from: its origin, how many rows it finds, and its note."""
    with workspace.draft("crmcom sync") as draft:
        if not draft.path.exists():
            return draft.origin, None, draft.note
        with duckdb.connect(str(draft.path)) as connection:
            count = connection.execute("select count(*) from t").fetchone()[0]
        return draft.origin, count, draft.note


def test_a_run_goes_on_from_what_the_last_one_loaded(workspace, sync):
    """Published or not."""
    sync(10, publish=False)
    assert begin(workspace) == (Origin.CONTINUED, 10, "")
    sync(20)
    sync(30, publish=False)
    assert begin(workspace) == (Origin.CONTINUED, 30, "")


def test_a_killed_run_loses_nothing_that_it_committed(start, workspace, sync):
    """DuckDB finds it in the `.wal` of the working file."""
    sync(10)
    other = start(
        """
with workspace.draft("crmcom sync") as draft:
    connection = duckdb.connect(str(draft.path))
    connection.execute("insert into t select range from range(5)")
    say("ready")
    time.sleep(60)
"""
    )
    other.kill()
    other.wait()
    assert Path(f"{workspace.working}.wal").exists()
    assert begin(workspace) == (Origin.CONTINUED, 15, "")


def test_a_missing_working_file_is_made_from_the_published_one(workspace, sync, rows):
    """As on a new machine, to which only `warehouse.duckdb` was copied."""
    sync(10)
    shutil.rmtree(workspace.published.parent / ".crmcom")
    assert begin(workspace) == (Origin.COPIED, 10, "")
    assert begin(workspace) == (Origin.CONTINUED, 10, "")
    sync(20)
    assert rows() == 20


@pytest.mark.parametrize("keeps_its_time", [True, False])
def test_a_restored_backup_is_what_a_run_starts_from(keeps_its_time, workspace, sync, tmp_path):
    """It is somebody's wish. The file it takes the place of is kept aside."""
    sync(10)
    backup = tmp_path / "backup"
    shutil.copy2(workspace.published, backup)
    sync(20)
    workspace.published.unlink()
    (shutil.copy2 if keeps_its_time else shutil.copyfile)(backup, workspace.published)
    where, found, note = begin(workspace)
    assert (where, found) == (Origin.RESTORED, 10)
    (kept,) = workspace.kept_aside()
    assert str(kept) in note
    with duckdb.connect(str(kept), read_only=True) as connection:
        assert connection.execute("select count(*) from t").fetchone() == (20,)
    assert begin(workspace) == (Origin.CONTINUED, 10, "")


def test_an_edited_published_file_is_what_a_run_starts_from(workspace, sync):
    """Even when its size and its time stay the same."""
    sync(10)
    before = workspace.published.stat()
    workspace.published.chmod(0o644)
    with duckdb.connect(str(workspace.published)) as connection:
        connection.execute("update t set n = 11 where n = 9")
    os.truncate(workspace.published, before.st_size)
    os.utime(workspace.published, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert begin(workspace)[0] is Origin.RESTORED


def test_the_same_file_put_back_changes_nothing(workspace, sync, tmp_path):
    """Moved away and back, or copied with its time: what was loaded since is not thrown away."""
    sync(10)
    sync(20, publish=False)
    shutil.copy2(workspace.published, tmp_path / "copy")
    (tmp_path / "copy").replace(workspace.published)
    assert begin(workspace) == (Origin.CONTINUED, 20, "")


def test_deleting_the_published_file_means_to_start_over(workspace, sync, rows):
    """`rm warehouse.duckdb` and the next run begins anew; the working file is kept aside."""
    sync(10)
    workspace.published.unlink()
    where, found, note = begin(workspace)
    assert (where, found) == (Origin.STARTED_OVER, None)
    assert "was deleted: starting over" in note
    assert len(workspace.kept_aside()) == 1
    sync(3)
    assert rows() == 3


def test_a_deleted_file_that_comes_back_is_used_again(workspace, sync, tmp_path):
    """Whoever moved it away for a moment gets it back, although a run started over meanwhile."""
    sync(10)
    workspace.published.rename(tmp_path / "away")
    sync(3, publish=False)
    (tmp_path / "away").rename(workspace.published)
    assert begin(workspace)[:2] == (Origin.RESTORED, 10)


def test_only_the_last_file_set_aside_is_kept(workspace, sync):
    """Each may be as large as the warehouse."""
    for rows in (10, 20, 30):
        sync(rows)
        workspace.published.unlink()
        begin(workspace)
        fill(workspace.working, 1)
    assert len(workspace.kept_aside()) == 1


def spoil(path):
    path.write_bytes(path.read_bytes()[:9000])


def test_a_broken_working_file_gives_way_to_the_published_one(workspace, sync, rows):
    """It is kept aside, and the run says so."""
    sync(10)
    sync(20, publish=False)
    spoil(workspace.working)
    where, found, note = begin(workspace)
    assert (where, found) == (Origin.RECOVERED, 10)
    assert "cannot be opened" in note
    assert str(*workspace.kept_aside()) in note
    sync(30)
    assert rows() == 30


def test_a_broken_working_file_that_was_never_published_means_to_start_anew(workspace, sync):
    """The API still has everything."""
    sync(10, publish=False)
    spoil(workspace.working)
    assert begin(workspace)[:2] == (Origin.RECOVERED, None)
    assert len(workspace.kept_aside()) == 1


@pytest.mark.parametrize("working", ["whole", "broken", "missing"])
def test_a_published_file_that_cannot_be_opened_changes_nothing(working, workspace, sync):
    """Exit code 2 with what to do; no file is touched."""
    sync(10)
    if working == "missing":
        workspace.working.unlink()
    if working == "broken":
        spoil(workspace.working)
    workspace.published.unlink()
    workspace.published.write_bytes(b"not a database" * 1000)
    before = workspace.working.read_bytes() if workspace.working.exists() else None
    with pytest.raises(SettingsError, match="no database that this DuckDB can open"):
        begin(workspace)
    assert workspace.published.read_bytes() == b"not a database" * 1000
    assert (workspace.working.read_bytes() if workspace.working.exists() else None) == before


def test_a_published_file_under_edit_is_not_copied(workspace, sync, start):
    """Half of the edit would be lost, or the copy torn."""
    sync(10)
    workspace.working.unlink()
    workspace.published.chmod(0o644)
    writer = start(WRITE)
    with pytest.raises(PublishBlocked, match=f"process {writer.pid}"):
        begin(workspace)


def test_a_leftover_of_a_killed_run_that_still_writes_is_named(workspace, sync, start):
    """dbt may outlive a run that is killed. Two writers are never let at one file."""
    sync(10)
    writer = start(WRITE, workspace.working)
    with pytest.raises(Locked, match=f"process {writer.pid}, python") as caught:
        begin(workspace)
    assert caught.value.exit_code == 6
    writer.kill()
    writer.wait()
    assert begin(workspace) == (Origin.CONTINUED, 10, "")


def test_an_unreadable_record_costs_a_copy_and_nothing_else(workspace, sync):
    """The published file counts then."""
    sync(10)
    workspace.record_file.write_text("{")
    assert begin(workspace)[:2] == (Origin.RESTORED, 10)


# Crashes


def crashes(*arguments):
    """Runs the script, in memory where there is a place: it syncs some thousand times."""
    memory = Path("/dev/shm")
    where = memory if os.access(memory, os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=where) as folder:
        done = subprocess.run(
            [sys.executable, CRASHES, *arguments, folder],
            capture_output=True,
            text=True,
            check=False,
        )
    assert not done.stderr, done.stderr
    return done.stdout


@pytest.mark.parametrize("scenario", ["first", "next", "restored", "deleted", "broken"])
def test_a_crash_at_any_step_leaves_a_whole_file_and_loses_nothing(scenario):
    """Killed at every single step of a run, one after the other, and run again each time."""
    steps = int(crashes("steps", scenario))
    assert steps > 15


def test_kills_at_random_moments_leave_a_whole_file():
    """SIGKILL while runs follow each other: the published file is always one that a run made."""
    crashes("random", "15")


# The disk


def mounted(folder):
    """What a command starts with that shall see a disk of 64 MB in place of a folder."""
    mount = f"mount -t tmpfs -o size=64m tmpfs {folder} && exec"
    through = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", f'{mount} "$@"', "sh"]
    probe = subprocess.run([*through, "true"], capture_output=True, text=True, check=False)
    if probe.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {probe.stderr.strip()}")
    return through


def test_a_full_disk_keeps_the_last_good_file(outcome, tmp_path):
    """With no room for a second file; then with no room at all. What was loaded is kept, too."""
    said = outcome(
        """
from crmcom_pipelines.publish import StorageFailed
filler = database.with_name("filler")
def fill_disk(leave):
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass
    os.truncate(filler, max(filler.stat().st_size - leave, 0))
def rows():
    with duckdb.connect(str(database), read_only=True) as connection:
        return connection.execute("select count(*) from t").fetchone()[0]
with workspace.draft("crmcom sync") as draft:
    with duckdb.connect(str(draft.path)) as connection:
        connection.execute("create table t as select random() n from range(100_000)")
    draft.publish()
with workspace.draft("crmcom sync") as draft:
    with duckdb.connect(str(draft.path)) as connection:
        connection.execute("insert into t select random() from range(900_000)")
    fill_disk(leave=4_000_000)
    try:
        draft.publish()
    except CrmcomError as error:
        say(type(error).__name__, error.exit_code, "MB needed" in str(error), rows())
with workspace.draft("crmcom sync") as draft:
    connection = duckdb.connect(str(draft.path))
    connection.execute("insert into t select random() from range(200)")
    fill_disk(leave=0)
    connection.close()
    try:
        draft.publish()
    except CrmcomError as error:
        say(isinstance(error, StorageFailed), error.exit_code, rows())
try:
    with workspace.draft("crmcom sync"):
        pass
except CrmcomError as error:
    say(type(error).__name__, error.exit_code, rows())
filler.unlink()
with workspace.draft("crmcom sync") as draft:
    draft.publish(changed=False)
say(rows(), draft.origin.name)
""",
        tmp_path / "warehouse.duckdb",
        through=mounted(tmp_path),
    )
    assert said.splitlines() == [
        "NoSpace 1 True 100000",
        "True 1 100000",
        "NoSpace 1 100000",
        "1000200 CONTINUED",
    ]


def test_a_copy_that_breaks_off_keeps_the_last_good_file(outcome, sync, rows, workspace):
    """A quota says so only in the middle. Here it is the limit of a file's size."""
    sync(10)
    said = outcome(
        """
import resource
with workspace.draft("crmcom sync") as draft:
    with duckdb.connect(str(draft.path)) as connection:
        connection.execute("create or replace table t as select random() n from range(300_000)")
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
    try:
        draft.publish()
    except CrmcomError as error:
        say(type(error).__name__)
"""
    )
    assert said == "NoSpace"
    assert rows() == 10
    sync(changed=False)
    assert rows() == 300_000
    assert list(workspace.parts_dir.iterdir()) == []


def test_no_room_to_begin_changes_nothing(workspace, sync, monkeypatch, rows):
    """A restored file that cannot be copied: nothing is set aside for it."""
    sync(10)
    replace(workspace.published, 5)
    full = shutil.disk_usage(workspace.folder)._replace(free=1000)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: full)
        with pytest.raises(NoSpace, match="MB needed"):
            begin(workspace)
    assert rows() == 5
    assert workspace.kept_aside() == []
    assert begin(workspace)[:2] == (Origin.RESTORED, 5)


def test_a_folder_that_may_not_be_written_is_left_untouched(outcome, open_folder):
    """Exit code 2 before anything is asked of the API, and nothing half made."""
    folder = open_folder / "theirs"
    folder.mkdir()
    folder.chmod(0o555)
    said = outcome(
        """
become_a_plain_user()
try:
    with workspace.draft("crmcom sync"):
        pass
except CrmcomError as error:
    say(type(error).__name__, error.exit_code, str(database.parent) in str(error))
""",
        folder / "warehouse.duckdb",
    )
    assert said == "NotWritable 2 True"
    assert list(folder.iterdir()) == []


def test_a_working_folder_on_another_disk_is_refused(outcome, workspace):
    """No file can be renamed from one disk to another. Exit code 2 before anything is loaded."""
    folder = workspace.folder.parent
    folder.mkdir()
    said = outcome(
        """
try:
    with workspace.draft("crmcom sync"):
        pass
except CrmcomError as error:
    say(error.exit_code, "different file systems" in str(error))
""",
        through=mounted(folder),
    )
    assert said == "2 True"


def test_a_folder_that_is_a_file_is_said_so(tmp_path):
    (tmp_path / "file").touch()
    workspace = Workspace(tmp_path / "file" / "warehouse.duckdb", "crmcom")
    with pytest.raises(NotWritable, match="file"), workspace.draft("crmcom sync"):
        pass


def test_folders_that_are_missing_are_made(tmp_path):
    workspace = Workspace(tmp_path / "a" / "b" / "warehouse.duckdb", "crmcom")
    with workspace.draft("crmcom sync") as draft:
        assert workspace.pipelines_dir.is_dir()
        assert workspace.dbt_dir.is_dir()
        fill(draft.path, 1)
        assert draft.publish() is True


def test_the_working_folder_stays_out_of_git(workspace, sync):
    sync(1)
    assert (workspace.published.parent / ".crmcom" / ".gitignore").read_text() == "*\n"


# Names


@pytest.mark.parametrize(
    ("database", "dataset"),
    [
        ("crmcom.duckdb", "crmcom"),
        ("CRMCOM.work.duckdb", "crmcom"),
        ("crmcom", "crmcom"),
        ("sales.db", "sales"),
        ("crmcom_staging.duckdb", "crmcom"),
        (":memory:", "crmcom"),
        (".duckdb", "crmcom"),
        ("what?.duckdb", "crmcom"),
        (".", "crmcom"),
        ("/", "crmcom"),
    ],
)
def test_a_name_that_duckdb_would_misread_is_refused(database, dataset):
    """Exit code 2. The catalog is the file's name up to the first dot."""
    with pytest.raises(SettingsError) as caught:
        Workspace(Path(database), dataset)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("dataset", ["we ird", "Sales", "a-b", "a__b", "a_", "_a", "1a", "", "é"])
def test_a_dataset_whose_name_dlt_would_change_is_refused(dataset, tmp_path):
    """Its tables would go into one schema, and its marts would be built on another, empty one."""
    with pytest.raises(SettingsError, match="--dataset"):
        Workspace(tmp_path / "warehouse.duckdb", dataset)


@given(st.text("abz09_AZ- é", min_size=1, max_size=12))
def test_dlt_keeps_each_name_that_a_dataset_may_have(dataset):
    with contextlib.suppress(SettingsError):
        check_dataset(dataset)
        assert NamingConvention().normalize_identifier(dataset) == dataset


def test_neither_may_a_symlink_lead_to_such_a_name(tmp_path):
    (tmp_path / "warehouse.duckdb").symlink_to(tmp_path / "crmcom.duckdb")
    with pytest.raises(SettingsError):
        Workspace(tmp_path / "warehouse.duckdb", "crmcom")


@pytest.mark.parametrize("name", ["lock", "working", "aside", "parts", "a [b] c*.duckdb", "é.db"])
def test_any_other_name_will_do(name, tmp_path):
    """Also those that we use ourselves, and those with characters of patterns."""
    workspace = Workspace(tmp_path / name, "crmcom")
    for rows in (1, 2):
        with workspace.draft("crmcom sync") as draft:
            assert draft.note == ""
            fill(draft.path, rows)
            draft.publish()
