"""Replies that the reference does not show, and that must neither stop nor mislead."""

import json
from datetime import UTC, datetime

import httpx
import pytest

from crmcom.client import Client, Learned
from crmcom.endpoints import LIST_ACTIVITIES, LIST_CONTACTS
from crmcom.errors import Forbidden, NotFound, Unavailable
from crmcom.protocol import Request, judge, read_page
from crmcom.settings import Settings

NOW = datetime(2024, 1, 1, tzinfo=UTC)
ASKED = Request(LIST_CONTACTS)


def page(status, body):
    return read_page(judge(ASKED, status, {}, body, NOW))


def test_no_content_is_an_empty_list():
    assert page(204, b"").rows == ()


def test_a_byte_order_mark_is_no_part_of_the_body():
    assert page(200, b'\xef\xbb\xbf{"content": [{"id": "a"}]}').ids == {"a"}


@pytest.mark.parametrize(
    ("total", "read"), [('"25"', 25), ("25.0", 25), ('"many"', None), ("true", None), ("[1]", None)]
)
def test_a_total_that_is_no_number_takes_no_rows_with_it(total, read):
    found = page(200, b'{"content": [{"id": "a"}], "paging": {"total": %s}}' % total.encode())
    assert found.ids == {"a"}
    assert found.total == read


@pytest.mark.parametrize(("more", "read"), [('"true"', True), ('"false"', False), ("1", None)])
def test_has_more_is_read_where_it_can_be(more, read):
    found = page(200, b'{"content": [], "paging": {"has_more": %s}}' % more.encode())
    assert found.has_more is read


async def test_a_secret_that_json_escapes_is_not_shown():
    """Some servers write `=` as `\\u003d`: a key with one would pass a search of the bytes."""
    key = "s3cr3t-KEY=="
    said = json.dumps({"message": f"bad key {key}"}).replace("=", "\\u003d").encode()
    transport = httpx.MockTransport(lambda _: httpx.Response(403, content=said))
    settings = Settings(base_url="http://127.0.0.1:1/v2", api_key=key)
    async with Client(settings, transport=transport) as client:
        with pytest.raises(Forbidden) as caught:
            await client.get(ASKED)
    assert "bad key" in str(caught.value)
    assert "s3cr3t" not in str(caught.value)


@pytest.mark.parametrize("body", [b'{"status": 404}', b"<html>no such route</html>"])
@pytest.mark.parametrize(
    ("endpoint", "path", "other"),
    [
        (LIST_ACTIVITIES, "/v2/activities/", "/v2/activities"),
        (LIST_CONTACTS, "/v2/contacts", "/v2/contacts/"),
    ],
)
async def test_a_list_is_found_with_a_slash_and_without(tools, endpoint, path, other, body):
    """As the reference spells it first; what the server knows is found out once for a run."""
    for known in (path, other):

        def answer(asked, known=known):
            return tools.Say() if asked.path == known else tools.Say(404, body)

        learned = Learned()
        async with tools.Server(answer) as server:
            for _ in range(2):
                async with tools.client(server, learned=learned) as client:
                    for _ in range(3):
                        await client.get(Request(endpoint, params=(("page", "1"),)))
        asked = [a.path for a in server.asked]
        assert asked[0] == path
        assert asked[-6:] == [known] * 6
        assert set(asked[:-6]) <= {path}
        assert {a.query.split("&")[-1] for a in server.asked} == {"page=1"}


@pytest.mark.parametrize(
    ("body", "error"), [(b"", NotFound), (b"<html>no such route</html>", Unavailable)]
)
async def test_a_list_that_is_in_neither_spelling_is_an_error(tools, body, error):
    async with tools.Server([tools.Say(404, body)]) as server, tools.client(server) as client:
        with pytest.raises(error, match=r"GET /activities/ \(/activities/\): 404"):
            await client.get(Request(LIST_ACTIVITIES))
    assert {a.path for a in server.asked} == {"/v2/activities/", "/v2/activities"}


async def test_the_other_spelling_hides_no_other_trouble(tools):
    """Once a spelling was answered, no other is tried; where the other one is there, its own
    error is told."""

    def answer(asked):
        return tools.Say(404 if asked.path.endswith("/") else 403, {})

    async with tools.Server(answer) as server, tools.client(server) as client:
        with pytest.raises(Forbidden, match=r"\(/activities\): 403"):
            await client.get(Request(LIST_ACTIVITIES))
    async with tools.Server([200, 404]) as server, tools.client(server) as client:
        await client.get(Request(LIST_ACTIVITIES))
        with pytest.raises(NotFound):
            await client.get(Request(LIST_ACTIVITIES))
    assert len(server.asked) == 2
