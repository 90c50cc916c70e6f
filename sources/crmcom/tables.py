"""Records' bytes to Arrow tables: the only file that flattens.

The usual path builds no Python row: pyarrow reads all records of a batch at once under a strict
schema, amounts from the wire's digits straight into `decimal(38, 9)`. Strict means that a field
which the schema does not name, or a value of another type, refuses the batch; the batch then
takes the exact path of `tolerant.py`, which learns what is new, so that the next batch passes.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

from crmcom import tolerant
from crmcom.drift import OVERFLOW_COLUMN, Column, Drift, Path, variant
from crmcom.protocol import MAX_EPOCH_S
from crmcom.tolerant import MIN_EPOCH_S

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from crmcom.records import Child, Field, Record, Sender

ARROW_TYPES: Mapping[str, pa.DataType] = {
    "text": pa.string(),
    "json": pa.string(),
    "flag": pa.bool_(),
    "decimal": pa.decimal128(38, 9),
    "epoch": pa.timestamp("us"),
}

GONE = "_gone"
"""Marks a child row that stands for "this parent has none": it deletes the old ones."""


@dataclass(frozen=True, slots=True)
class Reject:
    """A record that could not be read: counted, kept, and stopping nothing else."""

    record_id: str | None
    reason: str
    payload: str


@dataclass(frozen=True, slots=True)
class Shaped:
    """`rows`: one per record that could be read, in no order that matters.

    `children` by table: the parent's key, `position` from 0, the element's fields, `_gone`. A
    parent with an empty list has one row with `_gone` set, so that each load says everything
    about its parents' lists.
    """

    rows: pa.Table
    children: Mapping[str, pa.Table]
    rejects: tuple[Reject, ...]


_PART = 500
"""Records that share the fate of an odd one among them."""


def concat(parts: Sequence[Shaped]) -> Shaped:
    """Several batches of one record as one; a column that a batch lacks is null there."""
    tables = {table: [p.children[table] for p in parts] for table in parts[0].children}
    return Shaped(
        _stack([p.rows for p in parts]),
        {table: _stack(found) for table, found in tables.items()},
        tuple(r for p in parts for r in p.rejects),
    )


def distinct(shaped: Shaped, parent_key: str) -> Shaped:
    """Each record once, as it came first, and of its children the first at each place: a server may
    answer for one record with another."""
    ids = shaped.rows.column("id")
    if pc.count_distinct(ids).as_py() == len(ids):
        return shaped
    children = {t: _first(c, parent_key, "position") for t, c in shaped.children.items()}
    return Shaped(_first(shaped.rows, "id"), children, shaped.rejects)


def _first(table: pa.Table, *key: str) -> pa.Table:
    keys = list(zip(*(table.column(name).to_pylist() for name in key), strict=True))
    first = {k: at for at, k in reversed(list(enumerate(keys)))}
    return table.take(pa.array(sorted(first.values()), pa.int64()))


def _stack(tables: Sequence[pa.Table]) -> pa.Table:
    return pa.concat_tables(tables, promote_options="default").combine_chunks()


def row_schema(record: Record) -> pa.Schema:
    """The documented columns of a record's table, as loaded."""
    return pa.schema([pa.field(f.column, ARROW_TYPES[f.kind]) for f in record.fields])


def child_schema(record: Record, child: Child) -> pa.Schema:
    return pa.schema(
        [
            pa.field(record.parent_key, pa.string()),
            pa.field("position", pa.int64()),
            *(pa.field(f.column, ARROW_TYPES[f.kind]) for f in child.fields),
            pa.field(GONE, pa.bool_()),
        ]
    )


def reserved_columns(record: Record) -> frozenset[str]:
    """Names that an unknown field cannot take."""
    names = [f.column for f in record.fields]
    ours = {"contact_id", "_synced_at", "_deleted_at", OVERFLOW_COLUMN}
    return frozenset(names) | {variant(n) for n in names} | ours


