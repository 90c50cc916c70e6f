"""What the ledger tells of runs and records."""

from __future__ import annotations

from datetime import timedelta

from crmcom_pipelines.ledger import explain

from . import worlds


def test_a_record_that_was_deleted_was_seen_by_no_window(warehouse):
    """The run that marked it is told as such; an id that nobody knows is told to be one."""
    world = worlds.small()
    at = warehouse(world)
    first = at.sync().run_id
    contact = next(r.id for r in world.contacts)
    gone = {
        "contact": contact,
        "activity": next(r.id for r in world.activities if r.body["state"] == "PENDING"),
        "account": next(r.id for r in world.accounts if r.contact_id != contact),
    }
    for kind, record_id in gone.items():
        found = explain(at.database, "crmcom", kind, record_id)
        assert found["summary"] == f"last loaded by run {first}"
        assert [r["run_id"] for r in found["loaded_by"]] == [first]
        assert found["deleted_by"] == []
    for kind, record_id in gone.items():
        world.delete({"activity": "activities"}.get(kind, f"{kind}s"), record_id)
    world.clock.move(timedelta(minutes=10))
    second = at.sync(reconcile=True).run_id
    world.clock.move(timedelta(minutes=10))
    at.sync(reconcile=True)
    for kind, record_id in gone.items():
        found = explain(at.database, "crmcom", kind, record_id)
        assert found["row"]["_deleted_at"] is not None
        assert found["summary"] == f"deleted by run {second}: no longer in the API (404)"
        assert [r["run_id"] for r in found["deleted_by"]] == [second]
        assert found["loaded_by"] == found["seen_in"] == []
    nobody = explain(at.database, "crmcom", "contact", "nobody")
    assert nobody["row"] is None
    assert nobody["summary"] == "unknown: no run has seen a contact with this id"
