"""The built wheel, which is what others install: what it holds, and that it works alone."""

import sys
import zipfile
from pathlib import Path

import pytest

from .conftest import project_files, run

PACKAGES = {
    "crmcom": "sources",
    "crmcom_pipelines": "pipelines",
    "crmcom_sandbox": "sandbox",
    "crmcom_transforms": "transforms",
}
ONLY_FOR_DLT_INIT = {"crmcom/README.md", "crmcom/requirements.txt"}


@pytest.fixture(scope="session")
def wheel(clone, tmp_path_factory):
    """Built as it is offline, from a fresh copy."""
    folder = tmp_path_factory.mktemp("wheel")
    options = ("--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", folder)
    run(sys.executable, "-m", "pip", "wheel", *options, clone, cwd=folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="session")
def installed(wheel, tmp_path_factory):
    """The wheel's folder, as `pip install` unpacks it."""
    target = tmp_path_factory.mktemp("installed")
    options = ("--quiet", "--no-deps", "--no-index", "--target", target)
    run(sys.executable, "-m", "pip", "install", *options, wheel, cwd=target)
    return target


@pytest.fixture
def outside(installed, stranger):
    """An environment in which the installed wheel is found before the checkout."""
    return stranger | {"PYTHONPATH": str(installed)}


def test_the_wheel_holds_exactly_the_four_packages(wheel):
    """Every file of them, SQL and YAML included, the licence, and nothing else."""
    with zipfile.ZipFile(wheel) as archive:
        held = {n for n in archive.namelist() if ".dist-info/" not in n}
        about = {n.partition(".dist-info/")[2] for n in archive.namelist() if ".dist-info/" in n}
    roots = {name: f"{root}/{name}" for name, root in PACKAGES.items()}
    expected = {
        path.partition("/")[2] for root in roots.values() for path in project_files(root)
    } - ONLY_FOR_DLT_INIT
    assert held == expected
    assert {Path(n).suffix for n in held} >= {".py", ".sql", ".yml"}
    assert about == {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE"}


@pytest.mark.parametrize("package", PACKAGES)
def test_each_package_imports_from_the_installed_wheel(package, installed, outside, tmp_path):
    """And is typed for those who use it."""
    code = f"import {package}; print({package}.__file__)"
    home = run(sys.executable, "-c", code, cwd=tmp_path, env=outside).stdout.strip()
    assert home == str(installed / package / "__init__.py")
    assert (installed / package / "py.typed").exists()


def test_the_command_works_outside_of_the_checkout(installed, outside, tmp_path):
    """The script that an installation makes, with its help and its version."""
    command = installed / "bin/crmcom"
    assert "Usage: crmcom" in run(command, "--help", cwd=tmp_path, env=outside).stdout
    assert "0.1.0" in run(command, "--version", cwd=tmp_path, env=outside).stdout


@pytest.mark.slow
def test_the_demo_runs_from_the_installed_wheel(installed, outside, tmp_path):
    """With the SQL that it brings, into the folder where it is called, and nowhere else."""
    before = sorted(p for p in installed.rglob("*") if "__pycache__" not in p.parts)
    size = ("--days", "1", "--contacts", "60", "--activities", "100")
    done = run(installed / "bin/crmcom", "demo", *size, cwd=tmp_path, env=outside)
    assert "Overdue accounts" in done.stdout
    assert (tmp_path / "warehouse.duckdb").exists()
    after = sorted(p for p in installed.rglob("*") if "__pycache__" not in p.parts)
    assert after == before
