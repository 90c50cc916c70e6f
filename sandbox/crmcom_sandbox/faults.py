"""Failures on purpose: how often, which kinds, and always the same ones for the same seed.

Whether a request fails depends on the seed, its method and URL, and how often that URL was asked
before: not on the order in which concurrent requests arrive.
"""

from collections import Counter
from random import Random
from typing import Literal

import msgspec

from .behaviour import Place

FaultKind = Literal[
    "425", "429", "500", "502", "503", "504",  # the status with the API's JSON error
    "html_502",  # a gateway's page
    "html_200",  # a page that claims success
    "truncated",  # half a JSON body, with the length that fits it
    "reset",  # the connection breaks in the middle of the body
    "hang",  # no answer
]  # fmt: skip
ALL_KINDS: tuple[FaultKind, ...] = (
    "425", "429", "500", "502", "503", "504",
    "html_502", "html_200", "truncated", "reset", "hang",
)  # fmt: skip
QUICK_KINDS: tuple[FaultKind, ...] = ALL_KINDS[:-1]


class Faults(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Fails a share `rate` of the requests at `places`, at most `max_in_row` in a row per URL."""

    rate: float = 0.0
    seed: int = 0
    kinds: tuple[FaultKind, ...] = QUICK_KINDS
    places: tuple[str, ...] = ("*",)
    max_in_row: int | None = 2
    """None: a URL may fail for ever."""
    hang_s: float = 600.0
    retry_after_s: int | None = 1
    """What a 429 or 503 of this plan says, or None for no such header."""


class FaultPlan:
    """What has failed so far, and whether the next request does."""

    def __init__(self, faults: Faults) -> None:
        self.faults = faults
        self._asked: Counter[str] = Counter()
        self._in_row: Counter[str] = Counter()

    def next(self, place: Place, request: str) -> FaultKind | None:
        """`request` is the method and URL with query."""
        faults = self.faults
        if faults.rate <= 0 or not place.is_in(faults.places):
            return None
        self._asked[request] += 1
        chance = Random(f"{faults.seed}/{self._asked[request]}/{request}")  # noqa: S311
        spared = faults.max_in_row is not None and self._in_row[request] >= faults.max_in_row
        if spared or chance.random() >= faults.rate:
            self._in_row[request] = 0
            return None
        self._in_row[request] += 1
        return chance.choice(faults.kinds)
