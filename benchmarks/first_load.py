"""A first load, ours and that of dlt's `rest_api_source`, side by side: `make bench`.

Each tool runs once unmeasured, so that the server has every reply ready; then in turns. A ratio is
taken within one round: what else the machine does falls on all of them. Writes docs/performance.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from statistics import median
from typing import Any

import duckdb

HERE = Path(__file__).parent
REPORT = HERE.parent / "docs" / "performance.md"
TOOLS = ("crmcom sync", "rest_api, tuned", "rest_api, defaults")
Row = dict[str, Any]


def command(tool: str, base_url: str, database: Path) -> list[str]:
    if tool == "crmcom sync":
        crmcom = [str(Path(sys.executable).with_name("crmcom")), "sync", "--no-transform"]
        return [*crmcom, "--base-url", base_url, "--database", str(database), "--quiet"]
    how = "tuned" if "tuned" in tool else "default"
    return [sys.executable, str(HERE / "rest_api.py"), base_url, str(database), how]


def measured(tool: str, server: dict[str, str], folder: Path) -> Row:
    """One load into a new file. Seconds hold the interpreter's start and all imports."""
    database = folder / "warehouse.duckdb"
    stats(server)
    started_s = time.monotonic()
    process = subprocess.Popen(
        command(tool, server["base_url"], database),
        env={**os.environ, "SOURCES__CRMCOM__API_KEY": "any"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.monotonic() - started_s
    process.returncode = os.waitstatus_to_exitcode(status)
    return {
        "exit": process.returncode,
        "rows": rows(database),
        "requests": stats(server)["requests"],
        "seconds": seconds,
        "cpu": used.ru_utime + used.ru_stime,
        "mb": used.ru_maxrss / 1024,
    }


def rows(database: Path) -> dict[str, int]:
    with duckdb.connect(str(database), read_only=True) as connection:
        schema = (
            "crmcom"
            if connection.execute(
                "select 1 from duckdb_schemas() where schema_name = 'crmcom'"
            ).fetchone()
            else "crm"
        )
        return {
            table: connection.sql(f"select count(*) from {schema}.{table}").fetchall()[0][0]
            for table in ("contacts", "accounts", "activities")
        }


def stats(server: dict[str, str]) -> dict[str, int]:
    with urllib.request.urlopen(server["stats_url"]) as reply:
        found: dict[str, int] = json.load(reply)
        return found


def capacity(server: dict[str, str], seconds: float = 3) -> float:
    """Requests per second that the server answers to two processes which do nothing else."""
    load = [sys.executable, str(HERE / "load.py"), server["base_url"], str(seconds)]
    both = [subprocess.Popen(load, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    return sum(float(process.communicate()[0]) for process in both)


def table(rounds: dict[str, list[Row]]) -> list[str]:
    heads = ("", "contacts, accounts, activities", "requests", "seconds", "CPU seconds", "peak MB")
    lines = [f"| {' | '.join(heads)} | times our seconds |", "|---" * (len(heads) + 1) + "|"]
    for tool, found in rounds.items():
        ours = rounds[TOOLS[0]]
        ratio = median(a["seconds"] / b["seconds"] for a, b in zip(found, ours, strict=True))
        middle = {k: median(r[k] for r in found) for k in ("requests", "seconds", "cpu", "mb")}
        lines.append(
            f"| {tool} | {', '.join(f'{n:,}' for n in found[-1]['rows'].values())} "
            f"| {middle['requests']:,.0f} | {middle['seconds']:.1f} | {middle['cpu']:.1f} "
            f"| {middle['mb']:,.0f} | {ratio:.1f} |"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--contacts", type=int, default=20_000)
    parser.add_argument("--activities", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    size = ["--contacts", str(options.contacts), "--activities", str(options.activities)]
    with subprocess.Popen(
        [sys.executable, str(HERE / "server.py"), *size], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            server = json.loads(process.stdout.readline())
            found: dict[str, list[Row]] = {tool: [] for tool in TOOLS}
            for number in range(options.rounds + 1):
                for tool in TOOLS:
                    with tempfile.TemporaryDirectory() as folder:
                        row = measured(tool, server, Path(folder))
                    print(number or "warm-up", tool, row, flush=True)
                    if number:
                        found[tool].append(row)
            answers = capacity(server)
        finally:
            process.terminate()
    text = f"""# How fast

Written by `make bench`.

A first load of {options.contacts:,} contacts with their accounts and {options.activities:,}
activities from a server on the same machine, interpreter and imports included; the median of
{options.rounds} rounds. The server alone answers {answers:,.0f} requests per second.

{chr(10).join(table(found))}

{platform.machine()}, {os.cpu_count()} cores, {platform.system()}, Python
{platform.python_version()}.
"""
    REPORT.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
