"""A disk that is full, at any moment of a run."""

from __future__ import annotations

import gc
import resource
import warnings
from contextlib import contextmanager

import pytest

from crmcom_pipelines.publish import NoSpace

from . import worlds


@contextmanager
def files_up_to(size):
    """What the operating system says of larger ones is what it says where a disk is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture(autouse=True)
def _left_open():
    """dlt leaves a file open that it cannot write: collected here, not in the next test."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("size", [0, 300, 4_000, 20_000, 700_000])
def test_a_full_disk_is_told_as_what_it_is(warehouse, size):
    """Wherever the run meets it; and once there is room, the next run goes on."""
    world = worlds.small(contacts=60, activities=1_500)
    at = warehouse(world)
    with files_up_to(size), pytest.raises(NoSpace, match="Make room and run again"):
        at.sync()
    at.sync()
    assert at.differences() == []
