"""Whether a sync would work, and how the tenant's API behaves: asked, not assumed."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from crmcom.errors import CrmcomError, SettingsError
from crmcom.findings import Finding, facts_of, failed
from crmcom.privacy import Privacy
from crmcom.probing import examine
from crmcom_pipelines import profile, trial

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from crmcom import Settings
    from crmcom_pipelines.misspelt import Misspelt
    from crmcom_pipelines.profile import Change

_PRECEDENCE = (2, 3, 4, 6, 5, 1)
"""Where several exit codes apply, the first of these wins: what is to be mended first."""


@dataclass(slots=True)
class Checked:
    """What a check came to. `changes`: what of the API is not as the last run or check saw it."""

    findings: list[Finding] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def exit_code(self) -> int:
        codes = {f.exit_code for f in self.findings if f.ok is False}
        return next((code for code in _PRECEDENCE if code in codes), 0)

    def as_json(self) -> dict[str, Any]:
        """The machine-readable result; its keys are part of the interface."""
        return {
            "exit_code": self.exit_code,
            "seconds": round(self.seconds, 3),
            "checks": [f.as_json() for f in self.findings],
            "changes": [
                {"name": c.name, "was": c.was, "now": c.now, "message": str(c)}
                for c in self.changes
            ],
        }


def check(
    read_settings: Callable[[], Settings],
    find_misspelt: Callable[[], Sequence[Misspelt]],
    *,
    resources: Sequence[str],
    database: Path,
    dataset: str,
    destination: str,
    **client: Any,
) -> Checked:
    """Check everything that a sync needs. Raises nothing that a setting, the API or the
    destination is the cause of. `client` are options of the client that asks the API."""
    started_s = time.monotonic()
    checked = Checked()
    settings = _settings(read_settings, find_misspelt, checked.findings)
    if settings is None:
        checked.findings.append(
            Finding("API", ok=None, message="not asked before the settings are right")
        )
    else:
        asked: list[Finding] = []
        asyncio.run(examine(settings, resources, asked, **client))
        checked.findings += asked
    checked.findings.append(trial.destination(destination, database, dataset))
    checked.findings.append(trial.disk(database, dataset))
    if settings is not None and (workspace := profile.home(database, dataset)):
        with contextlib.suppress(OSError, SettingsError):  # the destination's finding says so
            workspace.make_folder()
        checked.changes = profile.learn(
            workspace.folder, dataset, settings.base_url, facts_of(asked), by="check"
        )
    checked.seconds = time.monotonic() - started_s
    return checked


def _settings(
    read: Callable[[], Settings],
    find_misspelt: Callable[[], Sequence[Misspelt]],
    findings: list[Finding],
) -> Settings | None:
    settings: Settings | None = None
    try:
        found = read()
        Privacy(found)  # names columns, which settings alone do not know
    except CrmcomError as error:
        findings.append(failed("settings", error))
    else:
        settings = found
    unknown = find_misspelt()  # what is missing may be there, misspelt
    findings += [
        Finding("settings", ok=False, message=str(one), value=one.name, exit_code=2)
        for one in unknown
    ]
    if settings is not None and not unknown:
        message = f"complete, for {settings.base_url}"
        findings.append(Finding("settings", ok=True, message=message, value=settings.base_url))
    return settings
