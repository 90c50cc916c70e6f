"""Replies that the reference does not show, and that must neither stop nor mislead."""

import json
from datetime import UTC, datetime

import httpx
import pytest

from crmcom.client import Client
from crmcom.endpoints import LIST_CONTACTS
from crmcom.errors import Forbidden
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
