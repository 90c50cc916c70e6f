"""What people see of a mart: which columns, under which headings, and what is added up."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from typing import TYPE_CHECKING, Any

from crmcom_pipelines.money import amount, usual_decimals

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from crmcom_pipelines.formats import Report
    from crmcom_pipelines.marts import Mart

    Row = Mapping[str, Any]
    Cell = Callable[[Row], str]


NAMES = {None: "unknown", "XXX": "currency unknown (XXX)"}
"""How a section's key is called where it has no name of its own."""

_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """Without line breaks, and without what would steer a terminal or turn text around."""
    return text if text.isprintable() else _UNPRINTABLE.sub(_shown, text)


def when_empty(report: Report) -> str:
    """Of which day it is true that a report has no rows: the end of a sentence that says so."""
    tenants: list[dict[str, Any]] = []
    if made_with := report.mart.beside("int_crmcom__as_of"):
        tenants = made_with.rows("as_of_date, first_account_date")
    elif balances := report.mart.sibling("balance_summary"):
        tenants = balances.rows("distinct as_of_date, null as first_account_date")
    if not tenants:
        if report.known_at is None:
            return ": nothing has been loaded yet"
        return f": nothing had been loaded by {report.known_at:%Y-%m-%d %H:%M} UTC"
    day = max(tenant["as_of_date"] for tenant in tenants)
    first = min((t["first_account_date"] for t in tenants if t["first_account_date"]), default=day)
    late = f": no account was read before {first}" if first > day else ""
    return f", as of {day}{late}"


def _shown(found: re.Match[str]) -> str:
    return " " if found[0].isspace() else "\N{REPLACEMENT CHARACTER}"


@dataclass(frozen=True, slots=True)
class Column:
    """What people read under one heading."""

    heading: str
    cell: Cell
    """From a row of the mart to what is shown."""
    total: Cell | None = None
    """The same from a row that holds the section's sums, and its number of rows in `rows`."""
    is_number: bool = False
    """Set to the right, and never folded."""
    fold_at: int = 10
    """Text is not folded to fewer columns than this."""
    is_optional: bool = False
    """Left out where it has nothing to say."""
    is_spare: bool = False
    """The first to be left out, with a word on it, on a narrow terminal."""


@dataclass(frozen=True, slots=True)
class View:
    """How a mart is shown."""

    title: str
    noun: str
    when_empty: str
    sections: tuple[str, ...]
    """A new section begins where one of these columns changes."""
    sums: tuple[str, ...]
    reads: tuple[str, ...]
    """Further columns that `columns` reads."""
    columns: tuple[Column, ...]

    @property
    def needs(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self.sections + self.sums + self.reads))


# --- cells -------------------------------------------------------------------------------


def _text(*columns: str) -> Cell:
    """The first of the columns that holds something."""
    return lambda row: next((str(row[c]) for c in columns if row[c]), "-")


def _amount(column: str) -> Cell:
    def cell(row: Row) -> str:
        value = row[column]
        return "-" if value is None else amount(value, usual_decimals(row.get("currency_code")))

    return cell


def _gross_if_more(row: Row) -> str:
    return "" if row["overdue_gross"] == row["overdue_net"] else _amount("overdue_gross")(row)


def _count(column: str) -> Cell:
    return lambda row: "-" if row[column] is None else f"{row[column]:,}"


def _count_if_any(column: str) -> Cell:
    return lambda row: f"{row[column]:,}" if row[column] else ""


def _days(row: Row) -> str:
    """`14`, `14 to 20`, or `14+` where the account was overdue when first seen."""
    least, most = row["days_overdue_min"], row["days_overdue_max"]
    if least is None:
        return "-"
    if most is None:
        return f"{least:,}+"
    return f"{least:,}" if least == most else f"{least:,} to {most:,}"


def _follow_up(row: Row) -> str:
    said = (row["coverage_status"], row["next_due_date"])
    return " ".join(str(part) for part in said if part is not None) or "-"


def _percent(ratio: Decimal | None) -> str:
    return "-" if ratio is None else f"{amount(ratio * 100, 1)} %"


