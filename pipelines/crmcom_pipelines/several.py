"""One command for several tenants, one after the other: what became of each."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from crmcom_pipelines.load import exit_code_of
from crmcom_pipelines.tenants import as_written

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from crmcom_pipelines.load import Outcome


@dataclass(frozen=True, slots=True)
class Failure:
    """Of a tenant for whom nothing could be done at all. `cause`: what was not expected."""

    exit_code: int
    error: str
    seconds: float
    cause: Exception | None = None

    def as_json(self) -> dict[str, Any]:
        return {
            "run_id": None,
            "exit_code": self.exit_code,
            "seconds": round(self.seconds, 3),
            "resources": {},
            "error": self.error,
        }


@dataclass(frozen=True, slots=True)
class Outcomes:
    by_tenant: dict[str, Outcome | Failure]
    seconds: float

    @property
    def exit_code(self) -> int:
        return exit_code_of(outcome.exit_code for outcome in self.by_tenant.values())

    def as_json(self) -> dict[str, Any]:
        """The machine-readable result; its keys are part of the interface."""
        return {
            "exit_code": self.exit_code,
            "seconds": round(self.seconds, 3),
            "tenants": {name: one.as_json() for name, one in self.by_tenant.items()},
        }


def for_each(tenants: Iterable[str], act: Callable[[str], Outcome]) -> Outcomes:
    """Whatever ends one tenant's part, the others have theirs."""
    began_s = time.monotonic()
    found: dict[str, Outcome | Failure] = {}
    for tenant in tenants:
        tenant_began_s = time.monotonic()
        try:
            found[tenant] = act(tenant)
        except Exception as error:
            seconds = time.monotonic() - tenant_began_s
            if (code := getattr(error, "exit_code", None)) is not None:
                found[tenant] = Failure(code, as_written(str(error), tenant), seconds)
            else:
                found[tenant] = Failure(1, f"{type(error).__name__}: {error}", seconds, error)
    return Outcomes(found, time.monotonic() - began_s)
