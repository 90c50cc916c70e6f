"""The first load of a warehouse: all that the server has, digit for digit."""

from __future__ import annotations

import pytest

from . import worlds


@pytest.mark.parametrize("behaviour", ["reference", "live"])
def test_a_first_load_holds_what_the_server_has_digit_for_digit(warehouse, behaviour):
    """Odd data included: nulls, absences, duplicate keys, far dates, fields nobody knows."""
    at = warehouse(worlds.odd(), behaviour)
    outcome = at.sync()
    assert at.differences() == []
    assert outcome.as_json()["resources"]["contacts"]["new_columns"] == [
        "phone__extension",
        "loyalty_points",
        "is_vip",
        "nickname",
        "preferences",
        "relations",
    ]
