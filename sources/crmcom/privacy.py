"""Columns that are not to be loaded as they are: `hash` keeps who is the same, `drop` nothing.

Done to what has just been read, before anything else sees it: what is carried over from the
warehouse has passed here once. A hash is an HMAC-SHA256 under `privacy_key`: without the key
nobody can try out phone numbers or addresses.

A rule names a column, in one table or in whichever has it, and holds for what lies below it. What
the reference does not name is searched more strictly: there, and inside of JSON, a rule holds for
every field of its name, however deep.
"""

from __future__ import annotations

import difflib
import hashlib
import hmac
import json
import re
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from crmcom.drift import OVERFLOW_COLUMN, Path, snake, variant
from crmcom.errors import SettingsError
from crmcom.records import ACCOUNT, ACTIVITY, CONTACT
from crmcom.schema import DELETED, RAW_TABLES, SYNCED, TEXT
from crmcom.settings import setting
from crmcom.tables import GONE, Reject, Shaped
from crmcom.tolerant import as_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from crmcom.drift import Drift
    from crmcom.settings import Settings

_RECORDS = {r.table: r for r in (CONTACT, ACCOUNT, ACTIVITY)}
_CHILDREN = {c.table: (r.table, c.path) for r in _RECORDS.values() for c in r.children}
_COPIES = {"account_observations": "accounts", "activity_versions": "activities"}
_KEYS = {k for t in RAW_TABLES.values() for k in t.primary_key} | {"contact_id", "contact__id"}
_FIXED = _KEYS | {"state", SYNCED.name, DELETED.name, GONE}
"""What holds the tables together, and what tells a run what to read again."""
_NEAR = 0.8
_HASH = re.compile("[0-9a-f]{64}")
_REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class Rule:
    """`table`: None for whichever has the column. `path`: the column's name, part by part."""

    name: str
    table: str | None
    path: Path
    how: Literal["hash", "drop"]

    @property
    def column(self) -> str:
        return "__".join(self.path)


