"""Whatever JSON arrives becomes rows and rejects, exactly, and by whichever path."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow.parquet as pq
import pytest
from dlt.common.normalizers.naming.snake_case import NamingConvention
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from crmcom.drift import Drift
from crmcom.records import ACCOUNT, ACTIVITY, CONTACT
from crmcom.schema import RAW_TABLES
from crmcom.tables import Shaped, Shaper, distinct, reserved_columns

from .odd_json import Number, Pairs, keys, numbers, raw, records, texts, values

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crmcom.records import Record, Sender

SENDERS: dict[str, tuple[Record, Sender]] = {
    "contact": (CONTACT, "list"),
    "listed account": (ACCOUNT, "list"),
    "account": (ACCOUNT, "single"),
    "listed activity": (ACTIVITY, "list"),
    "activity": (ACTIVITY, "single"),
}
some_records = st.sampled_from(sorted(SENDERS)).flatmap(
    lambda kind: st.tuples(st.just(kind), records(*SENDERS[kind]))
)
# The machine that runs them may be busy with other tests.
CON = duckdb.connect()
calm = settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))


def shaper(record: Record, sender: Sender, memory: dict[str, Any] | None = None) -> Shaper:
    return Shaper(record, sender, Drift.recall(reserved_columns(record), memory or {}))


def told(shaped: Sequence[Shaped]) -> tuple[Any, Any, Any]:
    """What was shaped, without order and without nulls."""
    rows = [r for s in shaped for r in s.rows.to_pylist()]
    children: dict[str, list[Any]] = {}
    for s in shaped:
        for table, found in s.children.items():
            children.setdefault(table, []).extend(found.to_pylist())
    return (
        sorted(map(_without_nulls, rows)),
        {t: sorted(map(_without_nulls, found)) for t, found in children.items()},
        sorted(r.payload for s in shaped for r in s.rejects),
    )


def _without_nulls(row: dict[str, Any]) -> str:
    return repr(sorted((k, v) for k, v in row.items() if v is not None))


@calm
@given(some_records)
def test_every_record_becomes_a_row_or_a_reject(found):
    """None raises, none is lost, none is doubled; each parent says something of each list."""
    kind, bodies = found
    record, sender = SENDERS[kind]
    shaped = shaper(record, sender).shape([raw(b) for b in bodies])
    # An amount that is none is told of beside its row.
    unread = [r for r in shaped.rejects if not r.reason.endswith("is no amount")]
    assert len(shaped.rows) + len(unread) == len(bodies)
    ids = shaped.rows.column("id").to_pylist()
    assert all(ids)
    for rows in shaped.children.values():
        assert set(rows.column(record.parent_key).to_pylist()) == set(ids)


@calm
@given(some_records)
@example(("account", [{"\ud800": False, "id": "half of a character as a key"}]))
def test_both_paths_agree(found):
    """A record is shaped alike alone, among others, and by the tolerant path."""
    kind, bodies = found
    record, sender = SENDERS[kind]
    raws = [raw(b) for b in bodies]
    first = shaper(record, sender)
    first.shape(raws)
    memory = first._drift.remember()
    batch = told([shaper(record, sender, memory).shape(raws)])
    alone = shaper(record, sender, memory)
    assert told([alone.shape([r]) for r in raws] or [alone.shape([])]) == batch
    assert told([shaper(record, sender, memory)._tolerant(raws)]) == batch


@calm
@given(some_records)
def test_what_is_shaped_goes_through_parquet_into_duckdb_unchanged(tmp_path_factory, found):
    kind, bodies = found
    record, sender = SENDERS[kind]
    shaped = shaper(record, sender).shape([raw(b) for b in bodies])
    path = tmp_path_factory.mktemp("parquet") / "rows.parquet"
    for name, table in [(record.table, shaped.rows), *shaped.children.items()]:
        whole = RAW_TABLES[name].conform(table)
        whole.validate(full=True)
        RAW_TABLES[name].hints(whole)
        pq.write_table(whole, path)
        back = CON.execute(f"from '{path}'").to_arrow_table()
        assert back.to_pylist() == whole.to_pylist()


@calm
@given(numbers)
def test_an_amount_keeps_its_digits(digits):
    """In its column where they fit, else as text beside it; rounded where only decimals exceed."""
    found = shaper(ACCOUNT, "single").shape([raw({"id": "a", "balance": digits, "new": digits})])
    (row,) = found.rows.to_pylist()
    for column in ("balance", "new"):
        kept, beside = row.get(column), row.get(f"{column}__v_text")
        assert (kept if beside is None else Decimal(beside)) == Decimal(digits)
        if kept is not None:
            assert abs(kept - Decimal(digits)) <= Decimal("5e-10")


@calm
@given(texts)
def test_text_is_kept_as_it_is(text):
    """But for a lone surrogate and a NUL, which no database takes: those become their escapes."""
    wanted = text.encode("utf-8", "backslashreplace").decode().replace("\x00", "\\u0000")
    body = {"id": "a", "first_name": text, "new": text, "custom_fields": [{"key": text}]}
    for shape in (Shaper.shape, Shaper._tolerant):
        found = shape(shaper(CONTACT, "list"), [raw(body)])
        (row,) = found.rows.to_pylist()
        (field,) = found.children["contact_custom_fields"].to_pylist()
        assert (row["first_name"], row["new"], field["key"]) == (wanted,) * 3


@calm
@given(values)
def test_a_structure_is_kept_as_json(value):
    body = {"id": "a", "new": {"deep": value}}
    (row,) = shaper(CONTACT, "list").shape([raw(body)]).rows.to_pylist()
    wanted = json.loads(raw({"deep": value}), parse_float=Decimal)
    assert json.loads(row["new"], parse_float=Decimal) == wanted


@calm
@given(st.lists(st.lists(keys, min_size=1, max_size=2).map(tuple), unique=True, max_size=30))
def test_columns_have_names_that_nothing_changes_and_no_two_share(paths):
    """dlt's own normaliser leaves them as they are; what was named once keeps its name."""
    drift = Drift(reserved_columns(CONTACT))
    named = {}
    for path in paths:
        column = drift.learn(path, "text", "list")
        assert column is not None
        named[path] = column.name
    names = list(named.values())
    variants = [f"{n}__v_text" for n in names]
    assert len({*names, *variants}) == 2 * len(names)
    assert not {*names, *variants} & reserved_columns(CONTACT)
    naming = NamingConvention(63)
    for name in (*names, *variants):
        assert naming.normalize_path(name) == name
    again = Drift.recall(reserved_columns(CONTACT), json.loads(json.dumps(drift.remember())))
    for path in reversed(paths):
        column = again.learn(path, "text", "list")
        assert column is not None
        assert column.name == named[path]
    assert again.added == []
    assert again.remember() == drift.remember()


