"""What a person or a scheduler gets from each command."""

import csv
import io
import re
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import duckdb
import pytest
from click.testing import CliRunner

from crmcom_pipelines import cli
from crmcom_pipelines.ledger import MAY_MISS
from crmcom_pipelines.publish import Workspace
from crmcom_sandbox import World, serve

COMMANDS = sorted(cli.main.commands)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command):
    found = CliRunner().invoke(cli.main, [command, "--help"])
    assert found.exit_code == 0
    assert f"Example: crmcom {command}" in found.output


def test_what_libraries_do_at_the_end_is_done(tmp_path):
    """The program ends without Python's taking everything apart, and leaves nothing undone."""
    code = (
        "import atexit, sys; from crmcom_pipelines.__main__ import main; "
        "atexit.register(print, 'done at the end', end=''); "
        "sys.argv = ['crmcom', '--version']; main()"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert found.stdout.startswith("crmcom, version")
    assert found.stdout.endswith("done at the end")


def test_help_imports_none_of_the_slow_libraries(tmp_path):
    """`crmcom --help` answers at once: what takes seconds to import is imported when used."""
    slow = "{'dlt', 'dbt', 'pandas', 'pyarrow', 'duckdb', 'httpx', 'aiohttp', 'rich', 'starlette'}"
    code = (
        "import sys; from click.testing import CliRunner; from crmcom_pipelines.cli import main; "
        f"CliRunner().invoke(main, ['--help']); print(sorted({slow} & set(sys.modules)))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert found.stdout.strip() == "[]"


def test_a_load_imports_no_package_that_it_can_do_without(call, server, tmp_path):
    """Half a second in each sync."""
    asked = ("sync", "--no-transform", "--quiet", "--base-url", server.base_url)
    told = {"PYTHONPROFILEIMPORTTIME": "1"}
    found = call(*asked, cwd=tmp_path, api_key=server.api_key, **told)
    assert found.code == 0
    imported = {line.rpartition("|")[2].strip() for line in found.err.splitlines()}
    assert {"dlt", "duckdb"} <= imported
    assert not {"pandas.core", "sqlalchemy.engine"} & imported


def test_a_sync_prints_one_json_object_and_nothing_else(synced):
    _, made = synced
    found = made.json
    assert found["exit_code"] == 0
    assert found["run_id"]
    assert found["seconds"] > 0
    assert set(found["resources"]) == {"contacts", "accounts", "activities"}
    for resource in found["resources"].values():
        assert {"rows", "requests", "retries", "rejected", "verdict"} <= set(resource)
        assert resource["verdict"] == "proven"
    assert found["resources"]["contacts"]["rows"] == 40
    assert found["resources"]["activities"]["rows"] == 120


def test_a_second_sync_asks_for_little_and_doubles_nothing(call, synced, server):
    folder, _ = synced
    count = "select count(*), count(distinct id) from crmcom.activities"
    server.sandbox.reset_counters()
    again = call(
        "sync", "--base-url", server.base_url, "--json", cwd=folder, api_key=server.api_key
    )
    assert again.code == 0, again.err
    accounts = again.json["resources"]["accounts"]["rows"]
    asked = sum(server.sandbox.counters.requests.values())
    assert asked - accounts < 20, "beyond the accounts' balances, only what can be new"
    with duckdb.connect(str(folder / "warehouse.duckdb"), read_only=True) as warehouse:
        assert warehouse.execute(count).fetchone() == (120, 120)


def test_reports_come_in_every_format(call, synced):
    folder, _ = synced
    table = call("report", "overdue", cwd=folder)
    assert table.code == 0, table.err
    assert "Overdue accounts" in table.out
    rows = list(
        csv.DictReader(io.StringIO(call("report", "overdue", "--format", "csv", cwd=folder).out))
    )
    with duckdb.connect(str(folder / "warehouse.duckdb"), read_only=True) as warehouse:
        expected = warehouse.execute(
            "select account_id, overdue_net::varchar from crmcom_reports.overdue_worklist "
            "order by source_relation, currency_code, priority_rank"
        ).fetchall()
    assert [(r["account_id"], r["overdue_net"]) for r in rows] == expected
    for kind in ("parquet", "xlsx"):
        made = call("report", "balances", "--format", kind, "-o", f"b.{kind}", cwd=folder)
        assert made.code == 0, made.err
        assert (folder / f"b.{kind}").stat().st_size > 100


def test_status_and_explain_read_the_ledger(call, synced):
    folder, made = synced
    status = call("status", "--json", cwd=folder).json
    assert made.json["run_id"] in {r["run_id"] for r in status["runs"]}
    assert status["open"] == []
    assert {r["kind"]: r["rows"] for r in status["rows"]}["contact"] == 40
    with duckdb.connect(str(folder / "warehouse.duckdb"), read_only=True) as warehouse:
        activity = warehouse.execute("select min(id) from crmcom.activities").fetchone()[0]
        account = warehouse.execute("select min(id) from crmcom.accounts").fetchone()[0]
    found = call("explain", "activity", activity, "--json", cwd=folder).json
    assert found["row"]["id"] == activity
    assert found["loaded_by"][0]["run_id"]
    assert found["seen_in"][0]["verdict"] == "proven"
    assert found["history"]
    assert call("explain", "account", account, "--json", cwd=folder).json["history"]
    nobody = call("explain", "contact", "nobody", "--json", cwd=folder).json
    assert nobody["row"] is None


def test_the_published_file_is_read_only_and_has_no_half_made_parts(synced):
    folder, _ = synced
    assert (folder / "warehouse.duckdb").stat().st_mode & 0o777 == 0o444
    with duckdb.connect(str(folder / "warehouse.duckdb"), read_only=True) as warehouse:
        schemas = {
            r[0]
            for r in warehouse.execute(
                "select distinct table_schema from information_schema.tables"
            ).fetchall()
        }
    assert {"crmcom", "crmcom_reports"} <= schemas
    assert "crmcom_load" not in schemas


def test_a_transform_alone_builds_the_marts(call, synced):
    folder, _ = synced
    found = call("transform", "--json", "--vars", '{"crmcom_ageing_buckets": [10, 20]}', cwd=folder)
    assert found.code == 0, found.err
    assert found.json["transform"]["ok"] is True
    buckets = call("report", "overdue", "--format", "csv", cwd=folder).out
    assert "31-60" not in buckets
    assert call("transform", cwd=folder).code == 0


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (["sync"], 2, "base_url"),
        (["sync", "--base-url", "http://example.com/v2"], 2, "http"),
        (["sync", "--resources", "invoices"], 2, "invoices"),
        (["backfill", "--from", "yesterday"], 2, "yesterday"),
        (["backfill", "--from", "2020-01-02", "--to", "2020-01-01"], 2, "--to"),
        (["report", "overdue"], 2, "crmcom sync"),
        (["report", "overdue", "--destination", "filesystem"], 2, "duckdb"),
        (["transform"], 2, "crmcom sync"),
        (["transform", "--vars", "{"], 2, "--vars"),
        (["status"], 2, "crmcom sync"),
        (["sync", "--database", "crmcom.duckdb", "--base-url", "http://127.0.0.1:1"], 2, "crmcom"),
    ],
)
def test_wrong_use_is_exit_2_and_says_what_to_do(call, args, code, says, tmp_path):
    found = call(*args, cwd=tmp_path, api_key="k")
    assert found.code == code, found.err
    assert says in found.err
    assert "Traceback" not in found.err


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (["sync", "--reconcil", "--json"], 2, "--reconcil"),
        (["backfill", "--json"], 2, "--from"),
        (["backfill", "--json", "--from", "yesterday"], 2, "yesterday"),
        (["--no-such-option", "sync", "--json"], 2, "--no-such-option"),
        (["sink", "--json"], 2, "sink"),
        (["sync", "--json", "--base-url", "http://example.com/v2"], 2, "unencrypted"),
        (["status", "--json"], 2, "crmcom sync"),
        (["sync", "--json", "--base-url", "{server}"], 3, "api_key"),
    ],
)
def test_one_json_object_tells_also_why_nothing_was_done(call, server, args, code, says):
    """The same words stand on stderr, for people."""
    args = [server.base_url if a == "{server}" else a for a in args]
    with tempfile.TemporaryDirectory() as empty:
        found = call(*args, cwd=empty, api_key="wrong-key-1")
    assert found.code == code
    assert set(found.json) == {"run_id", "exit_code", "seconds", "resources", "error"}
    assert found.json["exit_code"] == code
    assert (found.json["run_id"], found.json["resources"]) == (None, {})
    assert says in found.json["error"]
    assert found.json["error"] in found.err
    assert "wrong-key-1" not in found.err + found.out


