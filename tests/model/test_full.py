"""The same sequences, through dlt and DuckDB in full."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.errors import Flaky
from hypothesis.stateful import run_state_machine_as_test

from .full import FullDriver
from .machine import Model

if TYPE_CHECKING:
    from crmcom_pipelines.load import Outcome
    from crmcom_sandbox import World

FEW, MANY = 3, int(os.environ.get("CRMCOM_FULL_EXAMPLES", "20"))


class FullModel(Model):
    fault_kinds = ("500", "502", "html_200", "truncated", "reset")
    failures: ClassVar[list[BaseException]] = []

    def _sync(self, *args: Any, **options: Any) -> Outcome | None:
        try:
            return super()._sync(*args, **options)
        except Exception as error:
            self.failures.append(error)
            raise

    def make_driver(self, world: World, behaviour: Any, settings: dict[str, Any]) -> FullDriver:
        return FullDriver(world, behaviour, settings)

    def teardown(self) -> None:
        try:
            super().teardown()
        except Exception as error:
            self.failures.append(error)
            raise
        finally:
            if hasattr(self, "driver"):
                self.driver.close()


def play(sequences: int, steps: int) -> None:
    FullModel.failures.clear()
    try:
        _play(sequences, steps)
    except Flaky:
        # What it does first depends on real time. The first failure counts all the same.
        raise FullModel.failures[0] from None


def _play(sequences: int, steps: int) -> None:
    run_state_machine_as_test(
        FullModel,
        settings=settings(
            max_examples=sequences,
            stateful_step_count=steps,
            deadline=None,
            derandomize=True,
            database=None,
            print_blob=False,
            suppress_health_check=list(HealthCheck),
            # A shorter sequence costs minutes here; the model in memory finds it in seconds.
            phases=[Phase.generate],
        ),
    )


@pytest.mark.timeout(0)
def test_a_few_sequences_end_with_the_truth_in_duckdb() -> None:
    """A merge of dlt's does what the model takes it to do."""
    play(FEW, 6)


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_twenty_sequences_end_with_the_truth_in_duckdb() -> None:
    """Longer ones, too."""
    play(MANY, 12)
