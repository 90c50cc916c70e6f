"""Records whose date lies in the future."""

from __future__ import annotations

from datetime import timedelta

from . import worlds


def test_a_record_that_lies_ahead_blocks_no_resource(warehouse):
    """Created or completed in the year 2128: the filter works, and all the rest is loaded."""
    world = worlds.small()
    at = warehouse(world)
    ahead = 5_000_000_000
    world.create_contact(created_on=ahead)
    done = world.create_activity(None, created_on=ahead)
    world.set_activity_state(done, "COMPLETED", at=ahead)
    at.sync()
    assert at.differences() == []
    world.create_contact()
    world.create_activity(None)
    world.clock.move(timedelta(minutes=10))
    at.sync()
    assert at.differences() == []
    at.sync(reconcile=True)
    assert at.differences() == []