@pytest.mark.parametrize("command", ["check", "plan", "sync"])
def test_a_setting_that_is_missing_because_it_is_misspelt_is_named(call, tmp_path, command):
    (tmp_path / ".dlt").mkdir()
    (tmp_path / ".dlt/config.toml").write_text('[sources.crmcom]\nbas_url = "https://a.test"\n')
    found = call(command, cwd=tmp_path, api_key="a-key")
    assert found.code == 2
    assert "sources.crmcom.base_url (SOURCES__CRMCOM__BASE_URL) is missing" in found.out + found.err
    assert "did you mean sources.crmcom.base_url?" in found.out + found.err


@pytest.mark.parametrize("name", ["api_key", "privacy_key"])
def test_a_secret_in_the_wrong_file_is_named_with_the_right_one(call, tmp_path, name):
    """By every command that reads it; its value is not shown."""
    (tmp_path / ".dlt").mkdir()
    config = f'[sources.crmcom]\nbase_url = "https://a.test"\n{name} = "sEcret"\n'
    (tmp_path / ".dlt/config.toml").write_text(config)
    for command in ("check", "sync"):
        found = call(command, "--json", cwd=tmp_path)
        assert found.code == 2
        assert f"sources.crmcom.{name}" in found.out
        assert "move it to .dlt/secrets.toml" in found.out
        assert "sEcret" not in found.out + found.err


