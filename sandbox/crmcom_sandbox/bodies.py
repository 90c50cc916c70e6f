"""The request bodies of the write routes, as types: a wrong one is 400 before anything changes.

UNSET is a field that was not sent and so is left alone; None is a null that was.
"""

from decimal import Decimal
from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from .errors import BadRequest

Body = TypeVar("Body", bound=msgspec.Struct)

Text = Annotated[str, msgspec.Meta(min_length=1)]
Currency = Annotated[str, msgspec.Meta(pattern="^[A-Z]{3}$")]
AccountState = Literal["ACTIVE", "SUSPENDED", "TERMINATED"]
ActivityState = Literal["PENDING", "COMPLETED", "CANCELLED"]


class NewAccount(msgspec.Struct):
    """Reference: Add Account for Contact."""

    currency_code: Currency
    is_primary: bool | None = None
    name: Text | UnsetType = UNSET
    classification_id: str | None = None
    billing_address_id: str | None = None


class AccountChange(msgspec.Struct):
    """Reference: Update Account."""

    is_primary: bool | UnsetType | None = UNSET
    classification_id: str | UnsetType | None = UNSET
    billing_address_id: str | UnsetType | None = UNSET
    credit_limit: Decimal | UnsetType | None = UNSET
    payment_terms_id: str | UnsetType | None = UNSET


class AccountAction(msgspec.Struct):
    """Reference: Account Actions."""

    state: AccountState
    account_id: str | None = None


class Scheduled(msgspec.Struct):
    from_date: int
    to_date: int | None = None


class Link(msgspec.Struct):
    type: Literal["CONTACT", "LEAD", "SERVICE_REQUEST", "ORDER"]
    id: str


class Assignment(msgspec.Struct):
    user_id: str | None = None
    team_id: str | None = None


class CustomField(msgspec.Struct):
    key: str
    value: str | None = None


class NewActivity(msgspec.Struct):
    """Reference: Create Activity, whose example writes a flag as a string."""

    name: Text
    type_id: str
    scheduled_on: Scheduled
    linked_to: list[Link]
    description: str | UnsetType | None = UNSET
    address_id: str | None = None
    use_entity_address: bool | Literal["true", "false"] = False
    assign_to: Assignment | None = None
    custom_fields: list[CustomField] | UnsetType | None = UNSET


class ActivityChange(msgspec.Struct):
    """Reference: Update Activity."""

    name: Text | UnsetType | None = UNSET
    description: str | UnsetType | None = UNSET
    state: ActivityState | UnsetType | None = UNSET
    address_id: str | UnsetType | None = UNSET
    scheduled_on: Scheduled | UnsetType | None = UNSET
    linked_to: list[Link] | UnsetType | None = UNSET
    assign_to: Assignment | UnsetType | None = UNSET
    custom_fields: list[CustomField] | UnsetType | None = UNSET


class NewTags(msgspec.Struct):
    """Reference: Update Activity Tags."""

    tags: list[str]


def read(body: bytes, form: type[Body]) -> Body:
    """Raises BadRequest with what is wrong and where."""
    try:
        return msgspec.json.decode(body, type=form)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadRequest(str(error)) from None
