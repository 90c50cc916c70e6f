"""How many of the balances behind a report are fresher than a day."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from crmcom_pipelines.marts import Mart

OF_MONEY = frozenset(
    (
        *("overdue_worklist", "overdue_ageing", "overdue_kpis", "collections_coverage"),
        *("balance_summary", "balance_movement", "credit_exposure"),
        *("contact_360", "contact_balances"),
    )
)
"""The reports whose amounts are those of one day. In `account_daily` each row has its own."""


@dataclass(frozen=True, slots=True)
class Freshness:
    """Of one tenant."""

    source_relation: str
    fresh_until: datetime
    """The latest observation, or the end of the report's day where that is earlier; UTC."""
    balances: int
    fresh_balances: int
    """Read in the 24 hours before."""

    def __str__(self) -> str:
        # Rounded down, so that 100 % is said of all alone.
        share = 100 * self.fresh_balances // self.balances
        are = "balances are" if self.balances > 1 else "balance is"
        return (
            f"{share} % of {self.balances:,} {are} fresher than a day,"
            f" as of {self.fresh_until:%Y-%m-%d %H:%M} UTC"
        )


def freshness(mart: Mart) -> list[Freshness]:
    """Of each tenant with balances, by name.

    None for a report that is not about money, and for a file that was built before this was known.
    """
    known = mart.beside("int_crmcom__freshness") if mart.name in OF_MONEY else None
    if known is None:
        return []
    found = known.rows(
        "source_relation, fresh_until, balances, fresh_balances",
        "where balances > 0 order by all",
    )
    return [Freshness(**row) for row in found]
