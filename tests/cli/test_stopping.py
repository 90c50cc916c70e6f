"""Ctrl-C and SIGTERM: at once, quietly, with what was committed kept; and what is told of it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from crmcom_sandbox import LIVE, World, serve

CRMCOM = str(Path(sys.executable).parent / "crmcom")
AT_MOST_S = 2


def stopped(folder, environ, server, number, *, when, twice=False):
    """Run a sync, send it a signal when stderr says `when`. Returns the ended process."""
    args = [CRMCOM, "sync", "--json", "--base-url", server.base_url]
    return ended(args, folder, environ(folder, server.api_key), number, when=when, twice=twice)


def ended(args, folder, env, number, *, when, twice=False):
    with subprocess.Popen(
        args,
        cwd=folder,
        env=env,
        text=True,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        seen = ""
        while when not in seen:
            line = process.stderr.readline()
            assert line, seen
            seen += line
        time.sleep(0.3)
        begun = time.monotonic()
        for _ in range(2 if twice else 1):
            os.killpg(process.pid, number)
        out, err = process.communicate(timeout=60)
        took_s = time.monotonic() - begun
    assert took_s < AT_MOST_S
    return process.returncode, out, err


@pytest.mark.parametrize(
    ("number", "when"),
    [(signal.SIGINT, "reading the API"), (signal.SIGTERM, "building the marts")],
)
def test_a_signal_ends_a_sync_at_once(tmp_path, environ, call, number, when):
    code, twice = 128 + number, number == signal.SIGTERM
    world = World.generate(contacts=10, activities=20)
    slow = LIVE.but(latency_s={"*": 60.0}) if when == "reading the API" else LIVE
    with serve(world, behaviour=slow) as server:
        found, out, err = stopped(tmp_path, environ, server, number, when=when, twice=twice)
        assert found == code
        assert json.loads(out)["exit_code"] == code
        assert err.splitlines() == [
            line
            for line in err.splitlines()
            if line.startswith(("Stopped. ", "the server's clock"))
        ]
        assert f"To go on: crmcom sync --json --base-url {server.base_url}" in err

        told = call("status", "--json", cwd=tmp_path).json
        assert told["last_attempt"]["state"] == "cut short"
        assert "crmcom sync" in call("status", cwd=tmp_path).out

        server.sandbox.switch(latency_s={})
        args = ("--json", "--no-transform", "--base-url", server.base_url)
        again = call("sync", *args, cwd=tmp_path, api_key=server.api_key)
    assert again.code == 0, again.err
    assert again.json["published"]
    assert call("status", "--json", cwd=tmp_path).json["last_attempt"]["exit_code"] == 0


@pytest.mark.parametrize("command", ["check", "plan"])
def test_sigterm_ends_what_only_asks_and_says_so(tmp_path, environ, command):
    """As Ctrl-C does: with one object for a script, and in one line for people."""
    with serve(World(), behaviour=LIVE.but(latency_s={"*": 60.0})) as server:
        args = [CRMCOM, command, "--json", "--base-url", server.base_url]
        with subprocess.Popen(
            args,
            cwd=tmp_path,
            env=environ(tmp_path, server.api_key),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            while not server.sandbox.counters.requests and process.poll() is None:
                time.sleep(0.05)
            begun = time.monotonic()
            process.terminate()
            out, err = process.communicate(timeout=60)
            took_s = time.monotonic() - begun
    assert process.returncode == json.loads(out)["exit_code"] == 143
    assert err.decode().strip() == "Stopped. Nothing was changed."
    assert took_s < AT_MOST_S


def test_a_signal_ends_forgetting_at_once(synced, tmp_path, environ, server):
    """What is half done is thrown away by the next command, as after a kill."""
    folder, _ = synced
    shutil.copy(folder / "warehouse.duckdb", tmp_path)
    who = next(iter(server.sandbox.world.contacts)).id
    code, out, err = ended(
        [CRMCOM, "forget", "contact", who, "--yes", "--json"],
        tmp_path,
        environ(tmp_path),
        signal.SIGTERM,
        when="erasing the person",
    )
    assert code == json.loads(out)["exit_code"] == 143
    assert f"To go on: crmcom forget contact {who}" in err


def test_a_run_that_published_nothing_is_told_with_its_cause(tmp_path, call):
    world = World.generate(contacts=5, activities=5)
    with serve(world, behaviour="live") as server:
        args = ("--base-url", server.base_url, "--no-transform")
        assert call("sync", *args, cwd=tmp_path, api_key="wrong").code == 3
    found = call("status", "--json", cwd=tmp_path).json["last_attempt"]
    assert (found["state"], found["exit_code"], found["published"]) == ("ended", 3, False)
    assert "credentials" in found["next"]
    shown = call("status", cwd=tmp_path)
    assert shown.code == 0, shown.err
    assert found["causes"][0] in shown.out


def test_a_reset_asks_first(call, tmp_path):
    refused = call("reset", "contacts", cwd=tmp_path)
    assert refused.code == 2
    assert "--yes" in refused.err
    assert "--rows" in call("reset", "contacts", "--history", "--yes", cwd=tmp_path).err
    nothing = call("reset", "contacts", "--yes", "--json", cwd=tmp_path)
    assert nothing.code == nothing.json["exit_code"] == 2
    assert "crmcom sync" in nothing.json["error"]


def test_shells_complete_resources_and_reports(call, tmp_path):
    def completed(words, at):
        asked = {"_CRMCOM_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(at)}
        return [line.split(",", 1)[1] for line in call(cwd=tmp_path, **asked).out.splitlines()]

    assert completed("crmcom re", 1) == ["report", "reset"]
    assert completed("crmcom reset ac", 2) == ["accounts", "activities"]
    assert completed("crmcom report overdue_a", 2) == ["overdue_ageing"]
    assert completed("crmcom sync --resources contacts,ac", 3) == [
        "contacts,accounts",
        "contacts,activities",
    ]
    for shell in ("bash", "zsh", "fish"):
        assert "_CRMCOM_COMPLETE" in call("completion", shell, cwd=tmp_path).out
