"""After a reset of any resource, the next sync leaves the warehouse as it was before."""

import pytest

from crmcom.errors import SettingsError
from crmcom_pipelines import reset as module
from crmcom_pipelines.ledger import status
from crmcom_pipelines.reset import reset

from .worlds import small

TABLES = {
    "contacts": ("contacts", "contact_custom_fields", "contact_tags"),
    "accounts": ("accounts",),
    "activities": (
        *("activities", "activity_custom_fields", "activity_tags"),
        *("activity_states", "activity_versions"),
    ),
}
BOOKS = "select * exclude ({}) from crmcom.{} order by all"
OUR_OWN = {
    "activity_versions": "_synced_at, _dlt_load_id, observed_at, run_id",
}


def tables(warehouse):
    """All rows of all tables, without what tells when they were loaded."""
    return {
        t: warehouse.query(BOOKS.format(OUR_OWN.get(t, "_synced_at, _dlt_load_id"), t))
        for some in TABLES.values()
        for t in some
    }


@pytest.fixture
def aged(warehouse):
    """A warehouse with history: changed, closed and deleted records."""
    here = warehouse(small(11, contacts=12, activities=40), activity_details="all")
    here.sync()
    for _ in range(2):
        here.world.pass_business_day()
        here.sync()
    here.world.delete("activities", next(iter(here.world.activities)).id)
    here.sync(reconcile=True)
    return here


def test_a_reset_of_each_resource_is_mended_by_the_next_sync(aged):
    before = tables(aged)
    for resource in TABLES:
        done = reset(resource, database=aged.database)
        assert done.published
        assert not done.deleted
        assert resource not in {
            row["resource"] for row in status(aged.database, "crmcom")["bookmarks"]
        }
        aged.sync()
        assert tables(aged) == before
        assert aged.differences(detailed=aged.detailed()) == []


def test_rows_are_deleted_but_not_what_the_api_has_no_more(aged):
    before = tables(aged)
    gone = "select count(*) from crmcom.{} where _deleted_at is not null"
    for resource in TABLES:
        kept = aged.value(gone.format(resource))
        history = aged.value("select count(*) from crmcom.account_observations")
        done = reset(resource, database=aged.database, transform=False, rows=True)
        assert done.exit_code == 0, done.notes
        assert done.deleted[resource] > 0
        assert aged.value(f"select count(*) from crmcom.{resource}") == kept
        assert aged.value("select count(*) from crmcom.account_observations") == history
        aged.sync()
        assert tables(aged) == before


def test_history_goes_only_when_it_is_named(aged):
    done = reset("activities", database=aged.database, transform=False, rows=True, history=True)
    assert done.deleted["activity_versions"] > 0
    assert aged.value("select count(*) from crmcom.activity_versions") == 0
    assert aged.value("select count(*) from crmcom.activities") == 0


def test_what_changed_before_the_sync_after_a_reset_is_read_in_detail(warehouse):
    here = warehouse(small(12))
    here.sync()
    reset("activities", database=here.database)
    open_one = next(a for a in here.world.activities if a.body["state"] == "PENDING")
    here.world.set_activity_state(open_one.id, "COMPLETED")
    gone = next(a for a in here.world.activities if a.body["state"] == "CANCELLED")
    here.world.delete("activities", gone.id)
    here.sync()
    assert here.detailed() == {open_one.id}
    deleted = "select id from crmcom.activities where _deleted_at is not null"
    assert here.query(deleted) == [(gone.id,)]


def test_nothing_to_reset_is_said(tmp_path):
    with pytest.raises(SettingsError, match="crmcom sync"):
        reset("contacts", database=tmp_path / "warehouse.duckdb")


def test_a_reset_that_fails_leaves_everything_as_it_was(aged, monkeypatch):
    """Rows and bookmark go in one transaction: what ends it before its end undoes all of it."""
    before = tables(aged)
    bookmarks = status(aged.database, "crmcom")["bookmarks"]

    def fail(*_, **__):
        yield "contact_tags", "1 = 1"
        yield "contacts", "1 = 1"
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "_doomed", fail)
    with pytest.raises(KeyboardInterrupt):
        reset("contacts", database=aged.database, rows=True)
    monkeypatch.undo()
    aged.sync()
    assert tables(aged) == before
    assert status(aged.database, "crmcom")["bookmarks"] == bookmarks
