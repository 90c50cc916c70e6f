"""What records refer to: activity types, users, teams, tags, and the things a contact owns."""

from dataclasses import dataclass, field

from .records import Json


@dataclass(frozen=True, slots=True)
class Linked:
    """What an activity can be linked to: `kind` is the field of the activity that shows it."""

    kind: str
    contact_id: str
    body: Json


@dataclass
class Catalogue:
    """Each by id, as the API shows it inside a record."""

    activity_types: dict[str, Json] = field(default_factory=dict)
    users: dict[str, Json] = field(default_factory=dict)
    teams: dict[str, Json] = field(default_factory=dict)
    tags: dict[str, Json] = field(default_factory=dict)
    classifications: dict[str, Json] = field(default_factory=dict)
    payment_terms: dict[str, Json] = field(default_factory=dict)
    addresses: dict[str, list[Json]] = field(default_factory=dict)
    """The addresses of a contact, by the contact's id."""
    linked: dict[str, Linked] = field(default_factory=dict)
    """Orders, leads and service requests."""


# An account's address and an activity's address are two shapes of one address in the reference.
_NOT_IN_BILLING = {"lat", "lon", "google_place_id", "country"}


def billing_address(address: Json) -> Json:
    shown = {k: v for k, v in address.items() if k not in _NOT_IN_BILLING}
    return {**shown, "country_code": address.get("country")}


def activity_address(address: Json) -> Json:
    return {k: v for k, v in address.items() if k != "id"}
