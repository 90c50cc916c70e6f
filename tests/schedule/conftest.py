"""A sandbox to be scheduled against, and the settings that lead to it."""

import os
import sys
from pathlib import Path

import pytest

from crmcom_sandbox import World, serve

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs/schedule"
CRMCOM = Path(sys.executable).parent / "crmcom"


@pytest.fixture(scope="session")
def server():
    with serve(World.generate(contacts=40, activities=120), behaviour="live") as running:
        yield running


@pytest.fixture(scope="session")
def tenant(server):
    """The settings of a tenant, as a scheduler gives them."""
    return {
        "SOURCES__CRMCOM__BASE_URL": server.base_url,
        "SOURCES__CRMCOM__API_KEY": server.api_key,
    }


@pytest.fixture
def bare():
    """An environment that knows no tenant and no home."""
    return {"PATH": os.defpath, "RUNTIME__DLTHUB_TELEMETRY": "false"}