class Privacy:
    """What `privacy` asks for. Raises `SettingsError` for what cannot be hidden.

    `stored`: for rows of the warehouse, some of which may be hashed already. What looks like a
    hash is then left as it is.
    """

    def __init__(self, settings: Settings, *, stored: bool = False) -> None:
        self._key = settings.hash_key
        self._stored = stored
        rules: dict[tuple[str | None, Path], Rule] = {}
        for name, how in settings.privacy.items():
            rule = _rule(name, how)
            if rules.setdefault((rule.table, rule.path), rule).how != how:
                raise SettingsError(f"{setting('privacy')} asks to hash {name} and to drop it")
        # The most exact first.
        self._rules = sorted(
            rules.values(), key=lambda r: (r.table is not None, len(r.path)), reverse=True
        )
        self._memo: dict[tuple[str, Path, bool], Rule | None] = {}

    def __bool__(self) -> bool:
        return bool(self._rules)

    # --- what is read ---

    def of(self, table: str, shaped: Shaped, drift: Drift) -> Shaped:
        """What was read of a record, its children and rejects included."""
        if not self._rules:
            return shaped
        return Shaped(
            self.veil(table, shaped.rows, drift),
            {child: self.veil(child, rows) for child, rows in shaped.children.items()},
            self.rejects(shaped.rejects),
        )

    def rejects(self, found: tuple[Reject, ...]) -> tuple[Reject, ...]:
        """Without payloads: what cannot be read cannot be searched for what is to be hidden."""
        if not self._rules:
            return found
        return tuple(Reject(r.record_id, r.reason, "") for r in found)

    def veil(self, table: str, rows: pa.Table, drift: Drift | None = None) -> pa.Table:
        """Rows of a raw table as they may be stored. A column that the reference does not name
        and that is dropped is not there at all."""
        paths = _paths(drift)
        known = set(RAW_TABLES[table].schema.names)
        columns: dict[str, Any] = {}
        for name in rows.column_names:
            column = rows.column(name).combine_chunks()
            plain = name.removesuffix(variant(""))
            path = paths.get(plain, _path(plain.split("__")))
            rule = None if name in _FIXED else self._found(table, path, plain not in known)
            if rule is None and plain in paths:  # by the name that it got, with its digest
                rule = self._found(table, _path(plain.split("__")), False)  # noqa: FBT003
            if rule is None:
                is_text = column.type == TEXT and name not in _FIXED
                kept = self._inside(table, name, path, column) if is_text else column
                columns[name] = kept
            elif rule.how == "drop":
                if name in known:
                    columns[name] = pa.nulls(len(rows), column.type)
            elif column.type == TEXT:
                hashed = self._hashed(column)
                columns[name] = pc.coalesce(hashed, columns[name]) if name in columns else hashed
            else:
                # A column keeps the type that it has in the warehouse.
                columns[name] = pa.nulls(len(rows), column.type)
                beside, texts = variant(name), self._hashed(_texts(column))
                columns[beside] = (
                    pc.coalesce(columns[beside], texts) if beside in columns else texts
                )
        return pa.table(columns) if columns else rows

    def is_hashed(self, table: str, path: Path) -> bool:
        """Whether a field that the reference does not name is to be hashed, and so is text."""
        rule = self._found(table, _path(path), True)  # noqa: FBT003
        return rule is not None and rule.how == "hash"

    def is_dropped(self, table: str, drift: Drift, column: str) -> bool:
        rule = self._found(table, _paths(drift)[column], True)  # noqa: FBT003
        return rule is not None and rule.how == "drop"

    def digest(self, raw: bytes) -> str:
        """Tells whether a record is as it was, to whoever has the key, if there is one."""
        key = hashlib.sha256(self._key.reveal().encode()).digest() if self._key else b""
        return hashlib.blake2s(raw, digest_size=8, key=key).hexdigest()

    # --- between runs ---

    @property
    def columns(self) -> dict[str, str]:
        """The rules in one spelling."""
        return {f"{r.table}.{r.column}" if r.table else r.column: r.how for r in self._rules}

    def remember(self, before: Mapping[str, Any]) -> dict[str, Any]:
        """What the dataset's state holds of this: the rules, and by what to know the key."""
        key = self._hash("crmcom privacy_key")[:16] if self._key else before.get("key")
        return {"columns": self.columns, "key": key}

    def is_new(self, remembered: Mapping[str, Any]) -> bool:
        """Whether a rule holds that the rows loaded before it do not follow."""
        before = remembered.get("columns", {})
        return any(before.get(name) != how for name, how in self.columns.items())

    def ended(self, remembered: Iterable[Mapping[str, Any]]) -> list[str]:
        """A notice for each rule that held before and is gone."""
        before = {name for r in remembered for name in r.get("columns", {})}
        return [
            f"privacy no longer names {name}: what was hashed or dropped comes back as the API "
            "sends its records again, and not before"
            for name in sorted(before - self.columns.keys())
        ]

    def same_key(self, remembered: Iterable[Mapping[str, Any]]) -> None:
        """Raises `SettingsError` where the dataset's hashes were made with another key."""
        if self._key is None:
            return
        mine = self.remember({})["key"]
        if any(r.get("key") not in (None, mine) for r in remembered):
            raise SettingsError(
                f"{setting('privacy_key')} is not the key that this dataset's hashes were made "
                "with, so equal values would no longer have equal hashes. Set the former key; "
                "for a new one, name another --dataset or --database, and it is loaded anew"
            )

    def unknown(self, drifts: Sequence[Drift]) -> list[str]:
        """A notice for each rule whose column neither the reference nor any of `drifts` has."""
        paths = [path for drift in drifts for path in _paths(drift).values()]
        paths += [_path(name.split("__")) for drift in drifts for name in _paths(drift)]
        had = {p[i:j] for p in paths for i in range(len(p)) for j in range(i + 1, len(p) + 1)}
        return [
            f"privacy names {r.name}, which no table had before this run: nothing is hidden by it "
            f"until the API sends such a field{_meant(r)}"
            for r in self._rules
            if not _documented(r) and r.path not in had
        ]

    # --- how ---

    def _found(self, table: str, path: Path, anywhere: bool) -> Rule | None:  # noqa: FBT001
        asked = (table, path, anywhere)
        if asked not in self._memo:
            if len(self._memo) >= _REMEMBERED:  # ids as keys would make it grow for ever
                self._memo.clear()
            self._memo[asked] = self._search(*asked)
        return self._memo[asked]

    def _search(self, table: str, path: Path, anywhere: bool) -> Rule | None:  # noqa: FBT001
        """The rule for what is at `path`; `anywhere`: also for a name in the middle of it."""
        for there, part in _readings(table, path):
            for rule in self._rules:
                if rule.table not in (None, there):
                    continue
                length = len(rule.path)
                places = range(len(part) - length + 1)[: None if anywhere else 1]
                if any(part[at : at + length] == rule.path for at in places):
                    return rule
        return None

    def _above(self, table: str, path: Path) -> Rule | None:
        """The rule for something below `path`, where a plain value has come in its place."""
        for there, part in _readings(table, path):
            for rule in self._rules:
                below = len(rule.path) > len(part) and rule.path[: len(part)] == part
                named = rule.table == there or (
                    rule.table is None and (part or _has(there, rule.path))
                )
                if below and named:
                    return rule
        return None

    def _inside(self, table: str, name: str, path: Path, column: Any) -> Any:
        """A text column whose texts may be JSON."""
        above = self._above(table, path)
        if above is not None and name not in RAW_TABLES[table].schema.names:
            texts = column.to_pylist()
        elif pc.any(pc.match_substring_regex(column, r"^[\[{]")).as_py():
            texts, above = column.to_pylist(), None
        else:
            return column
        path = () if name == OVERFLOW_COLUMN else path
        veiled = {t: self._text(table, path, t, above) for t in set(texts) if t}
        return pa.array([veiled.get(t, t) for t in texts], TEXT)

    def _text(self, table: str, path: Path, text: str, above: Rule | None) -> str | None:
        value = _parsed(text)
        if value is None:
            return text if above is None else as_text(self._hide(above, text))
        try:
            found = self._walk(table, path, value)
        except RecursionError:
            return None
        return text if found == value else as_text(found)

    def _walk(self, table: str, path: Path, value: Any) -> Any:
        rule = self._found(table, path, True) if path else None  # noqa: FBT003
        if rule is None and not isinstance(value, dict | list) and path:
            rule = self._above(table, path)
        if rule is not None:
            return self._hide(rule, value)
        if isinstance(value, list):
            return [self._walk(table, path, v) for v in value]
        if not isinstance(value, dict):
            return value
        found = {}
        for key, below in value.items():
            # What has no column stands under its whole path.
            parts = (key,) if path else key.split(".")
            at = (*path, *_path(parts))
            rule = self._found(table, at, True)  # noqa: FBT003
            if rule is None or rule.how == "hash":
                found[key] = self._walk(table, at, below)
        return found

    def _hide(self, rule: Rule, value: Any) -> str | None:
        text = as_text(value)
        return None if rule.how == "drop" or text is None else self._hash(text) if text else text

    def _hashed(self, column: Any) -> Any:
        distinct = {v: self._hash(v) for v in column.unique().to_pylist() if v}
        return pa.array([distinct.get(v, v) for v in column.to_pylist()], TEXT)

    def _hash(self, value: str) -> str:
        if self._stored and _HASH.fullmatch(value):
            return value
        assert self._key is not None  # noqa: S101  # the settings insist on it
        return hmac.digest(self._key.reveal().encode(), value.encode(), "sha256").hex()


