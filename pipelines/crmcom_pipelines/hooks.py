"""Tells a webhook or a command what a run came to.

A hook changes neither the result of a run nor its exit code. Its address may hold a token, so
nothing that is said here repeats it.
"""

# ruff: noqa: PLC0415 - httpx is imported where a webhook is told: `crmcom --help` is fast

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

TIMEOUT_S = 10.0
"""For one try of a webhook."""
TRIES = 3
PAUSE_S = 1.0
"""Before the second try of a webhook; doubled before the third."""
COMMAND_TIMEOUT_S = 60.0
TEXT_CHARACTERS = 500


class HookFailed(Exception):
    """Says what went wrong, and not where."""


@dataclass(frozen=True, slots=True)
class Hook:
    """`option`: what it was given by, for messages. `target`: an http(s) URL, or a command."""

    option: str
    target: str

    def run(self, summary: dict[str, Any]) -> None:
        """Raises `HookFailed`."""
        try:
            if re.match(r"https?://", self.target, re.IGNORECASE):
                _post(self.target, summary)
            else:
                _execute(self.target, summary)
        except HookFailed as failed:
            raise HookFailed(f"{self.option}: {failed}") from None


def summary_of(result: dict[str, Any], about: dict[str, Any], meaning: str) -> dict[str, Any]:
    """What a hook is told: the machine-readable result, what it is about, and `text` for people.

    Nothing in it comes from a record: of a failed test only the name, and of an unexpected error
    nothing, since either may quote one.
    """
    told = {**_without_records(result), **about}
    if "tenants" in told:
        told["tenants"] = {name: _without_records(one) for name, one in told["tenants"].items()}
    return {"text": _text(told, meaning), **told}


def _without_records(result: dict[str, Any]) -> dict[str, Any]:
    told = dict(result)
    transform = told.get("transform")
    if transform is not None:
        told["transform"] = {"ok": transform["ok"], "failed": transform.get("failed", [])}
    if told["exit_code"] == 1 and told.get("error"):
        told["error"] = "unexpected: the log of this run says what"
    return told


def _text(told: dict[str, Any], meaning: str) -> str:
    parts = [f"crmcom {told['command']} of {told['database']} on {told['host']}"]
    parts += [f"exit code {told['exit_code']}, {meaning}"]
    if told.get("error") not in (None, meaning):
        parts.append(told["error"])
    results = told.get("tenants", {"": told})
    for tenant, one in results.items():
        prefix = f"{tenant}: " if tenant else ""
        if tenant and one["exit_code"]:
            why = f", {one['error']}" if one.get("error") else ""
            parts.append(f"{prefix}exit code {one['exit_code']}{why}")
        for name, found in one["resources"].items():
            if found["verdict"] != "proven":
                why = found["reason"] or "see crmcom status"
                parts.append(f"{prefix}{name} {found['verdict']}: {why}")
    resources = [found for one in results.values() for found in one["resources"].values()]
    if resources:
        parts.append(f"{sum(found['rows'] for found in resources):,} rows")
    parts.append(f"{told['seconds']:.0f} s")
    # A server's own words are in it: no control characters, and nothing that no variable can hold.
    shown = "".join(c if c.isprintable() else " " for c in "; ".join(parts))
    line = " ".join(shown.split())
    return line if len(line) <= TEXT_CHARACTERS else line[: TEXT_CHARACTERS - 1] + "…"


def _post(url: str, summary: dict[str, Any]) -> None:
    import httpx

    body, headers = json.dumps(summary), {"Content-Type": "application/json"}
    said = ""
    for attempt in range(TRIES):
        if attempt:
            time.sleep(PAUSE_S * 2 ** (attempt - 1))
        try:
            reply = httpx.post(url, content=body, headers=headers, timeout=TIMEOUT_S)
        except httpx.HTTPError as error:
            said = f"the webhook could not be reached: {type(error).__name__}"
        except httpx.InvalidURL:
            # httpx's own text repeats the address.
            raise HookFailed("the address of the webhook is not a URL") from None
        else:
            if reply.is_success:
                return
            said = f"the webhook answered {reply.status_code}"
            if reply.status_code != 429 and reply.status_code < 500:
                break
    raise HookFailed(said)


def _execute(command: str, summary: dict[str, Any]) -> None:
    # Files, no pipes: a command that reads nothing breaks none, and one that leaves a program
    # behind is not waited for.
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as said:
        given.write(json.dumps(summary).encode())
        given.seek(0)
        process = subprocess.Popen(  # noqa: S602 - the user's own command
            command,
            shell=True,
            stdin=given,
            stdout=said,
            stderr=subprocess.STDOUT,
            env=os.environ | _facts(summary),
            start_new_session=True,
        )
        try:
            code = process.wait(COMMAND_TIMEOUT_S)
        except BaseException as error:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if isinstance(error, subprocess.TimeoutExpired):
                raise HookFailed(f"the command took more than {COMMAND_TIMEOUT_S:.0f} s") from None
            raise
        said.seek(0)
        sys.stderr.write(said.read().decode(errors="replace"))
    if code:
        raise HookFailed(f"the command ended with {code}")


def _facts(summary: dict[str, Any]) -> dict[str, str]:
    names = ("command", "run_id", "exit_code", "database", "dataset", "destination", "text")
    return {f"CRMCOM_{n.upper()}": str(summary[n] or "").replace("\0", "") for n in names} | {
        "CRMCOM_EXIT_CODE": str(summary["exit_code"])
    }
