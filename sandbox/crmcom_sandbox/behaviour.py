"""How a server behaves: the two known dialects of the API, and the switches tests turn.

`REFERENCE` answers as the API reference says, `LIVE` as the API is known to answer in production.
Every other behaviour is one of these with switches changed: `LIVE.but(total="absent")`.

A *place* names what a switch applies to: a route as the reference writes it
(`"GET /accounts/{id}"`), one record (`"GET /accounts/4dc0809f-…"`), or `"*"` for everything.
"""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, Self, TypeVar

import msgspec

Value = TypeVar("Value")


class RateLimit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """At most `requests` in any `per_s` seconds of real time; what is over gets 429."""

    requests: int
    per_s: float = 1.0
    retry_after: Literal["seconds", "date", "none"] = "seconds"


class Shape(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What differs between dialects inside a record."""

    single_tag: Literal["object", "list"]
    """An activity with exactly one tag carries it bare, or as a list of one."""
    empty_tags: Literal["list", "null", "absent"]
    newest_state_first: bool
    """The order of an activity's `states`."""
    email_field: Literal["email", "email_address"]
    contact_dates: Literal["absent", "created_on", "key_dates"]
    """Where a contact carries its created date, if at all."""


class Behaviour(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every switch of a server. Durations are in seconds."""

    # paging
    total: Literal["always", "on_request", "null", "absent"] = "always"
    """`on_request`: null unless `include_total=true`. `null` and `absent`: even if asked."""
    total_cap: int | None = None
    """Larger totals are reported as this number."""
    total_error: int = 0
    """Added to every total that is reported."""
    has_more: bool = False
    size_cap: int | None = None
    """Larger sizes are silently reduced to this one."""
    paging_size: Literal["asked", "rows"] = "asked"
    """`rows`: the number of records on this page, 0 past the end."""
    empty_content: Literal["list", "null"] = "list"
    max_depth: int | None = None
    """Pages that reach beyond this many records get 400."""

    # records
    single_tag: Literal["object", "list"] = "object"
    empty_tags: Literal["list", "null", "absent"] = "list"
    newest_state_first: bool = False
    email_field: Literal["email", "email_address"] = "email"
    contact_dates: Literal["absent", "created_on", "key_dates"] = "absent"

    # untruths
    ignored_filters: Mapping[str, tuple[str, ...]] = {}
    """Place to filter names (`created_on`, `states`, …; `*` is all of them), and `sort` and
    `order`, which are ignored only where they are named."""
    repeated_page: tuple[str, ...] = ()
    """Places of lists that serve their first page whatever page is asked."""
    endless: tuple[str, ...] = ()
    """Places of lists that begin anew after their last page, for ever."""
    shuffle_ties: bool = False
    """Records of one second change places from request to request."""
    shuffle_seed: int = 0

    # refusals
    forbidden: tuple[str, ...] = ()
    """Places that answer 403."""
    broken: tuple[str, ...] = ()
    """Places that answer 500 for ever."""
    missing: tuple[str, ...] = ()
    """Places that answer as if there were no such record."""
    misrouted: tuple[str, ...] = ()
    """Places that answer 404 with a gateway's page."""
    rate_limit: RateLimit | None = None
    latency_s: Mapping[str, float] = {}
    """Place to seconds that each answer takes. The most precise place counts."""

    # credentials and clock
    mode: Literal["live", "test"] = "test"
    """What the login says about the key."""
    token_lifetime_s: int = 3600
    expired_body: Literal["empty", "null"] = "empty"
    """The body of the 401 for an expired token."""
    clock_offset_s: float = 0.0
    """How far the `Date` header is ahead of the world's clock."""
    date_header: bool = True

    def but(self, **switches: Any) -> Self:
        """This behaviour with some switches changed, checked and converted as from JSON."""
        return msgspec.convert({**msgspec.structs.asdict(self), **switches}, type(self))

    @property
    def shape(self) -> Shape:
        return Shape(
            single_tag=self.single_tag,
            empty_tags=self.empty_tags,
            newest_state_first=self.newest_state_first,
            email_field=self.email_field,
            contact_dates=self.contact_dates,
        )


REFERENCE = Behaviour()

LIVE = Behaviour(
    total="on_request",
    total_cap=10_000,
    has_more=True,
    size_cap=100,
    paging_size="rows",
    empty_content="null",
    single_tag="list",
    email_field="email_address",
    mode="live",
    expired_body="null",
)

BEHAVIOURS = {"reference": REFERENCE, "live": LIVE}


class Place(NamedTuple):
    """Where one request went, to be looked up in the switches: the precise name counts first."""

    exact: str
    route: str

    def is_in(self, places: tuple[str, ...]) -> bool:
        return any(name in places for name in (*self, "*")) if places else False

    def find(self, switch: Mapping[str, Value]) -> Value | None:
        return next((switch[name] for name in (*self, "*") if name in switch), None)
