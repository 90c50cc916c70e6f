"""The container file, as far as it can be tried without a container: its steps, its user."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from .conftest import ROOT

TEXT = (ROOT / "Containerfile").read_text()
IGNORED = (ROOT / ".containerignore").read_text()
LINES = re.sub(r"\\\n", "", re.sub(r"^#.*\n", "", TEXT, flags=re.MULTILINE)).splitlines()
NOBODY = 12345
"""A user that no machine knows, as some platforms choose one."""


def said(instruction):
    return [line.split(maxsplit=1)[1] for line in LINES if line.startswith(f"{instruction} ")]


@pytest.mark.skipif(not shutil.which("hadolint"), reason="hadolint is not installed")
def test_the_container_file_passes_its_linter():
    done = subprocess.run(["hadolint", ROOT / "Containerfile"], capture_output=True, check=False)
    assert done.returncode == 0, done.stdout.decode()


def test_the_image_runs_as_a_numeric_user_without_rights():
    """By number, so that a platform can see that it is not root."""
    (user,) = said("USER")
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", user)
    assert said("VOLUME") == said("WORKDIR")[-1:] == ["/data"]
    assert said("ENTRYPOINT") == ['["crmcom"]']


def test_what_is_copied_is_not_ignored_and_nothing_else_is_sent():
    copied = [name for line in said("COPY") if "--from" not in line for name in line.split()[:-1]]
    assert sorted(f"!{name}" for name in copied) == sorted(re.findall("^!.*$", IGNORED, re.M))
    assert "\n*\n" in IGNORED
    assert "secrets.toml" in IGNORED
    assert (ROOT / ".dockerignore").read_text() == IGNORED
    assert all((ROOT / name).exists() for name in copied)


@pytest.fixture(scope="module")
def image():
    """What the build's steps install, from a copy of what they copy, in a folder instead of /."""
    if not os.environ.get("CRMCOM_INSTALLS"):
        pytest.skip("installs from the network: make test-image")
    # Not in pytest's own folder, which every other pytest that starts closes to other users.
    with tempfile.TemporaryDirectory(prefix="image-") as folder:
        Path(folder).chmod(0o755)
        yield install(Path(folder))


def install(root):
    build = root / "build"
    build.mkdir()
    for name in re.findall("^!(.*)$", IGNORED, re.M):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, build / name)
    (step,) = [line for line in said("RUN") if "pip" in line]
    moved = step.replace("/opt/crmcom", str(root / "opt")).replace("python3.11", PYTHON)
    pins = {"PIP_CONSTRAINT": str(build / "requirements.lock"), "EXTRAS": ""}
    python = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    subprocess.run(["sh", "-ec", moved], cwd=build, env=os.environ | pins | python, check=True)
    shutil.rmtree(build)
    return root / "opt"


PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"


def test_it_runs_for_a_user_whom_nobody_knows(image):
    """Its home is the volume, and it writes nowhere else; the image is not his to change."""
    data = image.with_name("data")
    data.mkdir()
    as_nobody = []
    if os.geteuid() == 0:
        os.chown(data, NOBODY, NOBODY)
        as_nobody = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
        as_nobody += ["--no-new-privs", "--bounding-set=-all"]
        interpreter = image / "bin/python"
        open_to_all = subprocess.run([*as_nobody, interpreter, "-c", ""], check=False)
        if open_to_all.returncode:
            pytest.skip(f"{interpreter} leads to a folder that is closed to other users")
    before = sorted(image.rglob("*"))
    done = subprocess.run(
        [
            *(*as_nobody, image / "bin/crmcom", "demo"),
            *("--contacts", "60", "--activities", "150", "--days", "1"),
        ],
        cwd=data,
        env={"PATH": f"{image / 'bin'}{os.pathsep}{os.defpath}", "HOME": str(data)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Overdue accounts" in done.stdout
    assert (data / "warehouse.duckdb").exists()
    assert sorted(image.rglob("*")) == before


def test_it_is_small(image):
    """Without the base, and without what only reports as pages need."""
    size = sum(p.lstat().st_size for p in image.rglob("*") if not p.is_symlink())
    print(f"{size / 1e6:.0f} MB are installed")  # noqa: T201 - for who runs `make test-image -s`
    assert size < 600e6
    assert not list(image.rglob("vl_convert*"))
    assert not list(image.rglob("site-packages/pip"))
