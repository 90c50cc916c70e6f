"""Checks against sandboxes and against servers that are none."""

import asyncio
from collections import namedtuple

import pytest

from crmcom import Settings
from crmcom.probing import examine
from crmcom.retrying import Patience
from crmcom_sandbox import World, serve

ALL = ("contacts", "accounts", "activities")
HURRIED = Patience(tries=2, misrouted=2, first_wait_s=0.01, longest_wait_s=0.02, total_s=5)

Examined = namedtuple("Examined", "findings requests")


def examined(url, key="a-key", resources=ALL, **settings):
    """The findings by name."""
    found = []
    asked = Settings(base_url=url, api_key=key, **settings)
    asyncio.run(examine(asked, resources, found, patience=HURRIED))
    names = [f.name for f in found]
    assert len(names) == len(set(names)), names
    return {f.name: f for f in found}


@pytest.fixture(scope="session", name="world")
def _world():
    """Three pages of contacts, and nine of activities in each state; nothing changes it."""
    return World.generate(contacts=250, activities=900)


@pytest.fixture(name="examine")
def _examine():
    """Examines a sandbox of a world and a behaviour, or whatever is at a URL."""

    def run(world, behaviour="live", **options):
        if isinstance(world, str):
            return examined(world, **options)
        with serve(world, behaviour=behaviour) as server:
            found = examined(server.base_url, options.pop("key", server.api_key), **options)
            return Examined(found, sum(server.sandbox.counters.requests.values()))

    return run
