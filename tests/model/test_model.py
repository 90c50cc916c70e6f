"""Sequences of changes, faults, kills and syncs: hundreds by default, any number on request.

`make model` runs tens of thousands. A failure prints the shortest sequence that shows it.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from .machine import Model

EXAMPLES = int(os.environ.get("CRMCOM_MODEL_EXAMPLES", "300"))
SHARDS = 4


@pytest.mark.parametrize("shard", range(SHARDS))
@pytest.mark.timeout(0)
def test_whatever_happens_the_warehouse_is_what_the_exit_code_says(shard: int) -> None:
    """Each shard is another quarter of the sequences, so that workers share them."""
    machine = type(f"Model{shard}", (Model,), {"shard": shard})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=max(1, EXAMPLES // SHARDS),
            stateful_step_count=15,
            deadline=None,
            derandomize="CRMCOM_MODEL_EXAMPLES" not in os.environ,
            print_blob=False,
            suppress_health_check=list(HealthCheck),
            phases=[p for p in Phase if p is not Phase.explain],
        ),
    )
