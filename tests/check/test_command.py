"""`crmcom check` as a person and a script meet it, and what `crmcom sync` says of the same."""

import json
import os
import stat

import duckdb
import pytest
from click.testing import CliRunner

from crmcom import Run, Settings
from crmcom.errors import CrmcomError
from crmcom_pipelines import trial
from crmcom_pipelines.cli import main
from crmcom_pipelines.load import sync
from crmcom_sandbox import LIVE, serve

from .conftest import HURRIED
from .foreign import not_the_api, patience_s


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    for name in [n for n in os.environ if "__" in n]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def check(server, *options, **environ):
    given = ("check", "--base-url", server.base_url, *options)
    env = {"SOURCES__CRMCOM__API_KEY": server.api_key, **environ}
    return CliRunner(env=env).invoke(main, given)


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_each_check_is_one_line_and_one_entry(world, tmp_path):
    """In a folder without settings. A script gets one object."""
    with serve(world, behaviour="live") as server:
        shown = check(server)
        told = check(server, "--json")
    assert shown.exit_code == told.exit_code == 0, shown.output
    lines = shown.stdout.splitlines()
    assert all(line.startswith("✓ ") for line in lines)
    found = json.loads(told.stdout)
    assert found["exit_code"] == 0
    assert found["changes"] == []
    assert len(found["checks"]) == len(lines)
    for entry, line in zip(found["checks"], lines, strict=True):
        assert set(entry) == {"name", "ok", "message", "value"}
        assert line.startswith(f"✓ {entry['name']}: ")
    names = {entry["name"] for entry in found["checks"]}
    assert {"settings", "credentials", "clock", "destination", "disk"} <= names
    assert names_in(tmp_path) == [".crmcom"]
    assert server.api_key not in shown.output + told.output


@pytest.mark.parametrize(
    ("switches", "environ", "code"),
    [
        ({"forbidden": ("GET /accounts/{id}",)}, {}, 3),
        ({"broken": ("GET /activities",)}, {}, 4),
        ({"ignored_filters": {"*": ("states",)}}, {}, 5),
        ({}, {"SOURCES__CRMCOM__PAGESIZE": "3"}, 2),
        ({}, {"SOURCES__CRMCOM__PAGE_SIZE": "many"}, 2),
        ({}, {"SOURCES__CRMCOM__API_KEY": "wrong"}, 3),
        ({"forbidden": ("GET /accounts/{id}",), "broken": ("GET /activities",)}, {}, 3),
    ],
)
def test_the_exit_code_says_what_to_mend(world, switches, environ, code):
    with serve(world, behaviour=LIVE.but(**switches)) as server:
        done = check(server, **environ)
    assert done.exit_code == code, done.output
    assert any(line.startswith("✗ ") for line in done.stdout.splitlines())
    assert "wrong" not in done.output or "API_KEY" not in environ


def test_a_sync_names_misspelt_settings_in_a_note(world, tmp_path):
    with serve(world, behaviour="live") as server:
        done = CliRunner(
            env={"SOURCES__CRMCOM__API_KEY": server.api_key, "SOURCES__CRMCOM__PAGESIZE": "3"}
        ).invoke(main, ["sync", "--base-url", server.base_url, "--no-transform", "--json"])
    assert done.exit_code == 0, done.output
    notes = json.loads(done.stdout)["notes"]
    assert any("did you mean SOURCES__CRMCOM__PAGE_SIZE?" in note for note in notes)


def test_status_shows_how_the_api_behaves(world, tmp_path):
    with serve(world, behaviour="live") as server:
        env = {"SOURCES__CRMCOM__API_KEY": server.api_key}
        options = ["sync", "--base-url", server.base_url, "--no-transform", "--quiet"]
        assert CliRunner(env=env).invoke(main, options).exit_code == 0
    shown = CliRunner().invoke(main, ["status"]).output
    assert "- contacts: totals: told" in shown
    told = json.loads(CliRunner().invoke(main, ["status", "--json"]).output)
    assert told["behaviour"]["facts"]["activities: epoch unit"] == "seconds"


