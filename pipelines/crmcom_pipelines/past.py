"""Reports as of a past day, from what was known then, in a file of their own.

The published file is only read: what was built there of days gone by is used where it serves,
and all else is built anew, from the observations.
"""

# ruff: noqa: PLC0415 - dbt takes seconds to import, and only the past needs it here

from __future__ import annotations

import json
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crmcom_pipelines.freshness import OF_MONEY
from crmcom_pipelines.marts import QUESTIONS, ReportError, UnknownMart, open_mart

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import date, datetime

    from crmcom_pipelines.marts import Mart


class NoPast(ReportError):
    """Nothing can be told of that day."""


class PastFailed(ReportError):
    """The reports of that day could not be built."""

    exit_code = 7


@contextmanager
def as_known(
    name: str,
    *others: str,
    database: str | Path,
    dataset: str = "crmcom",
    as_of: date | None = None,
    known_at: datetime | None = None,
    vars: Mapping[str, object] | None = None,  # noqa: A002 - dbt's own word
) -> Iterator[Path]:
    """A file with these reports as of `as_of`; it is gone when the block ends.

    Without `as_of`, as of the latest day that was observed. Only what was loaded until `known_at`
    (UTC, without zone) counts; None: everything. `vars` add to those that the published reports
    were built with. Read the file with `source=database`, which it refers to. Raises `ReportError`.
    """
    with open_mart(name, database=database, dataset=dataset) as mart:
        name = mart.name
        if name not in QUESTIONS:
            raise UnknownMart(
                f"{name} is no report of crmcom's: only those can be told of the past"
            )
        tenants = _tenants(mart)
    last_day = max((tenant["last_observed_date"] for tenant in tenants), default=None)
    if as_of is not None and (last_day is None or as_of > last_day):
        raise NoPast(
            f"nothing is known of {as_of}: the latest observed day is {last_day or 'none'}"
        )
    from crmcom_pipelines.transform import transform

    asked = {"crmcom_as_of": as_of, "crmcom_known_at": known_at}
    with tempfile.TemporaryDirectory(prefix="crmcom-past-") as folder:
        path = Path(folder) / "past.duckdb"
        result = transform(
            path,
            dataset=dataset,
            vars={
                **_built_with(tenants),
                **(vars or {}),
                **{k: str(v) for k, v in asked.items() if v is not None},
            },
            source=Path(database),
            select=_selected({name, *others}),
            tests=False,
            work_dir=Path(folder) / "dbt",
        )
        if not result.ok:
            raise PastFailed(result.summary)
        yield path


def is_published(
    name: str, day: date | None, *, database: str | Path, dataset: str = "crmcom"
) -> bool:
    """Whether the published reports are those of this day. Raises `ReportError`."""
    with open_mart(name, database=database, dataset=dataset) as mart:
        return {tenant["as_of_date"] for tenant in _tenants(mart)} == {day}


def _tenants(mart: Mart) -> list[dict[str, Any]]:
    """What the published reports of each tenant are of."""
    as_of = mart.beside("int_crmcom__as_of")
    return as_of.rows("*") if as_of else []


def _built_with(tenants: list[dict[str, Any]]) -> dict[str, Any]:
    """Of several tenants' reports, the variables are the same; an older release kept none."""
    told = (json.loads(kept) for tenant in tenants if (kept := tenant.get("built_with")))
    return next(told, {})


def _selected(names: set[str]) -> list[str]:
    """The models that these reports and what is said below them are made of."""
    freshness = ["+int_crmcom__freshness"] if names & OF_MONEY else []
    return [*(f"+crmcom__{name}" for name in sorted(names)), *freshness]
