"""A setting that nobody reads is named, with the one that was meant; others' are left alone."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from crmcom.settings import NAMES
from crmcom_pipelines.misspelt import dbt_variables, misspelt
from crmcom_transforms import PROJECT_DIR

CODE = """
from crmcom_pipelines.misspelt import misspelt
for one in misspelt({}): print(one.name, one.where, one.nearest or "-")
"""


def in_files(folder, config="", secrets=""):
    """dlt reads its files once in each process. Returns name -> what was meant."""
    (folder / ".dlt").mkdir()
    (folder / ".dlt/config.toml").write_text(config)
    (folder / ".dlt/secrets.toml").write_text(secrets)
    told = subprocess.check_output((sys.executable, "-c", CODE), cwd=folder, text=True)
    return {line.split()[0]: line.split()[-1] for line in told.splitlines()}


def in_environment(*names):
    return {one.name: one.nearest for one in misspelt(dict.fromkeys(names, "x"))}


def test_a_misspelt_key_a_section_off_and_an_unknown_variable_are_told(tmp_path):
    config = """
[sources.crmcom]
page_sise = 3
start_date = "2024-01-01"
[sources.crncom]
lag_s = 3
[source.crmcom]
full_scan = []
[crmcom]
base_url = "x"
[transforms.crmcom.vars]
crmcom_report_timezon = "UTC"
crmcom_balance_sign = "positive"
[transforms.vars]
crmcom_ageing_buckets = [1]
[sources.crmcom.privacy]
email = "hash"
"""
    assert in_files(tmp_path, config, '[sources.crmcom]\napikey = "s"\n') == {
        "sources.crmcom.page_sise": "sources.crmcom.page_size",
        "sources.crncom.lag_s": "sources.crmcom.lag_s",
        "source.crmcom.full_scan": "sources.crmcom.full_scan",
        "crmcom.base_url": "sources.crmcom.base_url",
        "transforms.crmcom.vars.crmcom_report_timezon": (
            "transforms.crmcom.vars.crmcom_report_timezone"
        ),
        "transforms.vars.crmcom_ageing_buckets": "transforms.crmcom.vars.crmcom_ageing_buckets",
        "sources.crmcom.apikey": "sources.crmcom.api_key",
    }


def test_what_is_somebody_elses_is_left_alone(tmp_path):
    """Other sources, dlt's own sections, and what stands below a setting of ours."""
    config = """
[runtime]
log_level = "INFO"
[sources.hubspot]
api_key = "x"
[crmcom.destination.postgres]
credentials = "x"
[destination.postgres.credentials]
host = "x"
[pipelines.crmcom]
dataset = "crm"
[transforms.crmcom.vars.crmcom_custom_fields.contacts]
vip = "boolean"
[sources.crmcom]
max_table_nesting = 2
"""
    assert in_files(tmp_path, config) == {}
    assert (
        in_environment(
            "PATH",
            "SOURCES__HUBSPOT__API_KEY",
            "CRMCOM_MODEL_EXAMPLES",
            "CRMCOM__DESTINATION__POSTGRES__CREDENTIALS",
            "CRM_API_KEY",
            "TRANSFORMS__CRMCOM__VARS",
            *(f"SOURCES__CRMCOM__{name.upper()}" for name in NAMES),
        )
        == {}
    )


def test_a_misspelt_variable_of_the_environment_is_told():
    """dlt wants it whole, in upper case, with two underscores."""
    key = "SOURCES__CRMCOM__API_KEY"
    wrong = ("SOURCE__CRMCOM__API_KEY", "SOURCES__CRMCOM__APIKEY", "SOURCES_CRMCOM_API_KEY",
             "SOURCES__CRNCOM__API_KEY", "sources__crmcom__api_key", "CRMCOM__API_KEY")  # fmt: skip
    assert in_environment(*wrong) == dict.fromkeys(wrong, key)
    assert in_environment("SOURCES__CRMCOM__QQQQ") == {"SOURCES__CRMCOM__QQQQ": ""}
    variable = "TRANSFORMS__CRMCOM__VARS__CRMCOM_REPORT_TIMEZONE"
    assert in_environment(variable) == {variable: "TRANSFORMS__CRMCOM__VARS"}


@given(st.sampled_from(NAMES), st.data())
def test_one_wrong_letter_never_hides_which_setting_was_meant(name, data):
    at = data.draw(st.integers(0, len(name) - 1))
    wrong = name[:at] + data.draw(st.sampled_from(["", "q", name[at] * 2])) + name[at + 1 :]
    if wrong in NAMES or "__" in wrong or wrong.startswith("_") or wrong.endswith("_"):
        return
    variable = f"SOURCES__CRMCOM__{wrong.upper()}"
    assert in_environment(variable) == {variable: f"SOURCES__CRMCOM__{name.upper()}"}


def test_the_variables_are_those_of_the_dbt_project():
    project = yaml.safe_load((PROJECT_DIR / "dbt_project.yml").read_text())
    assert dbt_variables() == tuple(project["vars"])


def test_no_value_is_shown(tmp_path):
    """A misspelt secret is one all the same."""
    (tmp_path / ".dlt").mkdir()
    (tmp_path / ".dlt/secrets.toml").write_text('[sources.crmcom]\nsecretkey = "sEcret-1"\n')
    code = CODE.replace("print(one.name, one.where, one.nearest or '-')", "print(one)")
    code = re.sub(r"print\(.*\)", "print(one)", code)
    told = subprocess.check_output((sys.executable, "-c", code), cwd=tmp_path, text=True)
    assert "did you mean sources.crmcom.secret_key?" in told
    assert "sEcret" not in told


@pytest.mark.parametrize("page", ["README.md", "docs/check.md", ".dlt/config.toml"])
def test_what_our_own_pages_name_is_right(page):
    root = Path(__file__).parents[2]
    names = set(re.findall(r"\b(?:SOURCES|TRANSFORMS)__\w+", (root / page).read_text()))
    assert in_environment(*names) == {}
