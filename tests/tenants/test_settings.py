"""The list of tenants, what each takes from the common settings, and what is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from crmcom.errors import SettingsError
from crmcom_pipelines.tenants import as_written, configured_tenants

from .conftest import Home

ONE = {"base_url": "https://one.example/v2", "api_key": "the-key-of-one-01234"}
TWO = {"base_url": "https://two.example/v2", "api_key": "the-key-of-two-01234"}

READ = """
import json, sys
from crmcom_pipelines.misspelt import misspelt
from crmcom_pipelines.tenants import configured_tenants, settings_of
tenants = configured_tenants("crmcom")
found = {}
for name, s in settings_of(tenants).items():
    found[name] = str(s) if isinstance(s, Exception) else {
        "base_url": s.base_url, "page_size": s.page_size, "start": str(s.start_date),
        "key": s.api_key and s.api_key.reveal(), "privacy": dict(s.privacy),
    }
print(json.dumps([found, {m.name: m.nearest for m in misspelt()}]))
"""


def read(home, **environ):
    """As a process does that begins in this folder: dlt reads its files once."""
    home.write()
    env = {k: v for k, v in os.environ.items() if not k.startswith("SOURCES__")} | environ
    found = subprocess.run(
        [sys.executable, "-c", READ],
        cwd=home.folder,
        env=env | {"HOME": str(home.folder / "nobody")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    return json.loads(found.stdout)


def test_what_a_section_lacks_is_common_but_credentials(tmp_path):
    home = Home(
        tmp_path,
        {
            "one": {"api_key": ONE["api_key"], "page_size": 20},
            "two": TWO | {"start_date": "2024-01-01"},
            "three": {},
        },
        {"base_url": "https://common.example/v2", "api_key": "a-common-key-01234"},
    )
    found, unknown = read(home, SOURCES__CRMCOM__PAGE_SIZE="50", SOURCES__CRMCOM__TWO__LAG_S="5")
    assert unknown == {}
    assert found["one"]["base_url"] == "https://common.example/v2"
    assert found["one"]["page_size"] == 20, "its own counts, whichever place has the common one"
    assert found["two"]["base_url"] == TWO["base_url"]
    assert found["two"]["page_size"] == 50
    assert found["two"]["start"].startswith("2024-01-01")
    assert "sources.crmcom.three.api_key (SOURCES__CRMCOM__THREE__API_KEY)" in found["three"]
    assert "a-common-key" not in json.dumps(found)


def test_a_tenant_in_the_environment_alone(tmp_path):
    home = Home(tmp_path, {})
    found, unknown = read(
        home,
        SOURCES__CRMCOM__TENANTS='["one", "two"]',
        SOURCES__CRMCOM__ONE__API_KEY=ONE["api_key"],
        SOURCES__CRMCOM__ONE__BASE_URL=ONE["base_url"],
        SOURCES__CRMCOM__ONE__PRIVACY='{"email": "drop"}',
        SOURCES__CRMCOM__TWO__ACCESS_TOKEN="a-token-0123456789",
        SOURCES__CRMCOM__TWO__BASE_URL=TWO["base_url"],
        SOURCES__CRMCOM__TOW__LAG_S="5",
    )
    assert found["one"]["key"] == ONE["api_key"]
    assert found["one"]["privacy"] == {"email": "drop"}
    assert unknown == {"SOURCES__CRMCOM__TOW__LAG_S": "SOURCES__CRMCOM__TWO__LAG_S"}


def test_what_is_misspelt_is_told_with_the_nearest(tmp_path):
    home = Home(tmp_path, {"cyprus": ONE | {"page_sise": 5}, "greece": TWO}, {"tennants": ["x"]})
    home.write()
    config = tmp_path / ".dlt" / "config.toml"
    text = config.read_text() + "\n[sources.crmcom.cypurs]\nlag_s = 5\n"
    home.write = lambda: config.write_text(text)
    _, unknown = read(home)
    assert unknown == {
        "sources.crmcom.tennants": "sources.crmcom.tenants",
        "sources.crmcom.cyprus.page_sise": "sources.crmcom.cyprus.page_size",
        "sources.crmcom.cypurs.lag_s": "sources.crmcom.cyprus.lag_s",
    }


def test_the_same_data_twice_is_refused(tmp_path):
    home = Home(tmp_path, {"one": ONE, "two": TWO, "three": ONE | {"page_size": 5}})
    found = home.call("sync")
    assert found.code == 2
    assert "tenants one and three have the same address and the same credentials" in found.err
    assert not (tmp_path / "warehouse.duckdb").exists()


@pytest.mark.parametrize(
    ("names", "why"),
    [
        (["Cyprus"], "no name for a tenant"),
        (["a", "a"], "listed twice"),
        (["page_size"], "the name of something else"),
        (["contacts"], "the name of something else"),
        ("one", ""),
        ({"one": {}}, "no list of names"),
        ([1], "no list of names"),
        (["root_key"], "the name of something else"),
        (["reports"], "crmcom_reports"),
        (["a", "a_staging"], "crmcom_a_staging"),
        (["a'; drop"], "no name for a tenant"),
    ],
)
def test_a_list_that_cannot_be_used(names, why, monkeypatch):
    monkeypatch.setenv("SOURCES__CRMCOM__TENANTS", json.dumps(names))
    if why:
        with pytest.raises(SettingsError, match=why):
            configured_tenants("crmcom")
    else:  # a name alone, or several with commas: as people write a list into the environment
        monkeypatch.setenv("SOURCES__CRMCOM__TENANTS", "one, two")
        assert configured_tenants("crmcom").names == ("one", "two")


def test_the_union_cannot_stand_in_one_tenants_dataset(monkeypatch):
    monkeypatch.setenv("SOURCES__CRMCOM__TENANTS", "one,two")
    monkeypatch.setenv("SOURCES__CRMCOM__ONE__DATASET", "crmcom")
    with pytest.raises(SettingsError, match="crmcom_reports"):
        configured_tenants("crmcom")
    tenants = configured_tenants("everything")
    assert [t.dataset for t in tenants.all] == ["crmcom", "everything_two"]
    monkeypatch.setenv("SOURCES__CRMCOM__ONE__DATASET", 'a"b')
    with pytest.raises(SettingsError, match=r"sources\.crmcom\.one\.dataset"):
        configured_tenants("everything")


def test_a_message_names_settings_as_the_tenants(monkeypatch):
    text = "sources.crmcom.api_key (SOURCES__CRMCOM__API_KEY), of sources.crmcom.tenants"
    once = as_written(text, "greece")
    assert once == (
        "sources.crmcom.greece.api_key (SOURCES__CRMCOM__GREECE__API_KEY), "
        "of sources.crmcom.tenants"
    )
    assert as_written(once, "greece") == once


def test_without_tenants_none_can_be_named(tmp_path):
    home = Home(tmp_path, {})
    found = home.call("status", "--tenant", "cyprus")
    assert found.code == 2
    assert "no tenants are listed" in found.err