class Shaper:
    """Shapes the records of one sender. `drift` is shared by the senders of one table."""

    def __init__(self, record: Record, sender: Sender, drift: Drift) -> None:
        self._record = record
        self._sender: Sender = sender
        self._drift = drift
        self._children = tuple(c for c in record.children if sender in c.sent_by)
        # Where the reference has an object or a list, something else may arrive now and then.
        paths = [tuple(f.path.split(".")) for f in record.fields]
        self._documented = {p[:n] for p in paths for n in range(1, len(p) + 1)}
        self._documented |= {(c.path,) for c in record.children}
        self._amounts = [f for f in record.fields if f.kind == "decimal"]
        self._habit = _Habit()
        self._reader = tolerant.Reader(record, sender, drift)

    def answers_for(self) -> frozenset[str]:
        """The columns that this sender's silence nulls; it never touches any other."""
        known = self._record.columns(self._sender)
        ours = known | {variant(c) for c in known} | {OVERFLOW_COLUMN}
        return ours | self._drift.sent_by(self._sender)

    def shape(self, raws: Sequence[bytes]) -> Shaped:
        """Shape whole JSON values, one a record."""
        shaped = self._usual(raws)
        if shaped is not None:
            return shaped
        # One odd record must not slow down all of its neighbours. What one part teaches, the
        # next part's schema already names.
        parts = [raws[at : at + _PART] for at in range(0, len(raws), _PART)] or [raws]
        if len(parts) == 1:
            return self._tolerant(raws)
        return concat([self._usual(part) or self._tolerant(part) for part in parts])

    # --- the usual path ---

    def _usual(self, raws: Sequence[bytes]) -> Shaped | None:
        """None where the batch holds anything unusual."""
        table = self._read(raws) if raws else None
        if table is None:
            return None
        learned = self._learned()
        columns = {f.column: _column(table, f.path, f.kind) for f in self._record.fields}
        columns |= {c.name: _column(table, ".".join(p), c.kind) for p, c in learned.items()}
        if any(column is None for column in columns.values()) or _any_empty(columns["id"]):
            return None
        children = {}
        for child in self._children:
            exploded = self._explode(child, columns["id"], table.column(child.path))
            if exploded is None:
                return None
            children[child.table] = exploded
        return Shaped(pa.table(columns).combine_chunks(), children, ())

    def _read(self, raws: Sequence[bytes]) -> pa.Table | None:
        joined = b"\n".join(raws)
        if not _is_plain(joined):
            return None
        body = pa.py_buffer(joined)
        for habit in self._habits():
            try:
                table = pj.read_json(
                    pa.BufferReader(body),
                    # One block: a conflict across blocks would turn numbers into strings.
                    read_options=pj.ReadOptions(block_size=body.size + 1, use_threads=False),
                    parse_options=pj.ParseOptions(
                        explicit_schema=self._wire_schema(habit),
                        unexpected_field_behavior="error",
                        newlines_in_values=True,
                    ),
                )
            except pa.ArrowInvalid as error:
                if "unexpected field" in str(error):
                    return None  # whatever the habit
                continue
            self._habit = habit
            return table if table.num_rows == len(raws) else None
        return None

    def _habits(self) -> Iterator[_Habit]:
        """How this server may write flags and lists, the way it last did first."""
        yield self._habit
        flags = (False, True) if any(f.kind == "flag" for f in self._record.fields) else (False,)
        paths = [c.path for c in self._children]
        for quoted, *lone in product(flags, *[(False, True)] * len(paths)):
            single = frozenset(p for p, one in zip(paths, lone, strict=True) if one)
            habit = _Habit(quoted_flags=quoted, single_objects=single)
            if habit != self._habit:
                yield habit

    def _wire_schema(self, habit: _Habit) -> pa.Schema:
        wire = dict(ARROW_TYPES) | {"epoch": pa.int64()}
        if habit.quoted_flags:
            wire["flag"] = pa.string()
        tree: dict[str, Any] = {}
        for f in self._record.fields:
            _plant(tree, tuple(f.path.split(".")), wire[f.kind])
        for path, column in self._learned().items():
            _plant(tree, path, ARROW_TYPES[column.kind])
        for child in self._children:
            element = pa.struct([pa.field(f.path, wire[f.kind]) for f in child.fields])
            single = child.path in habit.single_objects
            tree[child.path] = element if single else pa.list_(element)
        return pa.schema(_fields(tree))

    def _learned(self) -> dict[Path, Column]:
        """Unknown fields that a schema can name. A structure cannot be read as its own text."""
        return {
            path: column
            for path, column in self._drift.columns.items()
            if self._sender in column.senders
            and column.kind != "json"
            and not any("." in key or tolerant.storable(key) != key for key in path)
            and path not in self._documented
        }

    def _explode(self, child: Child, ids: Any, lists: Any) -> pa.Table | None:
        lists = lists.combine_chunks()
        if pa.types.is_struct(lists.type):
            has = lists.is_valid()
            elements, parents = lists.filter(has), ids.filter(has)
            positions = pa.array([0] * len(elements), pa.int64())
            empty = ids.filter(lists.is_null())
        else:
            owner = pc.list_parent_indices(lists)
            elements, parents = pc.list_flatten(lists), ids.take(owner)
            first = pc.index_in(owner, owner)  # where the element's own list begins
            positions = pc.subtract(pa.array(range(len(owner)), pa.int64()), first.cast("int64"))
            lengths = pc.fill_null(pc.list_value_length(lists), 0)
            empty = ids.filter(pc.equal(lengths, 0))
        if elements.null_count:
            return None
        cells = {f.column: _cells(elements, f) for f in child.fields}
        if any(column is None for column in cells.values()):
            return None
        schema = child_schema(self._record, child)
        found = pa.table(
            [parents, positions, *cells.values(), pa.array([False] * len(elements))],
            schema=schema,
        )
        return _stack([found, self._gone(child, empty)])

    def _gone(self, child: Child, ids: Any) -> pa.Table:
        schema = child_schema(self._record, child)
        none = [pa.nulls(len(ids), schema.field(f.column).type) for f in child.fields]
        zero = pa.array([0] * len(ids), pa.int64())
        return pa.table([ids, zero, *none, pa.array([True] * len(ids), pa.bool_())], schema=schema)

    # --- the tolerant path ---

    def _lost_amounts(self, flat: Mapping[str, Any], raw: bytes) -> list[Reject]:
        """A row whose amount could not be read is loaded, and counted: a null amount would
        otherwise pass for one that the API did not send."""
        lost = [f for f in self._amounts if f.column not in flat]
        return [
            Reject(flat["id"], f"{f.path}: what came is no amount", _payload(raw))
            for f in lost
            if variant(f.column) in flat
        ]

    def _tolerant(self, raws: Sequence[bytes]) -> Shaped:
        rows: list[dict[str, Any]] = []
        elements: dict[str, list[dict[str, Any]]] = {c.table: [] for c in self._children}
        childless: dict[str, list[str]] = {c.table: [] for c in self._children}
        rejects: list[Reject] = []
        for raw in raws:
            try:
                flat, children = self._reader.read(raw)
            except tolerant.Unreadable as error:
                rejects.append(reject(raw, str(error)))
                continue
            rows.append(flat)
            rejects += self._lost_amounts(flat, raw)
            for child in self._children:
                found = children.get(child.table, ())
                for position, cells in enumerate(found):
                    key = {self._record.parent_key: flat["id"], "position": position}
                    elements[child.table].append(key | cells | {GONE: False})
                if not found:
                    childless[child.table].append(flat["id"])
        tables = {}
        for child in self._children:
            found_table = _from_rows(child_schema(self._record, child), elements[child.table], {})
            gone = self._gone(child, pa.array(childless[child.table], pa.string()))
            tables[child.table] = _stack([found_table, gone])
        unknown = {c.name: ARROW_TYPES[c.kind] for c in self._drift.columns.values()}
        shaped = _from_rows(row_schema(self._record), rows, unknown)
        return Shaped(shaped, tables, tuple(rejects))


