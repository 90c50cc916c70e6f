"""One row for each route of the API that we read.

`name` is the reference's heading, so that an error or a ledger row can be looked up there.
"""

from __future__ import annotations

from dataclasses import dataclass

from crmcom.records import ACCOUNT, ACTIVITY, CONTACT, Record, Sender


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A route. `path` may hold `{id}`; `params` go with every request.

    `filters` are the range filters that the reference documents for it; a listing trusts one
    only after the probe in `listing.py` has shown that this server honours it.
    """

    name: str
    path: str
    record: Record
    sender: Sender
    params: tuple[tuple[str, str], ...] = ()
    filters: frozenset[str] = frozenset()


_WITH_CHILDREN = (("include_custom_fields", "true"), ("include_tags", "true"))

# Not in the reference; paging and filters as in the other lists.
LIST_CONTACTS = Endpoint(
    "GET /contacts", "/contacts", CONTACT, "list", _WITH_CHILDREN, frozenset({"created_on"})
)
GET_CONTACT = Endpoint("GET /contacts/{id}", "/contacts/{id}", CONTACT, "single", _WITH_CHILDREN)

# Reference: List Contact Accounts. There is no list of all accounts.
LIST_CONTACT_ACCOUNTS = Endpoint(
    "GET /contacts/{id}/accounts", "/contacts/{id}/accounts", ACCOUNT, "list"
)
# Reference: Get Account. The only one with `balance` and `overdue_amount`.
GET_ACCOUNT = Endpoint("GET /accounts/{id}", "/accounts/{id}", ACCOUNT, "single")

# Reference: List Activities; the slash at the end is the reference's. A list's other spelling is
# tried by `client.py` where this one is not found.
LIST_ACTIVITIES = Endpoint(
    "GET /activities/",
    "/activities/",
    ACTIVITY,
    "list",
    _WITH_CHILDREN,
    frozenset({"created_on", "completed_on"}),
)
# Reference: Get Activity. The only one with `states`.
GET_ACTIVITY = Endpoint(
    "GET /activities/{id}",
    "/activities/{id}",
    ACTIVITY,
    "single",
    (("include_custom_fields", "true"),),
)
# Reference: Get Activity Tags, which the single reply lacks.
GET_ACTIVITY_TAGS = Endpoint("GET /activities/{id}/tags", "/activities/{id}/tags", ACTIVITY, "list")
