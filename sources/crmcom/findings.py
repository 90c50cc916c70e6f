"""What came of one question of a check: a line for people, an entry for machines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from crmcom.errors import Evidence, Unproven

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crmcom.errors import CrmcomError
    from crmcom.facts import Facts

UNPROVABLE = Unproven.exit_code


@dataclass(frozen=True, slots=True)
class Finding:
    """What came of one question.

    `ok`: None where it could not be told. `message`: one line, with what to do where `ok` is
    False. `value`: what was found, for machines. `exit_code`: what `crmcom check` ends with
    because of it, unless something worse is found.
    """

    name: str
    ok: bool | None
    message: str
    value: str | int | float | None = None
    exit_code: int = 0

    def as_json(self) -> dict[str, Any]:
        return {"name": self.name, "ok": self.ok, "message": self.message, "value": self.value}


def facts_of(findings: Sequence[Finding]) -> Facts:
    """What was learned of the API's behaviour: the part that is worth remembering."""
    return {f.name: f.value for f in findings if ": " in f.name and isinstance(f.value, int | str)}


def said(error: CrmcomError) -> str:
    """An error as one line: what it is, and what the server answered."""
    evidence = error.evidence or Evidence("")
    came = " ".join(x for x in (str(evidence.status or ""), evidence.message) if x)
    return " ".join(f"{error.message} ({came})".split()) if came else error.message


def failed(name: str, error: CrmcomError) -> Finding:
    """The finding for what an error ended, with its cause."""
    status = error.evidence.status if error.evidence else None
    return Finding(name, ok=False, message=said(error), value=status, exit_code=error.exit_code)


def untold(name: str, why: str) -> Finding:
    """Nothing can be said, and `why`."""
    return Finding(name, ok=None, message=f"could not tell: {why}")


def lie(name: str, message: str, value: str) -> Finding:
    """A behaviour that keeps a sync from proving that it has read everything."""
    return Finding(name, ok=False, message=message, value=value, exit_code=UNPROVABLE)
