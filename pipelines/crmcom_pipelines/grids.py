"""Tables of a page, to be sorted and filtered: cells are text, exactly as it is shown."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from crmcom_pipelines.figures import COVERAGE
from crmcom_pipelines.views import VIEWS, Column, column_as_it_is, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from crmcom_pipelines.formats import Report
    from crmcom_pipelines.marts import Mart
    from crmcom_pipelines.views import Row

_ROWS_IN_HTML = 100
"""The others are data; as many are shown at once."""

RULES = {
    "overdue_exceeds_balance": (
        "More is overdue than is owed",
        "Look for payments or credits that were not set against invoices.",
    ),
    "negative_overdue": (
        "The overdue amount is negative",
        "Counted as nothing overdue. Look for credits booked as overdue.",
    ),
    "terminated_with_balance": (
        "A terminated account still has a balance",
        "Collect it, pay it out, or write it off.",
    ),
    "currency_changed": (
        "The account's currency changed",
        "Check which currency is right: its history begins anew.",
    ),
    "missing_currency": (
        "The account has no currency",
        "Set one: its amounts are shown under XXX, apart from all others.",
    ),
    "schedule_ends_before_start": (
        "An activity ends before it begins",
        "Correct its schedule: it may count as late, or as follow-up.",
    ),
    "implausible_schedule": (
        "An activity's date cannot be right",
        "Correct its schedule: it is before 2000 or over ten years ahead.",
    ),
}
"""What each rule of the anomalies means, and what to do."""


@dataclass(frozen=True, slots=True)
class Heading:
    text: str
    is_number: bool = False
    is_money: bool = False
    """Sorted within its currency: amounts of two are not compared."""
    about: str = ""
    shape: Literal["", "whole", "breaks"] = ""
    """Short text that is to stay on one line; long words that may break anywhere."""

    @property
    def style(self) -> str:
        return "n" if self.is_number else self.shape

    @property
    def kind(self) -> str:
        return "money" if self.is_money else "number" if self.is_number else "text"


@dataclass(frozen=True, slots=True)
class Filter:
    """A choice of what a column holds, or begins with before a blank."""

    column: int
    label: str
    options: tuple[tuple[str, str], ...]
    """What the column says, and what is shown."""


@dataclass(slots=True)
class Table:
    """A table that can be sorted and filtered; cells are text, exactly as it is shown."""

    name: str
    caption: str
    noun: str
    headings: list[Heading]
    rows: list[list[str]]
    total: int
    """Rows that there are, shown or not."""
    filters: list[Filter] = field(default_factory=list)
    currency: int | None = None
    tenant: int | None = None
    summed: int | None = None
    """The column of which the shown rows' sum is told, for each tenant and currency."""
    row_header: int = 0
    hint: str = "any text"
    """What may be looked for."""
    in_full: str = ""
    """A command that gives all rows."""

    @property
    def head(self) -> list[list[str]]:
        return self.rows[:_ROWS_IN_HTML]

    @property
    def rest(self) -> list[list[str]]:
        return self.rows[_ROWS_IN_HTML:]


def _choices(rows: Iterable[Sequence[str]], column: int, label: str) -> list[Filter]:
    """A filter, where there is something to choose from."""
    found = sorted({row[column] for row in rows})
    return [Filter(column, label, tuple((v, v) for v in found))] if len(found) > 1 else []


_QUEUES = {"write_off_review": "write-off review"}


def _queue(row: Row) -> str:
    return _QUEUES.get(row["queue"], row["queue"] or "-")


