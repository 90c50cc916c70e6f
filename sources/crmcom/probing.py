"""What an API allows us and how it behaves, asked on purpose with a few dozen requests.

Each question says what came of it, or honestly that it cannot tell: an empty tenant shows nothing
of its filters, and one with a single page nothing of its paging.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from crmcom.behaviour import LARGE, Behaviour, Listed, page
from crmcom.client import CLOCK_TOLERANCE_S, Client
from crmcom.endpoints import (
    GET_ACCOUNT,
    GET_ACTIVITY,
    GET_ACTIVITY_TAGS,
    GET_CONTACT,
    LIST_ACTIVITIES,
    LIST_CONTACT_ACCOUNTS,
    LIST_CONTACTS,
)
from crmcom.errors import (
    BrokenReply,
    CrmcomError,
    Evidence,
    Forbidden,
    LoginRefused,
    NotFound,
    SettingsError,
    Unavailable,
)
from crmcom.findings import Finding, failed, untold
from crmcom.listing import ask_page, must_have_ids
from crmcom.protocol import Request, read_page
from crmcom.retrying import Patience
from crmcom.settings import ApiKey, Token

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crmcom.endpoints import Endpoint
    from crmcom.protocol import Page
    from crmcom.settings import Settings

LIMIT_S = 90
"""For all questions together."""

TIMEOUT_S = 20
"""For one try: the API's slowest answers take 16 s."""

PATIENCE = Patience(tries=3, first_wait_s=0.3, longest_wait_s=2, total_s=20)
"""A person waits for the answer: an endpoint that fails is said to fail within seconds."""

FEW_CONTACTS = 5
"""Contacts asked for an account: most have one."""


async def examine(
    settings: Settings, resources: Sequence[str], found: list[Finding], **client: Any
) -> None:
    """Ask all that a sync of `resources` relies on, and add what comes of it to `found`.

    Takes `LIMIT_S` at most and raises nothing that the API or the network does. `client` are
    options of `Client`.
    """
    hurried = replace(settings, request_timeout_s=min(TIMEOUT_S, settings.request_timeout_s))
    try:
        async with (
            asyncio.timeout(LIMIT_S),
            Client(hurried, **{"patience": PATIENCE, **client}) as asker,
        ):
            await _Examination(asker, resources, found).run()
    except TimeoutError:
        found.append(
            Finding(
                "time",
                ok=False,
                message=f"the API did not answer all questions in {LIMIT_S} s: run again later",
                exit_code=Unavailable.exit_code,
            )
        )
    except CrmcomError as error:  # the environment's proxy or certificates, say
        found.append(failed("connection", error))


