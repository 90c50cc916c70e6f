"""Fields that the reference does not name: which column each gets, and of which type.

Both are settled when a field is first seen and remembered between runs, because a warehouse
column can change neither later: dlt stored 2.75 as 3 in a column first seen as integers, and
two fields whose names normalise to one column fail a load (measured with dlt 1.31).
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from crmcom.records import Sender

Path = tuple[str, ...]
DriftKind = Literal["text", "flag", "decimal", "json"]

MAX_UNKNOWN_COLUMNS = 200
"""Per table. A server that sends ids as keys would otherwise add columns without end."""

MAX_NAME = 54
"""PostgreSQL takes 63 characters, and the name of a `variant` is 8 longer."""

OVERFLOW_COLUMN = "_unknown_fields"
"""JSON object of the fields that came after `MAX_UNKNOWN_COLUMNS`."""


def variant(column: str) -> str:
    """The text column that keeps a value which does not fit `column`'s type."""
    return f"{column}__v_text"


@dataclass(slots=True)
class Column:
    name: str
    kind: DriftKind
    senders: set[Sender]


@dataclass(slots=True)
class Drift:
    """The unknown fields of one table. `added` are those first seen by this object."""

    reserved: frozenset[str]
    columns: dict[Path, Column] = field(default_factory=dict)
    added: list[str] = field(default_factory=list)
    is_text: Callable[[Path], bool] = lambda _: False
    """Whether the field at a path gets a text column, whatever comes first."""

    @classmethod
    def recall(
        cls,
        reserved: frozenset[str],
        memory: Mapping[str, Any],
        is_text: Callable[[Path], bool] = lambda _: False,
    ) -> Drift:
        """Read what `remember` wrote."""
        columns = {
            tuple(json.loads(path)): Column(name, kind, set(senders))
            for path, (name, kind, senders) in memory.items()
        }
        return cls(reserved, columns, is_text=is_text)

    def remember(self) -> dict[str, Any]:
        """A JSON-able form, small: one entry a column."""
        return {
            _as_text(path): [c.name, c.kind, sorted(c.senders)]
            for path, c in sorted(self.columns.items())
        }

    def sent_by(self, sender: Sender) -> frozenset[str]:
        """The columns, variants included, that `sender` is known to answer for."""
        names = [c.name for c in self.columns.values() if sender in c.senders]
        return frozenset(names) | {variant(n) for n in names}

    def learn(self, path: Path, value: object, sender: Sender) -> Column | None:
        """The column for the field at `path`; None for a null never seen otherwise, or when
        the table is full (then the value belongs in `OVERFLOW_COLUMN`)."""
        column = self.columns.get(path)
        if column is None:
            if value is None or len(self.columns) >= MAX_UNKNOWN_COLUMNS:
                return None
            kind = "text" if self.is_text(path) else _kind(value)
            column = Column(self._name(path), kind, set())
            self.columns[path] = column
            self.added.append(column.name)
        column.senders.add(sender)
        return column

    def _name(self, path: Path) -> str:
        plain = "__".join(snake(key) for key in path)
        taken = self.reserved | {c.name for c in self.columns.values()}
        lossy = any(not _is_latin(key) for key in path) or not plain.strip("_x0123456789")
        if lossy or plain in taken or variant(plain) in taken or len(plain) > MAX_NAME:
            # `ключ` would become `x`, and `Name` beside `name` one column.
            digest = hashlib.blake2s(_as_text(path).encode(), digest_size=4).hexdigest()
            return f"{plain[: MAX_NAME - 9].rstrip('_') or 'field'}_{digest}"
        return plain


def _as_text(path: Path) -> str:
    """ASCII, whatever the keys hold: dots, control characters, halves of a character."""
    return json.dumps(path)


def _kind(value: object) -> DriftKind:
    if isinstance(value, bool):
        return "flag"
    if isinstance(value, str):
        return "text"
    return "json" if isinstance(value, dict | list) else "decimal"


def _is_latin(key: str) -> bool:
    return bool(re.search(r"[A-Za-z]", key)) and key.isascii()


def snake(key: str) -> str:
    """A key as part of a column's name, which dlt's own normaliser leaves as it is."""
    words = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", key)
    name = re.sub(r"_+", "_", re.sub(r"[^a-z0-9]", "_", words.lower())).strip("_")
    return f"_{name}" if name[:1].isdigit() else name or "x"