def worklist(report: Report, *, many_tenants: bool, max_rows: int) -> Table:
    view = {column.heading: column for column in VIEWS["overdue_worklist"].columns}
    mart = report.mart
    has_gross = mart.ask("count(case when overdue_gross <> overdue_net then 1 end)") > 0
    columns: list[tuple[Heading, Callable[[Row], str]]] = [
        (Heading("Rank", is_number=True, is_money=True), view["#"].cell),
        (Heading("Customer"), view["name"].cell),
        (Heading("Phone, e-mail", shape="breaks"), view["phone"].cell),
        (Heading("Account"), view["account"].cell),
        *([(Heading("Tenant"), lambda row: str(row["source_relation"]))] if many_tenants else []),
        (Heading("Currency"), lambda row: str(row["currency_code"])),
        (Heading("Overdue", is_number=True, is_money=True), view["overdue"].cell),
        *(
            [(Heading("Gross", is_number=True, is_money=True), view["gross"].cell)]
            if has_gross
            else []
        ),
        (Heading("Balance", is_number=True, is_money=True), view["balance"].cell),
        (Heading("Days", is_number=True), view["days"].cell),
        (Heading("Queue", shape="whole"), _queue),
        (Heading("Follow-up", shape="whole"), view["follow-up"].cell),
    ]
    names = [heading.text for heading, _ in columns]
    needed = VIEWS["overdue_worklist"].needs
    kept: list[list[str]] = []
    for batch in mart.batches(columns=needed, cells=True):
        for row in batch.to_pylist():
            if len(kept) == max_rows:
                break
            if report.limit is None or (row["priority_rank"] or 0) <= report.limit:
                kept.append([printable(cell(row)) for _, cell in columns])
    follow_up = names.index("Follow-up")
    statuses = {row[follow_up].partition(" ")[0] for row in kept}
    filters = [
        *(_choices(kept, names.index("Tenant"), "Tenant") if many_tenants else []),
        *_choices(kept, names.index("Currency"), "Currency"),
        *_choices(kept, names.index("Queue"), "Queue"),
        Filter(follow_up, "Follow-up", tuple((s, s) for s in COVERAGE if s in statuses)),
    ]
    return Table(
        name="worklist",
        caption="Overdue accounts, the most urgent of each currency first",
        noun="account",
        headings=[heading for heading, _ in columns],
        rows=kept,
        total=mart.ask("count(*)"),
        filters=filters if kept else [],
        currency=names.index("Currency"),
        tenant=names.index("Tenant") if many_tenants else None,
        summed=names.index("Overdue"),
        row_header=names.index("Customer"),
        hint="name, account, phone …",
        in_full="crmcom report overdue --format csv --output overdue.csv",
    )


_SAME = {"source_relation", "as_of_date", "period"}
"""Columns that name no row."""


def as_it_is(report: Report, max_rows: int) -> Table:
    """Every column of a mart."""
    mart = report.mart
    types, comments = mart.types, mart.comments()
    columns: list[Column] = [column_as_it_is(name, kind) for name, kind in types.items()]
    names = list(types)
    limit = max_rows if report.limit is None else min(report.limit, max_rows)
    kept = [
        [printable(column.cell(row)) for column in columns]
        for batch in mart.batches(limit=limit, cells=True)
        for row in batch.to_pylist()
    ]
    has_currency = "currency_code" in types
    filters = [
        filter_
        for name in ("source_relation", "currency_code", "period", "status", "rule", "bucket")
        if name in types
        for filter_ in _choices(kept, names.index(name), name)
    ]
    return Table(
        name="mart",
        caption=mart.name,
        noun="row",
        headings=[
            Heading(
                printable(name),
                is_number=column.is_number,
                is_money=has_currency and column.is_number and kind.endswith(",4)"),
                about=" ".join(comments.get(name, "").split()),
                shape="whole" if name.endswith("_id") else "",
            )
            for column, (name, kind) in zip(columns, types.items(), strict=True)
        ],
        rows=kept,
        total=mart.ask("count(*)"),
        filters=filters,
        currency=names.index("currency_code") if has_currency else None,
        row_header=next((i for i, name in enumerate(names) if name not in _SAME), 0),
        in_full=f"crmcom report {mart.name} --format csv --output {mart.name}.csv",
    )


def anomaly_list(anomalies: Mart, *, many_tenants: bool, max_rows: int) -> Table:
    money = column_as_it_is("amount", "DECIMAL(38,4)").cell
    kept = [
        [
            printable(str(cell))
            for cell in (
                *([row["source_relation"]] if many_tenants else []),
                RULES.get(row["rule"], (row["rule"],))[0],
                f"{row['entity_type']} {row['account_number'] or row['entity_id']}",
                row["currency_code"] or "-",
                money(row),
                row["detail"] or "-",
            )
        ]
        for batch in anomalies.batches(limit=max_rows, cells=True)
        for row in batch.to_pylist()
    ]
    headings = [
        *([Heading("Tenant")] if many_tenants else []),
        Heading("What is odd"),
        Heading("Where"),
        Heading("Currency"),
        Heading("Amount", is_number=True, is_money=True),
        Heading("Detail"),
    ]
    first = 1 if many_tenants else 0
    return Table(
        name="anomalies",
        caption="Each account and activity that breaks a rule",
        noun="anomaly",
        headings=headings,
        rows=kept,
        total=anomalies.ask("count(*)"),
        filters=_choices(kept, first, "What is odd"),
        currency=first + 2,
        tenant=0 if many_tenants else None,
        row_header=first + 1,
        in_full="crmcom report data_anomalies --format csv --output anomalies.csv",
    )
