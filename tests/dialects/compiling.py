"""Compiles the project for an engine that is not there.

python compiling.py ENGINE PROJECT FOLDER VARIABLES

Says as JSON how many models and tests were compiled, and what of them sqlglot cannot read in the
engine's dialect. The project asks its database three things while it is compiled: which raw tables
there are (all, just as declared), since when to read, and which days to build (two days).
"""

from __future__ import annotations

import json
import sys
from datetime import date
from pathlib import Path
from typing import Any
from unittest.mock import patch

import agate
import sqlglot
from dbt.adapters.contracts.connection import AdapterResponse
from dbt.adapters.factory import get_adapter_class_by_name, load_plugin
from dbt.cli.main import dbtRunner

NOWHERE = {
    "bigquery": {"method": "oauth-secrets", "project": "p", "dataset": "d", "token": "t"},
    "clickhouse": {"host": "localhost", "schema": "d"},
    "databricks": {"host": "localhost", "http_path": "/", "token": "t", "schema": "d"},
    "snowflake": {"account": "a", "user": "u", "password": "p", "database": "d", "schema": "d"},
}
DAYS = (date(2026, 3, 1), date(2026, 3, 2))


def answer(self: Any, sql: str, *args: Any, **kwargs: Any) -> tuple[AdapterResponse, agate.Table]:
    """To `read_since` and `read_on`, a tenant and a day; to `built_days`, the first and the last;
    else no row."""
    if "first_day" in sql or "daily.last_observed_date" in sql:
        return AdapterResponse("OK"), agate.Table([("crmcom", DAYS[0])], ["tenant", "day"])
    if "min(build_from)" in sql:
        return AdapterResponse("OK"), agate.Table([DAYS], ["first", "last"])
    return AdapterResponse("OK"), agate.Table([], ["nothing"])


def compiled(engine: str, project: Path, folder: Path, variables: str) -> dict[str, Any]:
    load_plugin(engine)
    adapter: Any = get_adapter_class_by_name(engine)
    profile = {"type": engine, "threads": 1, **NOWHERE[engine]}
    outputs = {"crmcom": {"target": engine, "outputs": {engine: profile}}}
    (folder / "profiles.yml").write_text(json.dumps(outputs))

    def relation(self: Any, database: str, schema: str, identifier: str) -> Any:
        return self.Relation.create(
            database=database, schema=schema, identifier=identifier, type="table"
        )

    with (
        patch.object(adapter, "get_relation", relation),
        patch.object(adapter, "get_columns_in_relation", lambda self, relation: []),
        patch.object(adapter, "execute", answer),
        patch.object(adapter, "set_relations_cache", lambda *args, **kwargs: None),
    ):
        reply = dbtRunner().invoke(
            [
                *("--quiet", "--no-use-colors", "--log-level", "none", "compile"),
                *("--no-populate-cache", "--exclude", "resource_type:unit_test"),
                *("--project-dir", str(project), "--profiles-dir", str(folder)),
                *("--target-path", str(folder / "target"), "--log-path", str(folder)),
                *("--vars", variables),
            ]
        )
    if reply.exception or not reply.result.results:
        return {"error": str(reply.exception)}
    errors = {}
    for result in reply.result.results:
        if result.status != "success":
            errors[result.node.name] = result.message
            continue
        try:
            sqlglot.parse_one(result.node.compiled_code, dialect=engine)
        except ValueError as error:
            errors[result.node.name] = str(error).splitlines()[0]
    return {"compiled": len(reply.result.results), "errors": errors}


if __name__ == "__main__":
    engine, project, folder, variables = sys.argv[1:]
    print(json.dumps(compiled(engine, Path(project), Path(folder), variables)))  # noqa: T201
