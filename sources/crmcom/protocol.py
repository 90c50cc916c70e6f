"""The API's rules without any I/O: build a request, judge a reply, read a page.

Nothing here awaits, sleeps or logs. `client.py` performs what this file decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec

from crmcom.errors import (
    BadRequest,
    BrokenReply,
    CrmcomError,
    Evidence,
    Forbidden,
    LoginRefused,
    Misrouted,
    NotFound,
    RateLimited,
    ServerTrouble,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from crmcom.endpoints import Endpoint

MAX_PAGE_SIZE = 100
"""The live API reduces a larger `size` without a word."""

MAX_EPOCH_S = 253_402_300_799
"""The last second of the year 9999. An epoch beyond it is not in seconds."""

# 425 is the reference's "too early: may be replayed"; a GET may be.
_TROUBLE = frozenset({408, 425, 500, 502, 503, 504})


OTHER = "as another product may answer: check sources.crmcom.base_url"

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"

Params = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Request:
    """One question: an endpoint, the record it is about, and its parameters."""

    endpoint: Endpoint
    record_id: str | None = None
    params: Params = ()

    @property
    def path(self) -> str:
        # An id is data: one with a slash or a question mark must not become another route.
        return self.endpoint.path.replace("{id}", quote(self.record_id or "", safe=""))

    @property
    def query(self) -> Params:
        return self.endpoint.params + self.params


@dataclass(frozen=True, slots=True)
class Reply:
    """A judged answer: its body is whole and is a JSON object.

    `answered_at` is the server's clock (its `Date` header, UTC, whole seconds), or None.
    """

    request: Request
    body: bytes
    answered_at: datetime | None = None


def judge(
    request: Request, status: int, headers: Mapping[str, str], body: bytes, now: datetime
) -> Reply:
    """Return the reply, or raise what its status and body mean.

    `now` (UTC) turns a `Retry-After` date into seconds. Reference: Response Codes.
    """
    if status == 204:
        return Reply(request, b'{"content": null}', server_time(headers))
    if 200 <= status < 300:
        body = body.removeprefix(_BYTE_ORDER_MARK)
        if not _is_json_object(body):
            what = _no_object(body)
            raise BrokenReply(what, _evidence(request, status, body))
        return Reply(request, body, server_time(headers))
    raise _refusal(request, status, headers, body, now)


def _refusal(
    request: Request, status: int, headers: Mapping[str, str], body: bytes, now: datetime
) -> CrmcomError:
    evidence = _evidence(request, status, body)
    wait_s = retry_after_s(headers, now)
    if status == 401:
        return LoginRefused("the API does not accept the credentials", evidence)
    if status == 403 and _is_page(body):
        what = "a web page refuses us, from a firewall or gateway in front of the API"
        return Forbidden(what, evidence)
    if status == 403:
        return Forbidden("the credentials have no permission for this endpoint", evidence)
    if status == 429 or (status == 503 and wait_s is not None):
        how_long = f" and to wait {wait_s:.0f} s" if wait_s else ""
        what = f"the API asks us to slow down{how_long}"
        return RateLimited(what, evidence, retry_after_s=wait_s)
    if status in _TROUBLE or status >= 500:
        return ServerTrouble("the API has trouble", evidence)
    if status == 404:
        # A gateway's or another product's 404 comes as a page of HTML. Only the API's own
        # may count as "there is no such record": rows are marked as deleted because of it.
        if body.strip() and not _is_json_object(body):
            return Misrouted(
                "a 404 that is not the API's own, from a gateway or another site", evidence
            )
        return NotFound("there is no such record", evidence)
    return BadRequest("the API does not take this request", evidence)


def _is_page(body: bytes) -> bool:
    """Of HTML: from a gateway, a login, or another site."""
    return body.lstrip().startswith(b"<")


def _no_object(body: bytes) -> str:
    """What a reply's body is instead of a JSON object."""
    if _is_page(body):
        return (
            "the reply is a web page and no JSON, from a gateway, a login or another site: "
            "check sources.crmcom.base_url"
        )
    try:
        msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return "the reply's body is truncated or not JSON"
    return f"the reply is JSON and no object, {OTHER}"


def server_time(headers: Mapping[str, str]) -> datetime | None:
    """The `Date` header as aware UTC, or None where it is missing or unreadable."""
    return _http_date(headers.get("date", ""))


def retry_after_s(headers: Mapping[str, str], now: datetime) -> float | None:
    """Seconds to wait from `Retry-After`, given in seconds or as a date; None if not given.

    A date is measured against the reply's own `Date` where it has one: two clocks never meet.
    """
    value = headers.get("retry-after", "").strip()
    if not value:
        return None
    if value.isdecimal():
        return float(value)
    at = _http_date(value)
    return None if at is None else max(0.0, (at - (server_time(headers) or now)).total_seconds())


@lru_cache(maxsize=16)  # hundreds of replies come in each second
def _http_date(value: str) -> datetime | None:
    try:
        return parsedate_to_datetime(value).replace(tzinfo=UTC)
    except (TypeError, ValueError):
        return None


