"""Everything that may happen on the server, as small values that print and shrink well."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

if TYPE_CHECKING:
    from crmcom_sandbox import Sandbox, World

AGO_S = (0, 1, 300, 2_000, 5_000, 500_000)
"""How old a record claims to be when it appears."""
STATES = ("PENDING", "COMPLETED", "CANCELLED")
UNKNOWN = (7, "seven", True, {"a": [1, None]}, [{"b": "c"}], "2.50")
MOST = {"contacts": 12, "accounts": 14, "activities": 14}

NAMES = (
    *("create_contact", "edit_contact", "silent_edit", "delete_contact", "restore_contact"),
    *("create_account", "balance", "account_state", "delete_account", "restore_account"),
    *("create_activity", "activity_state", "edit_activity", "delete_activity", "restore_activity"),
    *("create_activity", "activity_state", "edit_contact", "contact_lists", "activity_lists"),
    *("unknown_field", "drop_field", "reschedule", "reassign", "tick", "tick_back"),
)


@dataclass(frozen=True)
class Op:
    """`n` chooses a record, `x` a variant. `same_second`: the clock does not move before it."""

    name: str
    n: int = 0
    x: int = 0
    same_second: bool = False


def ops() -> st.SearchStrategy[Op]:
    return st.builds(
        Op, st.sampled_from(NAMES), st.integers(0, 11), st.integers(0, 5), st.booleans()
    )


@dataclass
class Server:
    """The world, and what a plain sync is not promised to see of it."""

    sandbox: Sandbox
    unseen: dict[str, set[str]] = field(init=False)
    edits: int = 0
    walked_s: int = 0
    """The latest updated date of a contact when a sync last looked."""
    not_before: int | None = None
    """A second that the clock may not be set back behind."""

    def __post_init__(self) -> None:
        self.reconciled()

    @property
    def world(self) -> World:
        return self.sandbox.world

    def do(self, op: Op) -> None:
        if not op.same_second:
            self.world.clock.move(timedelta(seconds=1))
        self.edits += 1
        getattr(self, f"_{op.name}")(op)

    def looked_at(self) -> None:
        """A sync has run: what is edited from now on must be newer than what it saw."""
        self.walked_s = max((r.updated_on for r in self.world.contacts), default=self.walked_s)

    def reconciled(self) -> None:
        self.unseen = {"contacts": set(), "accounts": set()}

    # --- helpers ---

    @property
    def now(self) -> int:
        return self.world.clock.epoch()

    def _one(self, kind: Any, n: int) -> str | None:
        found = sorted(self.world.collection(kind), key=lambda r: r.seq)
        return found[n % len(found)].id if found else None

    def _has_room(self, kind: Any) -> bool:
        return len(self.world.collection(kind)) < MOST[kind]

    def _seen(self, contact_id: str) -> None:
        """The contact was edited: a walk will come by it, unless the clock hides the edit."""
        if self.world.contacts[contact_id].updated_on > self.walked_s:
            self.unseen["contacts"].discard(contact_id)
            for account in self.world.of_contact("accounts", contact_id):
                self.unseen["accounts"].discard(account.id)
        else:
            self.unseen["contacts"].add(contact_id)

    def _values(self, op: Op) -> dict[str, Any]:
        """A value never seen before, so that no edit undoes another."""
        return {"name": f"v{self.edits}", "last_name": f"v{self.edits}"}

    # --- contacts ---

    def _create_contact(self, op: Op) -> None:
        if not self._has_room("contacts"):
            return
        created = self.now - AGO_S[op.x]
        contact = self.world.create_contact(
            created_on=created,
            first_name="C",
            **self._values(op),
            code=f"C{self.edits}",
            tags=[{"id": "t", "name": "T", "colour": None}] * (op.n % 3),
            custom_fields=[{"key": "k", "value": str(op.n)}] * (op.n // 3),
        )
        self._hide_late(contact, created)
        for number in range(op.n % 3):
            self.world.create_account(contact, balance=number, is_primary=not number)

    def _hide_late(self, contact: str, created: int) -> None:
        if created <= self.walked_s:
            self.unseen["contacts"].add(contact)

    def _edit_contact(self, op: Op) -> None:
        if contact := self._one("contacts", op.n):
            self.world.edit("contacts", contact, **self._values(op))
            self._seen(contact)

    def _contact_lists(self, op: Op) -> None:
        if contact := self._one("contacts", op.n):
            tags = [{"id": f"t{n}", "name": "T", "colour": None} for n in range(op.x % 3)]
            fields = [{"key": "k", "value": f"{self.edits}-{n}"} for n in range(op.x // 2)]
            self.world.edit(
                "contacts", contact, tags=tags, custom_fields=fields, **self._values(op)
            )
            self._seen(contact)

    def _silent_edit(self, op: Op) -> None:
        if contact := self._one("contacts", op.n):
            self.world.edit("contacts", contact, silently=True, **self._values(op))
            self.unseen["contacts"].add(contact)

    def _delete_contact(self, op: Op) -> None:
        if contact := self._one("contacts", op.n):
            self.world.delete("contacts", contact)

    def _restore_contact(self, op: Op) -> None:
        gone = sorted(self.world.deleted["contacts"])
        if gone and self._has_room("contacts"):
            contact = gone[op.n % len(gone)]
            created = self.now - AGO_S[op.x]
            self.world.create_contact(id=contact, created_on=created, **self._values(op))
            self.unseen["contacts"].add(contact)

    # --- accounts ---

    def _create_account(self, op: Op) -> None:
        if (contact := self._one("contacts", op.n)) and self._has_room("accounts"):
            account = self.world.create_account(contact, balance=op.x, is_primary=op.x > 3)
            self.unseen["accounts"].add(account)

    def _restore_account(self, op: Op) -> None:
        gone = sorted(self.world.deleted["accounts"])
        contact = self._one("contacts", op.x)
        if gone and contact and self._has_room("accounts"):
            account = gone[op.n % len(gone)]
            self.world.create_account(contact, id=account, balance=op.x)
            self.unseen["accounts"].add(account)

    def _balance(self, op: Op) -> None:
        if account := self._one("accounts", op.n):
            self.world.set_balance(account, f"{self.edits}.{op.x}", op.x)

    def _account_state(self, op: Op) -> None:
        if account := self._one("accounts", op.n):
            state = ("SUSPENDED", "TERMINATED", "ACTIVE")[op.x % 3]
            other = self._one("accounts", op.n + 1)
            self.world.set_account_state(account, state, other if other != account else None)

    def _delete_account(self, op: Op) -> None:
        if account := self._one("accounts", op.n):
            self.world.delete("accounts", account)

    # --- activities ---

    def _create_activity(self, op: Op) -> None:
        if self._has_room("activities"):
            contact = self._one("contacts", op.n) if op.n else None
            created = self.now - AGO_S[op.x]
            state = STATES[op.n % 3]
            self.world.create_activity(
                contact, created_on=created, state=state, name=f"v{self.edits}"
            )

    def _activity_state(self, op: Op) -> None:
        if activity := self._one("activities", op.n):
            at = self.now if op.x < 3 else None
            self.world.set_activity_state(activity, STATES[op.x % 3], at)

    def _edit_activity(self, op: Op) -> None:
        if activity := self._one("activities", op.n):
            address = {"town_city": f"v{self.edits}"} if op.x % 2 else None
            self.world.edit("activities", activity, name=f"v{self.edits}", address=address)

    def _activity_lists(self, op: Op) -> None:
        if activity := self._one("activities", op.n):
            tags = [{"id": f"t{n}", "name": "T", "colour": "0"} for n in range(op.x % 3)]
            fields = [{"key": "k", "value": f"{self.edits}-{n}"} for n in range(op.x // 2)]
            self.world.edit("activities", activity, tags=tags, custom_fields=fields)

    def _reschedule(self, op: Op) -> None:
        if activity := self._one("activities", op.n):
            self.world.reschedule(activity, self.now + op.x * 3_600)

    def _reassign(self, op: Op) -> None:
        if activity := self._one("activities", op.n):
            user = {"id": f"u{op.x}", "name": "U", "username": "u"} if op.x % 2 else None
            self.world.edit("activities", activity, assign_to={"user": user, "team": None})

    def _delete_activity(self, op: Op) -> None:
        if activity := self._one("activities", op.n):
            self.world.delete("activities", activity)

    def _restore_activity(self, op: Op) -> None:
        gone = sorted(self.world.deleted["activities"])
        if gone and self._has_room("activities"):
            activity = gone[op.n % len(gone)]
            created = self.now - AGO_S[op.x]
            self.world.create_activity(
                None, id=activity, created_on=created, state=STATES[op.x % 3], name="back"
            )

    # --- any ---

    def _unknown_field(self, op: Op) -> None:
        for kind in ("contacts", "accounts", "activities"):
            if record := self._one(kind, op.n):
                value = UNKNOWN[op.x]
                self.world.edit(kind, record, **{f"extra{op.n % 2}": value})
                if kind == "contacts":
                    self.world.edit(kind, record, **self._values(op))
                    self._seen(record)

    def _drop_field(self, op: Op) -> None:
        for kind in ("contacts", "accounts", "activities"):
            if record := self._one(kind, op.n):
                self.world.drop_fields(kind, record, f"extra{op.x % 2}", "code")
                if kind == "contacts":
                    self.world.edit(kind, record, **self._values(op))
                    self._seen(record)

    def _tick(self, op: Op) -> None:
        self.world.clock.move(timedelta(seconds=(5, 60, 200, 4_000, 90_000, 700_000)[op.x]))

    def _tick_back(self, op: Op) -> None:
        self.world.clock.move(-timedelta(seconds=(1, 10, 60, 180, 400, 900)[op.x]))
        if self.not_before is not None:
            self.wait_for(self.not_before)

    def wait_for(self, second: int) -> None:
        self.world.clock.move(timedelta(seconds=max(0, second - self.now)))
