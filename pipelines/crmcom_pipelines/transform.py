"""Tables -> marts: runs the dbt project on a DuckDB file, in this process, and tells what came of it.

Nothing is printed, nothing leaves the machine, and nothing is written into the package's own
folder (it may be installed read-only): dbt's profile, logs and parsed project go to `work_dir`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

Status = Literal["ok", "warn", "fail", "error", "skipped"]
"""ok: built or passed; warn: a test of severity warn found rows; fail: a test found rows;
error: the model or test could not run; skipped: something it needs did not come."""

_STATUS: dict[str, Status] = {
    "success": "ok",
    "pass": "ok",
    "no-op": "ok",
    "reused": "ok",
    "warn": "warn",
    "fail": "fail",
    "error": "error",
    "runtime error": "error",
    "partial success": "error",
    "skipped": "skipped",
}


@dataclass(frozen=True, slots=True)
class NodeResult:
    """What came of one model or test."""

    name: str
    kind: str
    """model, test or unit_test."""
    status: Status
    failures: int | None
    """Rows that a test found; none for models."""
    message: str | None
    seconds: float

    @property
    def summary(self) -> str:
        match self.status:
            case "fail" | "warn":
                rows = "1 row" if self.failures == 1 else f"{self.failures} rows"
                return f"test {self.name} failed with {rows}: {self.message or ''}".rstrip(": ")
            case "error":
                return f"{self.kind} {self.name} could not be built: {self.message or ''}".rstrip(": ")
            case "skipped":
                return f"{self.kind} {self.name} was skipped"
            case "ok":
                return f"{self.kind} {self.name} is well"


@dataclass(frozen=True, slots=True)
class TransformResult:
    """What came of a run: `ok`, and why not."""

    ok: bool
    nodes: tuple[NodeResult, ...]
    seconds: float
    full_refresh: bool
    """Whether history was built anew: asked for, or because variables or the project changed."""
    error: str | None = None
    """Why dbt could not run at all, if so; then there are no nodes."""

    @property
    def failed(self) -> tuple[NodeResult, ...]:
        return tuple(n for n in self.nodes if n.status in ("fail", "error"))

    @property
    def summary(self) -> str:
        """One line a cause, or one line that all is well."""
        if self.error:
            return self.error
        if not self.ok:
            return "\n".join(node.summary for node in self.failed)
        models = sum(node.kind == "model" for node in self.nodes)
        tests = len(self.nodes) - models
        return f"{models} models built, {tests} tests passed in {self.seconds:.1f} s"
