"""What is imported is named, what is named is pinned, and no file says from where it comes."""

import ast
import re
import sys
import tomllib

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from .conftest import ROOT, project_files

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK = (ROOT / "requirements.lock").read_text().splitlines()
OURS = {"crmcom", "crmcom_pipelines", "crmcom_sandbox", "crmcom_transforms"}
DISTRIBUTIONS = {
    "dbt": {"dbt-core", "dbt-duckdb"},
    "opentelemetry": {"opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-http"},
    "psycopg2": {"psycopg2-binary"},
    "vl-convert": {"vl-convert-python"},
}
"""Where the import's name is not the distribution's."""

# Chosen by dbt and dlt at run time, or bounded for their sake; see docs/decisions.
NOT_IMPORTED = {"dbt-core", "dbt-duckdb", "httptools", "uvloop", "sqlglot", "pandas"}


def named(requirements):
    return {canonicalize_name(Requirement(r).name): Requirement(r) for r in requirements}


def imported(*under):
    """Names of the distributions whose modules are imported there."""
    found = set()
    for path in project_files(*under):
        if not path.endswith(".py"):
            continue
        for node in ast.walk(ast.parse((ROOT / path).read_text())):
            if isinstance(node, ast.Import):
                found |= {a.name.partition(".")[0] for a in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                found.add(str(node.module).partition(".")[0])
    return {canonicalize_name(name) for name in found - OURS - sys.stdlib_module_names}


def test_the_source_names_what_it_imports():
    """`dlt init` installs what stands in its requirements, and nothing more is there."""
    needs = named((ROOT / "sources/crmcom/requirements.txt").read_text().splitlines())
    used = imported("sources/crmcom")
    assert used <= set(needs)
    # duckdb stays below 2 wherever it is installed, although nothing here imports it.
    assert set(needs) - used <= {"duckdb"}


def test_the_source_asks_for_no_other_versions_than_the_project():
    """One bound, two places: they are to say the same."""
    project = named(PROJECT["dependencies"])
    for line in (ROOT / "sources/crmcom/requirements.txt").read_text().splitlines():
        needed = Requirement(line)
        assert needed.specifier == project[canonicalize_name(needed.name)].specifier


def test_the_project_names_what_it_imports_and_no_more():
    """What only one format or transport needs may be an extra's."""
    project = set(named(PROJECT["dependencies"]))
    extras = PROJECT["optional-dependencies"]
    optional = {name for extra in extras if extra != "dev" for name in named(extras[extra])}
    used = imported("sources", "pipelines", "sandbox", "transforms")
    used = {d for name in used for d in DISTRIBUTIONS.get(name, {name})}
    assert used <= project | optional
    assert project - used <= NOT_IMPORTED


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_every_requirement_is_pinned_once_on_every_python(python):
    environment = default_environment() | {
        "python_version": python,
        "python_full_version": f"{python}.5",
    }
    pins = {}
    for line in LOCK:
        pin = Requirement(line)
        if pin.marker is None or pin.marker.evaluate(environment):
            name = canonicalize_name(pin.name)
            assert name not in pins
            pins[name] = str(pin.specifier).removeprefix("==")
    wanted = sum(PROJECT["optional-dependencies"].values(), PROJECT["dependencies"])
    for requirement in map(Requirement, wanted):
        assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)])


def test_the_lock_file_names_versions_and_nothing_else():
    """No index, no address, no path: whoever installs decides from where."""
    assert len(LOCK) > 100
    for line in LOCK:
        assert re.fullmatch(r"[a-z0-9][a-z0-9._-]*==[0-9][^ ;]*( ; .+)?", line), line
        assert "/" not in line
