"""A report as one self-contained page: the overview of overdue debt, or any mart as a table.

Nothing is fetched when it is opened, which a content security policy in the page enforces. A
table's first rows are HTML; the others are data that the script shows when they are asked for,
since a browser lays out fifty thousand rows far slower than it reads them.
"""

# ruff: noqa: PLC0415 - libraries are imported where they are used: `crmcom --help` is fast

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Context, Decimal, localcontext
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

from crmcom_pipelines.figures import COVERAGE, Overview, Section, overview, troubles
from crmcom_pipelines.marts import QUESTIONS, CannotWrite
from crmcom_pipelines.money import amount, usual_decimals
from crmcom_pipelines.views import NAMES, VIEWS, Column, column_as_it_is, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from datetime import date

    from jinja2 import Environment

    from crmcom_pipelines.charts import Drawing
    from crmcom_pipelines.formats import Report
    from crmcom_pipelines.marts import Mart
    from crmcom_pipelines.views import Row

MAX_ROWS = 100_000
"""Of one table. A browser holds as many; what is left out is counted and named."""

_ROWS_IN_HTML = 100
"""The others are data; as many are shown at once."""


def needs_extra() -> None:
    """Raises `CannotWrite` where the libraries of the extra are not installed."""
    from importlib.util import find_spec

    if missing := [name for name in ("altair", "jinja2", "vl_convert") if not find_spec(name)]:
        raise CannotWrite(
            f"html needs {', '.join(missing)}: install the extra, pip install"
            " 'crmcom-warehouse[html]', or use another --format"
        )


@dataclass(frozen=True, slots=True)
class Link:
    """To a page that was written beside this one."""

    href: str
    name: str
    question: str = ""
    rows: int = 0


def write_html(
    report: Report, out: BinaryIO, *, links: Sequence[Link] = (), max_rows: int = MAX_ROWS
) -> None:
    """UTF-8. The worklist's page is the overview; `links` lead to the pages beside it."""
    needs_extra()
    view = VIEWS["overdue_worklist"]
    made_at = report.made_at or datetime.now(UTC)
    # The default context would round a sum to 28 digits; an amount alone may have 38.
    with localcontext(Context(prec=100)):
        if report.mart.name == "overdue_worklist" and report.mart.types.keys() >= set(view.needs):
            page = _overview(report, made_at, links, max_rows)
        else:
            page = _mart_page(report, made_at, links, max_rows)
    out.write(page.encode())


def write_mart(report: Report, out: BinaryIO, *, links: Sequence[Link], max_rows: int) -> None:
    """The mart with all its columns, whichever it is."""
    made_at = report.made_at or datetime.now(UTC)
    with localcontext(Context(prec=100)):
        out.write(_mart_page(report, made_at, links, max_rows).encode())


# --- tables ------------------------------------------------------------------------------


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


def _worklist(report: Report, found: Overview, max_rows: int) -> Table:
    view = {column.heading: column for column in VIEWS["overdue_worklist"].columns}
    mart = report.mart
    many = len(found.tenants) > 1
    has_gross = mart.ask("count(case when overdue_gross <> overdue_net then 1 end)") > 0
    columns: list[tuple[Heading, Callable[[Row], str]]] = [
        (Heading("Rank", is_number=True, is_money=True), view["#"].cell),
        (Heading("Customer"), view["name"].cell),
        (Heading("Phone, e-mail", shape="breaks"), view["phone"].cell),
        (Heading("Account"), view["account"].cell),
        *([(Heading("Tenant"), lambda row: str(row["source_relation"]))] if many else []),
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
        *(_choices(kept, names.index("Tenant"), "Tenant") if many else []),
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
        tenant=names.index("Tenant") if many else None,
        summed=names.index("Overdue"),
        row_header=names.index("Customer"),
        hint="name, account, phone …",
        in_full="crmcom report overdue --format csv --output overdue.csv",
    )


_SAME = {"source_relation", "as_of_date", "period"}
"""Columns that name no row."""


def _as_it_is(report: Report, max_rows: int) -> Table:
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


# --- pages -------------------------------------------------------------------------------

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

STATUSES = {
    "uncovered": "no open activity for the customer",
    "stale": "open activities, all past due or without a date",
    "unlinkable": "the account has no contact, so nothing can be told",
    "covered": "an open activity is due on the day of the report or later",
}


def _overview(report: Report, made_at: datetime, links: Sequence[Link], max_rows: int) -> str:
    found = overview(report.mart, known_at=report.known_at, is_past=report.is_past)
    anomalies = report.mart.sibling("data_anomalies")
    details = anomalies and anomalies.ask("count(*)") and _anomaly_table(anomalies, found, max_rows)
    return _rendered(
        "overview.html.j2",
        found=found,
        report=report,
        made_at=made_at,
        links=links,
        many_tenants=len(found.tenants) > 1,
        troubles=list(troubles(found, made_at=made_at, is_past=report.is_past)),
        worklist=_worklist(report, found, max_rows),
        anomaly_table=details,
        drawings=[_Drawings.of(section) for section in found.sections],
        missing=found.missing,
        rules=RULES,
        statuses=STATUSES,
    )


