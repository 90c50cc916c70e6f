"""A record, and the JSON that each endpoint shows of it.

A record's `body` is the union of what its endpoints send; each endpoint shows a part. So a field
that nobody has heard of is served like any other, and so is a value of the wrong type.
"""

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

import msgspec

from .behaviour import Shape

Json = dict[str, Any]
Kind = Literal["contacts", "accounts", "activities"]

# Money is Decimal, written digit for digit: 99.99, 1234567.005.
encode = msgspec.json.Encoder(decimal_format="number").encode

# "List Contact Accounts" has none of these; they come from "Get Account" alone.
ACCOUNT_DETAILS = {
    "balance",
    "overdue_amount",
    "credit_limit",
    "payment_terms",
    "billing_address",
}


class View(msgspec.Struct, frozen=True, cache_hash=True):
    """One way to show a record; the key of its rendered bytes."""

    single: bool
    custom_fields: bool
    tags: bool
    shape: Shape


@lru_cache
def view(*, single: bool, custom_fields: bool, tags: bool, shape: Shape) -> View:
    """Equal views are one object: a dict finds that by identity, a hundred times a page."""
    return View(single, custom_fields, tags, shape)


@dataclass(slots=True, eq=False)
class Record:
    id: str
    seq: int
    """Settles the order among records of one second."""
    created_on: int
    updated_on: int
    contact_id: str | None
    """The contact that an account or an activity belongs to."""
    body: Json
    raw: bytes | None = None
    """Served instead of the body, whatever it is."""
    rendered: dict[View, bytes] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What `sort=NAME` sorts by."""
        body = self.body
        parts = (body.get(part) for part in ("name", "company_name", "first_name", "last_name"))
        return " ".join(str(part) for part in parts if part).casefold()

    @property
    def scheduled_on(self) -> int:
        """What `sort=SCHEDULED_DATE` sorts by."""
        moment = dig(self.body, "key_dates", "scheduled_on", "from_date")
        return moment if isinstance(moment, int) else 0

    @property
    def completed_on(self) -> int | None:
        """When the activity reached the state COMPLETED that it is in; None in any other state."""
        if self.body.get("state") != "COMPLETED":
            return None
        history = self.body.get("states") or []
        return max((s["date"] for s in history if s["state"] == "COMPLETED"), default=None)

    def render(self, kind: Kind, view: View) -> bytes:
        """This record's JSON; rendered once, until the record changes."""
        if self.raw is not None:
            return self.raw
        known = self.rendered.get(view)
        if known is None:
            known = self.rendered[view] = encode(_SHOW[kind](self, view))
        return known


def dig(body: Any, *path: str) -> Any:
    """The value at `path`, or None where any step of it is missing, null or not an object."""
    for step in path:
        if not isinstance(body, dict):
            return None
        body = body.get(step)
    return body


def _contact(record: Record, view: View) -> Json:
    shown = {
        (view.shape.email_field if key == "email" else key): value
        for key, value in record.body.items()
        if (view.custom_fields or key != "custom_fields") and (view.tags or key != "tags")
    }
    if view.shape.contact_dates == "created_on":
        shown["created_on"] = record.created_on
    elif view.shape.contact_dates == "key_dates":
        shown["key_dates"] = {"created_on": record.created_on}
    return shown


def _account(record: Record, view: View) -> Json:
    if not view.single:
        return {k: v for k, v in record.body.items() if k not in ACCOUNT_DETAILS}
    shown = dict(record.body)
    if isinstance(shown.get("is_primary"), bool):
        # The reference's example has a string here, though its schema says boolean.
        shown["is_primary"] = str(shown["is_primary"]).lower()
    return shown


def _activity(record: Record, view: View) -> Json:
    if view.single:
        shown = {k: v for k, v in record.body.items() if k not in {"state", "tags"}}
        if view.shape.newest_state_first:
            shown["states"] = shown["states"][::-1]
        return shown
    hidden = {"states", "address", "tags"} | (set() if view.custom_fields else {"custom_fields"})
    shown = {k: v for k, v in record.body.items() if k not in hidden}
    if view.tags:
        tags = record.body.get("tags") or []
        if len(tags) == 1 and view.shape.single_tag == "object":
            shown["tags"] = tags[0]
        elif tags or view.shape.empty_tags == "list":
            shown["tags"] = tags
        elif view.shape.empty_tags == "null":
            shown["tags"] = None
    return shown


_SHOW = {"contacts": _contact, "accounts": _account, "activities": _activity}
