"""What is known of a tenant's API: kept, compared by each run, told when it changes."""

import json

from hypothesis import given
from hypothesis import strategies as st

from crmcom import Run, Settings
from crmcom.facts import EXACT, HONOURED, IGNORED, NONE, NOT_IGNORED, RIGHT, TOLD, changed, learned
from crmcom_pipelines import profile
from crmcom_pipelines.check import check
from crmcom_pipelines.load import sync
from crmcom_pipelines.publish import Workspace
from crmcom_sandbox import LIVE, World, serve

from .conftest import ALL, HURRIED

VALUES = st.sampled_from([EXACT, TOLD, NONE, HONOURED, IGNORED, NOT_IGNORED, RIGHT, 30, 100])
FACTS = st.dictionaries(st.sampled_from("abc"), VALUES)


@given(FACTS, FACTS)
def test_what_was_learned_is_not_news_when_it_is_seen_again(known, seen):
    after = learned(known, seen)
    assert changed(after, seen) == {}
    assert learned(after, seen) == after
    assert set(changed(known, seen)) <= set(known)


def test_what_a_run_sees_in_passing_denies_only_its_contrary():
    """That a total is told says not that it is exact."""
    known = {"totals": EXACT, "filter": HONOURED}
    assert changed(known, {"totals": TOLD, "filter": NOT_IGNORED}) == {}
    assert learned(known, {"totals": TOLD}) == known
    assert changed(known, {"totals": NONE, "filter": IGNORED}) == {
        "totals": NONE,
        "filter": IGNORED,
    }
    assert changed({"totals": NONE}, {"totals": TOLD}) == {"totals": TOLD}
    assert changed({"totals": TOLD}, {"totals": EXACT}) == {}


class Tenant:
    """A server, and the folder of its warehouse."""

    def __init__(self, server, folder):
        self.server, self.database = server, folder / "warehouse.duckdb"

    @property
    def settings(self):
        return Settings(base_url=self.server.base_url, api_key=self.server.api_key)

    def check(self):
        return check(lambda: self.settings, list, resources=ALL, database=self.database,
                     dataset="crmcom", destination="duckdb", patience=HURRIED)  # fmt: skip

    def sync(self):
        run = Run(self.settings, patience=HURRIED)
        outcome = sync(run, database=self.database, transform=False)
        return outcome, [n for n in outcome.notes if "API has changed" in n]

    @property
    def known(self):
        return profile.read(Workspace(self.database, "crmcom").folder, "crmcom")


def test_a_check_is_remembered_and_the_next_one_tells_what_changed(world, tmp_path):
    with serve(world, behaviour="live") as server:
        tenant = Tenant(server, tmp_path)
        first = tenant.check()
        assert first.exit_code == 0
        assert first.changes == []
        assert tenant.check().changes == []
        server.sandbox.switch(size_cap=30, total="null")
        told = {c.name: (c.was, c.now) for c in tenant.check().changes}
        assert told == {
            "activities: page size cap": (100, 30),
            "activities: totals": ("exact", "none"),
            "contacts: page size cap": (100, 30),
            "contacts: totals": ("exact", "none"),
        }
        assert tenant.check().changes == []
        assert {c.name for c in tenant.known.changes} == set(told)
        assert {c.by for c in tenant.known.changes} == {"check"}


def test_a_run_compares_what_it_sees_and_stops_for_nothing(tmp_path):
    """Without a request more; the same is told once."""
    with serve(World.generate(contacts=40, activities=120), behaviour="live") as server:
        tenant = Tenant(server, tmp_path)
        assert tenant.sync()[1] == []
        assert tenant.known.facts["contacts: has_more"] == TOLD
        tenant.check()
        assert tenant.known.facts["contacts: has_more"] == RIGHT
        assert tenant.sync()[1] == []
        server.sandbox.switch(total="null")
        outcome, notes = tenant.sync()
        assert outcome.exit_code == 0
        assert notes == ["the API has changed: activities: totals was exact, is none",
                         "the API has changed: contacts: totals was exact, is none"]  # fmt: skip
        assert tenant.sync()[1] == []
        assert {c.by for c in tenant.known.changes} == {outcome.run_id}


def test_a_filter_that_stops_working_is_told_with_its_name(tmp_path):
    with serve(World.generate(contacts=40, activities=120), behaviour="live") as server:
        tenant = Tenant(server, tmp_path)
        tenant.check()
        server.sandbox.switch(ignored_filters={"GET /activities": ("created_on",)})
        outcome, notes = tenant.sync()
        assert outcome.exit_code == 5
        assert notes == [
            "the API has changed: activities: filter created_on was honoured, is ignored"
        ]
        server.sandbox.switch(ignored_filters={})
        _, notes = tenant.sync()
        assert notes == [
            "the API has changed: activities: filter created_on was ignored, is not ignored"
        ]


def test_another_tenants_profile_is_not_compared(world, tmp_path):
    with serve(world, behaviour="live") as server:
        Tenant(server, tmp_path).check()
    with serve(world, behaviour=LIVE.but(total="null")) as server:
        other = Tenant(server, tmp_path)
        assert other.check().changes == []
        assert other.known.tenant == server.base_url


def test_a_profile_that_cannot_be_read_is_learned_anew(world, tmp_path):
    with serve(world, behaviour="live") as server:
        tenant = Tenant(server, tmp_path)
        tenant.check()
        file = tmp_path / ".crmcom/warehouse.duckdb/profile.json"
        facts = tenant.known.facts
        for broken in ("{", "[]", json.dumps({"crmcom": {"facts": 3}}), ""):
            file.write_text(broken)
            assert tenant.check().changes == []
            assert tenant.known.facts == facts
        assert [p.name for p in file.parent.iterdir()] == ["profile.json"]
