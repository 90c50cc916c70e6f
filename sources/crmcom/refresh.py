"""Which accounts a run reads where it may not read them all. No I/O.

`question` asks what the warehouse knows of them, `choose` decides. docs/account-refresh.md tells
what a year of this comes to; the figures there are made by this code.
"""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from enum import IntEnum
from heapq import nsmallest
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

RECENT = timedelta(days=90)
"""A change between two readings is recent where both are younger. It also bounds what is read of
`account_observations`, which grows for ever."""


class Kind(IntEnum):
    """What the last readings say of an account, in the order in which it comes first.

    By no amount: those of two currencies cannot be compared, and the smaller one may be stale.
    """

    OVERDUE = 0
    CHANGED = 1
    """Its last reading differs from the one before."""
    WITH_BALANCE = 2
    """Something may fall due, or be paid."""
    QUIET = 3


MONEY_WEIGHT = 3
"""A day without a reading counts so many times for all but the quiet: with more, new debts of the
quiet are found later, and the known total falls below the true one."""
KINDS = tuple(Kind)


class Known(NamedTuple):
    id: str
    kind: Kind
    tried_at: datetime
    """When it was read last, or could not be read."""


def choose(accounts: Iterable[Known], budget: int, now: datetime) -> list[str]:
    """At most `budget` of them, those that come first.

    The kinds that fit whole into half of the budget, the overdue ones first, are read whole. What
    is left, half of the budget at least, goes to whoever has waited longest, those with money
    first where they have waited equally long. So nobody waits for ever.
    """
    waiting = list(accounts)
    # A server's clock may have been set back.
    now = max([now, *(a.tried_at for a in waiting)])
    sizes = Counter(a.kind for a in waiting)
    so_far = accumulate(sizes[kind] for kind in Kind)
    whole = {kind for kind, size in zip(Kind, so_far, strict=True) if 2 * size <= budget}

    def place(account: Known) -> tuple[bool, timedelta, Kind, str]:
        weight = 1 if account.kind is Kind.QUIET else MONEY_WEIGHT
        return (
            account.kind not in whole,
            (account.tried_at - now) * weight,
            account.kind,
            account.id,
        )

    return [a.id for a in nsmallest(budget, waiting, key=place)]


def question(accounts: str, observations: str, rejects: str, now: datetime) -> str:
    """SQL for the columns of `Known` of every account that is not deleted, of tables so named.

    An account that cannot be read keeps its old row: without its rejects it would be the stalest
    in every run, and some of them would use up a small budget.
    """
    return f"""
        with tried as (
            select record_id, max(_synced_at) as tried_at
            from {rejects}
            where resource = 'accounts'
            group by record_id
        ),
        changed as (
            select a.id
            from {accounts} a
            inner join {observations} o on o.account_id = a.id and o._synced_at < a._synced_at
            where o._synced_at > timestamp '{now - RECENT:%Y-%m-%d %H:%M:%S.%f}'
            group by a.id
            having max(o._synced_at) = max(
                case
                    when
                        o.state is distinct from a.state
                        or o.currency_code is distinct from a.currency_code
                        or o.balance is distinct from a.balance
                        or o.overdue_amount is distinct from a.overdue_amount
                        then o._synced_at
                end
            )
        )
        select
            a.id,
            case
                when a.overdue_amount > 0 then {Kind.OVERDUE:d}
                when changed.id is not null then {Kind.CHANGED:d}
                when a.balance <> 0 then {Kind.WITH_BALANCE:d}
                else {Kind.QUIET:d}
            end as kind,
            case
                when tried.tried_at > a._synced_at then tried.tried_at
                else a._synced_at
            end as tried_at
        from {accounts} a
        left join changed on changed.id = a.id
        left join tried on tried.record_id = a.id
        where a._deleted_at is null
    """  # noqa: S608 - names are the destination's, the rest is ours
