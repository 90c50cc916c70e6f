"""What the project's files promise, without running them."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from crmcom.records import ACCOUNT, ACTIVITY, CONTACT
from crmcom_transforms import PROJECT_DIR

from .raw import TABLES

MODELS = sorted((PROJECT_DIR / "models").rglob("*.sql"))
SQL = [*MODELS, *sorted((PROJECT_DIR / "tests").rglob("*.sql"))]
MARTS = [m for m in MODELS if m.parent.name == "marts"]

NOT_PORTABLE = {
    "asof": r"\basof\b",
    "ignore nulls": r"\bignore\s+nulls\b",
    "distinct on": r"\bdistinct\s+on\b",
    "qualify": r"\bqualify\b",
    "filter": r"\bfilter\s*\(",
    "lateral": r"\blateral\b",
    "generate_series": r"\bgenerate_series\b",
    "double colon": r"::",
    "time zones": r"\bat\s+time\s+zone\b|\btimezone\s*\(",
    "greatest": r"\bgreatest\s*\(|\bleast\s*\(",
    "group by all": r"\b(group|order)\s+by\s+all\b",
    "today": r"\bcurrent_date\b|\bcurrent_timestamp\b|\bnow\s*\(",
    "double": r"\b(double|float|real)\b",
}
"""What differs between warehouses, or makes a report depend on the day it is made."""


def described(model: Any) -> dict[str, Any]:
    (found,) = yaml.safe_load(model.with_suffix(".yml").read_text())["models"]
    return dict(found)


@pytest.mark.parametrize("model", MODELS, ids=lambda m: m.stem)
def test_every_model_is_described_in_a_file_of_its_own(model: Any) -> None:
    description = described(model)
    assert description["name"] == model.stem
    assert description["description"].startswith("One row per "), "the grain comes first"
    assert description["columns"]
    for column in description["columns"]:
        assert column.get("description"), column["name"]


@pytest.mark.parametrize("mart", MARTS, ids=lambda m: m.stem)
def test_every_mart_has_a_contract_with_precision(mart: Any) -> None:
    description = described(mart)
    assert description["config"]["contract"] == {"enforced": True}
    for column in description["columns"]:
        assert column["data_type"] != "decimal", f"{column['name']} has no precision"
        assert column["data_type"] != "varchar", "dbt's own word for texts is string"


@pytest.mark.parametrize("sql", SQL, ids=lambda p: p.stem)
def test_sql_is_portable(sql: Any) -> None:
    text = re.sub(r"--[^\n]*", "", sql.read_text())
    assert [n for n, found in NOT_PORTABLE.items() if re.search(found, text, re.IGNORECASE)] == []


@pytest.mark.parametrize("model", MODELS, ids=lambda m: m.stem)
def test_every_model_ends_in_its_final_step(model: Any) -> None:
    assert model.read_text().endswith(")\n\nselect * from final\n")


def sources() -> dict[str, dict[str, str]]:
    text = (PROJECT_DIR / "models/staging/_crmcom__sources.yml").read_text()
    (source,) = yaml.safe_load(text)["sources"]
    return {
        table["name"]: {c["name"]: c["data_type"] for c in table["columns"]}
        for table in source["tables"]
    }


def test_the_sources_are_the_raw_tables() -> None:
    """In dbt's own words for types, which it translates for each engine."""
    bookkeeping = {"_dlt_load_id", "_dlt_id", "_gone", "favourite_colour"}
    for name, columns in TABLES.items():
        words = {"varchar": "string"}
        wanted = {c: words.get(k, k) for c, k in columns.items() if c not in bookkeeping}
        if name == "_sync_windows":
            wanted.pop("_synced_at")
        assert {c: k for c, k in sources()[name].items() if c in wanted} == wanted, name


@pytest.mark.parametrize("record", [CONTACT, ACCOUNT, ACTIVITY], ids=lambda r: r.table)
def test_the_sources_know_every_field(record: Any) -> None:
    assert {f.column for f in record.fields} <= set(sources()[record.table])


def test_every_raw_table_is_staged() -> None:
    staged = {m.stem.removeprefix("stg_crmcom__") for m in MODELS if m.parent.name == "staging"}
    assert staged == {name.lstrip("_") for name in TABLES}
