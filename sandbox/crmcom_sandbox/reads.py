"""Handlers of the GET routes."""

from .collection import SORT_KEYS
from .errors import NotFound
from .filters import account_predicates, activity_selection, contact_selection
from .listing import Paging, page_of, read_paging, without_ignored
from .records import Kind, Record, view
from .routes import Call, Reply, replied


def list_contacts(call: Call) -> Reply:
    """Not in the reference; paging and filters as in its other lists."""
    return _list(call, "contacts")


def list_activities(call: Call) -> Reply:
    """Reference: List Activities."""
    return _list(call, "activities")


def list_contact_accounts(call: Call) -> Reply:
    """Reference: List Contact Accounts."""
    behaviour = call.sandbox.behaviour
    paging = read_paging(call.query, behaviour)
    rows = call.world.of_contact("accounts", contact(call).id)
    for predicate in account_predicates(without_ignored(call.query, behaviour, call.place)):
        rows = [account for account in rows if predicate(account)]
    rows.sort(key=SORT_KEYS[paging.sort])
    return _page(call, rows, "accounts", paging)


def get_contact(call: Call) -> Reply:
    """By id or by code. Not in the reference."""
    return _show(call, "contacts", contact(call))


def get_account(call: Call) -> Reply:
    """Reference: Get Account."""
    return _show(call, "accounts", record(call, "accounts"))


def get_activity(call: Call) -> Reply:
    """Reference: Get Activity."""
    return _show(call, "activities", record(call, "activities"))


def get_activity_tags(call: Call) -> Reply:
    """Reference: Get Activity Tags. No paging."""
    tags = record(call, "activities").body.get("tags") or []
    if not tags and call.sandbox.behaviour.empty_content == "null":
        tags = None
    return replied({"content": tags})


def contact(call: Call) -> Record:
    """The contact of the path. Raises NotFound."""
    found = call.world.find_contact(call.id)
    if found is None:
        raise NotFound("contact", call.id)
    return found


def record(call: Call, kind: Kind) -> Record:
    """The account or activity of the path. Raises NotFound."""
    found = call.world.collection(kind).get(call.id)
    if found is None:
        raise NotFound({"accounts": "account", "activities": "activity"}[kind], call.id)
    return found


def _list(call: Call, kind: Kind) -> Reply:
    behaviour = call.sandbox.behaviour
    query = without_ignored(call.query, behaviour, call.place)
    paging = read_paging(query, behaviour)
    selection = contact_selection(query) if kind == "contacts" else activity_selection(query)
    rows = selection.rows(call.world.collection(kind), paging.sort)
    return _page(call, rows, kind, paging)


def _page(call: Call, rows: list[Record], kind: Kind, paging: Paging) -> Reply:
    behaviour = call.sandbox.behaviour
    return Reply(page_of(rows, kind, paging, behaviour, call.place, request_number=call.number))


def _show(call: Call, kind: Kind, shown: Record) -> Reply:
    shape = call.sandbox.behaviour.shape
    whole = view(single=True, custom_fields=True, tags=True, shape=shape)
    return Reply(shown.render(kind, whole))
