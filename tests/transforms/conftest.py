"""One folder for what dbt keeps between builds, so that only a worker's first build parses."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Protocol

import pytest

from crmcom_pipelines.transform import TransformResult, transform

if TYPE_CHECKING:
    from pathlib import Path


class Build(Protocol):
    """Builds the marts of a file, and fails the test with dbt's own words if that fails."""

    def __call__(self, database: Path, **options: object) -> TransformResult: ...


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    work_dir = tmp_path_factory.mktemp("dbt")
    # dbt parses its own macros anew, for seconds, when a file has another path: so all take
    # their turn at one.
    usual = work_dir / "warehouse.work.duckdb"

    def build(database: Path, **options: object) -> TransformResult:
        if database.exists():
            shutil.move(database, usual)
        try:
            result = transform(usual, **{"work_dir": work_dir, **options})  # type: ignore[arg-type]
        finally:
            shutil.move(usual, database)
        assert result.ok, result.summary
        return result

    return build
