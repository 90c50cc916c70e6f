"""The data behind the API, its clock, and every way to change it.

A world is reproducible: the same seed and the same calls give the same records, ids included. Its
mutators may be called from any thread while servers serve it; each is also an operation of the
control route `POST /_control/mutate`.
"""

import threading
from collections import defaultdict
from datetime import datetime
from decimal import Decimal
from random import Random
from typing import Any, Self

from . import days, generate
from .catalogue import Catalogue
from .clock import DEFAULT_NOW, Clock
from .collection import Collection
from .records import Json, Kind, Record

ACTIVITY_STATES = ("PENDING", "COMPLETED", "CANCELLED")
ACCOUNT_STATES = ("ACTIVE", "SUSPENDED", "TERMINATED")


class World:
    """Contacts, accounts and activities. Empty at first; `World.generate` gives a full one."""

    def __init__(self, *, seed: int = 0, now: datetime = DEFAULT_NOW) -> None:
        self.clock = Clock(now)
        self.random = Random(seed)  # noqa: S311 - reproducible is the point
        self.lock = threading.RLock()
        """Held by every mutator, and by a server while it reads."""
        self.catalogue = Catalogue()
        self.contacts = Collection("contacts")
        self.accounts = Collection("accounts")
        self.activities = Collection("activities")
        self.deleted: dict[Kind, dict[str, int]] = {
            "contacts": {},
            "accounts": {},
            "activities": {},
        }
        """The ids of what is gone, each with the second of its deletion."""
        self._codes: dict[str, str] = {}
        self._owned: dict[tuple[Kind, str], list[Record]] = defaultdict(list)
        self._seq = 0

    @classmethod
    def generate(
        cls,
        *,
        seed: int = 0,
        contacts: int = 2_000,
        activities: int = 10_000,
        now: datetime = DEFAULT_NOW,
    ) -> Self:
        """A world with some years of realistic data, the last of it from just before `now`."""
        world = cls(seed=seed, now=now)
        generate.populate(world, contacts=contacts, activities=activities)
        return world

    def pass_business_day(self) -> None:
        """Lives through the current day's business and wakes on the next business day."""
        with self.lock:
            days.pass_business_day(self)

    # Reading

    def collection(self, kind: Kind) -> Collection:
        found: Collection = getattr(self, kind)
        return found

    def find_contact(self, identifier: str) -> Record | None:
        """By id or by code: the API takes either."""
        found = self.contacts.get(identifier) or self.contacts.get(self._codes.get(identifier, ""))
        # A code may have led here once, before the contact got another one.
        return found if found and identifier in (found.id, found.body.get("code")) else None

    def of_contact(self, kind: Kind, contact_id: str) -> list[Record]:
        """The accounts or activities of a contact, oldest first."""
        return sorted(self._owned[kind, contact_id], key=lambda r: (r.created_on, r.seq))

    def truth(self) -> Json:
        """Everything, as a warehouse should hold it.

        Each record is its full body (activities with `state`, `states`, `tags` as a list and
        `custom_fields`) with `created_on`, `updated_on`, and for accounts and activities
        `contact_id`, for activities `completed_on`, for injected records `raw`.
        """
        with self.lock:
            return {
                "now": self.clock.epoch(),
                "contacts": [_truth(record) for record in self.contacts],
                "accounts": [
                    _truth(record) | {"contact_id": record.contact_id} for record in self.accounts
                ],
                "activities": [
                    _truth(record)
                    | {"contact_id": record.contact_id, "completed_on": record.completed_on}
                    for record in self.activities
                ],
                "deleted": {kind: dict(ids) for kind, ids in self.deleted.items()},
            }

    # Changing any record

    def edit(self, kind: Kind, record_id: str, /, *, silently: bool = False, **fields: Any) -> None:
        """Writes fields as they are, known to the reference or not.

        `silently` leaves the updated date as it was, so that `sort=UPDATED_DATE` shows nothing.
        """
        with self.lock:
            record = self.collection(kind)[record_id]
            updated_on = record.updated_on
            record.body.update(fields)
            self._changed(kind, record)
            if silently:
                record.updated_on = updated_on

    def drop_fields(self, kind: Kind, record_id: str, *names: str) -> None:
        """Makes fields absent, which is not the same as null."""
        with self.lock:
            record = self.collection(kind)[record_id]
            for name in names:
                record.body.pop(name, None)
            self._changed(kind, record)

    def set_raw(self, kind: Kind, record_id: str, raw: str | None) -> None:
        """Serves this text instead of the record, JSON or not; None serves the record again."""
        with self.lock:
            record = self.collection(kind)[record_id]
            record.raw = None if raw is None else raw.encode()
            self._changed(kind, record)

    def set_tags(self, kind: Kind, record_id: str, tag_ids: list[str]) -> None:
        self.edit(kind, record_id, tags=[self.catalogue.tags[tag_id] for tag_id in tag_ids])

    def set_custom_fields(self, kind: Kind, record_id: str, fields: list[Json]) -> None:
        """`fields` is the whole new list of `{"key", "value"}`."""
        self.edit(kind, record_id, custom_fields=fields)

    def delete(self, kind: Kind, record_id: str) -> None:
        """Deletes a record; with a contact its accounts go too, while its activities stay."""
        with self.lock:
            collection = self.collection(kind)
            record = collection[record_id]
            if kind == "contacts":
                for account in self.of_contact("accounts", record_id):
                    self.delete("accounts", account.id)
            elif record.contact_id:
                self._owned[kind, record.contact_id].remove(record)
            collection.remove(record)
            self.deleted[kind][record_id] = self.clock.epoch()

    # Contacts, accounts, activities

    # Each returns the new id; `fields` may give one. `created_on` defaults to the world's now,
    # `updated_on` to `created_on`.

    def create_contact(
        self, *, created_on: int | None = None, updated_on: int | None = None, **fields: Any
    ) -> str:
        with self.lock:
            body = {"id": self.new_id(), **fields}
            self._add("contacts", None, body, created_on, updated_on)
            self._note_code(body)
            return str(body["id"])

    def create_account(
        self,
        contact_id: str,
        *,
        created_on: int | None = None,
        updated_on: int | None = None,
        **fields: Any,
    ) -> str:
        """In EUR, active, with a zero balance and no limit, unless `fields` say otherwise."""
        with self.lock:
            number = f"AC{self._seq:08d}"
            body = {
                "id": self.new_id(),
                "name": f"{number} {contact_name(self.contacts[contact_id].body)}",
                "number": number,
                "is_primary": False,
                "state": "ACTIVE",
                "currency_code": "EUR",
                "balance": Decimal(0),
                "overdue_amount": Decimal(0),
                "credit_limit": None,
                **fields,
            }
            self._add("accounts", contact_id, body, created_on, updated_on)
            if body["is_primary"] is True:
                self.make_primary(body["id"])
            return str(body["id"])

    def create_activity(
        self,
        contact_id: str | None,
        *,
        created_on: int | None = None,
        updated_on: int | None = None,
        state: str = "PENDING",
        **fields: Any,
    ) -> str:
        """The history starts with PENDING at creation unless `fields` say."""
        with self.lock:
            created_on = self.clock.epoch() if created_on is None else created_on
            states = [{"state": "PENDING", "date": created_on}]
            if state != "PENDING":
                states.append({"state": state, "date": created_on})
            contact = self.contacts.get(contact_id or "")
            body = {
                "id": self.new_id(),
                "name": "Call customer",
                "state": state,
                "key_dates": {"created_on": created_on},
                "contact": contact and contact_reference(contact.body),
                "states": states,
                "tags": [],
                **fields,
            }
            self._add("activities", contact_id, body, created_on, updated_on)
            return str(body["id"])

    def set_balance(
        self, account_id: str, balance: Decimal | str, overdue_amount: Decimal | str | None = None
    ) -> None:
        """The overdue amount stays as it is unless given."""
        fields: dict[str, Any] = {"balance": Decimal(balance)}
        if overdue_amount is not None:
            fields["overdue_amount"] = Decimal(overdue_amount)
        self.edit("accounts", account_id, **fields)

    def set_account_state(
        self, account_id: str, state: str, transfer_to: str | None = None
    ) -> None:
        """On termination the balance moves to `transfer_to`, or is lost."""
        with self.lock:
            account = self.accounts[account_id].body
            if state == "TERMINATED":
                if transfer_to is not None:
                    target = self.accounts[transfer_to].body
                    self.set_balance(
                        transfer_to,
                        target["balance"] + account["balance"],
                        target["overdue_amount"] + account["overdue_amount"],
                    )
                self.set_balance(account_id, Decimal(0), Decimal(0))
            self.edit("accounts", account_id, state=state)

    def make_primary(self, account_id: str) -> None:
        """Marks this account and unmarks the contact's other ones."""
        with self.lock:
            for account in self._owned["accounts", self.accounts[account_id].contact_id or ""]:
                primary = account.id == account_id
                if account.body.get("is_primary") is not primary:
                    self.edit("accounts", account.id, is_primary=primary)

    def set_activity_state(self, activity_id: str, state: str, at: int | None = None) -> None:
        """Appends to the history."""
        with self.lock:
            step = {"state": state, "date": self.clock.epoch() if at is None else at}
            history = self.activities[activity_id].body.get("states") or []
            self.edit("activities", activity_id, state=state, states=[*history, step])

    def reschedule(self, activity_id: str, from_date: int, to_date: int | None = None) -> None:
        with self.lock:
            scheduled = {"from_date": from_date, "to_date": to_date}
            dates = {**self.activities[activity_id].body["key_dates"], "scheduled_on": scheduled}
            self.edit("activities", activity_id, key_dates=dates)

    def new_id(self) -> str:
        """A GUID from the world's own randomness."""
        digits = f"{self.random.getrandbits(128):032x}"
        return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))

    def _add(
        self,
        kind: Kind,
        contact_id: str | None,
        body: Json,
        created_on: int | None,
        updated_on: int | None,
    ) -> None:
        created_on = self.clock.epoch() if created_on is None else created_on
        updated_on = created_on if updated_on is None else updated_on
        self._seq += 1
        record = Record(body["id"], self._seq, created_on, updated_on, contact_id, body)
        self.collection(kind).add(record)
        self.deleted[kind].pop(record.id, None)
        if contact_id is not None:
            self._owned[kind, contact_id].append(record)

    def _changed(self, kind: Kind, record: Record) -> None:
        record.updated_on = max(record.updated_on, self.clock.epoch())
        self.collection(kind).changed(record)
        if kind == "contacts":
            self._note_code(record.body)
            # Activities show their contact's name and code: that is a join, not a copy.
            reference = contact_reference(record.body)
            for activity in self._owned["activities", record.id]:
                if activity.body.get("contact") not in (None, reference):
                    activity.body["contact"] = reference
                    self.activities.changed(activity)

    def _note_code(self, contact: Json) -> None:
        if contact.get("code"):
            self._codes[contact["code"]] = contact["id"]


def contact_name(body: Json) -> str:
    if body.get("type") == "COMPANY":
        return str(body.get("company_name") or "")
    return " ".join(body[part] for part in ("first_name", "last_name") if body.get(part))


def contact_reference(body: Json) -> Json:
    """How an activity shows its contact."""
    return {"id": body["id"], "name": contact_name(body), "code": body.get("code")}


def _truth(record: Record) -> Json:
    shown = {"created_on": record.created_on, "updated_on": record.updated_on, **record.body}
    if record.raw is not None:
        shown["raw"] = record.raw.decode()
    return shown
