"""The exact, unhurried way from a record's bytes to columns, for records that do not fit.

It takes what the fast path refuses (a number for an id, quoted booleans and amounts, an object
where a list belongs, a duplicate key, a lone surrogate, more digits than the column has) and
loses nothing: a value that fits its column in no way is kept beside it, as text.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation, localcontext
from typing import TYPE_CHECKING, Any

import msgspec

from crmcom.drift import OVERFLOW_COLUMN, Drift, Path, variant
from crmcom.protocol import MAX_EPOCH_S
from crmcom.records import Child, Field

if TYPE_CHECKING:
    from collections.abc import Callable

    from crmcom.records import Record, Sender

MIN_EPOCH_S = -62_135_596_800
"""The first second of the year 1: no timestamp of ours can be earlier."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC).replace(tzinfo=None)
_SCALE = Decimal("1e-9")
_MAX_DIGITS = 38


class Unreadable(ValueError):
    """The record cannot become a row; the text says why."""


class _Misfit(ValueError):
    pass


class _Rounded(ValueError):
    """An amount of more decimals than its column has, as doubles make them: `value` is rounded."""

    def __init__(self, value: Decimal) -> None:
        super().__init__(str(value))
        self.value = value


def parse(raw: bytes) -> dict[str, Any]:
    """The record, numbers as int or Decimal with every digit. Raises `Unreadable`."""
    try:
        row = _decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # msgspec is strict about surrogates and bytes that are not UTF-8; neither is a
        # reason to lose a record.
        try:
            row = json.loads(raw.decode("utf-8", "backslashreplace"), parse_float=Decimal)
        except (ValueError, RecursionError) as error:
            raise Unreadable(f"not JSON: {error}") from None
    if not isinstance(row, dict):
        raise Unreadable("not an object")
    return row


_decoder = msgspec.json.Decoder(float_hook=Decimal)


def as_text(value: object) -> str | None:
    if value is None:
        return None
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | Decimal):
        return str(value)
    return dump(value)


def storable(text: str) -> str:
    """A lone surrogate has no UTF-8 form, and PostgreSQL takes no NUL: both become escapes."""
    if not text.isascii():
        text = text.encode("utf-8", "backslashreplace").decode()
    return text.replace("\0", "\\u0000") if "\0" in text else text


def dump(value: object) -> str:
    """JSON text; numbers keep their digits."""
    try:
        return _encode(value)
    except TypeError:  # somewhere in it is a Decimal
        return _dump_exactly(value)


_encode = json.JSONEncoder(separators=(",", ":")).encode


