"""A thousand new activities into a warehouse that has many: `make bench-increment`.

A sandbox is synced once. Then the warehouse alone is filled with old, completed activities, which
an incremental run does not list; and a run, in a process of its own, finds a thousand new ones.
Once with 20,000 activities and once with 2 million. Writes the figures of docs/size.md.
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
from typing import Any

import duckdb

from crmcom_sandbox import Server, World, serve

REPORT = Path(__file__).parent.parent / "docs" / "size.md"
NEW = 1_000
Figures = dict[str, Any]

# What the warehouse has of each of the sandbox's activities, and how its copies differ.
COPIES = {
    "activities": "md5('old ' || n) as id, 'COMPLETED' as state, md5('' || n) as description,"
    " key_dates__created_on - interval 1 year - interval 1 second * n as key_dates__created_on",
    "activity_versions": "md5('old ' || n) as activity_id, 'COMPLETED' as state",
}


def sync(server: Server, database: Path) -> Figures:
    """One run without the marts, in a process of its own."""
    crmcom = str(Path(sys.executable).with_name("crmcom"))
    options = ["--base-url", server.base_url, "--database", str(database), "--quiet"]
    began_s = time.monotonic()
    process = subprocess.Popen(
        [crmcom, "sync", "--no-transform", *options],
        env={**os.environ, "SOURCES__CRMCOM__API_KEY": server.api_key},
    )
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"the sync ended with {process.returncode}")
    return {
        "seconds": time.monotonic() - began_s,
        "cpu_s": used.ru_utime + used.ru_stime,
        "peak_mb": used.ru_maxrss // 1024,
        "written_mb": used.ru_oublock * 512 / 1e6,
    }


def fill(database: Path, activities: int) -> None:
    with duckdb.connect(str(database)) as db:
        for table, changed in COPIES.items():
            db.execute(
                f"""
                insert into crmcom.{table} by name
                select * exclude (n, seen) replace ({changed})
                from (select *, row_number() over () as seen from crmcom.{table})
                join range({activities}) as numbers (n) on seen = 1 + n % 100
                """
            )


def increment(activities: int) -> Figures:
    world = World.generate(contacts=50, activities=200)
    contact_id = next(iter(world.contacts))
    with tempfile.TemporaryDirectory() as folder, serve(world, behaviour="live") as server:
        database = Path(folder) / "warehouse.duckdb"
        sync(server, database)
        # Elsewhere: a process counts the memory of the one that started it as its own.
        command = [sys.executable, __file__, "--fill", str(database)]
        subprocess.run([*command, "--activities", str(activities)], check=True)
        sync(server, database)  # which notices that the file was changed by others
        size = database.stat().st_size
        for _ in range(NEW):
            world.create_activity(contact_id)
        found = sync(server, database)
        with duckdb.connect(str(database), read_only=True) as db:
            counted = db.sql("select count(*) from crmcom.activities").fetchall()[0][0]
        if counted != len(world.truth()["activities"]) + activities:
            raise SystemExit(f"{counted} activities were found")
    return {**found, "file_mb": size / 1e6}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--activities", type=int, nargs="+", default=[20_000, 2_000_000])
    parser.add_argument("--fill", type=Path, help="this file, and nothing else")
    given = parser.parse_args()
    if given.fill:
        fill(given.fill, given.activities[0])
        return
    lines = [
        "| activities | file MB | seconds | CPU seconds | peak MB | MB written |",
        "|---|---|---|---|---|---|",
    ]
    for activities in given.activities:
        f = increment(activities)
        lines.append(
            f"| {activities:,} | {f['file_mb']:,.0f} | {f['seconds']:.1f} | {f['cpu_s']:.1f}"
            f" | {f['peak_mb']:,} | {f['written_mb']:,.0f} |"
        )
        print(lines[-1], flush=True)
    figures = "\n".join(["<!-- increment: `make bench-increment` -->", *lines, "<!-- end -->"])
    text = REPORT.read_text()
    REPORT.write_text(
        re.sub(r"<!-- increment.*<!-- end -->", lambda _: figures, text, flags=re.DOTALL)
    )


if __name__ == "__main__":
    main()
