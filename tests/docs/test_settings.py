"""The settings files that come with the project say what the code does."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from crmcom.settings import NAMES, Settings

ROOT = Path(__file__).parents[2]
CONFIG = (ROOT / ".dlt/config.toml").read_text()
SECRETS = (ROOT / ".dlt/example.secrets.toml").read_text()
KEY = "0123-a-key"


def uncommented(*, examples):
    """The file with every setting switched on, or with those that show a default."""
    text = re.sub(r"^#: ", "", CONFIG, flags=re.MULTILINE)
    if not examples:
        text = re.sub(r"^.*# an example$", "", text, flags=re.MULTILINE)
    found = tomllib.loads(text)
    # Who the tenants are is not the source's to know.
    tenants = found["sources"]["crmcom"].pop("tenants", None)
    assert tenants == (["cyprus", "greece"] if examples else None)
    return found


def read_by_the_source():
    """Settings that some code looks at, beside those that only make credentials."""
    code = "".join(p.read_text() for p in (ROOT / "sources/crmcom").glob("*.py"))
    names = set(re.findall(r"settings\.([a-z_]+)", code))
    means = {"start": "start_date", "account_budget": "account_refresh"}
    return {means.get(n, n) for n in names} & set(NAMES)


def test_every_setting_that_does_something_is_explained():
    assert set(uncommented(examples=True)["sources"]["crmcom"]) == read_by_the_source()


def test_the_defaults_shown_are_the_defaults():
    shown = uncommented(examples=False)["sources"]["crmcom"]
    default = Settings(base_url="https://crm.example/backoffice/v2", api_key=KEY)
    assert Settings(base_url=default.base_url, api_key=KEY, **shown) == default


def test_the_examples_are_accepted():
    shown = uncommented(examples=True)["sources"]["crmcom"]
    examples = set(shown) - set(uncommented(examples=False)["sources"]["crmcom"])
    settings = Settings(api_key=KEY, **shown)
    blank = Settings(base_url="https://crm.example/backoffice/v2", api_key=KEY)
    assert all(getattr(settings, name) != getattr(blank, name) for name in examples)


def test_the_file_as_it_is_changes_nothing():
    plain = tomllib.loads(CONFIG)
    assert plain["sources"]["crmcom"] == {}
    assert plain["transforms"]["crmcom"]["vars"] == {}


def test_the_variables_shown_are_those_of_the_dbt_project():
    project = yaml.safe_load((ROOT / "transforms/crmcom_transforms/dbt_project.yml").read_text())
    shown = uncommented(examples=False)["transforms"]["crmcom"]["vars"]
    assert shown
    assert shown == {name: project["vars"][name] for name in shown}


def test_a_variable_of_the_file_reaches_dbt(tmp_path):
    """From the folder in which the command is called: dlt looks there once in each process."""
    (tmp_path / ".dlt").mkdir()
    text = CONFIG.replace("#: crmcom_ageing", "crmcom_ageing").replace("[30, 60, 90]", "[15]")
    (tmp_path / ".dlt/config.toml").write_text(text)
    ask = "from crmcom_pipelines.config import dbt_vars; print(dbt_vars())"
    told = subprocess.check_output([sys.executable, "-c", ask], cwd=tmp_path, text=True)
    assert told == "{'crmcom_ageing_buckets': [15]}\n"


@pytest.mark.parametrize("way", ["1", "2", "3"])
def test_each_way_to_log_in_is_accepted(way):
    parts = re.split(r"^# (?=\d\. )", SECRETS, flags=re.MULTILINE)[1:]
    (part,) = (p for p in parts if p.startswith(way))
    lines = [line.removeprefix("# ") for line in part.splitlines()[1:] if " = " in line]
    given = tomllib.loads("\n".join(lines).replace("…", KEY))
    settings = Settings(base_url="https://crm.example/backoffice/v2", **given)
    assert type(settings.credentials).__name__ == {"1": "ApiKey", "2": "Token", "3": "Login"}[way]


def test_secrets_are_ignored_by_git():
    assert ".dlt/secrets.toml" in (ROOT / ".gitignore").read_text().splitlines()
