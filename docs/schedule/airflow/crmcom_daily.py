"""Keeps the warehouse in step, every day: copy this file into Airflow's folder of DAGs.

`crmcom` is called as a command, so that it can live in an environment of its own, beside Airflow's.
What the tasks do about each exit code:

    0          `sync` and `proven` succeed
    5          loaded and published: `sync` succeeds, `proven` fails with the reason
    4, 6       a resource stayed unavailable, or another process is writing: `sync` is tried again,
               as it is when the command was killed
    the rest   somebody has to act, and trying again changes nothing: `sync` fails at once

So what is built on the warehouse hangs on `sync`, and whoever wants to be told of everything
watches the run as a whole. Settings, in the environment of Airflow's workers:

    CRMCOM_COMMAND    where `crmcom` is; default: `crmcom`
    CRMCOM_FOLDER     where it runs: holds the warehouse and `.dlt`; default: `/srv/crmcom`
    CRMCOM_DATABASE   the warehouse; default: `warehouse.duckdb`

and those of `crmcom` itself, such as SOURCES__CRMCOM__BASE_URL and SOURCES__CRMCOM__API_KEY.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import dag, task
from airflow.sdk.exceptions import AirflowException, AirflowFailException

UNPROVEN = 5
WORTH_ANOTHER_TRY = (4, 6)

log = logging.getLogger(__name__)


@dag(
    schedule="15 5 * * *",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,  # one run brings everything up to date, however many were missed
    max_active_runs=1,  # the warehouse has one writer
    tags=["crmcom"],
    doc_md=__doc__,
)
def crmcom_daily() -> None:
    @task(retries=3, retry_delay=timedelta(minutes=5), retry_exponential_backoff=True)
    def sync() -> dict[str, Any]:
        """Load, build, test, publish. Returns what `crmcom sync --json` says."""
        command = [
            *(os.environ.get("CRMCOM_COMMAND", "crmcom"), "sync", "--json", "--quiet"),
            *("--database", os.environ.get("CRMCOM_DATABASE", "warehouse.duckdb")),
        ]
        with subprocess.Popen(  # noqa: S603 - our own command, its arguments as a list
            command,
            cwd=os.environ.get("CRMCOM_FOLDER", "/srv/crmcom"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                said, told = process.communicate()
            except BaseException:
                # The task is killed: what is committed stays, and the next run goes on from it.
                process.terminate()
                raise
        for line in told.splitlines():
            log.info(line)
        code = process.returncode
        if code in (0, UNPROVEN):
            return json.loads(said)
        reason = f"crmcom sync ended with {code}: {told.strip()}"
        if code in WORTH_ANOTHER_TRY or code < 0:
            raise AirflowException(reason)
        raise AirflowFailException(reason)

    @task(retries=0)
    def proven(result: dict[str, Any]) -> None:
        """Fails where the run could not show that it had read everything."""
        if result["exit_code"] == UNPROVEN:
            reasons = [f"{n}: {r['reason']}" for n, r in result["resources"].items() if r["reason"]]
            raise AirflowFailException("; ".join(reasons) or "rows were rejected: crmcom status")

    proven(sync())


crmcom_daily()