class _ApiError(msgspec.Struct):
    # Any field may be null on the live API, whatever the reference's example shows.
    message: Any = None
    error: Any = None


def _evidence(request: Request, status: int, body: bytes) -> Evidence:
    try:
        said = msgspec.json.decode(body, type=_ApiError)
        message = " ".join(str(x) for x in (said.message, said.error) if x)
    except (msgspec.DecodeError, UnicodeDecodeError):
        message = ""
    # On one line, and with nothing that a terminal would obey.
    shown = "".join(c if c.isprintable() else " " for c in message[:300])
    return Evidence(request.endpoint.name, request.path, status, shown)


_object = msgspec.json.Decoder(dict[str, msgspec.Raw])


def _is_json_object(body: bytes) -> bool:
    try:
        _object.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    return True


# --- pages ---------------------------------------------------------------------------------


class _Paging(msgspec.Struct):
    total: Any = None
    has_more: Any = None


class _Page(msgspec.Struct):
    content: list[msgspec.Raw] | msgspec.UnsetType | None = msgspec.UNSET
    paging: _Paging | msgspec.UnsetType | None = msgspec.UNSET


class _KeyDates(msgspec.Struct):
    created_on: int | None = None


class _Head(msgspec.Struct):
    id: str
    key_dates: _KeyDates | None = None


_page = msgspec.json.Decoder(_Page)
_head = msgspec.json.Decoder(_Head)


@dataclass(frozen=True, slots=True)
class Row:
    """One element of a page: its id and created date where they can be read, and its bytes.

    `id` is None for a row that has none or is no object: such a row goes to the rejects.
    """

    id: str | None
    created_on: int | None
    raw: bytes


@dataclass(frozen=True, slots=True)
class Page:
    """A page as the server sent it. `total` and `has_more` are None where it does not say."""

    rows: tuple[Row, ...]
    total: int | None
    has_more: bool | None
    answered_at: datetime | None

    @property
    def ids(self) -> frozenset[str]:
        return frozenset(r.id for r in self.rows if r.id is not None)


def read_page(reply: Reply) -> Page:
    """Read a list's envelope and the head of each row; the rows stay bytes.

    `paging.size` is not read: it is the size asked for in the reference and the number of
    rows on the page on the live API. Raises `BrokenReply` where the envelope is not one.
    """
    try:
        page = _page.decode(reply.body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BrokenReply(
            f"the reply is not a list ({error}), {OTHER}",
            Evidence(reply.request.endpoint.name, reply.request.path, 200),
        ) from None
    if page.content is msgspec.UNSET and page.paging is msgspec.UNSET:
        # An object without either is some other answer, and must not pass for an empty list.
        raise BrokenReply(
            f"the reply is not a list: neither `content` nor `paging`, {OTHER}",
            Evidence(reply.request.endpoint.name, reply.request.path, 200),
        )
    paging = page.paging or _Paging()
    rows = tuple(_read_row(bytes(raw)) for raw in page.content or ())
    return Page(rows, _total(paging.total), _flag(paging.has_more), reply.answered_at)


def _total(value: object) -> int | None:
    """A count that cannot be read is none: the rows can still be."""
    if isinstance(value, str) and value.strip().isdecimal():
        return int(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _flag(value: object) -> bool | None:
    if isinstance(value, bool):
        return value
    return {"true": True, "false": False}.get(str(value).lower())


def _read_row(raw: bytes) -> Row:
    try:
        head = _head.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _read_odd_row(raw)
    created_on = head.key_dates.created_on if head.key_dates else None
    if created_on is not None and abs(created_on) > MAX_EPOCH_S:
        created_on = None  # in milliseconds, perhaps: no date to judge a window by
    return Row(head.id or None, created_on, raw)


def _read_odd_row(raw: bytes) -> Row:
    """A row with a number for an id, or an odd created date: keep what can be known of it."""
    try:
        row = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Row(None, None, raw)
    record_id = row.get("id") if isinstance(row, dict) else None
    if isinstance(record_id, bool) or not isinstance(record_id, int | str) or record_id == "":
        return Row(None, None, raw)
    return Row(str(record_id), None, raw)


def has_next(page: Page, number: int, size: int) -> bool:
    """Whether a page follows page `number` (from 1), judged on the page as the server sent it.

    `has_more` says so; where it is absent, `total` decides; where both are, a short page does.
    `size` is the size that the server really serves. A capped `total` would end a walk early:
    `listing.py` never walks a list whose total stands at the cap.
    """
    if page.has_more is not None:
        return page.has_more and bool(page.rows)
    if not page.rows:
        return False
    if page.total is not None:
        return number * size < page.total
    return len(page.rows) >= size


def range_params(field: str, start_s: int | None, end_s: int | None) -> Iterable[tuple[str, str]]:
    """A half-open range `[start_s, end_s)` of epoch seconds; None leaves an end open."""
    if start_s is not None:
        yield f"{field}[gte]", str(start_s)
    if end_s is not None:
        yield f"{field}[lt]", str(end_s)