def _rule(name: str, how: Any) -> Rule:
    """A rule as the user wrote it. Raises `SettingsError`."""
    head, dot, rest = name.partition(".")
    table = snake(head) if dot and head != "_rejects" else head if dot else None
    if table == "_rejects" and rest == "payload" and how == "drop":
        return Rule(name, table, ("payload",), how)
    if table in _COPIES:
        raise SettingsError(
            f"{setting('privacy')} names {name}: what {table} holds is a copy of {_COPIES[table]}, "
            f"so name the column there: {_COPIES[table]}.{rest}"
        )
    if table is not None and table not in {*_RECORDS, *_CHILDREN}:
        near = difflib.get_close_matches(table, [*_RECORDS, *_CHILDREN], 1, _NEAR)
        if near:
            raise SettingsError(
                f"{setting('privacy')} names {name}, and there is no table {head}: "
                f"did you mean {near[0]}.{rest}?"
            )
        table, rest = None, name  # `phone.number`, as the API writes it
    parts = re.split(r"\.|__(?!v_text$)", (rest if dot else name).removesuffix(variant("")))
    path = _path(p for p in parts if p)
    if not path:
        raise SettingsError(f"{setting('privacy')} names {name!r}, which is no column")
    rule = Rule(name, table, path, how)
    _check(rule)
    return rule