def test_the_first_value_sets_a_type_and_later_ones_that_do_not_fit_stand_beside_it():
    first = shaper(CONTACT, "list")
    first.shape([raw({"id": "a", "score": Number("5")})])
    second = shaper(CONTACT, "list", first._drift.remember())
    rows = second.shape(
        [
            raw({"id": "b", "score": Number("2.75")}),
            raw({"id": "c", "score": "high"}),
            raw({"id": "d", "score": [1]}),
            raw({"id": "e", "score": True}),
        ]
    ).rows.to_pylist()
    assert [(r["score"], r["score__v_text"]) for r in rows] == [
        (Decimal("2.75"), None),
        (None, "high"),
        (None, "[1]"),
        (None, "true"),
    ]


def test_more_unknown_fields_than_columns_are_kept_as_json():
    body = {"id": "a", **{f"field_{n}": n for n in range(250)}}
    (row,) = shaper(CONTACT, "list").shape([raw(body)]).rows.to_pylist()
    kept = {k: int(v) for k, v in row.items() if k.startswith("field_")}
    assert len(kept) == 200
    assert kept | json.loads(row["_unknown_fields"]) == {f"field_{n}": n for n in range(250)}


def test_a_key_that_comes_twice_has_its_last_value():
    body = Pairs([("id", "a"), ("first_name", "x"), ("first_name", "y"), ("new", 1), ("new", 2)])
    (row,) = shaper(CONTACT, "list").shape([raw(body)]).rows.to_pylist()
    assert (row["first_name"], row["new"]) == ("y", 2)


@pytest.mark.parametrize(
    "broken",
    [
        b"",
        b"null",
        b"[]",
        b'"text"',
        b"5",
        b'{"id": "a"',
        b'{"id": "a"} {"id": "b"}',
        b'{"id": "a", "name": "\xff\xfe"}',
        b'{"id": "a", "name": "\x00"}',
        b'{"id": "a", "deep": ' + b"[" * 5_000 + b"]" * 5_000 + b"}",
        b'{"id": "a", "deep": ' + b"[" * 300 + b"]" * 300 + b"}",
        b'{"id": "a", "big": ' + b"9" * 5_000 + b"}",
        b'{"id": "a", "not": NaN, "is": Infinity}',
    ],
    ids=lambda b: b[:30].decode("latin-1"),
)
def test_what_is_hardly_json_costs_at_most_itself(broken):
    good = [raw({"id": str(n), "first_name": "good"}) for n in range(3)]
    shaped = shaper(CONTACT, "list").shape([good[0], broken, *good[1:]])
    assert len(shaped.rows) + len(shaped.rejects) == 4
    assert {"0", "1", "2"} <= set(shaped.rows.column("id").to_pylist())
    shaped.rows.validate(full=True)


@given(st.lists(st.tuples(st.integers(0, 5), st.lists(st.just("t"), max_size=3)), max_size=12))
@calm
def test_of_a_record_that_comes_twice_the_first_one_stays(
    found: list[tuple[int, list[str]]],
) -> None:
    """With its children; each place among them is taken once."""
    raws = [
        raw(
            {
                "id": f"c{n}",
                "code": f"{at}",
                "tags": [{"id": f"{at}.{t}"} for t in range(len(tags))],
            }
        )
        for at, (n, tags) in enumerate(found)
    ]
    shaped = distinct(shaper(CONTACT, "list").shape(raws), CONTACT.parent_key)
    first = {f"c{n}": at for at, (n, _) in reversed(list(enumerate(found)))}
    assert sorted((r["id"], r["code"]) for r in shaped.rows.to_pylist()) == sorted(
        (record_id, f"{at}") for record_id, at in first.items()
    )
    tags = shaped.children["contact_tags"].to_pylist()
    places = {(t["contact_id"], t["position"]): t["id"] for t in tags}
    assert len(places) == len(tags)
    for record_id, at in first.items():
        for place in range(len(found[at][1])):
            assert places[record_id, place] == f"{at}.{place}"
