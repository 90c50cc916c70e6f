"""Accounts: listed contact by contact, since no endpoint lists them all, then read one by one.

The single reply alone has the amounts, and it alone lacks the contact. Each reading also
becomes a row of `account_observations`: the API shows only today's balance.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from crmcom.endpoints import GET_ACCOUNT, GET_CONTACT, LIST_CONTACT_ACCOUNTS
from crmcom.errors import CrmcomError, NotFound
from crmcom.feed import BATCH, from_rows, from_us, to_us
from crmcom.listing import Listing, listing
from crmcom.merge import stack
from crmcom.refresh import choose
from crmcom.run import naive
from crmcom.tables import Shaped

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Set as AbstractSet
    from datetime import datetime

    from crmcom.feed import Feed
    from crmcom.protocol import Reply

_OBSERVED = ("state", "currency_code", "classification__name", "payment_terms__name")
_AMOUNTS = ("balance", "overdue_amount", "credit_limit")


async def read_accounts(feed: Feed) -> None:
    """List the accounts of contacts that are new or changed; read the amounts of all."""
    run = feed.run
    await run.fan_out.begun()  # if contacts are read, the server's time is known by then
    feed.result.started_at = feed.result.started_at or feed.now
    # A load that was cut short may have marked them and not have written this.
    cut_short = await feed.stored.ids("accounts", synced_after=feed.settled_at, deleted=True)
    feed.list_accounts_of(await pending(feed))
    listed = await _list(feed)
    contacts = run.results.get("contacts")  # at their end: until then there are more to list
    last_slice = contacts is None or contacts.caught_up or contacts.error is not None
    await _read(feed, listed.column("id").to_pylist(), listed)
    feed.result.partial = run.backfill is not None
    if contacts is not None and contacts.error is not None:
        feed.result.partial = True
        feed.result.notices.append(
            "the contacts could not be listed, so nobody knows which accounts are new: "
            f"{contacts.error}"
        )
    if last_slice and run.backfill is None:
        await _refresh(feed)
    # What has come back meanwhile was read just now.
    still_gone = set(cut_short) - feed.run.observed - feed.sent
    await _observe_missing(feed, await feed.stored.rows("accounts", still_gone))
    feed.result.caught_up = last_slice
    asked = feed.client.stats.requests > 0  # else nobody has told the server's time
    if asked and (contacts is None or contacts.error is None):
        feed.state["listed_us"] = to_us(feed.synced_at)


async def pending(feed: Feed) -> set[str]:
    """Contacts that were loaded since the accounts were last listed to the end."""
    listed_us: int | None = feed.state.get("listed_us")
    after = None if listed_us is None else from_us(listed_us)
    return {*await feed.stored.ids("contacts", synced_after=after), *feed.state.get("again", ())}


async def _list(feed: Feed) -> pa.Table:
    """The accounts of the contacts in question, as listed, with their `contact_id`."""
    contacts = feed.run.fan_out
    owner: dict[str, str] = {}
    raws: dict[str, bytes] = {}
    failed: dict[str, CrmcomError] = {}
    without: dict[str, CrmcomError] = {}
    async for contact_id, found in feed.ask_each(contacts, partial(accounts_of, feed)):
        if isinstance(found, NotFound):
            without[contact_id] = found
            continue
        if isinstance(found, CrmcomError):
            failed[contact_id] = found
            continue
        if not found.proven:
            feed.result.notices.append(f"accounts of contact {contact_id}: {found.reason}")
        await feed.reject_rows(found.unreadable)
        for row in found.rows:
            if row.id is not None:
                owner[row.id], raws[row.id] = contact_id, row.raw
    # Where the contact is gone, what it had is still read account by account. Where it is not,
    # its accounts are there too, and somebody does not show them.
    async for contact_id, contact in feed.ask_each(without, lambda i: feed.get(GET_CONTACT, i)):
        if not isinstance(contact, NotFound):
            failed[contact_id] = without[contact_id]
    await feed.unreadable(LIST_CONTACT_ACCOUNTS, failed, len(contacts))
    feed.ask_again(contacts.ids, failed)
    shaped = await feed.shape(raws.values(), "list")
    await feed.reject(shaped.rejects)
    ids = shaped.rows.column("id").to_pylist()
    return shaped.rows.append_column("contact_id", pa.array([owner[i] for i in ids], pa.string()))


async def accounts_of(feed: Feed, contact_id: str) -> Listing:
    """The accounts of one contact."""
    return await listing(
        feed.client,
        LIST_CONTACT_ACCOUNTS,
        contact_id,
        page_size=feed.run.settings.page_size,
    )


async def _refresh(feed: Feed) -> None:
    """Read every known account that this slice has not read yet, or as many as are allowed."""
    due = await due_accounts(feed, feed.run.observed | feed.sent)
    await _read(feed, due, from_rows("accounts", []))


async def due_accounts(feed: Feed, done: AbstractSet[str]) -> list[str]:
    """The known accounts to read beside those that are `done`."""
    due = [i for i in await feed.stored.ids("accounts") if i not in done]
    budget = feed.run.settings.account_budget
    if budget is not None and len(due) > budget:
        feed.result.partial = True
        known = await feed.stored.known_accounts(feed.now)
        due = choose((account for account in known if account.id not in done), budget, feed.now)
    return due


async def _read(feed: Feed, account_ids: Iterable[str], listed: pa.Table) -> None:
    """Read accounts one by one and load them in batches.

    `listed`: rows as their contacts' lists show them. One whose own reply fails for ever, or is
    a 404 though the list goes on showing it, is loaded as listed, with the amounts that were last
    known.
    """
    asked = sorted(set(account_ids) - feed.sent)
    replies: list[Reply] = []
    gone: dict[str, CrmcomError] = {}
    failed: dict[str, CrmcomError] = {}
    async for account_id, answer in feed.ask_each(asked, lambda i: feed.get(GET_ACCOUNT, i)):
        if isinstance(answer, NotFound):
            gone[account_id] = answer
        elif isinstance(answer, CrmcomError):
            failed[account_id] = answer
        else:
            replies.append(answer)
        if len(replies) >= BATCH:
            await _load(feed, replies, listed)
            replies = []
    await _load(feed, replies, listed)
    shown = await _still_listed(feed, listed.filter(_is_in(listed, set(gone), inside=True)))
    failed |= {i: gone.pop(i) for i in shown & gone.keys()}
    await feed.unreadable(GET_ACCOUNT, failed, len(asked))
    if failed and len(listed):
        await _load_as_listed(feed, listed, set(failed))
    await _missing(feed, list(gone))


async def _still_listed(feed: Feed, rows: pa.Table) -> set[str]:
    """The accounts that their contacts' lists show when they are asked once more."""
    shown: set[str] = set()
    owners = set(rows.column("contact_id").to_pylist()) if len(rows) else set()
    async for _, found in feed.ask_each(sorted(owners), partial(accounts_of, feed)):
        if isinstance(found, Listing):
            shown |= {r.id for r in found.rows if r.id is not None}
    return shown


