"""Who asked for it is told what a run came to, and nothing changes because of that."""

import json
import signal
import subprocess
import time

import pytest

from crmcom_pipelines import hooks
from crmcom_pipelines.hooks import Hook, HookFailed, summary_of
from crmcom_pipelines.publish import Workspace
from crmcom_sandbox import API_KEY, World, serve

from .conftest import CRMCOM, call, environ, receiving

TELL = (
    'cat > told.json; printf "%s|%s|%s" "$CRMCOM_EXIT_CODE" "$CRMCOM_RUN_ID" "$CRMCOM_TEXT" > facts'
)


def told(folder):
    return json.loads((folder / "told.json").read_text())


def test_a_webhook_hears_of_success_in_a_form_that_chats_show(watched):
    ((path, _),) = watched.hook.bodies
    (summary,) = watched.hook.objects
    assert path == "/services/T0/B0/very-secret-token"
    assert "\n" not in summary["text"]
    assert "exit code 0" in summary["text"]
    assert (summary["command"], summary["database"]) == ("sync", "warehouse.duckdb")
    result = watched.result
    assert summary["resources"] == result["resources"]
    assert {k: summary[k] for k in ("run_id", "exit_code", "seconds")} == {
        k: result[k] for k in ("run_id", "exit_code", "seconds")
    }
    assert summary["transform"] == {"ok": True, "failed": []}


def test_a_refused_key_is_told_with_its_run_and_no_secret(server, tmp_path):
    found = call(
        *("sync", "--base-url", server.base_url, "--on-failure", TELL, "--on-success", "exit 1"),
        cwd=tmp_path,
        SOURCES__CRMCOM__API_KEY="wrong-key-1",
    )
    assert found.code == 3
    summary = told(tmp_path)
    assert (summary["exit_code"], summary["command"]) == (3, "sync")
    assert "api_key" in summary["text"]
    code, run_id, text = (tmp_path / "facts").read_text().split("|", 2)
    assert (code, run_id, text) == ("3", summary["run_id"], summary["text"])
    assert run_id
    assert "wrong-key-1" not in json.dumps(summary)


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["sync"], "base_url"),
        (["sync", "--base-url", "http://example.com/v2"], "unencrypted"),
        (["sync", "--reconcil"], "--reconcil"),
        (["transform", "--database", "none.duckdb"], "none.duckdb"),
    ],
)
def test_what_fails_before_a_run_is_told_too(args, says, tmp_path):
    """Also where the hook is named by the environment."""
    found = call(*args, cwd=tmp_path, CRMCOM_ON_FAILURE=TELL, SOURCES__CRMCOM__API_KEY="k")
    assert found.code == 2
    summary = told(tmp_path)
    assert (summary["exit_code"], summary["run_id"]) == (2, summary["run_id"])
    assert says in summary["error"]
    assert summary["error"] in found.err


def test_the_warehouse_that_the_settings_name_is_told(tmp_path):
    settings = tmp_path / ".dlt" / "config.toml"
    settings.parent.mkdir()
    settings.write_text('[pipelines.crmcom]\ndatabase = "finance.duckdb"\n')
    call("sync", "--dataset", "books", "--on-failure", TELL, cwd=tmp_path)
    summary = told(tmp_path)
    assert (summary["database"], summary["dataset"]) == ("finance.duckdb", "books")
    assert "finance.duckdb" in summary["text"]


def test_a_lock_that_another_run_holds_is_told(server, tmp_path):
    with Workspace(tmp_path / "warehouse.duckdb", "crmcom").draft("a long sync"):
        found = call(
            *("sync", "--base-url", server.base_url, "--on-failure", TELL),
            cwd=tmp_path,
            SOURCES__CRMCOM__API_KEY=API_KEY,
        )
    assert found.code == 6
    assert told(tmp_path)["exit_code"] == 6


@pytest.mark.parametrize("args", [["--help"], ["sync", "--help"], ["report", "overdue"]])
def test_what_is_no_run_is_not_told(args, tmp_path):
    call(*args, cwd=tmp_path, CRMCOM_ON_FAILURE=TELL, CRMCOM_ON_SUCCESS=TELL)
    assert not (tmp_path / "told.json").exists()


