"""The filters of each list: a query string becomes predicates over records.

Reference: List Activities, List Contact Accounts. `GET /contacts` is not in the reference; it
knows `search_value` and `created_on[…]`. A filter that a list does not know is not looked at.
"""

import re
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from .collection import Collection, Sort
from .errors import BadRequest
from .records import Record, dig
from .world import ACCOUNT_STATES, ACTIVITY_STATES, contact_name

Query = dict[str, list[str]]
Predicate = Callable[[Record], bool]
Parser = Callable[[str, list[str]], Predicate]
Choice = TypeVar("Choice", bound=str)

OPERATORS = ("gt", "gte", "lt", "lte")


@dataclass(frozen=True)
class Selection:
    """What a query asks of a collection; `key` is equal for equal questions."""

    key: Hashable
    predicates: tuple[Predicate, ...]
    created_from: int | None = None
    created_before: int | None = None

    def rows(self, collection: Collection, sort: Sort) -> list[Record]:
        """The matching records, ascending; remembered until the collection changes."""
        key = (self.key, sort)
        known = collection.answers.get(key)
        if known is None:
            known = collection.remember(key, self._find(collection, sort))
        return known

    def _find(self, collection: Collection, sort: Sort) -> list[Record]:
        start, end = self.created_from, self.created_before
        if sort == "CREATED_DATE":
            rows = collection.created_between(start, end)
        else:
            rows = [
                record
                for record in collection.sorted_by(sort)
                if (start is None or record.created_on >= start)
                and (end is None or record.created_on < end)
            ]
        for predicate in self.predicates:
            rows = [record for record in rows if predicate(record)]
        return rows


def contact_selection(query: Query) -> Selection:
    return _selection(query, CONTACT_FILTERS, ranges=("created_on",))


def activity_selection(query: Query) -> Selection:
    return _selection(query, ACTIVITY_FILTERS, ranges=("created_on", "completed_on"))


def account_predicates(query: Query) -> tuple[Predicate, ...]:
    return _selection(query, ACCOUNT_FILTERS, ranges=()).predicates


def _selection(query: Query, filters: Mapping[str, Parser], ranges: tuple[str, ...]) -> Selection:
    used = {name: values for name, values in query.items() if name in filters}
    predicates = [filters[name](name, values) for name, values in used.items()]
    bounds: dict[str, tuple[int | None, int | None]] = {}
    for date in ranges:
        if date in query:
            raise BadRequest(f"{date} needs an operator, like {date}[gte]", date)
        bounds[date] = _bounds(query, date)
    start, end = bounds.get("completed_on", (None, None))
    if (start, end) != (None, None):
        predicates.append(_completed(start, end))
    key = (tuple(sorted((n, tuple(v)) for n, v in used.items())), tuple(bounds.items()))
    return Selection(key, tuple(predicates), *bounds.get("created_on", (None, None)))


def _bounds(query: Query, date: str) -> tuple[int | None, int | None]:
    """The half-open range of seconds that the operators leave."""
    starts, ends = [], []
    for operator in OPERATORS:
        name = f"{date}[{operator}]"
        for value in query.get(name, []):
            second = integer(name, value)
            if operator in ("gt", "gte"):
                starts.append(second + (operator == "gt"))
            else:
                ends.append(second + (operator == "lte"))
    return max(starts, default=None), min(ends, default=None)


def integer(name: str, value: str) -> int:
    # Not int() alone, which also takes 1_000, spaces and other scripts' digits.
    if not re.fullmatch(r"-?[0-9]{1,18}", value):
        raise BadRequest(f"{name} is not a whole number", name, value)
    return int(value)


def boolean(name: str, value: str) -> bool:
    if value.lower() not in ("true", "false"):
        raise BadRequest(f"{name} is neither true nor false", name, value)
    return value.lower() == "true"


def choice(name: str, value: str, choices: tuple[Choice, ...]) -> Choice:
    for known in choices:
        if value == known:
            return known
    raise BadRequest(f"{name} is none of {', '.join(choices)}", name, value)


def _completed(start: int | None, end: int | None) -> Predicate:
    def matches(record: Record) -> bool:
        date = record.completed_on
        if date is None:
            return False
        return (start is None or date >= start) and (end is None or date < end)

    return matches


def _csv(values: list[str]) -> list[str]:
    return [part for value in values for part in value.split(",") if part]


def _any_of(*path: str) -> Parser:
    def parse(_name: str, values: list[str]) -> Predicate:
        wanted = set(_csv(values))
        return lambda record: not wanted or dig(record.body, *path) in wanted

    return parse


def _states(known: tuple[str, ...]) -> Parser:
    def parse(name: str, values: list[str]) -> Predicate:
        wanted = {choice(name, value, known) for value in _csv(values)}
        return lambda record: not wanted or record.body.get("state") in wanted

    return parse


def _types(_name: str, values: list[str]) -> Predicate:
    """By identifier or by name: the reference does not say which."""
    wanted = set(_csv(values))

    def matches(record: Record) -> bool:
        kind = record.body.get("type")
        return dig(kind, "id") in wanted or dig(kind, "name") in wanted

    return matches if wanted else lambda _record: True


def _tag_ids(_name: str, values: list[str]) -> Predicate:
    wanted = set(_csv(values))
    return lambda record: (
        not wanted or any(dig(tag, "id") in wanted for tag in record.body.get("tags") or [])
    )


def _custom_field(name: str, values: list[str]) -> Predicate:
    wanted = []
    for value in values:
        key, separator, held = value.partition(";")
        if not separator:
            raise BadRequest(f"{name} is not of the form key;value", name, value)
        wanted.append({"key": key, "value": held})

    def matches(record: Record) -> bool:
        fields = record.body.get("custom_fields") or []
        return all(field in fields for field in wanted)

    return matches


def _search(*texts: Callable[[Record], object]) -> Parser:
    def parse(_name: str, values: list[str]) -> Predicate:
        wanted = " ".join(values).casefold()
        return lambda record: any(wanted in str(text(record) or "").casefold() for text in texts)

    return parse


def _primary(name: str, values: list[str]) -> Predicate:
    only = boolean(name, values[-1])
    return lambda record: not only or record.body.get("is_primary") is True


CONTACT_FILTERS: dict[str, Parser] = {
    "search_value": _search(
        lambda record: contact_name(record.body),
        lambda record: record.body.get("code"),
        lambda record: record.body.get("email"),
        lambda record: dig(record.body, "phone", "number"),
    ),
}
ACCOUNT_FILTERS: dict[str, Parser] = {"state": _states(ACCOUNT_STATES), "is_primary": _primary}
ACTIVITY_FILTERS: dict[str, Parser] = {
    "search_value": _search(lambda record: record.body.get("name")),
    "types": _types,
    "contact_id": _any_of("contact", "id"),
    "service_request_id": _any_of("service_request", "id"),
    "lead_id": _any_of("lead", "id"),
    "order_id": _any_of("order", "id"),
    "states": _states(ACTIVITY_STATES),
    "tag_ids": _tag_ids,
    "assign_to_user_id": _any_of("assign_to", "user", "id"),
    "assign_to_team_id": _any_of("assign_to", "team", "id"),
    "custom_fields": _custom_field,
}
