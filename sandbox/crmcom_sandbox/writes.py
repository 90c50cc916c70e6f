"""Handlers of the POST, PUT and DELETE routes: check everything, then change the world."""

from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import UNSET, to_builtins

from . import bodies
from .catalogue import activity_address, billing_address
from .errors import BadRequest, NotFound
from .reads import contact, record
from .records import Json
from .routes import Call, Reply, replied
from .world import World


def add_account(call: Call) -> Reply:
    """Reference: Add Account for Contact. One account for each currency, one primary in all."""
    asked = bodies.read(call.body, bodies.NewAccount)
    owner = contact(call)
    currencies = {
        account.body["currency_code"]
        for account in call.world.of_contact("accounts", owner.id)
        if account.body["state"] != "TERMINATED"
    }
    if asked.currency_code in currencies:
        raise BadRequest("The contact has an account in this currency.", "currency_code")
    fields: Json = {
        "currency_code": asked.currency_code,
        "is_primary": bool(asked.is_primary),
        "payment_terms": None,
        "classification": _known(
            call.world.catalogue.classifications, "classification", asked.classification_id
        ),
        "billing_address": _billing_address(call.world, owner.id, asked.billing_address_id),
    }
    if asked.name is not UNSET:
        fields["name"] = asked.name
    return replied({"id": call.world.create_account(owner.id, **fields)}, 201)


def update_account(call: Call) -> Reply:
    """Reference: Update Account. At least one attribute has to be there."""
    asked = bodies.read(call.body, bodies.AccountChange)
    account = record(call, "accounts")
    catalogue = call.world.catalogue
    fields: Json = {}
    if asked.credit_limit is not UNSET:
        fields["credit_limit"] = asked.credit_limit
    if asked.classification_id is not UNSET:
        fields["classification"] = _known(
            catalogue.classifications, "classification", asked.classification_id
        )
    if asked.payment_terms_id is not UNSET:
        fields["payment_terms"] = _known(
            catalogue.payment_terms, "payment_terms", asked.payment_terms_id
        )
    if asked.billing_address_id is not UNSET:
        fields["billing_address"] = _billing_address(
            call.world, account.contact_id, asked.billing_address_id
        )
    if isinstance(asked.is_primary, bool):
        fields["is_primary"] = asked.is_primary
    if not fields:
        raise BadRequest("Nothing to update.")
    call.world.edit("accounts", account.id, **fields)
    if asked.is_primary is True:
        call.world.make_primary(account.id)
    return replied({"id": account.id})


def act_on_account(call: Call) -> Reply:
    """Reference: Account Actions. Without `account_id` a terminated account's balance is lost."""
    asked = bodies.read(call.body, bodies.AccountAction)
    account = record(call, "accounts")
    transfer_to = asked.account_id if asked.state == "TERMINATED" else None
    if transfer_to is not None:
        target = call.world.accounts.get(transfer_to)
        if target is None:
            raise NotFound("account", transfer_to)
        if target is account:
            raise BadRequest("A balance cannot move to its own account.", "account_id")
        if target.body["state"] == "TERMINATED":
            raise BadRequest("The account to transfer to is terminated.", "account_id")
        if target.body["currency_code"] != account.body["currency_code"]:
            raise BadRequest("The accounts differ in currency.", "account_id")
    call.world.set_account_state(account.id, asked.state, transfer_to)
    return replied({"id": account.id})


def create_activity(call: Call) -> Reply:
    """Reference: Create Activity.

    The reference wants a contact among the links, yet its own example has an order alone: then
    the contact is the order's.
    """
    asked = bodies.read(call.body, bodies.NewActivity)
    world, catalogue = call.world, call.world.catalogue
    kind = _known(catalogue.activity_types, "activity_type", asked.type_id)
    contact_id, fields = _links(world, asked.linked_to)
    if contact_id is None:
        raise BadRequest("A contact should always be specified.", "linked_to")
    use_entity_address = asked.use_entity_address in (True, "true")
    if asked.address_id is not None and use_entity_address:
        raise BadRequest("Either an address or the entity's, not both.", "use_entity_address")
    addresses = catalogue.addresses.get(contact_id) or []
    if use_entity_address and addresses:
        fields["address"] = activity_address(addresses[0])
    elif asked.address_id is not None:
        fields["address"] = _activity_address(world, contact_id, asked.address_id)
    if asked.description is not UNSET:
        fields["description"] = asked.description
    if asked.custom_fields is not UNSET:
        fields["custom_fields"] = to_builtins(asked.custom_fields)
    fields |= {
        "name": asked.name,
        "type": kind,
        "assign_to": _assigned(world, asked.assign_to),
        "key_dates": {
            "created_on": world.clock.epoch(),
            "scheduled_on": _scheduled(asked.scheduled_on),
        },
    }
    return replied({"id": world.create_activity(contact_id, **fields)}, 201)


