"""One sync in slices, to be killed: killed.py BASE_URL API_KEY DATABASE plain|reconcile [SQL [N]].

With SQL it kills itself, right before the first statement that begins so, though it is sent
together with others; with N, after so many of them.
"""

import os
import signal
import sys
from pathlib import Path

from crmcom import Run, Settings
from crmcom_pipelines.load import sync

base_url, api_key, database, how, *before_sql = sys.argv[1:]
# What takes a second to import is imported before the test begins to count.
import dlt  # noqa: E402, F401

import crmcom.resources  # noqa: E402, F401

if before_sql:
    from dlt.destinations.impl.duckdb.sql_client import DuckDbSqlClient

    execute_query = DuckDbSqlClient.execute_query

    left = list(range(int(before_sql[1]) + 1 if before_sql[1:] else 1))

    def killing(client, query, *args, **kwargs):
        before, found, _ = query.partition(before_sql[0])
        if found and not left.pop():
            client.native_connection.execute(before)
            os.kill(os.getpid(), signal.SIGKILL)
        return execute_query(client, query, *args, **kwargs)

    DuckDbSqlClient.execute_query = killing

print("ready", flush=True)  # noqa: T201
run = Run(
    Settings(base_url=base_url, api_key=api_key, page_size=10),
    slice_rows=10,
    reconcile=how == "reconcile",
)
outcome = sync(run, database=Path(database), transform=False)
print(outcome.as_json())  # noqa: T201
sys.exit(outcome.exit_code)