def _dump_exactly(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(str(k))}:{dump(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(dump(v) for v in value) + "]"
    return str(value) if isinstance(value, Decimal) else _encode(value)


def as_flag(value: object) -> bool | None:
    if value is None or isinstance(value, bool):
        return value
    flag = {"true": True, "1": True, "false": False, "0": False}.get(str(value).strip().lower())
    if flag is None or isinstance(value, dict | list):
        raise _Misfit
    return flag


def as_decimal(value: object) -> Decimal | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | str | Decimal):
        raise _Misfit
    try:
        with localcontext() as context:
            context.prec = 200
            number = Decimal(value)
            if not number.is_finite():  # Python reads "nan" and "infinity", too
                raise _Misfit
            exact = number.quantize(_SCALE)
            is_exact, digits = exact == number, len(exact.as_tuple().digits)
    except InvalidOperation:
        raise _Misfit from None
    if digits > _MAX_DIGITS:
        raise _Misfit
    if not is_exact:
        raise _Rounded(exact)
    return exact


def as_time(value: object) -> datetime | None:
    """Epoch seconds to naive UTC. Raises `Unreadable` for an epoch beyond the year 9999."""
    number: Decimal | None
    if isinstance(value, int) and not isinstance(value, bool):
        if MIN_EPOCH_S <= value <= MAX_EPOCH_S:
            return _EPOCH + timedelta(seconds=value)
        number = Decimal(value)
    else:
        try:
            number = as_decimal(value)
        except _Rounded:
            raise _Misfit from None
    if number is None:
        return None
    if abs(number) > MAX_EPOCH_S:
        raise Unreadable("the epoch is not in seconds (milliseconds?)")
    if number != int(number) or number < MIN_EPOCH_S:
        raise _Misfit
    return _EPOCH + timedelta(seconds=int(number))


_CONVERT: dict[str, Callable[[object], Any]] = {
    "text": as_text,
    "json": as_text,
    "flag": as_flag,
    "decimal": as_decimal,
    "epoch": as_time,
}


@dataclass(slots=True)
class _Sink:
    """Where one record's values go: its columns, its children's cells, what has no column."""

    flat: dict[str, Any]
    children: dict[str, list[dict[str, Any]]]
    overflow: dict[str, Any]


class Reader:
    """Reads the records of one sender, field by field, learning what is new in `drift`."""

    def __init__(self, record: Record, sender: Sender, drift: Drift) -> None:
        self._sender: Sender = sender
        self._drift = drift
        self._children = {c.path: c for c in record.children}
        self._tree = _tree(record)
        self._known = {c.path: {f.path: f for f in c.fields} for c in record.children}

    def read(self, raw: bytes) -> tuple[dict[str, Any], dict[str, list[dict[str, Any]]]]:
        """One record's columns, and its children's cells by table. Raises `Unreadable`."""
        flat: dict[str, Any] = {}
        children: dict[str, list[dict[str, Any]]] = {}
        overflow: dict[str, Any] = {}
        self._walk(parse(raw), self._tree, (), _Sink(flat, children, overflow))
        if not flat.get("id"):
            raise Unreadable("no id")
        if overflow:
            flat[OVERFLOW_COLUMN] = dump(overflow)
        return flat, children

    def _walk(
        self,
        node: dict[str, Any],
        tree: dict[str, Any],
        path: Path,
        sink: _Sink,
    ) -> None:
        flat = sink.flat
        for key, value in node.items():
            below = tree.get(key)
            if value is None and below is not None:
                continue
            if isinstance(below, Field):
                # Most values are text, and a call for each costs more than all the rest.
                if below.kind == "text" and value.__class__ is str and value.isascii():
                    flat[below.column] = storable(value) if "\0" in value else value
                    continue
                put(flat, below.column, below.kind, value, where=below.path)
            elif isinstance(below, dict) and isinstance(value, dict):
                self._walk(value, below, (*path, key), sink)
            elif isinstance(below, Child) and _is_elements(value):
                sink.children[below.table] = self._elements(below, value)
            else:
                self._put_unknown((*path, key), value, sink)

    def _put_unknown(self, path: Path, value: object, sink: _Sink) -> None:
        where = ".".join(path)
        column = self._drift.learn(path, value, self._sender)
        if column is not None:
            put(sink.flat, column.name, column.kind, value, where=where)
        elif value is not None:
            sink.overflow[where] = value

    def _elements(self, child: Child, value: Any) -> list[dict[str, Any]]:
        known = self._known[child.path]
        found = []
        for element in value if isinstance(value, list) else [value]:
            cells: dict[str, Any] = {}
            rest: dict[str, Any] = {}
            for key, cell in element.items():
                f = known.get(key)
                if f is None:
                    rest[key] = cell
                else:
                    put(cells, f.column, f.kind, cell, where=f"{child.path}.{key}")
            if rest:
                cells[OVERFLOW_COLUMN] = dump(rest)
            found.append(cells)
        return found


def _tree(record: Record) -> dict[str, Any]:
    """The documented shape: nested dicts for objects, a `Field` or a `Child` at each leaf."""
    tree: dict[str, Any] = {c.path: c for c in record.children}
    for f in record.fields:
        *parents, leaf = f.path.split(".")
        node = tree
        for key in parents:
            node = node.setdefault(key, {})
        node[leaf] = f
    return tree


def _is_elements(value: object) -> bool:
    if isinstance(value, list):
        return all(isinstance(e, dict) for e in value)
    return isinstance(value, dict)


def put(flat: dict[str, Any], column: str, kind: str, value: object, *, where: str) -> None:
    """Store `value` under `column`, or as text beside it where it does not fit."""
    if value.__class__ is str and kind == "text":
        flat[column] = as_text(value)
        return
    try:
        flat[column] = _CONVERT[kind](value)
    except _Rounded as rounded:
        # The report shows the amount, and all of its digits stand beside it.
        flat[column], flat[variant(column)] = rounded.value, as_text(value)
    except _Misfit:
        flat[variant(column)] = as_text(value)
    except Unreadable as error:
        raise Unreadable(f"{where}: {error}") from None
