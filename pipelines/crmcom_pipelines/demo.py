"""The whole product against the bundled sandbox: several business days, a sync after each."""

# ruff: noqa: PLC0415 - the sandbox and the source are imported only by a demo that runs

from __future__ import annotations

import json
import shutil
import threading
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from importlib import import_module
from typing import TYPE_CHECKING

from crmcom.errors import SettingsError
from crmcom_pipelines.publish import Identity, Workspace

if TYPE_CHECKING:
    from pathlib import Path

    from crmcom_pipelines.load import Outcome
    from crmcom_pipelines.progress import Progress

MARK = "demo.json"
"""In the workspace: the identity of the file that a demo made, and may therefore replace."""


@dataclass(frozen=True, slots=True)
class Size:
    contacts: int = 2_000
    activities: int = 10_000
    days: int = 4


def demo(database: Path, dataset: str, size: Size, progress: Progress) -> list[Outcome]:
    """Fill `database` from a sandbox on a free loopback port. Returns each sync's outcome.

    Raises `SettingsError` where the file is not one that a demo made.
    """
    import httpx

    from crmcom_sandbox import serve_process

    workspace = Workspace(database, dataset)
    _make_room(workspace)
    # The days that pass end today, so that the reports are as of about now.
    begin = datetime.now(UTC) - timedelta(days=size.days * 7 / 5 + 1)
    outcomes: list[Outcome] = []
    progress.step("starting the sandbox")
    # dlt is imported while the sandbox makes its data, in a process of its own.
    importing = threading.Thread(target=import_module, args=["crmcom.source"])
    importing.start()
    with serve_process(
        *("--contacts", str(size.contacts), "--activities", str(size.activities)),
        *("--behaviour", "live", "--now", begin.isoformat()),
    ) as server:
        importing.join()
        from crmcom import Run, Settings
        from crmcom_pipelines.load import sync

        settings = Settings(base_url=server.base_url, api_key=server.api_key)
        for day in range(size.days + 1):
            if day:
                httpx.post(f"{server.control_url}/business_days", json={"days": 1}, timeout=60)
            progress.chapter(f"day {day} of {size.days}")
            run = Run(settings)
            progress.follow(run)
            outcomes.append(
                sync(
                    run,
                    database=database,
                    dataset=dataset,
                    transform=day == size.days,
                    on_step=progress.step,
                )
            )
            _mark(workspace)
    progress.chapter("")
    return outcomes


def _make_room(workspace: Workspace) -> None:
    """Remove what an earlier demo made; refuse to touch any other file."""
    found = Identity.of(workspace.published)
    if found is not None and _marked(workspace) != asdict(found):
        raise SettingsError(
            f"{workspace.published} was not made by a demo, and a demo replaces nothing else: "
            "name another file with --database"
        )
    if workspace.holder() is None and _marked(workspace) is not None:
        workspace.published.unlink(missing_ok=True)
        shutil.rmtree(workspace.folder, ignore_errors=True)


def _mark(workspace: Workspace) -> None:
    identity = Identity.of(workspace.published)
    if identity is not None:
        (workspace.folder / MARK).write_text(json.dumps(asdict(identity)))


def _marked(workspace: Workspace) -> object:
    try:
        return json.loads((workspace.folder / MARK).read_text())
    except (FileNotFoundError, ValueError):
        return None
