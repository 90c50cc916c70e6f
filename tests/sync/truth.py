"""What a warehouse must hold, worked out from the sandbox's truth alone.

Nothing here is shared with the product: neither its field lists nor its way of flattening.
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import duckdb

EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001
TEXT, FLAG, MONEY, TIME = "VARCHAR", "BOOLEAN", "DECIMAL(38,9)", "TIMESTAMP"

ADDRESS = ("address_line_1", "address_line_2", "state_province_county", "town_city", "postal_code")
DOCUMENTED: dict[str, dict[str, str]] = {
    "contacts": dict.fromkeys(
        (
            *("id", "code", "type", "name", "first_name", "middle_name", "last_name"),
            *("company_name", "email", "email_address", "language_code"),
            *("phone.country_code", "phone.number"),
        ),
        TEXT,
    ),
    "accounts": dict.fromkeys(
        (
            *("id", "name", "number", "state", "currency_code"),
            *("payment_terms.id", "payment_terms.name", "classification.id"),
            *("classification.name", "billing_address.id", "billing_address.country_code"),
            *(f"billing_address.{part}" for part in ADDRESS),
        ),
        TEXT,
    )
    | {"is_primary": FLAG, "balance": MONEY, "overdue_amount": MONEY, "credit_limit": MONEY},
    "activities": dict.fromkeys(
        (
            *("id", "name", "description", "state", "type.id", "type.name", "type.color"),
            *("contact.id", "contact.name", "contact.code", "lead.id", "lead.title"),
            *("service_request.id", "service_request.number", "order.id", "order.number"),
            *("assign_to.user.id", "assign_to.user.name", "assign_to.user.username"),
            *("assign_to.team.id", "assign_to.team.name", "address.country"),
            *(f"address.{part}" for part in ADDRESS),
            "address.google_place_id",
        ),
        TEXT,
    )
    | {"address.lat": MONEY, "address.lon": MONEY}
    | dict.fromkeys(
        (
            "key_dates.created_on",
            "key_dates.scheduled_on.from_date",
            "key_dates.scheduled_on.to_date",
        ),
        TIME,
    ),
}
ELEMENTS = {
    "custom_fields": ("key", "value"),
    "tags": ("id", "name", "colour"),
    "states": ("state", "date"),
}
CHILDREN = {
    "contact_custom_fields": ("contacts", "custom_fields"),
    "contact_tags": ("contacts", "tags"),
    "activity_custom_fields": ("activities", "custom_fields"),
    "activity_tags": ("activities", "tags"),
    "activity_states": ("activities", "states"),
}
PARENT_KEY = {"contacts": "contact_id", "activities": "activity_id"}

KEYS = {
    **dict.fromkeys(("contacts", "accounts", "activities"), "id"),
    **{t: f"{PARENT_KEY[kind]}, position" for t, (kind, _) in CHILDREN.items()},
    "account_observations": "account_id, run_id",
    "activity_versions": "activity_id, run_id",
    "_sync_runs": "run_id, resource",
    **dict.fromkeys(("_sync_windows", "_rejects"), "run_id, resource, position"),
}

# What is no field of the record: the truth's own additions.
_ADDED = {"created_on", "updated_on", "completed_on", "contact_id", "raw"}

Row = dict[str, Any]
Rows = dict[Any, Row]


def column(path: str) -> str:
    return path.replace(".", "__")


def dig(body: Any, path: str) -> Any:
    for step in path.split("."):
        body = body.get(step) if isinstance(body, dict) else None
    return body


def cell(value: Any, kind: str) -> Any:
    if value is None:
        return None
    if kind == TIME:
        return EPOCH + timedelta(seconds=value)
    if kind == MONEY:
        return Decimal(value)
    if kind == FLAG:
        return value if isinstance(value, bool) else value == "true"
    return value


def shown(kind: str, body: Row, *, live: bool) -> Row:
    body = {k: v for k, v in body.items() if k not in _ADDED}
    if kind == "contacts" and live and "email" in body:
        body["email_address"] = body.pop("email")
    return body


def unknown_cells(kind: str, body: Any, path: str = "") -> Row:
    """The fields that the reference does not name, as columns of scalars or JSON."""
    known = set(DOCUMENTED[kind])
    inside = {p.rsplit(".", n)[0] for p in known for n in range(1, p.count(".") + 1)}
    found: Row = {}
    for key, value in body.items():
        at = f"{path}.{key}" if path else key
        if at in known or (not path and (key in ELEMENTS)) or value is None:
            continue
        if at in inside and isinstance(value, dict):
            found |= unknown_cells(kind, value, at)
        else:
            found[column(at)] = value
    return found


def expected_rows(truth: Row, kind: str, *, live: bool, detailed: set[str] | None) -> Rows:
    """`detailed`: the activities whose single reply was read, None for all of them."""
    rows: Rows = {}
    for record in truth[kind]:
        body = shown(kind, record, live=live)
        row = {column(p): cell(dig(body, p), type_) for p, type_ in DOCUMENTED[kind].items()}
        row |= unknown_cells(kind, {k: v for k, v in body.items() if k != "address"})
        if kind == "accounts":
            row["contact_id"] = record["contact_id"]
        if kind == "activities" and detailed is not None and row["id"] not in detailed:
            row |= {c: None for c in row if c.startswith("address__")}
        rows[row["id"]] = row
    return rows


def expected_children(truth: Row, table: str, *, detailed: set[str] | None) -> Rows:
    kind, name = CHILDREN[table]
    rows: Rows = {}
    for record in truth[kind]:
        if name == "states" and detailed is not None and record["id"] not in detailed:
            continue
        for position, element in enumerate(record.get(name) or []):
            row = {f: element.get(f) for f in ELEMENTS[name]}
            if name == "states":
                row["date"] = cell(row["date"], TIME)
            rows[record["id"], position] = row
    return rows


def read(con: duckdb.DuckDBPyConnection, query: str) -> list[Row]:
    result = con.execute(query)
    names = [d[0] for d in result.description]
    return [dict(zip(names, values, strict=True)) for values in result.fetchall()]


def differences(
    con: duckdb.DuckDBPyConnection,
    truth: Row,
    *,
    live: bool,
    detailed: set[str] | None = None,
    gone: dict[str, set[str]] | None = None,
    kinds: tuple[str, ...] = ("contacts", "accounts", "activities"),
) -> list[str]:
    """Everything in which the warehouse is not the truth. `gone`: ids that must stand there as
    deleted; by default every deleted row must be one that the sandbox has deleted."""
    found = [f"{table}: doubled rows" for table in doubled(con)]
    for kind in kinds:
        rows = read(con, f"from crmcom.{kind}")
        wanted = expected_rows(truth, kind, live=live, detailed=detailed)
        have = {r["id"]: r for r in rows if r["_deleted_at"] is None}
        dead = {r["id"] for r in rows if r["_deleted_at"] is not None}
        if gone is not None and dead != gone[kind]:
            found.append(f"{kind}: deleted {dead ^ gone[kind]} differ")
        if wrong := dead - set(truth["deleted"][kind]):
            found.append(f"{kind}: marked as deleted, and are not: {wrong}")
        found += _compare(kind, wanted, have)
    for table, (kind, _) in CHILDREN.items():
        if kind not in kinds:
            continue
        key = PARENT_KEY[kind]
        living = {r["id"] for r in truth[kind]}
        rows = [r for r in read(con, f"from crmcom.{table}") if r[key] in living]
        have = {(r[key], r["position"]): r for r in rows}
        found += _compare(table, expected_children(truth, table, detailed=detailed), have)
    return found


def doubled(con: duckdb.DuckDBPyConnection) -> list[str]:
    """The raw tables in which two rows have one key."""
    there = con.execute("select table_name from duckdb_tables() where schema_name = 'crmcom'")
    return [
        table
        for (table,) in there.fetchall()
        if table in KEYS
        and con.execute(
            f"select 1 from crmcom.{table} group by {KEYS[table]} having count(*) > 1 limit 1"
        ).fetchall()
    ]


def _compare(table: str, wanted: Rows, have: Rows) -> list[str]:
    found = [f"{table}: {key} is missing" for key in wanted.keys() - have.keys()]
    found += [f"{table}: {key} should not be there" for key in have.keys() - wanted.keys()]
    for key in wanted.keys() & have.keys():
        for name, value in wanted[key].items():
            if name not in have[key]:
                found.append(f"{table}: no column {name}")
            elif not same(value, have[key][name]):
                found.append(f"{table} {key} {name}: {value!r} became {have[key][name]!r}")
        rest = have[key].keys() - wanted[key].keys()
        extra = {c: have[key][c] for c in rest if c not in OURS and have[key][c] is not None}
        if extra:
            found.append(f"{table} {key}: also has {extra}")
    return found


OURS = {"_synced_at", "_deleted_at", "_dlt_load_id", "_gone", *PARENT_KEY.values(), "position"}


def same(wanted: Any, got: Any) -> bool:
    if isinstance(wanted, dict | list):
        text = json.dumps(wanted, default=str)
        return isinstance(got, str) and json.loads(got, parse_float=str) == json.loads(
            text, parse_float=str
        )
    if isinstance(wanted, int) and not isinstance(wanted, bool):
        wanted = Decimal(wanted)
    return type(wanted) is type(got) and bool(wanted == got)