def _check(rule: Rule) -> None:
    covered = {c for t, c in _documented(rule)}
    held = {c for c in (*covered, rule.column) if c in _FIXED}
    if held:
        raise SettingsError(
            f"{setting('privacy')} names {rule.name}, and {min(held)} holds the tables together: "
            "name other columns, one by one"
        )
    other = {
        c
        for t, c in _documented(rule)
        if rule.how == "hash" and RAW_TABLES[t].schema.field(c).type != TEXT
    }
    if other:
        raise SettingsError(
            f"{setting('privacy')}: {min(other)} is no text, so it can only be dropped"
        )
    if not _documented(rule) and rule.table is None and (near := _nearest(rule)):
        raise SettingsError(
            f"{setting('privacy')} names {rule.name}, which is no column: did you mean {near}? If "
            "the API sends such a field, write it with its table, like "
            f"contacts.{rule.column}"
        )


def _documented(rule: Rule) -> list[tuple[str, str]]:
    """The tables and columns of the reference that a rule covers."""
    tables = [*_RECORDS, *_CHILDREN] if rule.table is None else [rule.table]
    if rule.table == "_rejects":
        return [("_rejects", "payload")]
    return [
        (t, c)
        for t in tables
        for c in RAW_TABLES[t].schema.names
        if _path(c.split("__"))[: len(rule.path)] == rule.path
    ]


def _has(table: str, path: Path) -> bool:
    return bool(_documented(Rule("", table, path, "drop")))


def _nearest(rule: Rule) -> str | None:
    tables = [*_RECORDS, *_CHILDREN] if rule.table is None else [rule.table]
    names = {c for t in tables for c in RAW_TABLES[t].schema.names} - _FIXED
    return next(iter(difflib.get_close_matches(rule.column, sorted(names), 1, _NEAR)), None)


def _meant(rule: Rule) -> str:
    near = _nearest(rule)
    return f"; did you mean {near}?" if near else ""


def _readings(table: str, path: Path) -> Iterator[tuple[str, Path]]:
    """Where a field belongs: what stands in a parent's row in place of its children, and what an
    activity tells of its contact, belongs to their tables as well."""
    yield table, path
    for child, (parent, field) in _CHILDREN.items():
        if parent == table and path[:1] == (field,):
            yield child, path[1:]
    if table == ACTIVITY.table and path[:1] == ("contact",):
        yield CONTACT.table, path[1:]


def _paths(drift: Drift | None) -> dict[str, Path]:
    """Which field each column of an unknown one is, part by part."""
    if drift is None:
        return {}
    return {c.name: _path(path) for path, c in drift.columns.items()}


def _path(keys: Iterable[str]) -> Path:
    parts = map(snake, keys)
    # One field, which tenants send under either name.
    return tuple("email" if part == "email_address" else part for part in parts)


def _parsed(text: str) -> Any:
    """A JSON object or list; None for any other text."""
    if text[:1] not in ("{", "["):
        return None
    try:
        return json.loads(text, parse_float=Decimal)
    except (ValueError, RecursionError):
        return None


def _texts(column: Any) -> Any:
    values = column.to_pylist()
    plain = (f"{v.normalize():f}" if isinstance(v, Decimal) else v for v in values)
    return pa.array([v.isoformat() if hasattr(v, "isoformat") else as_text(v) for v in plain], TEXT)
