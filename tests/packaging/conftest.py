"""The project as a stranger gets it: a copy of its files, without what lies about in a checkout."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(*command, cwd, env=None, check=True):
    """A command's output; what it wrote on stderr is shown where it fails."""
    done = subprocess.run(
        [str(c) for c in command], cwd=cwd, env=env, capture_output=True, text=True, check=False
    )
    if check and done.returncode:
        pytest.fail(f"{command} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
    return done


def project_files(*under):
    """Paths that belong to the project: committed, or about to be."""
    listed = run(
        *("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--"),
        *under,
        cwd=ROOT,
    ).stdout
    return sorted(f for f in listed.split("\0") if f and (ROOT / f).is_file())


@pytest.fixture(scope="session")
def clone(tmp_path_factory):
    """A git repository with the working tree as its only commit."""
    folder = tmp_path_factory.mktemp("clone")
    for name in project_files():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / name)
    git = ("git", "-c", "user.name=test", "-c", "user.email=test@localhost")
    run(*git, "init", "--quiet", cwd=folder)
    run(*git, "add", "--all", cwd=folder)
    run(*git, "commit", "--quiet", "--no-verify", "--message", "all", cwd=folder)
    return folder


@pytest.fixture
def stranger(tmp_path):
    """An environment without settings, whose home is empty."""
    kept = {k: v for k, v in os.environ.items() if "__" not in k and not k.startswith("PYTHON")}
    home = tmp_path / "home"
    home.mkdir()
    return kept | {
        "HOME": str(home),
        "DLT_DATA_DIR": str(home / "dlt"),
        "RUNTIME__DLTHUB_TELEMETRY": "false",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PIP_NO_INDEX": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }
