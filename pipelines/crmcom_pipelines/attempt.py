"""The last attempt to run, beside the warehouse: a run that failed or was killed is told too.

The ledger is in the warehouse, so a run that published nothing is not in what readers open.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from crmcom_pipelines import lock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from crmcom_pipelines.load import Outcome

State = Literal["running", "ended", "cut short"]

_NEXT = {
    0: "",
    1: "run it again; if that does not help, `crmcom --debug sync` shows where it comes from",
    2: "change what is named, then run `crmcom sync`",
    3: "renew the credentials or the permission that is named, then run `crmcom sync`",
    4: "run `crmcom sync` again: nothing is lost",
    5: "look at what is named; `crmcom sync --reconcile` lists everything anew",
    6: "end what is named, then run `crmcom sync`",
    7: "mend what the test found, then run `crmcom transform`",
}
_CUT_SHORT = "it was stopped or killed; run `crmcom sync` to go on from what was committed"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One run, as its own process saw it: times are UTC by this machine's clock.

    `exit_code` and `ended_at` are None until it has ended. `causes`: why it was not all well.
    """

    run_id: str
    pid: int
    started_at: datetime
    ended_at: datetime | None = None
    exit_code: int | None = None
    published: bool = False
    causes: list[str] = field(default_factory=list)


@contextlib.contextmanager
def recorded(folder: Path, outcome: Outcome, tenant: str = "") -> Iterator[None]:
    """Notes that the run begins and how it ends. To be called with the lock held.

    `tenant`: the dataset, where several tenants' runs are noted in one folder.

    What cannot be noted stops no run: a full disk has causes of its own.
    """
    begun = Attempt(outcome.run_id, os.getpid(), datetime.now(UTC))
    file = _file(folder, tenant)
    _write(file, begun)
    try:
        yield
    except Exception as error:
        code, cause = getattr(error, "exit_code", 1), str(error) or type(error).__name__
        _write(file, replace(begun, ended_at=_now(), exit_code=code, causes=[cause]))
        raise
    reasons = [f"{name}: {r.reason}" for name, r in outcome.resources.items() if r.reason]
    built = outcome.transformed
    marts = [] if built is None or built.ok else [built.summary]
    ended = replace(
        begun,
        ended_at=_now(),
        exit_code=outcome.exit_code,
        published=outcome.published,
        causes=[*reasons, *marts],
    )
    _write(file, ended)


def last(folder: Path, tenant: str = "") -> dict[str, Any] | None:
    """The last attempt as JSON-able values, and what to do next; None where there was none."""
    try:
        found = msgspec.json.decode(_file(folder, tenant).read_bytes(), type=Attempt)
    except (OSError, msgspec.MsgspecError):
        return None
    state: State = "ended"
    if found.exit_code is None:
        holder = lock.holder(folder / "lock")
        state = "running" if holder and holder.pid == found.pid else "cut short"
    following = {
        "running": "wait until it has ended",
        "cut short": _CUT_SHORT,
        "ended": _NEXT.get(found.exit_code or 0, _NEXT[1]),
    }
    return {
        "run_id": found.run_id,
        "state": state,
        "started_at": found.started_at.replace(tzinfo=None),
        "ended_at": found.ended_at and found.ended_at.replace(tzinfo=None),
        "exit_code": found.exit_code,
        "published": found.published,
        "causes": found.causes,
        "next": following[state] or None,
    }


def _now() -> datetime:
    return datetime.now(UTC)


def _file(folder: Path, tenant: str) -> Path:
    return folder / (f"last_run.{tenant}.json" if tenant else "last_run.json")


def _write(file: Path, attempt: Attempt) -> None:
    part = file.with_suffix(".part")
    with contextlib.suppress(OSError):
        part.write_bytes(msgspec.json.encode(attempt))
        part.replace(file)
