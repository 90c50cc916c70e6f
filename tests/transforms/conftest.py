"""One folder for what dbt keeps between builds, so that only a worker's first build parses."""

from __future__ import annotations

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

    def build(database: Path, **options: object) -> TransformResult:
        result = transform(database, **{"work_dir": work_dir, **options})  # type: ignore[arg-type]
        assert result.ok, result.summary
        return result

    return build