def test_a_request_to_end_is_told_and_is_143(tmp_path):
    """SIGTERM while the API is slow: what a scheduler sends before it kills. A command that takes
    its time is not waited for, and told all the same."""
    with serve(World.generate(contacts=300, activities=10), behaviour="live") as server:
        env = environ(
            tmp_path,
            SOURCES__CRMCOM__API_KEY=server.api_key,
            SOURCES__CRMCOM__MAX_REQUESTS_PER_SECOND="5",
        )
        args = ("sync", "--base-url", server.base_url, "--json")
        args += ("--on-failure", f"sleep 2.5; {TELL}")
        with subprocess.Popen(
            [CRMCOM, *args], cwd=tmp_path, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            deadline = time.monotonic() + 60
            while sum(server.sandbox.counters.requests.values()) < 10:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            process.send_signal(signal.SIGTERM)
            begun = time.monotonic()
            out, _ = process.communicate(timeout=60)
    assert time.monotonic() - begun < 2
    assert process.returncode == 143
    assert json.loads(out)["exit_code"] == 143
    while time.monotonic() < begun + 30 and not (tmp_path / "facts").exists():
        time.sleep(0.1)
    assert told(tmp_path)["exit_code"] == 143
    assert "stopped" in told(tmp_path)["text"]


@pytest.mark.parametrize(
    ("hook", "says"),
    [
        ("exit 3", "--on-failure: the command ended with 3"),
        ("no-such-program-here very-secret", "--on-failure: the command ended with 127"),
        ("http://127.0.0.1:9/very-secret", "--on-failure: the webhook could not be reached"),
        ("http://very-secret\x7f/", "--on-failure: the address of the webhook is not a URL"),
    ],
)
def test_a_hook_that_fails_changes_nothing_and_is_one_line(hook, says, tmp_path):
    found = call("sync", "--reconcil", "--json", "--on-failure", hook, cwd=tmp_path)
    assert found.code == 2
    assert json.loads(found.out)["exit_code"] == 2
    assert sum(says in line for line in found.err.splitlines()) == 1
    assert "Traceback" not in found.err
    if hook.startswith("http"):
        assert "very-secret" not in found.err + found.out


# --- one hook ---

SUMMARY = summary_of(
    {"exit_code": 0, "seconds": 1.0, "resources": {}},
    {
        "run_id": None,
        "command": "sync",
        "database": "w.duckdb",
        "dataset": "crmcom",
        "destination": "duckdb",
        "host": "here",
    },
    "ok",
)


@pytest.mark.parametrize(
    ("answers", "asked", "fails"),
    [((), 1, False), ((500,), 2, False), ((429, 503), 3, False), ((404,), 1, True)],
)
def test_a_webhook_is_tried_again_where_that_may_help(monkeypatch, answers, asked, fails):
    monkeypatch.setattr(hooks, "PAUSE_S", 0.01)
    with receiving(*answers) as webhook:
        if fails:
            with pytest.raises(HookFailed, match=r"--on-success: the webhook answered 404$"):
                Hook("--on-success", webhook.url).run(SUMMARY)
        else:
            Hook("--on-success", webhook.url).run(SUMMARY)
    assert len(webhook.bodies) == asked


def test_a_command_need_not_read_what_it_is_given():
    Hook("--on-success", "true").run({**SUMMARY, "notes": ["x" * 1_000_000]})


def test_a_command_is_not_waited_for_for_ever(monkeypatch):
    monkeypatch.setattr(hooks, "COMMAND_TIMEOUT_S", 0.2)
    began_s = time.monotonic()
    with pytest.raises(HookFailed, match="more than"):
        Hook("--on-success", "sleep 100 & sleep 100").run(SUMMARY)
    assert time.monotonic() - began_s < 50


def test_what_a_command_says_goes_to_stderr(capsys):
    Hook("--on-success", "echo said; echo louder >&2").run(SUMMARY)
    assert capsys.readouterr() == ("", "said\nlouder\n")


def test_a_summary_holds_nothing_of_a_record():
    """Rows that a test found, and unexpected errors, may quote one."""
    result = {
        "exit_code": 1,
        "seconds": 1.0,
        "resources": {},
        "error": "ArrowInvalid: cannot read 'Maria, maria@example.com'",
        "transform": {"ok": False, "summary": "test x failed: name=Maria", "failed": ["x"]},
    }
    about = {k: SUMMARY[k] for k in ("run_id", "command", "database", "host")}
    assert "aria" not in json.dumps(summary_of(result, about, "unexpected"))


def test_whatever_a_server_says_reaches_webhooks_and_commands(tmp_path):
    """A lone surrogate, a terminal's control characters, a zero: hostile, or only broken."""
    words = "a\ud800b\x1b[31m\x00\nc"
    contacts = {"rows": 0, "verdict": "failed", "reason": words}
    result = {"exit_code": 3, "seconds": 1.0, "resources": {"contacts": contacts}, "error": words}
    about = {k: SUMMARY[k] for k in SUMMARY if k not in {*result, "text"}}
    summary = summary_of(result, about, "the API refused us")
    assert summary["text"].isprintable()
    with receiving() as webhook:
        Hook("--on-failure", webhook.url).run(summary)
    assert webhook.objects[0]["resources"]["contacts"]["reason"] == words
    facts = tmp_path / "facts"
    Hook("--on-failure", f'printf "%s" "$CRMCOM_TEXT" > {facts}').run(summary)
    assert facts.read_text() == summary["text"]
