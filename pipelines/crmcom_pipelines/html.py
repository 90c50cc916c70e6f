"""A report as one self-contained page: the overview of overdue debt, or any mart as a table.

Nothing is fetched when it is opened, which a content security policy in the page enforces. A
table's first rows are HTML; the others are data that the script shows when they are asked for,
since a browser lays out fifty thousand rows far slower than it reads them.
"""

# ruff: noqa: PLC0415 - libraries are imported where they are used: `crmcom --help` is fast

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Context, Decimal, localcontext
from typing import TYPE_CHECKING, Any, BinaryIO

from crmcom_pipelines.figures import Section, overview, troubles
from crmcom_pipelines.freshness import freshness
from crmcom_pipelines.grids import RULES, anomaly_list, as_it_is, worklist
from crmcom_pipelines.marts import QUESTIONS, CannotWrite
from crmcom_pipelines.money import amount, usual_decimals
from crmcom_pipelines.views import NAMES, VIEWS, printable, when_empty

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

    from jinja2 import Environment

    from crmcom_pipelines.charts import Drawing
    from crmcom_pipelines.formats import Report

MAX_ROWS = 100_000
"""Of one table. A browser holds as many; what is left out is counted and named."""


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


# --- pages -------------------------------------------------------------------------------

STATUSES = {
    "uncovered": "no open activity for the customer",
    "stale": "open activities, all past due or without a date",
    "unlinkable": "the account has no contact, so nothing can be told",
    "covered": "an open activity is due on the day of the report or later",
}


def _overview(report: Report, made_at: datetime, links: Sequence[Link], max_rows: int) -> str:
    found = overview(report.mart, known_at=report.known_at, is_past=report.is_past)
    many = len(found.tenants) > 1
    anomalies = report.mart.sibling("data_anomalies")
    details = (
        anomalies
        and anomalies.ask("count(*)")
        and anomaly_list(anomalies, many_tenants=many, max_rows=max_rows)
    )
    return _rendered(
        "overview.html.j2",
        found=found,
        report=report,
        made_at=made_at,
        links=links,
        many_tenants=many,
        troubles=list(troubles(found, made_at=made_at, is_past=report.is_past)),
        worklist=worklist(report, many_tenants=many, max_rows=max_rows),
        anomaly_table=details,
        drawings=[_Drawings.of(section) for section in found.sections],
        missing=found.missing,
        fresh={each.source_relation: each for each in freshness(report.mart)},
        rules=RULES,
        statuses=STATUSES,
        when_empty=when_empty(report),
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
        table=as_it_is(report, max_rows),
        when_empty=when_empty(report),
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
