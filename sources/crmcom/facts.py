"""How an API behaves: what its pages show of it while they are read for their rows. No I/O.

The reference leaves open how large a page may be, whether a list is counted and which filters
work, and servers differ. A run notes what it sees anyway; `probing.py` asks on purpose.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from crmcom.protocol import MAX_EPOCH_S

if TYPE_CHECKING:
    from crmcom.protocol import Page, Request, Row

Facts = dict[str, str | int]
"""Name -> value, both for people; JSON-able."""

EXACT, RIGHT, TOLD, NONE, WRONG = "exact", "right", "told", "none", "wrong"
HONOURED, IGNORED, NOT_IGNORED = "honoured", "ignored", "not ignored"
SECONDS, MILLISECONDS = "seconds", "milliseconds"

_VAGUE: dict[str | int, str] = {TOLD: NONE, NOT_IGNORED: IGNORED}
"""What a run sees in passing, and all that it denies: that a total is told says not that it is
exact. What is asked on purpose takes its place."""


def fact(resource: str, what: str) -> str:
    """The name under which a fact is known, such as `contacts: totals`."""
    return f"{resource}: {what}"


def changed(known: Facts, seen: Facts) -> Facts:
    """What was seen and is not as it was known."""
    return {n: value for n, value in seen.items() if n in known and _denies(known[n], value)}


def learned(known: Facts, seen: Facts) -> Facts:
    """`known`, with what was seen; what is vague takes the place only of what it denies."""
    kept = {n: v for n, v in seen.items() if n not in known or v not in _VAGUE}
    return {**known, **kept, **changed(known, seen)}


def _denies(known: str | int, seen: str | int) -> bool:
    if seen in _VAGUE:
        return known == _VAGUE[seen]
    return seen == _VAGUE[known] if known in _VAGUE else seen != known


def observe(facts: Facts, request: Request, page: Page) -> None:
    """Add what a page shows. Called for each page: it looks at no row but the first and last."""
    endpoint = request.endpoint
    if not endpoint.filters:
        return  # the list of one record's accounts: it shows little, and nothing relies on it
    resource = endpoint.record.table
    asked = dict(request.params)
    told = {"totals": page.total, "has_more": page.has_more}
    # An empty page may come without any paging, where others have one.
    if page.rows or any(value is not None for value in told.values()):
        for what, value in told.items():
            if what != "totals" or "include_total" in asked:
                facts[fact(resource, what)] = NONE if value is None else TOLD
    if not page.rows:
        return
    size = int(asked.get("size", 0))
    if page.has_more and len(page.rows) < size:
        facts[fact(resource, "page size cap")] = len(page.rows)
    unit = fact(resource, "epoch unit")
    if unit not in facts and (found := epoch_unit(page.rows[0])):
        facts[unit] = found
    first, last = page.rows[0].created_on, page.rows[-1].created_on
    if asked.get("sort") == "CREATED_DATE" and None not in (first, last) and first != last:
        ascending = (first or 0) < (last or 0)
        obeyed = ascending == (asked.get("order") == "ASC")
        facts[fact(resource, "sort CREATED_DATE")] = HONOURED if obeyed else IGNORED


class _Dates(msgspec.Struct):
    created_on: Any = None


class _Dated(msgspec.Struct):
    key_dates: _Dates | None = None


def epoch_unit(row: Row) -> str | None:
    """The unit of a row's created date; None where it has none."""
    try:
        dates = msgspec.json.decode(row.raw, type=_Dated).key_dates
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    at = dates.created_on if dates else None
    if isinstance(at, bool) or not isinstance(at, int):
        return None
    return MILLISECONDS if abs(at) > MAX_EPOCH_S else SECONDS
