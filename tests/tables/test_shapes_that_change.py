"""Fields that arrive now as one thing and now as another, and amounts that are none."""

from decimal import Decimal

import pytest

from crmcom.drift import Drift
from crmcom.records import ACCOUNT, ACTIVITY, CONTACT
from crmcom.schema import RAW_TABLES
from crmcom.tables import Shaper, reserved_columns


def shaper(record, sender="list"):
    return Shaper(record, sender, Drift(reserved_columns(record)))


def test_a_text_where_the_reference_has_an_object_spoils_no_later_batch():
    """What was learned of the odd one must not take the object's place in the schema."""
    shaping = shaper(ACTIVITY)
    shaping.shape([b'{"id": "a", "assign_to": "bob"}'])
    usual = b'{"id": "b", "assign_to": {"user": {"name": "Bob"}}}'
    for batch in ([usual], [b'{"id": "c", "assign_to": "eve"}'], [usual, b'{"id": "d"}']):
        found = shaping.shape(batch)
        RAW_TABLES["activities"].hints(RAW_TABLES["activities"].conform(found.rows))
        assert len(found.rows) == len(batch)
        assert not found.rejects
    (row,) = shaping.shape([usual]).rows.to_pylist()
    assert row["assign_to__user__name"] == "Bob"
    (row,) = shaping.shape([b'{"id": "c", "assign_to": "eve"}']).rows.to_pylist()
    assert row["assign_to"] == "eve"


def test_a_text_where_a_list_belongs_spoils_no_later_batch():
    shaping = shaper(CONTACT)
    shaping.shape([b'{"id": "a", "tags": "VIP"}'])
    for tags, expected in (('[{"id": "1", "name": "n", "colour": "c"}]', ["1"]), ("[]", [None])):
        found = shaping.shape([b'{"id": "b", "tags": %s}' % tags.encode()])
        RAW_TABLES["contacts"].hints(RAW_TABLES["contacts"].conform(found.rows))
        assert found.children["contact_tags"].column("id").to_pylist() == expected


def test_the_noise_of_doubles_does_not_hide_an_amount():
    """More decimals than the column has: the amount is rounded, its digits are kept beside it."""
    found = shaper(ACCOUNT, "single").shape(
        [
            b'{"id": "a", "balance": 300.2999999999999, "overdue_amount": 1.5}',
            b'{"id": "b", "balance": -1.4210854715202004e-14}',
        ]
    )
    first, second = found.rows.to_pylist()
    assert first["balance"] == Decimal("300.300000000")
    assert first["balance__v_text"] == "300.2999999999999"
    assert second["balance"] == 0
    assert not found.rejects


@pytest.mark.parametrize("word", ["NaN", "nan", "sNaN", "Infinity", "-inf"])
def test_a_word_that_python_takes_for_a_number_is_no_amount(word):
    """And spoils no batch: no decimal column holds it."""
    bodies = [b'{"id": "a", "balance": "%s"}' % word.encode(), b'{"id": "b", "balance": 1}']
    found = shaper(ACCOUNT, "single").shape(bodies)
    first, second = found.rows.to_pylist()
    assert first["balance"] is None
    assert first["balance__v_text"] == word
    assert second["balance"] == 1
    assert [lost.record_id for lost in found.rejects] == ["a"]


def test_an_amount_that_is_none_is_counted_and_its_record_is_loaded():
    """A null would pass for an amount that the API did not send."""
    found = shaper(ACCOUNT, "single").shape([b'{"id": "a", "balance": "1,234.50"}'])
    (row,) = found.rows.to_pylist()
    assert row["balance"] is None
    assert row["balance__v_text"] == "1,234.50"
    (lost,) = found.rejects
    assert lost.record_id == "a"
    assert "balance" in lost.reason
