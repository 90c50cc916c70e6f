"""What a contact, an account and an activity are: each field, its type, and who sends it.

A field's column is its path joined by `__`, as dlt would flatten it. What stands here is what
the reference documents (or the live API is known to send); anything else that arrives becomes
a column all the same, see `tables.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["text", "flag", "decimal", "epoch"]
"""text; flag: a boolean, whatever the wire says; decimal: exact `decimal(38, 9)`;
epoch: integer seconds on the wire, a UTC timestamp without zone in the warehouse."""

Sender = Literal["list", "single"]
"""`list`: the endpoint that lists many; `single`: the GET of one record."""

BOTH: frozenset[Sender] = frozenset({"list", "single"})
LIST: frozenset[Sender] = frozenset({"list"})
SINGLE: frozenset[Sender] = frozenset({"single"})


@dataclass(frozen=True, slots=True)
class Field:
    """One scalar of a record, at `path` (dots descend), sent by the endpoints in `sent_by`."""

    path: str
    kind: Kind = "text"
    sent_by: frozenset[Sender] = BOTH
    column: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "column", self.path.replace(".", "__"))


@dataclass(frozen=True, slots=True)
class Child:
    """A list inside a record that becomes a table of its own, one row per element."""

    path: str
    table: str
    fields: tuple[Field, ...]
    sent_by: frozenset[Sender] = BOTH


@dataclass(frozen=True, slots=True)
class Record:
    """A kind of record: its table, the name of its id in child tables, its fields and lists."""

    table: str
    parent_key: str
    fields: tuple[Field, ...]
    children: tuple[Child, ...] = ()

    def columns(self, sender: Sender) -> frozenset[str]:
        """The columns that `sender` answers for; it may null them, and no others."""
        return frozenset(f.column for f in self.fields if sender in f.sent_by)


CUSTOM_FIELD = (Field("key"), Field("value"))
TAG = (Field("id"), Field("name"), Field("colour"))

# Not in the reference; fields from the vendor's self-service API and a client in daily use.
CONTACT = Record(
    table="contacts",
    parent_key="contact_id",
    fields=(
        Field("id"),
        Field("code"),
        Field("type"),
        Field("name"),
        Field("first_name"),
        Field("middle_name"),
        Field("last_name"),
        Field("company_name"),
        Field("email"),
        Field("email_address"),
        Field("phone.country_code"),
        Field("phone.number"),
        Field("language_code"),
    ),
    children=(
        Child("custom_fields", "contact_custom_fields", CUSTOM_FIELD),
        Child("tags", "contact_tags", TAG),
    ),
)

# Reference: Get Account, List Contact Accounts. `contact_id` is ours: neither reply has it.
ACCOUNT = Record(
    table="accounts",
    parent_key="account_id",
    fields=(
        Field("id"),
        Field("name"),
        Field("number"),
        Field("is_primary", "flag"),
        Field("state"),
        Field("currency_code"),
        Field("balance", "decimal", SINGLE),
        Field("overdue_amount", "decimal", SINGLE),
        Field("credit_limit", "decimal", SINGLE),
        Field("payment_terms.id", sent_by=SINGLE),
        Field("payment_terms.name", sent_by=SINGLE),
        Field("classification.id"),
        Field("classification.name"),
        Field("billing_address.id", sent_by=SINGLE),
        Field("billing_address.address_line_1", sent_by=SINGLE),
        Field("billing_address.address_line_2", sent_by=SINGLE),
        Field("billing_address.state_province_county", sent_by=SINGLE),
        Field("billing_address.town_city", sent_by=SINGLE),
        Field("billing_address.postal_code", sent_by=SINGLE),
        Field("billing_address.country_code", sent_by=SINGLE),
    ),
)

# Reference: List Activities, Get Activity. The single reply has neither `state` nor `tags`:
# its state is the latest of `states`.
ACTIVITY = Record(
    table="activities",
    parent_key="activity_id",
    fields=(
        Field("id"),
        Field("name"),
        Field("description"),
        Field("state", sent_by=LIST),
        Field("key_dates.created_on", "epoch"),
        Field("key_dates.scheduled_on.from_date", "epoch"),
        Field("key_dates.scheduled_on.to_date", "epoch"),
        Field("type.id"),
        Field("type.name"),
        Field("type.color"),
        Field("contact.id"),
        Field("contact.name"),
        Field("contact.code"),
        Field("lead.id"),
        Field("lead.title"),
        Field("service_request.id"),
        Field("service_request.number"),
        Field("order.id"),
        Field("order.number"),
        Field("assign_to.user.id"),
        Field("assign_to.user.name"),
        Field("assign_to.user.username"),
        Field("assign_to.team.id"),
        Field("assign_to.team.name"),
        Field("address.address_line_1", sent_by=SINGLE),
        Field("address.address_line_2", sent_by=SINGLE),
        Field("address.state_province_county", sent_by=SINGLE),
        Field("address.town_city", sent_by=SINGLE),
        Field("address.postal_code", sent_by=SINGLE),
        Field("address.country", sent_by=SINGLE),
        Field("address.lat", "decimal", SINGLE),
        Field("address.lon", "decimal", SINGLE),
        Field("address.google_place_id", sent_by=SINGLE),
    ),
    children=(
        Child("custom_fields", "activity_custom_fields", CUSTOM_FIELD),
        Child("tags", "activity_tags", TAG, LIST),
        Child("states", "activity_states", (Field("state"), Field("date", "epoch")), SINGLE),
    ),
)