def _anomaly_table(anomalies: Mart, found: Overview, max_rows: int) -> Table:
    many = len(found.tenants) > 1
    money = column_as_it_is("amount", "DECIMAL(38,4)").cell
    kept = [
        [
            printable(str(cell))
            for cell in (
                *([row["source_relation"]] if many else []),
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
        *([Heading("Tenant")] if many else []),
        Heading("What is odd"),
        Heading("Where"),
        Heading("Currency"),
        Heading("Amount", is_number=True, is_money=True),
        Heading("Detail"),
    ]
    first = 1 if many else 0
    return Table(
        name="anomalies",
        caption="Each account and activity that breaks a rule",
        noun="anomaly",
        headings=headings,
        rows=kept,
        total=anomalies.ask("count(*)"),
        filters=_choices(kept, first, "What is odd"),
        currency=first + 2,
        tenant=0 if many else None,
        row_header=first + 1,
        in_full="crmcom report data_anomalies --format csv --output anomalies.csv",
    )


@dataclass(frozen=True, slots=True)
class _Drawings:
    """The charts of a section; None where there is nothing to draw."""

    ageing: Drawing | None
    trend: Drawing | None

    @classmethod
    def of(cls, section: Section) -> _Drawings:
        from crmcom_pipelines import charts

        ageing = trend = None
        if section.ageing:
            ageing = charts.bars(
                [
                    charts.Bar(
                        _bucket(row["bucket"]),
                        row["amount"],
                        _money(row["amount"], section.currency),
                        is_unknown=row["bucket"] == "unknown_start",
                    )
                    for row in section.ageing
                ]
            )
        if len(section.trend) > 1 and any(row["overdue"] for row in section.trend):
            is_daily = section.trend_period == "day"
            trend = charts.trend(
                [
                    charts.Point(row["day"], row["overdue"], is_daily and row["is_observed"])
                    for row in section.trend
                ]
            )
        return cls(ageing, trend)


def _mart_page(report: Report, made_at: datetime, links: Sequence[Link], max_rows: int) -> str:
    mart = report.mart
    has_day = mart.types.get("as_of_date") == "DATE"
    many = "source_relation" in mart.types and mart.ask("count(distinct source_relation)") > 1
    days = mart.rows("distinct as_of_date", "order by 1") if has_day else []
    return _rendered(
        "mart.html.j2",
        mart=mart,
        question=QUESTIONS.get(mart.name, mart.name),
        report=report,
        made_at=made_at,
        links=links,
        many_tenants=many,
        days=[row["as_of_date"] for row in days if row["as_of_date"]],
        table=_as_it_is(report, max_rows),
    )


# --- rendering ---------------------------------------------------------------------------


def _rendered(template: str, **values: Any) -> str:
    environment = _environment()
    style, script = (_file(environment, name) for name in ("page.css", "page.js"))
    # Only what stands in this page may run, nothing may be fetched: whatever a name contains.
    policy = (
        f"default-src 'none'; style-src '{_sha256(style)}'; script-src '{_sha256(script)}';"
        " img-src data:; base-uri 'none'; form-action 'none'"
    )
    page = environment.get_template(template).render(
        style=style, script=script, policy=policy, **values
    )
    return page + "\n"


_PLURALS = {"anomaly": "anomalies"}


def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("crmcom_pipelines"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {
        "ensure_ascii": False,
        "separators": (",", ":"),
    }
    environment.filters.update(
        money=_money,
        bucket=_bucket,
        percent=_percent,
        moment=_moment,
        named=lambda name: printable(str(NAMES.get(name, name))),
        printable=printable,
        count=lambda number: f"{number:,}",
        plural=lambda noun, n: noun if n == 1 else _PLURALS.get(noun, f"{noun}s"),
    )
    return environment


def _file(environment: Environment, name: str) -> str:
    if environment.loader is None:
        raise RuntimeError("the environment has no loader")
    return environment.loader.get_source(environment, name)[0]


def _sha256(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _money(value: Decimal | None, currency: str | None) -> str:
    return "not known" if value is None else amount(value, usual_decimals(currency))


def _percent(ratio: Decimal | None) -> str:
    if ratio is None:
        return "\N{EN DASH}"
    return f"{(ratio * 100).quantize(Decimal('0.1'), ROUND_HALF_UP)} %"


def _bucket(bucket: str) -> str:
    days = bucket.replace("-", "\N{EN DASH}")
    return "age unknown" if bucket == "unknown_start" else f"{days} days"


def _moment(at: datetime | date | None) -> str:
    """To the minute, UTC."""
    if at is None:
        return "never"
    return f"{at:%Y-%m-%d %H:%M} UTC" if isinstance(at, datetime) else at.isoformat()