@dataclass(frozen=True, slots=True)
class _Habit:
    """What differs between servers, and between endpoints of one, for the same field.

    The single-account reply quotes its flags; an activity's tags are one object in the
    reference's example and a list on the live API.
    """

    quoted_flags: bool = False
    single_objects: frozenset[str] = frozenset()


def reject(raw: bytes, reason: str) -> Reject:
    """A reject that names the record where its id can be read at all."""
    try:
        record_id = tolerant.as_text(tolerant.parse(raw).get("id"))
    except tolerant.Unreadable:
        record_id = None
    return Reject(record_id, reason, _payload(raw))


def _payload(raw: bytes) -> str:
    return tolerant.storable(raw.decode("utf-8", "backslashreplace"))


def _is_plain(body: bytes) -> bool:
    """Whether it can go into text columns as it is: pyarrow would take any bytes for UTF-8,
    and no NUL is welcome in PostgreSQL."""
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return b"\\u0000" not in body


def _plant(tree: dict[str, Any], path: Path, kind: pa.DataType) -> None:
    *parents, leaf = path
    for key in parents:
        tree = tree.setdefault(key, {})
    tree[leaf] = kind


def _fields(tree: Mapping[str, Any]) -> list[pa.Field]:
    return [
        pa.field(key, pa.struct(_fields(below)) if isinstance(below, dict) else below)
        for key, below in tree.items()
    ]


def _column(table: pa.Table, path: str, kind: str) -> Any:
    """One field's column, or None where a value needs the tolerant path."""
    head, *rest = path.split(".")
    column = table.column(head).combine_chunks()
    return _typed(pc.struct_field(column, rest) if rest else column, kind)


def _cells(elements: Any, f: Field) -> Any:
    return _typed(pc.struct_field(elements, [f.path]), f.kind)


def _typed(column: Any, kind: str) -> Any:
    if kind == "epoch":
        bounds = pc.min_max(column).as_py()
        if (bounds["min"] or 0) < MIN_EPOCH_S or (bounds["max"] or 0) > MAX_EPOCH_S:
            return None
        return column.cast(pa.timestamp("s")).cast(pa.timestamp("us"))
    if kind == "flag" and pa.types.is_string(column.type):
        if not set(pc.unique(column).to_pylist()) <= {"true", "false", None}:
            return None
        return pc.equal(column, "true")
    return column


def _any_empty(ids: Any) -> bool:
    return bool(ids.null_count or pc.any(pc.equal(ids, "")).as_py())


def _from_rows(
    schema: pa.Schema, rows: Sequence[Mapping[str, Any]], unknown: Mapping[str, pa.DataType]
) -> pa.Table:
    """A table with the schema's columns and whatever else the rows hold, as text if unknown."""
    extra = sorted({key for row in rows for key in row} - set(schema.names))
    types = {f.name: f.type for f in schema}
    types |= {key: unknown.get(key, pa.string()) for key in extra}
    return pa.table({k: pa.array([r.get(k) for r in rows], t) for k, t in types.items()})