async def _load(feed: Feed, replies: list[Reply], listed: pa.Table) -> None:
    if not replies:
        return
    shaped = await feed.shape([r.body for r in replies], "single")
    ids = shaped.rows.column("id").to_pylist()
    stored = await feed.stored.rows("accounts", ids)
    fresh = set(listed.column("id").to_pylist())
    base = stack([listed, stored.filter(_is_in(stored, fresh, inside=False))])
    rows = await feed.load(shaped, "single", base)
    feed.run.observed.update(ids)
    at = {r.request.record_id: naive(r.answered_at) if r.answered_at else feed.now for r in replies}
    observed = [at.get(i, feed.now) for i in rows.column("id").to_pylist()]
    await feed.put("account_observations", _observations(feed, rows, observed))


async def _load_as_listed(feed: Feed, listed: pa.Table, ids: set[str]) -> None:
    rows = listed.filter(_is_in(listed, ids, inside=True))
    await feed.load(Shaped(rows, {}, ()), "list")


async def _missing(feed: Feed, gone: list[str]) -> None:
    """Accounts that the API no longer has: kept, marked, and observed as missing."""
    stored = await feed.stored.rows("accounts", gone)
    marked = await feed.mark_gone(stored.column("id").to_pylist())
    await _observe_missing(feed, marked)


async def _observe_missing(feed: Feed, marked: pa.Table) -> None:
    rows = [
        {
            "account_id": row["id"],
            "contact_id": row["contact_id"],
            "observed_at": feed.now,
            "run_id": feed.run.run_id,
            "state": row["state"],
            "currency_code": row["currency_code"],
            "classification__name": row["classification__name"],
            "payment_terms__name": row["payment_terms__name"],
            "is_missing": True,
        }
        for row in marked.to_pylist()
    ]
    await feed.put("account_observations", from_rows("account_observations", rows))


def _observations(feed: Feed, rows: pa.Table, observed: list[datetime]) -> pa.Table:
    columns: dict[str, Any] = {
        "account_id": rows.column("id"),
        "contact_id": rows.column("contact_id"),
        "observed_at": pa.array(observed, pa.timestamp("us")),
        "run_id": pa.repeat(feed.run.run_id, len(rows)),
    }
    columns |= {c: rows.column(c) for c in (*_OBSERVED, *_AMOUNTS)}
    return pa.table(columns | {"is_missing": pa.repeat(False, len(rows))})  # noqa: FBT003


def _is_in(table: pa.Table, ids: set[str], *, inside: bool) -> Any:
    return pa.array([(i in ids) == inside for i in table.column("id").to_pylist()], pa.bool_())
