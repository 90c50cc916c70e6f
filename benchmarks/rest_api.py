"""The same work with dlt's generic REST source: rest_api.py BASE_URL DATABASE default|tuned."""

from __future__ import annotations

import os
import sys

base_url, database, how = sys.argv[1:]
TUNED = how == "tuned"
if TUNED:
    os.environ |= {
        "EXTRACT__WORKERS": "20",
        "EXTRACT__MAX_PARALLEL_ITEMS": "64",
        "NORMALIZE__WORKERS": "2",
        "DATA_WRITER__FILE_MAX_ITEMS": "50000",
    }
os.environ["RUNTIME__DLTHUB_TELEMETRY"] = "false"

import dlt  # noqa: E402 - it reads the environment
from dlt.sources.rest_api import RESTAPIConfig, rest_api_source  # noqa: E402


def config() -> RESTAPIConfig:
    def listed(name: str, path: str, **more: object) -> dict[str, object]:
        return {
            "name": name,
            "parallelized": TUNED,
            "endpoint": {"path": path, "data_selector": "content", "params": {"size": 100}},
            **more,
        }

    return {
        "client": {
            "base_url": base_url,
            "paginator": {"type": "page_number", "base_page": 1, "total_path": None},
        },
        "resource_defaults": {"primary_key": "id", "write_disposition": "merge"},
        "resources": [
            listed("contacts", "contacts"),
            listed("activities", "activities/"),
            listed(
                "contact_accounts",
                "contacts/{resources.contacts.id}/accounts",
                include_from_parent=["id"],
            ),
            {
                "name": "accounts",
                "parallelized": TUNED,
                "endpoint": {
                    "path": "accounts/{resources.contact_accounts.id}",
                    "paginator": "single_page",
                },
            },
        ],
    }


pipeline = dlt.pipeline(
    "rest_api_bench",
    destination=dlt.destinations.duckdb(database),
    dataset_name="crm",
    pipelines_dir=f"{database}.pipelines",
)
pipeline.run(rest_api_source(config()), loader_file_format="parquet" if TUNED else None)
