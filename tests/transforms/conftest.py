"""Building marts many times, without dbt parsing the project each time."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Protocol

import pytest

from crmcom_pipelines.transform import TransformResult, transform

if TYPE_CHECKING:
    from pathlib import Path


class Build(Protocol):
    def __call__(self, database: Path, **options: object) -> TransformResult: ...


@pytest.fixture(scope="session")
def attempt(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Builds the marts of a file, and says what came of it."""
    folder = tmp_path_factory.mktemp("dbt")
    # dbt parses everything anew, for seconds, when the path or a variable is another than last
    # time: so all files take their turn at one path, and each set of variables has its folder.
    usual = folder / "warehouse.work.duckdb"
    folders: dict[str, Path] = {}

    def attempt(database: Path, **options: object) -> TransformResult:
        if database.exists():
            shutil.move(database, usual)
        parsed_with = repr((options.get("vars"), options.get("source")))
        work_dir = folders.setdefault(parsed_with, folder / str(len(folders)))
        try:
            return transform(usual, **{"work_dir": work_dir, **options})  # type: ignore[arg-type]
        finally:
            shutil.move(usual, database)

    return attempt


@pytest.fixture(scope="session")
def build(attempt: Build) -> Build:
    """Builds the marts of a file, and fails the test with dbt's own words if that fails."""

    def build(database: Path, **options: object) -> TransformResult:
        result = attempt(database, **options)
        assert result.ok, result.summary
        return result

    return build


QUICK = {"tests": False, "select": ["+crmcom__overdue_worklist", "+crmcom__balance_summary"]}
"""For tests that do their own testing."""
