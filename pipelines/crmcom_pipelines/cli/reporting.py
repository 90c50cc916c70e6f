"""`report`: a mart as a table or a file."""

# ruff: noqa: PLC0415 - dlt, dbt and their kin take seconds to import: `--help` must not wait

from __future__ import annotations

import sys
from contextlib import ExitStack
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from crmcom_pipelines.cli.options import moment_of, warehouse_options
from crmcom_pipelines.cli.tenancy import Place, complete_tenants, report_place_of

if TYPE_CHECKING:
    from datetime import date, datetime


def _complete_reports(_: click.Context, __: click.Parameter, typed: str) -> list[str]:
    from crmcom_pipelines.marts import ALIASES, QUESTIONS

    return [name for name in (*ALIASES, *QUESTIONS) if name.startswith(typed)]


@click.command(
    epilog="""\b
Example: crmcom report overdue --format csv --output overdue.csv
         crmcom report overdue --format html --output overdue.html
         crmcom report --all --format html --output report/"""
)
@click.argument("name", required=False, shell_complete=_complete_reports)
@click.option("--list", "lists", is_flag=True, help="List the reports, and what each answers.")
@click.option(
    "--all", "everything", is_flag=True, help="Every report, each to a file in the folder --output."
)
@warehouse_options
@click.option(
    "--tenant",
    metavar="NAME",
    shell_complete=complete_tenants,
    help="Of one of sources.crmcom.tenants alone. Default: of all of them.",
)
@click.option(
    "--format",
    "file_format",
    type=click.Choice(["table", "csv", "parquet", "xlsx", "html"]),
    default="table",
    show_default=True,
)
@click.option("--output", "-o", type=click.Path(path_type=Path), help="Default: stdout.")
@click.option(
    "--limit",
    type=click.IntRange(min=0),
    help="At most so many rows; in the table, and among the overdue in html, of each currency.",
)
@click.option("--as-of", metavar="DATE", help="A past day. Default: the latest observed one.")
@click.option(
    "--known-at",
    metavar="TIME",
    help="Count only what was loaded until then (UTC, unless it names a zone).",
)
def report(
    *,
    name: str | None,
    lists: bool,
    everything: bool,
    destination: str,
    database: Path,
    dataset: str,
    tenant: str | None,
    file_format: str,
    output: Path | None,
    limit: int | None,
    as_of: str | None,
    known_at: str | None,
) -> None:
    """Print a report: `overdue`, `balances`, or any other that --list names.

    With --format html, `overdue` is a page with figures, charts, the worklist and what is not
    known; it opens without a network.

    With --as-of or --known-at a report is worked out anew, from what was observed and known then;
    the database stays as it is.
    """
    from crmcom_pipelines.report import format_of, write, write_all

    if lists:
        _list_reports()
        return
    if name is None and not everything:
        raise click.UsageError("name a report, or ask for --all; `crmcom report --list` lists them")
    if everything and name is not None:
        raise click.UsageError(f"--all is every report: leave out {name!r}, or --all")
    if everything and output is None:
        raise click.UsageError("--all needs a folder for its files: --output report/")
    format_of(file_format)  # before the past is worked out, which takes a while
    with ExitStack() as stack:
        from crmcom_pipelines.warehouse import warehouse_at

        source = None
        place = report_place_of(dataset, tenant)
        dataset = place.dataset
        day = None if as_of is None else moment_of("--as-of", as_of).date()
        known = None if known_at is None else moment_of("--known-at", known_at).astimezone(UTC)
        moment = known and known.replace(tzinfo=None)
        names = _needed(name, file_format)
        warehouse = warehouse_at(destination, database, dataset)
        if day or moment:
            from crmcom_pipelines.past import is_published

            source = stack.enter_context(warehouse.history(names[:1]))
            if not moment and is_published(names[0], day, database=source, dataset=dataset):
                source = None
        if source is not None:
            database = _past(stack, names, source, place, day, moment)
        else:
            database = stack.enter_context(warehouse.reports(names))
        options: dict[str, Any] = {
            "file_format": file_format,
            "database": database,
            "dataset": dataset,
            "limit": limit,
            "source": source,
            "known_at": moment,
        }
        if name is not None:
            write(name, output=output, **options)
        elif output is not None:
            files = write_all(output, **options)
            begin = output / "index.html" if file_format == "html" else output
            click.echo(f"{len(files)} files, begin with {begin}", err=True)


def _needed(name: str | None, file_format: str) -> tuple[str, ...]:
    """The reports that a file of the past must hold."""
    from crmcom_pipelines.figures import PARTS
    from crmcom_pipelines.marts import QUESTIONS, full_name

    if name is None:
        return tuple(QUESTIONS)
    is_page = file_format == "html" and full_name(name) == "overdue_worklist"
    return (name, *PARTS) if is_page else (name,)


def _list_reports() -> None:
    from crmcom_pipelines.report import ALIASES, QUESTIONS

    also = {name: f" ({alias})" for alias, name in ALIASES.items()}
    names = {name: name + also.get(name, "") for name in QUESTIONS}
    width = max(map(len, names.values()))
    for name, question in QUESTIONS.items():
        click.echo(f"{names[name]:<{width}}  {question}")


def _past(  # noqa: PLR0917 - private, called once
    stack: ExitStack,
    names: tuple[str, ...],
    database: Path,
    place: Place,
    day: date | None,
    known_at: datetime | None,
) -> Path:
    """The file that holds the reports as they were; it lives as long as `stack`."""
    from crmcom_pipelines.past import as_known
    from crmcom_pipelines.progress import Progress

    with Progress(sys.stderr, quiet=not sys.stderr.isatty()) as progress:
        progress.step("working out what was known then")
        return stack.enter_context(
            as_known(
                *names,
                database=database,
                dataset=place.dataset,
                as_of=day,
                known_at=known_at,
                vars=place.vars(),
            )
        )
