"""A first load, ours and that of other tools, side by side: `make bench`.

Each runs once unmeasured against a small server, so that Python has compiled what it imports; ours
also against the large one, so that it has its replies ready. Then all in turns. A ratio is taken
within one round: what else the machine does falls on all of them. Writes docs/performance.md.
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
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import duckdb

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
REPORT = HERE.parent / "docs" / "performance.md"
TOOLS = ("crmcom sync", "by hand", "rest_api, tuned", "rest_api, defaults")
Row = dict[str, Any]

# As Python does unless it is told not to: compile a module once, and not in each process.
ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"} | {
    "SOURCES__CRMCOM__API_KEY": "any"
}


def command(tool: str, base_url: str, database: Path) -> list[str]:
    if tool == "crmcom sync":
        crmcom = [str(Path(sys.executable).with_name("crmcom")), "sync", "--no-transform"]
        return [*crmcom, "--base-url", base_url, "--database", str(database), "--quiet"]
    if tool == "by hand":
        return [sys.executable, str(HERE / "by_hand.py"), base_url, str(database)]
    how = "tuned" if "tuned" in tool else "default"
    return [sys.executable, str(HERE / "rest_api.py"), base_url, str(database), how]


def measured(tool: str, server: dict[str, str], folder: Path) -> Row:
    """One load into a new file. Seconds hold the interpreter's start and all imports."""
    database = folder / "warehouse.duckdb"
    stats(server)
    started_s = time.monotonic()
    process = subprocess.Popen(
        command(tool, server["base_url"], database),
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.monotonic() - started_s
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{tool} ended with {process.returncode}")
    counted = stats(server)
    return {
        "rows": rows(database),
        "requests": counted["requests"],
        "refused": counted["refused"],
        "seconds": seconds,
        "cpu": used.ru_utime + used.ru_stime,
        "mb": used.ru_maxrss / 1024,
    }


def rows(database: Path) -> dict[str, int]:
    with duckdb.connect(str(database), read_only=True) as connection:
        (schema,) = connection.sql(
            "select schema_name from duckdb_schemas() where schema_name in ('crmcom', 'crm')"
        ).fetchall()[0]
        return {
            table: connection.sql(f"select count(*) from {schema}.{table}").fetchall()[0][0]
            for table in ("contacts", "accounts", "activities")
        }


def stats(server: dict[str, str], query: str = "") -> dict[str, int]:
    with urllib.request.urlopen(server["stats_url"] + query) as reply:
        found: dict[str, int] = json.load(reply)
        return found


def capacity(server: dict[str, str], seconds: float = 3) -> float:
    """Requests per second that the server answers to two processes which do nothing else."""
    load = [sys.executable, str(HERE / "load.py"), server["base_url"], str(seconds)]
    both = [subprocess.Popen(load, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    return sum(float(process.communicate()[0]) for process in both)


@contextmanager
def serving(*options: str) -> Iterator[dict[str, str]]:
    """A server with these options: its addresses."""
    with subprocess.Popen(
        [sys.executable, str(HERE / "server.py"), *options], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())
        finally:
            process.terminate()


def once(tool: str, server: dict[str, str]) -> Row:
    with tempfile.TemporaryDirectory() as folder:
        return measured(tool, server, Path(folder))


def table(rounds: dict[str, list[Row]]) -> list[str]:
    heads = (
        *("", "contacts, accounts, activities", "requests", "seconds", "CPU seconds", "peak MB"),
        "times our seconds, by round",
    )
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for tool, found in rounds.items():
        ours = rounds[TOOLS[0]]
        ratios = [a["seconds"] / b["seconds"] for a, b in zip(found, ours, strict=True)]
        middle = {k: median(r[k] for r in found) for k in ("requests", "seconds", "cpu", "mb")}
        lines.append(
            f"| {tool} | {', '.join(f'{n:,}' for n in found[-1]['rows'].values())} "
            f"| {middle['requests']:,.0f} | {middle['seconds']:.1f} | {middle['cpu']:.1f} "
            f"| {middle['mb']:,.0f} | {' '.join(f'{ratio:.1f}' for ratio in ratios)} |"
        )
    return lines


def waiting(fixed_s: float, *all_of_it: str) -> list[str]:
    """Where the server decides how long it takes: a row of the report for each kind and size."""
    some, few = (
        ("--contacts", "2000", "--activities", "10000"),
        ("--contacts", "500", "--activities", "2500"),
    )
    far, limited = (
        "every reply takes 50 ms, 64 in flight",
        "100 requests/s and 429 beyond, which nobody told us",
    )
    slow, pace = ("--latency-ms", "50"), ("--rate", "100")
    lines = ["| | requests | seconds | ideal | over ideal | refused |", "|---|---|---|---|---|---|"]
    for what, options in (
        (far, (*some, *slow)),
        (f"{far}: all of the work above", (*all_of_it, *slow)),
        (limited, (*few, *pace)),
        (f"{limited}: four times that", (*some, *pace)),
    ):
        with serving(*options) as server:
            found = [once(TOOLS[0], server) for _ in range(2)][1]  # its replies are ready by then
        print(what, found, flush=True)
        answered = found["requests"] - found["refused"]
        ideal_s = answered * 0.05 / 64 if slow[0] in options else answered / 100
        over = [f"{s / ideal_s - 1:.0%}" for s in (found["seconds"], found["seconds"] - fixed_s)]
        lines.append(
            f"| {what} | {found['requests']:,} | {found['seconds']:.1f} | {ideal_s:.1f} "
            f"| {', '.join(over)} | {found['refused']:,} |"
        )
    return lines


def needed(row: Row) -> int:
    """Each account by itself, each contact's list of accounts, and pages of a hundred."""
    contacts, accounts, activities = row["rows"].values()
    return int(contacts + accounts + -(-contacts // 100) + -(-activities // 100))


def machine() -> str:
    cpus = Path("/proc/cpuinfo")
    told = cpus.read_text() if cpus.exists() else ""
    names = [x.partition(":")[2].strip() for x in told.splitlines() if x.startswith("model name")]
    gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores, {gib:.0f} GiB, "
        f"{platform.system()}, Python {platform.python_version()}; tool and server share them"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--contacts", type=int, default=20_000)
    parser.add_argument("--activities", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    size = ["--contacts", str(options.contacts), "--activities", str(options.activities)]
    found: dict[str, list[Row]] = {tool: [] for tool in TOOLS}
    with serving("--contacts", "20", "--activities", "50") as server:
        for tool in TOOLS:
            once(tool, server)
        fixed = once(TOOLS[0], server)
    with serving(*size) as server:
        print("warm-up", once(TOOLS[0], server), flush=True)
        for number in range(options.rounds):
            for tool in TOOLS:
                found[tool].append(once(tool, server))
                print(number + 1, tool, found[tool][-1], flush=True)
        answers = capacity(server)
    ours = found[TOOLS[0]][-1]
    waited = waiting(fixed["seconds"], *size)
    rounds = "one round" if options.rounds == 1 else f"the median of {options.rounds} rounds"
    text = f"""# How fast

Written by `make bench`.

## A first load

{options.contacts:,} contacts with their accounts and {options.activities:,} activities, from a
server on the same machine, interpreter and imports included; {rounds}.
The server alone answers {answers:,.0f} requests per second. "By hand" is a script that asks for one
thing after another; `rest_api` is dlt's generic source, as it comes and with parquet, workers and
parallel resources.

{chr(10).join(table(found))}

The work needs {needed(ours):,} requests: ours sends {ours["requests"] / needed(ours):.3f} for each
of them, its proofs of completeness included, which none of the others has.

## Waiting for the server

{chr(10).join(waited)}

Ideal is requests times latency / 64, and requests / rate. Seconds hold what does not depend on
either: interpreter, imports, dlt and the file. A load of 20 contacts without latency, which is
little else, takes {fixed["seconds"]:.1f} s. "Over ideal" is all seconds, and without those.

{machine()}.
"""
    REPORT.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
