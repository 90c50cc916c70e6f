"""What `docs/completeness.md` promises, checked against the server's own truth.

Each check returns what it found wrong, in words; an empty list is a kept promise.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from crmcom.merge import VERSION_COLUMNS

from ..sync import truth as shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Set

    from .memory import Memory, Row

KINDS = ("contacts", "accounts", "activities")
CHILDREN = {
    kind: [(table, name) for table, (owner, name) in shown.CHILDREN.items() if owner == kind]
    for kind in KINDS
}
OBSERVED = (
    *("contact_id", "state", "currency_code", "classification__name", "payment_terms__name"),
    *("balance", "overdue_amount", "credit_limit"),
)


@dataclass
class Check:
    """One warehouse against one truth. `details`: the setting `activity_details`."""

    memory: Memory
    truth: dict[str, Any]
    live: bool
    details: str
    newest_first: bool

    def __post_init__(self) -> None:
        self.wanted = {
            kind: shown.expected_rows(self.truth, kind, live=self.live, detailed=None)
            for kind in KINDS
        }
        self.rows = {kind: {r["id"]: r for r in self.memory.list(kind)} for kind in KINDS}
        self.alive = {
            kind: {i for i, r in rows.items() if r["_deleted_at"] is None}
            for kind, rows in self.rows.items()
        }
        self.created = {
            kind: {r["id"]: r["created_on"] for r in self.truth[kind]} for kind in KINDS
        }

    # --- a record ---

    def record(self, kind: str, record_id: str) -> Iterator[str]:
        """How a record in the warehouse differs from the truth, its children included."""
        name = f"{kind} {record_id[:8]}"
        if record_id not in self.wanted[kind]:
            if record_id in self.alive[kind]:
                yield f"{name} is gone and not marked"
            return
        if record_id not in self.alive[kind]:
            dead = record_id in self.rows[kind]
            yield f"{name} is {'marked as deleted' if dead else 'missing'}"
            return
        wanted, have = self.wanted[kind][record_id], self.rows[kind][record_id]
        unread = ("address__",) if kind == "activities" and self.details != "all" else ()
        columns = {c for c in wanted.keys() | have.keys() if not c.startswith(("_", *unread))}
        if kind == "contacts":
            columns -= {"created_on", "key_dates"}  # which the truth keeps beside the record
        for column in sorted(columns):
            if not _same(column, wanted.get(column), have) and not column.endswith("__v_text"):
                yield f"{name} {column}: {wanted.get(column)!r} is {have.get(column)!r}"
        for table, field in CHILDREN[kind]:
            yield from self._children(kind, record_id, table, field)

    def _children(self, kind: str, record_id: str, table: str, field: str) -> Iterator[str]:
        key = shown.PARENT_KEY[kind]
        body = next(r for r in self.truth[kind] if r["id"] == record_id)
        fields = shown.ELEMENTS[field]
        wanted = [{f: e.get(f) for f in fields} for e in body.get(field) or []]
        found = [r for r in self.memory.list(table) if r[key] == record_id]
        found.sort(key=lambda r: r["position"])
        have = [{f: r[f] for f in fields} for r in found]
        if field == "states":
            for step in wanted:
                step["date"] = shown.cell(step["date"], shown.TIME)
            if self.newest_first:
                have.reverse()
            if self.details != "all":
                if have and self.details == "changed":
                    state = self.rows[kind][record_id]["state"]
                    if have[-1]["state"] != state:
                        yield f"{table} of {record_id[:8]}: {have} ends otherwise than {state}"
                wanted = wanted[: len(have)]
        if wanted != have:
            yield f"{table} of {record_id[:8]}: {wanted} is {have}"

    # --- always ---

    def orphans(self, kind: str) -> Iterator[str]:
        for table, _ in CHILDREN[kind]:
            owners = {r[shown.PARENT_KEY[kind]] for r in self.memory.list(table)}
            # Of a record that a killed load brought in part, and that is gone since, no sync
            # can know.
            if found := (owners - self.rows[kind].keys()) & self.wanted[kind].keys():
                yield f"{table} has rows without a parent: {found}"

    def versions(self, only: Set[str] | None = None) -> Iterator[str]:
        last = self.memory.last_versions()
        for i, row in self.rows["activities"].items():
            if only is not None and i not in only:
                continue
            wanted = {to: row.get(c) for to, c in VERSION_COLUMNS.items()}
            wanted["is_deleted"] = row["_deleted_at"] is not None
            have = {c: last[i][c] for c in wanted} if i in last else None
            if have != wanted:
                yield f"the last version of {i[:8]} is {have}, its row is {wanted}"

    def observations(self) -> Iterator[str]:
        last: dict[str, Row] = {}
        for r in sorted(self.memory.list("account_observations"), key=lambda r: r["_synced_at"]):
            last[r["account_id"]] = r
        for i, row in self.rows["accounts"].items():
            if i not in last:
                yield f"account {i[:8]} was never observed"
            elif last[i]["is_missing"] != (row["_deleted_at"] is not None):
                yield f"account {i[:8]}: _deleted_at {row['_deleted_at']}, last observed {last[i]}"
            elif not last[i]["is_missing"] and (d := [c for c in OBSERVED if last[i][c] != row[c]]):
                yield f"account {i[:8]}: {d} not as last observed"

    # --- after a reconcile ---

    def equal(self, end_s: int, kinds: tuple[str, ...] = KINDS) -> Iterator[str]:
        """Everything but what was created after `end_s`, which is left to the next run."""
        for kind in kinds:
            for record_id in sorted(self.wanted[kind].keys() | self.alive[kind]):
                if self._is_young(kind, record_id, end_s) and record_id not in self.alive[kind]:
                    continue
                yield from self.record(kind, record_id)

    def _is_young(self, kind: str, record_id: str, end_s: int) -> bool:
        if kind == "accounts":
            owner = self.wanted[kind].get(record_id, {}).get("contact_id")
            return owner is not None and owner not in self.alive["contacts"]
        return self.created[kind].get(record_id, -(2**60)) >= end_s


def _same(column: str, wanted: Any, have: Row) -> bool:
    value, beside = have.get(column), have.get(f"{column}__v_text")
    if wanted is None:
        return value is None and beside is None
    if shown.same(wanted, value):
        return beside is None
    if isinstance(wanted, str) and isinstance(value, Decimal):
        return beside is None and str(value.normalize()) == wanted.rstrip("0")
    # A scalar in a column of JSON, or a number in one of text; else it stands beside its column.
    scalar = not isinstance(wanted, dict | list) and isinstance(value, str)
    kept = value if scalar else beside
    if kept is None or value not in {None, kept}:
        return False
    return kept == wanted or _loads(kept) == wanted


def _loads(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