def test_a_result_that_cannot_be_written_is_one_line(environ, synced):
    """Without a traceback."""
    folder, _ = synced
    with Path("/dev/full").open("w") as full:
        found = subprocess.run(
            [str(Path(sys.executable).parent / "crmcom"), "status", "--json"],
            cwd=folder, env=environ(folder), stdout=full, stderr=subprocess.PIPE, text=True,
            check=False,
        )  # fmt: skip
    assert found.returncode == 1
    assert found.stderr == "Error: OSError: [Errno 28] No space left on device\n"


def test_nothing_has_started_where_a_setting_is_wrong(call, tmp_path):
    found = call("sync", "--base-url", "http://example.com/v2", cwd=tmp_path, api_key="k")
    assert found.err.startswith("Error: ")


def test_a_refused_key_is_exit_3_at_once(call, server, tmp_path):
    server.sandbox.reset_counters()
    found = call(
        "sync", "--base-url", server.base_url, "--json", cwd=tmp_path, api_key="wrong-key-1"
    )
    assert found.code == 3
    assert found.json["exit_code"] == 3
    assert "api_key" in found.err
    assert "wrong-key-1" not in found.err + found.out
    assert sum(server.sandbox.counters.requests.values()) <= 3, "each resource asks once at most"
    assert not (tmp_path / "warehouse.duckdb").exists()


def test_a_server_that_is_down_is_exit_4_and_publishes_nothing(call, tmp_path):
    found = call(
        *("sync", "--base-url", "http://127.0.0.1:9/backoffice/v2", "--json"),
        cwd=tmp_path,
        api_key="k",
        SOURCES__CRMCOM__RUN_TIMEOUT_S="3",
    )
    assert found.code == 4, found.err
    assert not (tmp_path / "warehouse.duckdb").exists()


def test_the_second_run_at_once_is_exit_6_and_names_the_first(call, server, tmp_path):
    with Workspace(tmp_path / "warehouse.duckdb", "crmcom").draft("a long sync"):
        server.sandbox.reset_counters()
        found = call("sync", "--base-url", server.base_url, cwd=tmp_path, api_key=server.api_key)
    assert found.code == 6
    assert "a long sync" in found.err
    assert not server.sandbox.counters.requests, "it asks for nothing"