def _overdue_share(sums: Row) -> str:
    """Of the whole section; as the mart has it for one group, so null without receivables."""
    if not sums["receivable"]:
        return _percent(None)
    share = sums["overdue_net"] / sums["receivable"]
    return _percent(share.quantize(Decimal("0.000001"), ROUND_HALF_UP))


def _total_of(row: Row) -> str:
    return f"Total {row['currency_code']}"


def _summed(heading: str, cell: Cell, **how: Any) -> Column:
    return Column(heading, cell, total=cell, is_number=True, **how)


# --- views -------------------------------------------------------------------------------

_BY_CURRENCY = ("source_relation", "currency_code")

VIEWS = {
    "overdue_worklist": View(
        title="Overdue accounts",
        noun="account",
        when_empty="No account is overdue",
        sections=_BY_CURRENCY,
        sums=("overdue_net", "overdue_gross", "balance"),
        reads=(
            *("as_of_date", "priority_rank", "contact_name", "contact_phone", "contact_email"),
            *("account_number", "account_id", "days_overdue_min", "days_overdue_max", "queue"),
            *("coverage_status", "next_due_date"),
        ),
        columns=(
            Column("#", _count("priority_rank"), is_number=True),
            Column("name", _text("contact_name"), _total_of),
            Column("phone", _text("contact_phone", "contact_email"), fold_at=24),
            Column(
                "account",
                _text("account_number", "account_id"),
                lambda sums: f"{sums['rows']:,} account{'s' if sums['rows'] > 1 else ''}",
            ),
            _summed("overdue", _amount("overdue_net")),
            _summed("gross", _gross_if_more, is_optional=True),
            Column("days", _days, is_number=True),
            Column("queue", _text("queue"), is_spare=True),
            Column("follow-up", _follow_up, is_spare=True),
            _summed("balance", _amount("balance"), is_spare=True),
        ),
    ),
    "balance_summary": View(
        title="Balances",
        noun="group",
        when_empty="There are no accounts",
        sections=_BY_CURRENCY,
        sums=(
            *("accounts", "overdue_accounts", "unknown_accounts", "carried_accounts"),
            *("receivable", "credit", "net_balance", "overdue_gross", "overdue_net"),
        ),
        reads=("as_of_date", "classification", "state", "overdue_ratio"),
        columns=(
            Column("classification", _text("classification"), _total_of),
            Column("state", _text("state")),
            _summed("accounts", _count("accounts")),
            _summed("unknown", _count_if_any("unknown_accounts"), is_optional=True),
            _summed("carried", _count_if_any("carried_accounts"), is_optional=True),
            _summed("receivable", _amount("receivable")),
            _summed("credit", _amount("credit"), is_spare=True),
            _summed("net balance", _amount("net_balance")),
            _summed("overdue", _amount("overdue_net")),
            _summed("gross", _gross_if_more, is_optional=True),
            Column(
                "share",
                lambda row: _percent(row["overdue_ratio"]),
                _overdue_share,
                is_number=True,
                is_spare=True,
            ),
            _summed("overdue accounts", _count("overdue_accounts"), is_spare=True),
        ),
    ),
}


def view_of(mart: Mart) -> View:
    types = mart.types
    view = VIEWS.get(mart.name)
    if view and types.keys() >= set(view.needs):
        return view
    # Of a mart we know nothing about: every column, and no totals, since what may be added
    # up (never a balance over days) is not to be seen from a column.
    return View(
        title=mart.name,
        noun="row",
        when_empty="There are no rows",
        sections=(),
        sums=(),
        reads=tuple(types),
        columns=tuple(column_as_it_is(name, kind) for name, kind in types.items()),
    )


def column_as_it_is(name: str, kind: str) -> Column:
    if re.fullmatch(r"DECIMAL\(\d+,4\)", kind):
        return Column(name, _amount(name), is_number=True)
    if kind.startswith("DECIMAL"):
        return Column(
            name,
            lambda row: "-" if row[name] is None else amount(row[name], 0),
            is_number=True,
        )
    if kind == "BOOLEAN":
        return Column(name, lambda row: {None: "-", True: "yes", False: "no"}[row[name]])
    return Column(
        name,
        lambda row: "-" if row[name] is None else str(row[name]),
        is_number=bool(re.fullmatch(r"U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?|FLOAT|DOUBLE", kind)),
    )
