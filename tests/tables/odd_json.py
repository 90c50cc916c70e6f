"""JSON records as no API should send them, as hypothesis strategies: text on the wire, so that
numbers keep their digits, keys may repeat and lone surrogates can be written."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

if TYPE_CHECKING:
    from crmcom.records import Record, Sender


class Number(str):
    """A JSON number, digit for digit."""

    __slots__ = ()


class Pairs(list[tuple[str, Any]]):
    """A JSON object that may name a key twice."""


def write(value: Any) -> str:
    if isinstance(value, Number):
        return str(value)
    if isinstance(value, dict | Pairs):
        pairs = value.items() if isinstance(value, dict) else value
        return "{" + ",".join(f"{json.dumps(k)}:{write(v)}" for k, v in pairs) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(write, value)) + "]"
    return json.dumps(value)


def raw(value: Any) -> bytes:
    return write(value).encode()


texts = st.text(st.characters(codec=None, exclude_categories=()), max_size=12) | st.sampled_from(
    [
        "",
        " ",
        "true",
        "12.50",
        "NaN",
        "1_000",
        "2024-01-01T00:00:00Z",
        "\x00",
        "\ud800",
        "日本",
        "a" * 70,
    ]
)
numbers = st.one_of(
    st.integers(-(10**40), 10**40).map(Number),
    st.decimals(allow_nan=False, allow_infinity=False, places=3).map(lambda n: Number(f"{n:f}")),
    st.sampled_from(
        [
            *("0", "-0", "0.1", "1e3", "1E-2", "1.0", "-1.50", "1234567.005", "1e400", "1e-400"),
            *("9999999999999999999999999999999999999999", "0.1234567890123", "1768000000000"),
            *("-62135596800", "-62135596801", "253402300799", "253402300800", "-1", "2.75"),
        ]
    ).map(Number),
)
scalars = st.none() | st.booleans() | numbers | texts
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
keys = texts | st.sampled_from(
    [
        *("Name", "name", "na me", "NAME", "_synced_at", "_deleted_at", "_dlt_id", "_gone"),
        *("_dlt_load_id", "contact_id", "id", "ID", "position", "a.b", "a__b", "select", "1st"),
        *("ключ", "日本", "phone__number", "name__v_text", "balance", "_unknown_fields", "x" * 90),
    ]
)


def nested(path: str, value: Any) -> dict[str, Any]:
    for step in reversed(path.split(".")):
        value = {step: value}
    return value


def merged(parts: list[dict[str, Any]]) -> dict[str, Any]:
    whole: dict[str, Any] = {}
    for part in parts:
        for key, value in part.items():
            old = whole.get(key)
            both = isinstance(old, dict) and isinstance(value, dict)
            whole[key] = merged([old, value]) if both else value  # type: ignore[list-item]
    return whole


def records(record: Record, sender: Sender) -> st.SearchStrategy[list[dict[str, Any]]]:
    """Some records with ids of their own (or none that can be read), known fields with values
    that fit or do not, lists that are none, and fields that nobody has heard of."""
    known = st.sampled_from([f.path for f in record.fields if f.path != "id"])
    fitting = st.sampled_from([f for f in record.fields if f.path != "id"]).flatmap(
        lambda f: st.builds(nested, st.just(f.path), FITTING[f.kind])
    )
    odd = st.builds(nested, known, values)
    unknown = st.dictionaries(keys, values, max_size=3)
    elements = st.fixed_dictionaries({}, optional={"key": scalars, "value": values, "id": texts})
    lists = st.builds(
        lambda path, found: {path: found},
        st.sampled_from([c.path for c in record.children] or ["things"]),
        st.lists(elements, max_size=3) | elements | values,
    )
    body = st.lists(fitting | fitting | odd | unknown | lists, max_size=8).map(merged)
    ids = st.just(None) | st.none() | numbers | texts | values

    def numbered(found: list[tuple[bool, Any, dict[str, Any]]]) -> list[dict[str, Any]]:
        return [
            {**body, "id": odd_id if is_odd else f"id-{n}"}
            for n, (is_odd, odd_id, body) in enumerate(found)
        ]

    some = st.tuples(st.sampled_from([False] * 9 + [True]), ids, body)
    return st.lists(some, max_size=6).map(numbered)


FITTING: dict[str, st.SearchStrategy[Any]] = {
    "text": st.none() | st.text(max_size=5),
    "flag": st.none() | st.booleans() | st.sampled_from(["true", "false"]),
    "decimal": st.none()
    | st.decimals(min_value=-(10**12), max_value=10**12, places=3).map(lambda n: Number(f"{n:f}")),
    "epoch": st.none() | st.integers(-(10**9), 10**10).map(Number),
}


def as_decimal(text: str) -> Decimal:
    return Decimal(text)
