"""One page of a list: which records, and what the reply says about the pages around it."""

from random import Random
from typing import NamedTuple

from .behaviour import Behaviour, Place
from .collection import SORT_KEYS, Sort
from .errors import BadRequest
from .filters import OPERATORS, Query, boolean, choice, integer
from .records import Json, Kind, Record, View, encode, view

NOT_FILTERS = frozenset(
    ("page", "size", "sort", "order", "include_total", "include_tags", "include_custom_fields")
)


class Paging(NamedTuple):
    """What a list request asks besides its filters."""

    page: int
    size: int
    sort: Sort
    descending: bool
    include_total: bool
    view: View


def read_paging(query: Query, behaviour: Behaviour) -> Paging:
    """Raises BadRequest. Defaults: page 1, size 10, newest first (reference: List Activities)."""
    page = integer("page", _last(query, "page", "1"))
    size = integer("size", _last(query, "size", "10"))
    if page < 1:
        raise BadRequest("page starts at 1", "page", str(page))
    if size < 1:
        raise BadRequest("size starts at 1", "size", str(size))
    if behaviour.size_cap is not None:
        size = min(size, behaviour.size_cap)
    if behaviour.max_depth is not None and page * size > behaviour.max_depth:
        raise BadRequest(f"no list is deeper than {behaviour.max_depth}", "page", str(page))
    return Paging(
        page=page,
        size=size,
        sort=choice("sort", _last(query, "sort", "CREATED_DATE"), tuple(SORT_KEYS)),
        descending=choice("order", _last(query, "order", "DESC"), ("ASC", "DESC")) == "DESC",
        include_total=_flag(query, "include_total"),
        view=view(
            single=False,
            custom_fields=_flag(query, "include_custom_fields"),
            tags=_flag(query, "include_tags"),
            shape=behaviour.shape,
        ),
    )


def without_ignored(query: Query, behaviour: Behaviour, place: Place) -> Query:
    """The query as a server sees it that does not know some of its filters."""
    ignored = place.find(behaviour.ignored_filters)
    if not ignored:
        return query
    gone = set(ignored) | {f"{name}[{operator}]" for name in ignored for operator in OPERATORS}
    if "*" in ignored:
        gone |= query.keys() - NOT_FILTERS
    return {name: values for name, values in query.items() if name not in gone}


def page_of(
    rows: list[Record],
    kind: Kind,
    paging: Paging,
    behaviour: Behaviour,
    place: Place,
    *,
    request_number: int,
) -> bytes:
    """The reply to one list request, whose matching records are `rows`, ascending."""
    count = len(rows)
    page = paging.page
    again = place.is_in(behaviour.repeated_page)
    endless = count > 0 and place.is_in(behaviour.endless)
    if again:
        page = 1
    elif endless:
        page = 1 + (page - 1) % -(-count // paging.size)
    first = min((page - 1) * paging.size, count)
    last = min(first + paging.size, count)
    low, high = (count - last, count - first) if paging.descending else (first, last)
    if behaviour.shuffle_ties and paging.sort != "NAME":
        chance = Random(f"{behaviour.shuffle_seed}/{request_number}")  # noqa: S311
        shown = _shuffled_ties(rows, low, high, paging.sort, chance)
    else:
        shown = rows[low:high]
    if paging.descending:
        shown = shown[::-1]
    content = b",".join([record.render(kind, paging.view) for record in shown])
    content = b"null" if not shown and behaviour.empty_content == "null" else b"[%b]" % content
    told = _paging_told(paging, behaviour, count, len(shown), more=again or endless or last < count)
    return b'{"content":%b,"paging":%b}' % (content, encode(told))


def _paging_told(
    paging: Paging, behaviour: Behaviour, count: int, shown: int, *, more: bool
) -> Json:
    told: Json = {
        "page": paging.page,
        "size": shown if behaviour.paging_size == "rows" else paging.size,
    }
    if behaviour.total != "absent":
        total = count + behaviour.total_error
        if behaviour.total_cap is not None:
            total = min(total, behaviour.total_cap)
        asked = behaviour.total == "always" or paging.include_total
        told["total"] = total if asked and behaviour.total != "null" else None
    if behaviour.has_more:
        told["has_more"] = more
    return told


def _shuffled_ties(
    rows: list[Record], low: int, high: int, sort: Sort, chance: Random
) -> list[Record]:
    """rows[low:high] of a list in which the records of each second stand in a random order."""

    def second(index: int) -> object:
        return SORT_KEYS[sort](rows[index])[0]

    start, end = low, high
    while 0 < start < end and second(start - 1) == second(start):
        start -= 1
    while start < end < len(rows) and second(end) == second(end - 1):
        end += 1
    shuffled: list[Record] = []
    at = start
    while at < end:
        tie = at + 1
        while tie < end and second(tie) == second(at):
            tie += 1
        shuffled += chance.sample(rows[at:tie], tie - at)
        at = tie
    return shuffled[low - start : high - start]


def _last(query: Query, name: str, default: str) -> str:
    return query.get(name, (default,))[-1]


def _flag(query: Query, name: str) -> bool:
    return name in query and boolean(name, _last(query, name, "false"))
