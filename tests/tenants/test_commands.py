"""Three tenants, of whom one is refused and one dies in the middle: what each command does."""

from __future__ import annotations

import csv
import io
import json

import pytest
from click.testing import CliRunner

from crmcom_pipelines.cli import main
from crmcom_sandbox import Faults

from .conftest import Home, of


@pytest.fixture(scope="module")
def home(servers, tmp_path_factory):
    cyprus, greece, malta = servers
    return Home(
        tmp_path_factory.mktemp("tenants"),
        {
            "cyprus": of(cyprus),
            "greece": of(greece) | {"api_key": "this-is-another-key"},
            "malta": of(malta, run_timeout_s=3, dataset="rock"),
        },
        {"page_size": 7},
    )


@pytest.fixture(scope="module")
def first(home):
    """The first sync of all, in which one tenant is loaded whole."""
    told = home.folder / "told.json"
    return home.call("sync", "--json", "--on-failure", f"cat > {told}")


def reported(home, name, *args):
    found = home.call("report", name, "--format", "csv", *args)
    assert found.code == 0, found.err
    return list(csv.DictReader(io.StringIO(found.out)))


def test_one_that_fails_leaves_the_others_done(home, first, servers):
    assert first.code == 3, first.err
    found = first.json["tenants"]
    assert {name: one["exit_code"] for name, one in found.items()} == {
        "cyprus": 0,
        "greece": 3,
        "malta": 4,
    }
    assert "sources.crmcom.greece.api_key" in found["greece"]["error"]
    assert "SOURCES__CRMCOM__GREECE__API_KEY" in first.err
    assert "this-is-another-key" not in first.err + first.out
    assert found["cyprus"]["published"]
    assert found["cyprus"]["transform"]["ok"]
    assert found["malta"]["resources"]["contacts"]["verdict"] == "proven"
    ((count,),) = home.ask("select count(*) from crmcom_cyprus.contacts")
    assert count == len(servers[0].sandbox.world.truth()["contacts"])
    schemas = {name for (name,) in home.ask("select schema_name from duckdb_schemas()")}
    assert not {name for name in schemas if "greece" in name}


def test_hooks_are_told_of_each(home, first):
    told = json.loads((home.folder / "told.json").read_text())
    assert told["exit_code"] == 3
    assert {name: one["exit_code"] for name, one in told["tenants"].items()}["malta"] == 4
    assert "greece: exit code 3" in told["text"]
    assert "malta: exit code 4" in told["text"]


def test_reports_are_of_all_or_of_one(home, first):
    balances = reported(home, "balances")
    assert {row["source_relation"] for row in balances} == {"crmcom_cyprus"}
    assert balances == reported(home, "balances", "--tenant", "cyprus")
    statuses = home.ask("select distinct source_relation from crmcom_reports.activity_status")
    assert sorted(statuses) == [("crmcom_cyprus",), ("rock",)]


def test_status_tells_of_each(home, first):
    shown = home.call("status")
    assert shown.code == 0, shown.err
    assert "--- tenant greece, dataset crmcom_greece" in shown.out
    assert "ended with exit 3" in shown.out
    found = home.call("status", "--json").json["tenants"]
    assert found["greece"]["last_attempt"]["exit_code"] == 3
    assert {r["verdict"] for r in found["cyprus"]["runs"]} == {"proven"}
    assert found["malta"]["last_attempt"]["exit_code"] == 4


def test_a_command_about_one_tenant_names_them(home, monkeypatch):
    home.write()
    monkeypatch.chdir(home.folder)
    commands = (
        *(("plan",), ("check",), ("backfill", "--from", "2020-01-01")),
        *(("explain", "contact", "x"), ("reset", "contacts", "--yes")),
        ("forget", "contact", "x", "--yes"),
    )
    for command in commands:
        found = CliRunner().invoke(main, command)
        assert found.exit_code == 2, command
        assert "cyprus, greece, malta: name it with --tenant" in found.output, command
        found = CliRunner().invoke(main, [*command, "--tenant", "grece"])
        assert found.exit_code == 2, command
        assert "did you mean greece?" in found.output, command


def test_a_plan_of_one_goes_on_from_its_bookmarks(home, first):
    found = home.call("plan", "--tenant", "cyprus", "--json")
    assert found.code == 0, found.err
    assert found.json["resources"]["contacts"]["mode"] == "incremental"


def test_mended_it_is_loaded_and_the_others_stay(home, first, servers):
    greece = servers[1]
    before = home.ask("from crmcom_cyprus_reports.balance_summary order by all")
    home.tenants["greece"] = of(greece)
    again = home.call("sync", "--tenant", "greece", "--json")
    assert again.code == 0, again.err
    assert set(again.json["tenants"]) == {"greece"}
    assert home.ask("from crmcom_cyprus_reports.balance_summary order by all") == before
    rows = home.ask("select source_relation, count(*) from crmcom_reports.account_daily group by 1")
    assert dict(rows) == {
        "crmcom_cyprus": len(servers[0].sandbox.world.truth()["accounts"]),
        "crmcom_greece": len(greece.sandbox.world.truth()["accounts"]),
    }


def test_a_past_day_is_told_of_all(home):
    now = reported(home, "balances")
    assert len({row["source_relation"] for row in now}) == 2
    assert reported(home, "balances", "--as-of", now[0]["as_of_date"]) == now


def test_each_goes_on_from_its_own_bookmarks(home, first, servers):
    malta = servers[2]
    del home.tenants["malta"]["run_timeout_s"]
    malta.sandbox.set_faults(Faults())
    again = home.call("sync", "--tenant", "malta", "--no-transform", "--json")
    assert again.code == 0, again.err
    found = again.json["tenants"]["malta"]["resources"]
    assert found["contacts"]["rows"] < len(malta.sandbox.world.truth()["contacts"])
    assert found["accounts"]["rows"] == len(malta.sandbox.world.truth()["accounts"])


def test_a_person_of_one_tenant_is_erased_and_the_others_stay(home):
    ((contact,),) = home.ask("select min(contact_id) from crmcom_greece_reports.contact_360")
    others = home.ask("from crmcom_cyprus_reports.contact_360 order by all")
    found = home.call("forget", "contact", contact, "--tenant", "greece", "--yes")
    assert found.code == 0, found.err
    everybody = home.ask("select source_relation, contact_id from crmcom_reports.contact_360")
    assert contact not in {person for _, person in everybody}
    assert {tenant for tenant, _ in everybody} == {"crmcom_cyprus", "crmcom_greece", "rock"}
    assert home.ask("from crmcom_cyprus_reports.contact_360 order by all") == others