def update_activity(call: Call) -> Reply:
    """Reference: Update Activity. What is not sent stays; the contact cannot be changed."""
    asked = bodies.read(call.body, bodies.ActivityChange)
    activity = record(call, "activities")
    world = call.world
    fields: Json = {}
    if asked.linked_to is not UNSET:
        if any(link.type == "CONTACT" for link in asked.linked_to or ()):
            raise BadRequest("The contact cannot be updated.", "linked_to")
        fields |= {"lead": None, "service_request": None, "order": None}
        fields |= _links(world, asked.linked_to or ())[1]
    if asked.address_id is not UNSET:
        fields["address"] = _activity_address(world, activity.contact_id, asked.address_id)
    if asked.scheduled_on is not UNSET and asked.scheduled_on is not None:
        scheduled = _scheduled(asked.scheduled_on)
        fields["key_dates"] = {**activity.body["key_dates"], "scheduled_on": scheduled}
    if asked.assign_to is not UNSET:
        fields["assign_to"] = _assigned(world, asked.assign_to)
    if asked.name is not UNSET and asked.name is not None:
        fields["name"] = asked.name
    for name in ("description", "custom_fields"):
        if (value := getattr(asked, name)) is not UNSET:
            fields[name] = to_builtins(value)
    world.edit("activities", activity.id, **fields)
    if asked.state and asked.state != activity.body.get("state"):
        world.set_activity_state(activity.id, asked.state)
    return replied({"id": activity.id})


def delete_activity(call: Call) -> Reply:
    """Reference: Delete Activity."""
    call.world.delete("activities", record(call, "activities").id)
    return Reply(b"", 204)


def update_activity_tags(call: Call) -> Reply:
    """Reference: Update Activity Tags. The list sent is the whole new list."""
    asked = bodies.read(call.body, bodies.NewTags)
    activity = record(call, "activities")
    for tag_id in asked.tags:
        _known(call.world.catalogue.tags, "tag", tag_id)
    call.world.set_tags("activities", activity.id, asked.tags)
    return replied({"id": activity.id})


def _known(choices: Mapping[str, Json], kind: str, key: str | None) -> Json | None:
    """What `key` means, None for None. Raises NotFound."""
    if key is None:
        return None
    if key not in choices:
        raise NotFound(kind, key)
    return choices[key]


def _address(world: World, contact_id: str | None, address_id: str | None) -> Json | None:
    addresses = world.catalogue.addresses.get(contact_id or "", [])
    return _known({address["id"]: address for address in addresses}, "address", address_id)


def _billing_address(world: World, contact_id: str | None, address_id: str | None) -> Json | None:
    address = _address(world, contact_id, address_id)
    return address and billing_address(address)


def _activity_address(world: World, contact_id: str | None, address_id: str | None) -> Json | None:
    address = _address(world, contact_id, address_id)
    return address and activity_address(address)


def _links(world: World, links: Iterable[bodies.Link]) -> tuple[str | None, Json]:
    """The contact that is linked, by itself or through what belongs to it, and the rest."""
    contact_id: str | None = None
    owner: str | None = None
    shown: Json = {}
    for link in links:
        kind = link.type.lower()
        if kind == "contact":
            found = world.find_contact(link.id)
            if found is None:
                raise NotFound("contact", link.id)
            contact_id = found.id
        else:
            linked = world.catalogue.linked.get(link.id)
            if linked is None or linked.kind != kind:
                raise NotFound(kind, link.id)
            owner, shown[kind] = linked.contact_id, linked.body
    return contact_id or owner, shown


def _assigned(world: World, asked: bodies.Assignment | None) -> Json | None:
    if asked is None:
        return None
    return {
        "user": _known(world.catalogue.users, "user", asked.user_id),
        "team": _known(world.catalogue.teams, "team", asked.team_id),
    }


def _scheduled(asked: bodies.Scheduled) -> dict[str, Any]:
    if asked.to_date is not None and asked.to_date < asked.from_date:
        raise BadRequest("to_date is before from_date", "scheduled_on")
    return {"from_date": asked.from_date, "to_date": asked.to_date}
