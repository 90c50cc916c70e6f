"""The same work as a script that one writes in an afternoon: by_hand.py BASE_URL DATABASE.

One request after another with `requests`, pages until an empty one, pandas into DuckDB. It proves
nothing, and where it dies it begins anew.
"""

from __future__ import annotations

import sys
from typing import Any

import duckdb
import pandas as pd
import requests

base_url, database = sys.argv[1:]
session = requests.Session()


def get(path: str, **params: object) -> Any:
    reply = session.get(f"{base_url}/{path}", params=params, timeout=60)
    reply.raise_for_status()
    return reply.json()


def listed(path: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    while page := get(path, page=len(rows) // 100 + 1, size=100)["content"]:
        rows += page
        if len(page) < 100:
            break
    return rows


contacts = listed("contacts")
accounts = [
    get(f"accounts/{account['id']}")
    for contact in contacts
    for account in get(f"contacts/{contact['id']}/accounts", page=1, size=100)["content"] or []
]
activities = listed("activities/")
with duckdb.connect(database) as connection:
    connection.execute("create schema crm")
    for name, rows in (("contacts", contacts), ("accounts", accounts), ("activities", activities)):
        table = pd.json_normalize(rows, sep="__")
        lists = [c for c in table.columns if table[c].map(lambda v: isinstance(v, list)).any()]
        table[lists] = table[lists].astype(str)
        connection.register("table_", table)
        connection.execute(f"create table crm.{name} as select * from table_")