def test_a_demo_fills_a_warehouse_and_replaces_only_its_own(call, tmp_path, synced, server):
    small = ["--contacts", "60", "--activities", "200", "--days", "2"]
    first = call("demo", *small, cwd=tmp_path)
    assert first.code == 0, first.err
    assert "Overdue accounts" in first.out
    assert "Balances" in first.out
    assert "Try next:" in first.out
    assert str(tmp_path / "warehouse.duckdb") in first.out
    with duckdb.connect(str(tmp_path / "warehouse.duckdb"), read_only=True) as warehouse:
        days = warehouse.execute(
            "select count(distinct date_day) from crmcom_reports.account_daily"
        ).fetchone()[0]
        runs = warehouse.execute("select count(distinct run_id) from crmcom._sync_runs").fetchone()[
            0
        ]
    assert days >= 3
    assert runs == 3
    again = call("demo", *small, cwd=tmp_path)
    assert again.code == 0, again.err
    folder, _ = synced
    foreign = call("demo", *small, cwd=folder)
    assert foreign.code == 2
    assert "--database" in foreign.err


def test_status_for_people_is_tables_of_what_json_tells(call, synced):
    folder, _ = synced
    shown = call("status", cwd=folder)
    assert shown.code == 0
    found = call("status", "--json", cwd=folder).json
    lines = [line.split() for line in shown.out.splitlines()]
    for run in found["runs"]:
        row = next(x for x in lines if x[:2] == [run["run_id"], run["resource"]])
        assert run["started_at"][:19].replace(" ", "T") + "Z" in row
        assert [run["scope"], run["verdict"], f"{run['rows']:,}"] == row[5:8]
    assert ["contact", "40", "0"] in [x[:3] for x in lines]
    assert "Windows of the latest runs that are not proven: none" in shown.out
    assert "Rejects, the latest: none" in shown.out
    assert "Deletions held back: none" in shown.out
    assert {r["resource"] for r in found["reconciled"]} == {"contacts", "activities"}
    for row in (*found["bookmarks"], *found["reconciled"]):
        at = row.get("bookmark") or row["reconciled_at"]
        of_resource = next(x for x in lines if x[0:1] == [row["resource"]])
        assert at[:19].replace(" ", "T") + "Z" in of_resource
    assert all(f"- {item}" in shown.out for item in found["may_miss"])


def test_status_repeats_what_the_docs_say_that_a_plain_sync_may_miss():
    docs = (Path(__file__).parents[2] / "docs" / "completeness.md").read_text()
    part = docs.split("## What a plain sync can miss")[1].split("\n## ")[0]
    bold = re.findall(r"^- \*\*(.+?)\*\*", part, re.MULTILINE | re.DOTALL)
    assert [" ".join(text.split()).rstrip(".") for text in bold] == list(MAY_MISS)


def test_nothing_is_told_to_anybody_but_the_api(call, tmp_path):
    """No library's telemetry: a proxy for all that is not this machine hears nothing."""
    with (
        socket.create_server(("127.0.0.1", 0)) as proxy,
        serve(World.generate(contacts=2, activities=2)) as server,
    ):
        address = f"http://127.0.0.1:{proxy.getsockname()[1]}"
        found = call(
            "sync",
            "--base-url",
            server.base_url,
            "--no-transform",
            cwd=tmp_path,
            api_key=server.api_key,
            HTTPS_PROXY=address,
            HTTP_PROXY=address,
            NO_PROXY="127.0.0.1",
        )
        assert found.code == 0, found.err
        proxy.setblocking(False)
        with pytest.raises(BlockingIOError):
            proxy.accept()


@pytest.mark.parametrize("command", ["sync", "plan", "check"])
def test_a_destination_that_dlt_does_not_know_is_told_in_a_line(call, server, tmp_path, command):
    args = ("--destination", "duckb", "--base-url", server.base_url, "--json")
    found = call(command, *args, cwd=tmp_path, api_key=server.api_key)
    assert found.code == found.json["exit_code"] == 2
    told = found.json.get("error") or found.json["checks"][-2]["message"]
    assert told == "dlt knows no destination duckb: see --destination"
