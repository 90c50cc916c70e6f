"""People who were erased: enough is kept to keep them out of later runs, and no more.

`crmcom forget` writes the table, a row for a contact and for each of its activities: a digest of
the id under a salt of the dataset's own. Rows are left out after a listing was proven, so that
what the API counts and what came still agree.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import pyarrow as pa

from crmcom import tolerant
from crmcom.records import ACTIVITY, CONTACT, Record
from crmcom.tables import Reject, Shaped

if TYPE_CHECKING:
    from collections.abc import Iterable

    from crmcom.protocol import Row

TABLE = "_forgotten"

Kind = Literal["contact", "activity"]


@dataclass(frozen=True, slots=True)
class Forgotten:
    """`salt`: one for all digests of a dataset. `digests`: see `digest`."""

    salt: str = ""
    digests: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.digests)

    def digest(self, kind: Kind, record_id: str) -> str:
        text = f"{kind}:{record_id}".encode()
        return hashlib.blake2b(text, key=self.salt.encode(), digest_size=16).hexdigest()

    def has(self, kind: Kind, record_id: str | None) -> bool:
        return bool(self) and record_id is not None and self.digest(kind, record_id) in self.digests

    def others(self, contacts: Iterable[Row]) -> list[Row]:
        """The listed contacts that were not forgotten."""
        return [r for r in contacts if not self.has("contact", r.id)]

    def leave_out(self, record: Record, shaped: Shaped) -> Shaped:
        """What was read of other people. An activity that now names somebody else is theirs."""
        if not self:
            return shaped
        rows = shaped.rows
        ids = rows.column("id").to_pylist()
        if record is CONTACT:
            gone = {i for i in ids if self.has("contact", i)}
        elif record is ACTIVITY:
            owners = rows.column("contact__id").to_pylist()
            gone = {i for i, o in zip(ids, owners, strict=True) if self._is_theirs(i, o)}
        else:
            gone = set()  # accounts are listed by their contact, and theirs is not asked
        return Shaped(
            _without(rows, "id", gone),
            {t: _without(c, record.parent_key, gone) for t, c in shaped.children.items()},
            self.rejects(record, shaped.rejects),
        )

    def rejects(self, record: Record, found: Iterable[Reject]) -> tuple[Reject, ...]:
        """Without theirs, and without the payload where nobody can tell whose it is."""
        if not self:
            return tuple(found)
        kept = []
        for reject in found:
            if record is ACTIVITY:
                owner = _contact_of(reject.payload)
                if self._is_theirs(reject.record_id, owner):
                    continue
                is_known = owner is not None
            else:
                if record is CONTACT and self.has("contact", reject.record_id):
                    continue
                is_known = reject.record_id is not None
            kept.append(reject if is_known else replace(reject, payload=""))
        return tuple(kept)

    def _is_theirs(self, activity_id: str | None, contact_id: str | None) -> bool:
        if contact_id is not None:
            return self.has("contact", contact_id)
        return self.has("activity", activity_id)


def _without(rows: pa.Table, column: str, gone: set[str]) -> pa.Table:
    if not gone:
        return rows
    kept = [i not in gone for i in rows.column(column).to_pylist()]
    return rows.filter(pa.array(kept, pa.bool_()))


def _contact_of(payload: str) -> str | None:
    try:
        contact = tolerant.parse(payload.encode()).get("contact")
    except tolerant.Unreadable:
        return None
    return tolerant.as_text(contact.get("id")) if isinstance(contact, dict) else None