class _Examination:
    def __init__(self, client: Client, resources: Sequence[str], found: list[Finding]) -> None:
        self._client = client
        self._resources = resources
        self._found = found

    async def run(self) -> None:
        wanted = [
            endpoint
            for endpoint, needed_by in (
                (LIST_CONTACTS, {"contacts", "accounts"}),
                (LIST_ACTIVITIES, {"activities"}),
            )
            if needed_by & set(self._resources)
        ]
        lists, errors = await self._first_pages(wanted)
        if not self._connected(lists, errors):
            return
        for endpoint, error in errors.items():
            self._found.append(failed(endpoint.name, error))
        for one in lists:
            total = one.page.total
            rows = "rows not counted" if total is None else f"{total:,} rows"
            answered = f"answers ({rows}, {one.seconds:.1f} s)"
            self._found.append(Finding(one.endpoint.name, ok=True, message=answered, value=200))
        await self._records({one.resource: one.page for one in lists})
        for one in lists:
            if one.resource in self._resources:
                await Behaviour(self._client, self._found).ask(one)

    # --- who we are, and whether anybody answers ---

    async def _first_pages(
        self, endpoints: Sequence[Endpoint]
    ) -> tuple[list[Listed], dict[Endpoint, CrmcomError]]:
        lists: list[Listed] = []
        errors: dict[Endpoint, CrmcomError] = {}
        for endpoint in endpoints:
            began_s = time.monotonic()
            try:
                first = await page(self._client, endpoint, "CREATED_DATE", "DESC", LARGE)
                must_have_ids(first, endpoint)
            except CrmcomError as error:
                errors[endpoint] = error
                if isinstance(error, LoginRefused | SettingsError):
                    break
            else:
                lists.append(Listed(endpoint, first, time.monotonic() - began_s))
        return lists, errors

    def _connected(self, lists: list[Listed], errors: dict[Endpoint, CrmcomError]) -> bool:
        """Says who we are to the API and how its clock stands, or why nothing can be asked."""
        add = self._found.append
        for error in errors.values():
            if isinstance(error, LoginRefused):
                add(failed("credentials", error))
                return False
            if isinstance(error, SettingsError):
                add(failed("connection", error))
                return False
        known = lists or any(isinstance(e, Forbidden) for e in errors.values())
        if not known:
            add(self._unreached(list(errors.values())))
            return False
        if lists:
            add(Finding("credentials", ok=True, message=self._credentials(), value=self._way()))
        else:
            add(untold("credentials", "every list refuses us"))
        add(self._clock([one.page.answered_at for one in lists]))
        return True

    def _unreached(self, errors: list[CrmcomError]) -> Finding:
        """One line for one cause: no list answers as the API does."""
        first = errors[0]
        if isinstance(first, NotFound):
            return replace(failed("connection", first), exit_code=SettingsError.exit_code)
        return failed("connection", first)

    def _way(self) -> str:
        who = self._client.settings.credentials
        return {ApiKey: "api_key", Token: "access_token"}.get(type(who), "login")

    def _credentials(self) -> str:
        told = {
            "api_key": "the API accepts the key",
            "access_token": "the API accepts the token; it cannot be renewed from here",
            "login": "the API accepts the login",
        }[self._way()]
        more = self._client.learned.notices.get("password")
        return f"{told}; {more}" if more else told

    def _clock(self, told: list[datetime | None]) -> Finding:
        at = next((t for t in told if t is not None), None)
        if at is None:
            return Finding(
                "clock",
                ok=None,
                message="could not tell: replies have no Date, so this machine's clock counts",
            )
        ahead_s = round((at - datetime.now(UTC)).total_seconds())
        told_s = f"the server's clock is {abs(ahead_s):,} s {'ahead' if ahead_s > 0 else 'behind'}"
        if abs(ahead_s) <= CLOCK_TOLERANCE_S:
            return Finding("clock", ok=True, message=told_s, value=ahead_s)
        message = (
            f"{told_s}; a sync goes by the server's, so nothing is lost: set this machine's if it "
            "is the wrong one"
        )
        return Finding("clock", ok=True, message=message, value=ahead_s)

    # --- single records ---

    async def _records(self, pages: dict[str, Page]) -> None:
        """Asks each endpoint of one record about one that the lists show."""
        contacts = _ids(pages.get("contacts"))
        if "contacts" in self._resources:
            await self._record(GET_CONTACT, contacts[:1], "contact")
        if "accounts" in self._resources:
            accounts = await self._accounts(contacts[:FEW_CONTACTS])
            await self._record(GET_ACCOUNT, accounts[:1], "account")
        if "activities" in self._resources:
            activities = _ids(pages.get("activities"))
            await self._record(GET_ACTIVITY, activities[:1], "activity")
            await self._record(GET_ACTIVITY_TAGS, activities[:1], "activity")

    async def _record(self, endpoint: Endpoint, ids: list[str], kind: str) -> None:
        if not ids:
            self._found.append(untold(endpoint.name, f"there is no {kind} to ask about"))
            return
        try:
            reply = await self._client.get(Request(endpoint, ids[0]))
            if endpoint.sender == "list":
                read_page(reply)
            elif not _has_id(reply.body):
                raise BrokenReply(
                    f"the reply is no {kind}: it has no id",
                    Evidence(endpoint.name, reply.request.path, 200),
                )
        except CrmcomError as error:
            self._found.append(failed(endpoint.name, _of_shown(error, ids[0])))
        else:
            self._found.append(Finding(endpoint.name, ok=True, message="answers", value=200))

    async def _accounts(self, contacts: list[str]) -> list[str]:
        """The first account that one of these contacts has."""
        name = LIST_CONTACT_ACCOUNTS.name
        for contact in contacts:
            params = (("page", "1"), ("size", "1"))
            try:
                asked = Request(LIST_CONTACT_ACCOUNTS, contact, params)
                listed = await ask_page(self._client, asked)
            except CrmcomError as error:
                self._found.append(failed(name, _of_shown(error, contact)))
                return []
            if listed.rows or contact == contacts[-1]:
                self._found.append(Finding(name, ok=True, message="answers", value=200))
                return _ids(listed)
        self._found.append(untold(name, "there is no contact to ask about"))
        return []


def _of_shown(error: CrmcomError, record_id: str) -> CrmcomError:
    """A 404 for a record that a list has just shown says something of the endpoint."""
    if not isinstance(error, NotFound):
        return error
    return NotFound(
        f"not found, although its list shows {record_id}: the endpoint is missing here, or the "
        "record was deleted this moment",
        error.evidence,
    )


def _ids(shown: Page | None) -> list[str]:
    return [r.id for r in shown.rows if r.id is not None] if shown else []


class _Identified(msgspec.Struct):
    id: Any = None


def _has_id(body: bytes) -> bool:
    try:
        return msgspec.json.decode(body, type=_Identified).id is not None
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
