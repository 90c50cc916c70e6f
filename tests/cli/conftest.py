"""One small warehouse, made once through the command line, and a way to call it."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from crmcom_sandbox import World, serve


@dataclass
class Called:
    """What a command printed and how it ended."""

    code: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)


def environ(home, api_key=None, **more):
    """What a process finds in its environment: no settings but these."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("SOURCES__", "TRANSFORMS__"))}
    key = {"SOURCES__CRMCOM__API_KEY": api_key} if api_key else {}
    return env | {"HOME": str(home), "COLUMNS": "200"} | key | more


def call(*args, cwd, api_key=None, **more):
    """Run `crmcom` as a user does: a process of its own, in a folder without settings."""
    env = environ(cwd, api_key, **more)
    command = [str(Path(sys.executable).parent / "crmcom"), *map(str, args)]
    found = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    return Called(found.returncode, found.stdout, found.stderr)


@pytest.fixture(scope="session", name="call")
def _call():
    return call


@pytest.fixture(scope="session", name="environ")
def _environ():
    return environ


@pytest.fixture(scope="session")
def server():
    world = World.generate(contacts=40, activities=120)
    with serve(world, behaviour="live") as running:
        yield running


@pytest.fixture(scope="session")
def synced(server, tmp_path_factory):
    """A folder with a warehouse, and what the sync that made it printed."""
    folder = tmp_path_factory.mktemp("synced")
    made = call("sync", "--base-url", server.base_url, "--json", cwd=folder, api_key=server.api_key)
    assert made.code == 0, made.err
    return folder, made
