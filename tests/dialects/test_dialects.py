"""Engines that are not here: the project is compiled by their adapters, and read in their dialects.

The adapters live in an environment of their own: `make test-dialects`.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from crmcom_transforms import PROJECT_DIR

HERE = Path(__file__).parent
PYTHON = os.environ.get("CRMCOM_DIALECTS")
pytestmark = [
    pytest.mark.skipif(PYTHON is None, reason="no adapters are installed here: make test-dialects"),
    pytest.mark.timeout(600),
]


def compiling(engine, folder, **variables):
    said = subprocess.run(
        [
            *(PYTHON, HERE / "compiling.py", engine, PROJECT_DIR, folder),
            json.dumps({"crmcom_report_timezone": "Europe/Nicosia", **variables}),
        ],
        cwd=folder,
        env={"PATH": os.defpath, "HOME": str(folder)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return json.loads(said.splitlines()[-1])


@pytest.mark.parametrize("engine", ["bigquery", "clickhouse", "databricks", "snowflake"])
def test_an_engine_on_which_nothing_was_run_is_refused_and_compiles_on_request(engine, tmp_path):
    """Every model and every test of the data becomes SQL that the dialect's grammar knows."""
    refused = compiling(engine, tmp_path)
    assert f"the marts were never run on {engine}" in refused["error"]

    found = compiling(engine, tmp_path, crmcom_any_engine=True)
    assert found["errors"] == {}
    assert found["compiled"] > 70
    page = (HERE.parents[1] / "docs/destinations.md").read_text()
    assert f"| `{engine}` | no | yes |" in page