@pytest.mark.parametrize(
    ("start", "told"), [c[1:3] for c in not_the_api()], ids=[c[0] for c in not_the_api()]
)
def test_a_sync_says_the_cause_too(start, told, tmp_path):
    """In one line, of the run or of each resource that it ended."""
    with start() as url:
        settings = Settings(base_url=url, api_key="sEcret-key", request_timeout_s=patience_s(start))
        try:
            outcome = sync(
                Run(settings, patience=HURRIED), database=tmp_path / "w.duckdb", transform=False
            )
        except CrmcomError as error:
            reasons = [str(error)]
        else:
            assert outcome.exit_code
            reasons = [r.reason for r in outcome.resources.values() if r.reason]
    assert reasons
    assert all(told in reason and "\n" not in reason for reason in reasons)
    assert "sEcret-key" not in "".join(reasons)


def test_a_privacy_that_names_no_column_is_told_before_anything_is_asked(world):
    with serve(world, behaviour="live") as server:
        found = check(server, SOURCES__CRMCOM__PRIVACY='{"phone_number": "drop"}')
        assert sum(server.sandbox.counters.requests.values()) == 0
    assert found.exit_code == 2
    assert "did you mean phone__number?" in found.output


def test_settings_that_are_no_toml_are_named(tmp_path):
    """In a process of its own: dlt reads its files once."""
    import subprocess  # noqa: PLC0415
    import sys  # noqa: PLC0415

    (tmp_path / ".dlt").mkdir()
    (tmp_path / ".dlt/secrets.toml").write_text('[sources.crmcom]\napi_key = "sEcret\n')
    for command in ("check", "sync"):
        code = f"from crmcom_pipelines.cli import main; main(['{command}', '--json'])"
        done = subprocess.run((sys.executable, "-c", code), capture_output=True, text=True,
                              check=False, cwd=tmp_path)  # fmt: skip
        assert done.returncode == 2
        assert ".dlt/secrets.toml is no TOML" in done.stdout
        assert "sEcret" not in done.stdout + done.stderr


# --- where it is written to ---


def test_a_destination_is_tried_and_left_as_it_was(tmp_path):
    database = tmp_path / "warehouse.duckdb"
    found = trial.destination("duckdb", database, "crmcom")
    assert found.ok, found.message
    with duckdb.connect(str(database)) as connection:
        connection.execute("create table kept as select 1")
    before = database.read_bytes()
    assert trial.destination("duckdb", database, "crmcom").ok
    assert database.read_bytes() == before
    assert names_in(tmp_path) == [".crmcom", "warehouse.duckdb"]
    assert names_in(tmp_path / ".crmcom/warehouse.duckdb") == []


@pytest.mark.parametrize(
    ("make", "told", "code"),
    [
        (lambda at: at.write_bytes(b"no database"), "no database that this DuckDB can open", 2),
        (lambda at: at.mkdir(), "no file name for a database", 2),
        (lambda at: at.with_name(f"{at.name}.wal").write_bytes(b""), "open for writing", 6),
        (lambda at: at.with_name(".crmcom").write_bytes(b""), "Cannot write beside", 2),
    ],
)
def test_what_stands_in_the_way_is_named(tmp_path, make, told, code):
    database = tmp_path / "warehouse.duckdb"
    make(database)
    found = trial.destination("duckdb", database, "crmcom")
    assert (found.ok, found.exit_code) == (False, code)
    assert told in found.message


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_named(tmp_path):
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    found = trial.destination("duckdb", tmp_path / "warehouse.duckdb", "crmcom")
    assert (found.ok, found.exit_code) == (False, 2)


@pytest.mark.parametrize(
    ("name", "told", "environ"),
    [
        ("nonsense", "knows no destination", {}),
        ("filesystem", "delete-insert", {"DESTINATION__FILESYSTEM__BUCKET_URL": "memory://x"}),
    ],
)
def test_another_destination_says_what_it_lacks(tmp_path, monkeypatch, name, told, environ):
    for variable, value in environ.items():
        monkeypatch.setenv(variable, value)
    found = trial.destination(name, tmp_path / "warehouse.duckdb", "crmcom")
    assert (found.ok, found.exit_code) == (False, 2)
    assert told in found.message


def test_too_little_room_is_told(tmp_path, monkeypatch):
    assert trial.disk(tmp_path / "no/such/folder/warehouse.duckdb", "crmcom").ok
    monkeypatch.setattr(trial, "ROOM_BYTES", 1 << 62)
    found = trial.disk(tmp_path / "warehouse.duckdb", "crmcom")
    assert found.ok is False
    assert "make room" in found.message
