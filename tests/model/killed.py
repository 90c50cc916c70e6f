"""One sync that kills itself, with exit code 9: killed.py DATABASE WHAT.

At a request, or when so many tables are merged, or else at its end.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

from dlt.destinations.job_client_impl import SqlLoadJob

from crmcom import Range, Run, Settings
from crmcom.retrying import Patience
from crmcom.wire import Wire
from crmcom_pipelines.load import sync

database, told = sys.argv[1], json.loads(sys.argv[2])
merge, send = SqlLoadJob.run, Wire.send
done = {"merges": 0, "requests": 0}


def counted_merge(job: Any) -> None:
    if told["request"] is None and done["merges"] >= told["merges"]:
        os._exit(9)
    merge(job)
    done["merges"] += 1


async def counted_send(*args: Any) -> Any:
    done["requests"] += 1
    if done["requests"] == told["request"]:
        os._exit(9)
    return await send(*args)


SqlLoadJob.run = counted_merge
Wire.send = counted_send
options = told["options"]
if "backfill" in told:
    options["backfill"] = Range(*told["backfill"])
patience = Patience(tries=5, first_wait_s=0.01, longest_wait_s=0.05, total_s=20)
run = Run(Settings(**told["settings"]), patience=patience, **options)
sync(run, database=Path(database), transform=False)
os._exit(9)
