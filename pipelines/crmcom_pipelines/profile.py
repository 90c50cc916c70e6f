"""What is known of how a tenant's API behaves, kept beside the warehouse, and what changed in it.

`crmcom check` asks on purpose; each run compares what it sees anyway. A profile that is lost or
cannot be read is learned anew: nothing depends on it.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from crmcom.errors import SettingsError
from crmcom.facts import Facts, changed, learned
from crmcom_pipelines.publish import Workspace

FILE = "profile.json"
CHANGES_KEPT = 20


@dataclass(frozen=True, slots=True)
class Change:
    """One fact that is not as it was. `at` is this machine's time, UTC; `by`: `check`, or a run."""

    at: datetime
    by: str
    name: str
    was: str | int
    now: str | int

    def __str__(self) -> str:
        return f"the API has changed: {self.name} was {self.was}, is {self.now}"


@dataclass(frozen=True, slots=True)
class Profile:
    """Of one dataset's tenant; `changes` are the latest, oldest first."""

    tenant: str = ""
    facts: Facts = field(default_factory=dict)
    changes: tuple[Change, ...] = ()


def home(database: Path, dataset: str) -> Workspace | None:
    """Where profiles are kept; None where no sync could work in that file."""
    try:
        return Workspace(database, dataset)
    except SettingsError:
        return None


def read(folder: Path, dataset: str) -> Profile:
    """The profile of a dataset; an empty one where none is known."""
    return _all(folder).get(dataset, Profile())


def learn(folder: Path, dataset: str, tenant: str, seen: Facts, *, by: str) -> list[Change]:
    """Keep what was seen; says what is not as it was known.

    Another tenant's profile is forgotten. A profile that cannot be written stops nobody: then
    what changed is told again.
    """
    known = read(folder, dataset)
    if known.tenant != tenant:
        known = Profile(tenant)
    now = datetime.now(UTC).replace(microsecond=0)
    changes = [
        Change(now, by, name, known.facts[name], value)
        for name, value in sorted(changed(known.facts, seen).items())
    ]
    after = replace(
        known,
        facts=learned(known.facts, seen),
        changes=(*known.changes, *changes)[-CHANGES_KEPT:],
    )
    if seen and after != known:
        with contextlib.suppress(OSError):
            _write(folder, {**_all(folder), dataset: after})
    return changes


def _all(folder: Path) -> dict[str, Profile]:
    try:
        text = (folder / FILE).read_bytes()
        return msgspec.json.decode(text, type=dict[str, Profile])
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return {}


def _write(folder: Path, profiles: dict[str, Profile]) -> None:
    """As a whole, or not at all: a check may run beside a sync."""
    descriptor, name = tempfile.mkstemp(prefix=f".{FILE}-", dir=folder)
    part = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.encode(profiles))
        part.replace(folder / FILE)
    finally:
        part.unlink(missing_ok=True)
