"""A sandbox asked in-process, and the world of the reference's own examples."""

import asyncio
from typing import Any

import httpx
import pytest

from crmcom_sandbox import API_KEY, Sandbox, World, create_app
from crmcom_sandbox.catalogue import Linked

USER = {
    "id": "47ac694d-6281-b873-bf46-3fd8da334a3a",
    "name": "John Doe",
    "username": "j_doe@crm.com",
}
TEAM = {"id": "bf1370a1-73ad-0bbf-6fef-f2ce1938d4fe", "name": "Support"}
TYPE = {"id": "HGJDHGSJDHG", "name": "site visit", "color": "876FD5"}
TAG = {"id": "609a369e-3f10-492a-8332-679ecbe56b65", "name": "Maintenance", "colour": "FR547F"}
CLASSIFICATION = {"id": "c8d83493-3f50-40df-adb0-762ec5f41863", "name": "Delivery Purchase"}
TERMS = {"id": "CAD1E31269B76D7A65ACCE45B2E68DFD", "name": "Net 7"}
CONTACT_ID = "1c060611-0667-313e-b3bf-4cb70ee81cdf"
ORDER = {"id": "2760043d-c671-a428-9b35-2f27b0623fa1", "number": "O101367"}


class Api:
    """Sends requests to an application in this process, as a client with the right key."""

    def __init__(self, world: World, **options: Any) -> None:
        self.world = world
        self.app = create_app(world, **options)
        self.sandbox: Sandbox = self.app.state.sandbox

    def __call__(self, method: str, path: str, **options: Any) -> httpx.Response:
        headers = options.pop("headers", {"api_key": API_KEY})
        base_url = "http://sandbox" + ("" if path.startswith("/_control") else "/backoffice/v2")

        async def send() -> httpx.Response:
            transport = httpx.ASGITransport(app=self.app)
            async with httpx.AsyncClient(transport=transport, base_url=base_url) as client:
                return await client.request(method, path, headers=headers, **options)

        return asyncio.run(send())

    def get(self, path: str, **params: Any) -> Any:
        """The body of a reply that must be 200."""
        reply = self("GET", path, params=params)
        assert reply.status_code == 200, reply.text
        return reply.json()

    def ids(self, path: str, **params: Any) -> list[str]:
        return [record["id"] for record in self.get(path, **params)["content"] or []]

    def pages(self, path: str, **params: Any) -> list[str]:
        """The ids of all pages, one after the other."""
        found: list[str] = []
        page = 1
        while ids := self.ids(path, page=page, **params):
            found += ids
            page += 1
        return found


@pytest.fixture(scope="session")
def api_of():
    return Api


@pytest.fixture(scope="session")
def small():
    """A generated world that no test changes."""
    return World.generate(seed=7, contacts=120, activities=600)


@pytest.fixture
def examples():
    """A world that holds what the reference's examples refer to, and nothing else."""
    world = World()
    catalogue = world.catalogue
    catalogue.users[USER["id"]] = USER
    catalogue.users["1edef819-0a1d-4d41-9d2a-d4bbc2ddbedf"] = {
        **USER,
        "id": "1edef819-0a1d-4d41-9d2a-d4bbc2ddbedf",
    }
    catalogue.teams[TEAM["id"]] = TEAM
    catalogue.teams["a43f08ca-998b-afbc-6ed4-c9dc2d136935"] = {
        **TEAM,
        "id": "a43f08ca-998b-afbc-6ed4-c9dc2d136935",
    }
    catalogue.activity_types[TYPE["id"]] = TYPE
    other_type = "cdd8e232-ddce-87c0-44fd-27f44035a252"
    catalogue.activity_types[other_type] = {**TYPE, "id": other_type}
    catalogue.tags[TAG["id"]] = TAG
    for tag_id in ("96c3cb52-c68f-6ba6-e886-ed28f2b594cb", "1abe9097-d46a-d2ed-3415-fd3e1439d8d4"):
        catalogue.tags[tag_id] = {"id": tag_id, "name": "VIP", "colour": "#0000FF"}
    for key in ("d230809f-ed91-4b68-b912-5bd6064d602a", "a2c0809f-ed91-4b68-b912-5bd6064d602a"):
        catalogue.classifications[key] = {"id": key, "name": "Delivery Purchase"}
        catalogue.payment_terms[key] = {"id": key, "name": "Net 7"}
    world.create_contact(
        id=CONTACT_ID, type="PERSON", code="C123", first_name="John", last_name="Doe"
    )
    for order_id in (ORDER["id"], "50490788-0f2c-0a73-8ae0-1b129f8fdb50"):
        catalogue.linked[order_id] = Linked("order", CONTACT_ID, {**ORDER, "id": order_id})
    return world
