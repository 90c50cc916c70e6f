"""The command line: parse, call, format. What a command does stands in its own module.

Exit codes: 0 ok; 1 unexpected; 2 usage or settings; 3 the API refused us; 4 a resource stayed
unavailable; 5 loaded, but something could not be proven or was rejected; 6 another process
holds the lock or the file; 7 loaded, but a transform or its test failed.
"""

# ruff: noqa: PLC0415 - dlt, dbt and their kin take seconds to import: `--help` must not wait

from __future__ import annotations

import json
import logging
import os
import shlex
import shutil
import sys
import time
import traceback
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from crmcom import Range, Result, Settings
    from crmcom_pipelines.load import Outcome

F = TypeVar("F", bound="Callable[..., Any]")

RESOURCES = ("contacts", "accounts", "activities")
EXIT_CODES = """\b
Exit codes:
  0  ok
  1  unexpected
  2  usage or settings
  3  the API refused us
  4  a resource stayed unavailable; the others are loaded, nothing is lost, run again
  5  loaded, but something could not be proven or was rejected
  6  another process holds the lock or the file
  7  loaded, but a transform or its test failed; the last good file is kept
Where several apply, the first of 3, 4, 7, 5 wins."""


class Commands(click.Group):
    """Turns whatever ends a command into a line that says what to do next, an exit code and,
    where `--json` was asked for, an object."""

    def main(self, args: Sequence[str] | None = None, **extra: Any) -> Any:  # type: ignore[override]
        args = sys.argv[1:] if args is None else args
        started_s = time.monotonic()
        # dlt tells its makers of each run as soon as it is imported.
        os.environ.setdefault("RUNTIME__DLTHUB_TELEMETRY", "false")
        try:
            sys.exit(super().main(args, **{**extra, "standalone_mode": False}))
        except click.ClickException as error:
            error.show()
            what, code = error.format_message(), error.exit_code
        except click.Abort:
            what, code = "stopped", 130
            click.echo(
                "Stopped. What was committed is kept; run the same command to go on.", err=True
            )
        except Exception as error:
            if hasattr(error, "exit_code"):
                what, code = str(error), error.exit_code
            else:
                what, code = f"{type(error).__name__}: {error}", 1
                if "--debug" in args:
                    traceback.print_exc()
            click.echo(f"Error: {what}", err=True)
        if "--json" in args:
            seconds = round(time.monotonic() - started_s, 3)
            result: dict[str, Any] = {"run_id": None, "exit_code": code, "seconds": seconds}
            click.echo(json.dumps({**result, "resources": {}, "error": what}))
        sys.exit(code)


def _options(*options: Callable[[F], F]) -> Callable[[F], F]:
    def add(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return add


warehouse_options = _options(
    click.option(
        "--destination",
        default="duckdb",
        show_default=True,
        help="A dlt destination; its credentials are set the dlt way.",
    ),
    click.option(
        "--database",
        type=click.Path(path_type=Path, dir_okay=False),
        default="warehouse.duckdb",
        show_default=True,
        help="The DuckDB file.",
    ),
    click.option(
        "--dataset", default="crmcom", show_default=True, help="The schema of the raw tables."
    ),
)

run_options = _options(
    warehouse_options,
    click.option("--base-url", help="Default: the setting sources.crmcom.base_url."),
    click.option(
        "--resources", default=",".join(RESOURCES), show_default=True, help="Which to read."
    ),
    click.option("--no-transform", is_flag=True, help="Load only; leave the marts as they are."),
    click.option("--reconcile", is_flag=True, help="List everything, and find what is gone."),
    click.option("--accept-deletions", is_flag=True, help="Mark them, however many are gone."),
    click.option(
        "--full-scan",
        is_flag=True,
        help="List everything without filters, for a tenant that ignores them.",
    ),
    click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout."),
    click.option("--quiet", is_flag=True, help="Show no progress."),
)


@click.group(
    cls=Commands, epilog=EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(package_name="crmcom-warehouse")
@click.option("--debug", is_flag=True, help="Show where an unexpected error comes from.")
def main(*, debug: bool) -> None:
    """Keeps a warehouse in step with a CRM.COM back office, and tells finance who owes what."""
    logging.basicConfig(stream=sys.stderr, format="%(message)s", level=logging.WARNING)
    # What asyncio says of tasks that a failure has ended is no news to anybody.
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    if debug:
        logging.getLogger("crmcom").setLevel(logging.DEBUG)


@main.command(epilog="Example: crmcom sync --database warehouse.duckdb")
@run_options
@click.pass_context
def sync(ctx: click.Context, /, **options: Any) -> None:
    """One incremental run: load, then build the marts, then publish the file.

    Safe to repeat, to kill at any moment, and to schedule.
    """
    _run(ctx, None, **options)


@main.command(epilog="Example: crmcom backfill --from 2019-01-01 --to 2020-01-01")
@click.option("--from", "begin", required=True, metavar="DATE", help="First day, UTC.")
@click.option("--to", "end", metavar="DATE", help="Day after the last one, UTC. Default: now.")
@run_options
@click.pass_context
def backfill(ctx: click.Context, /, *, begin: str, end: str | None, **options: Any) -> None:
    """Load a past range of created dates, slice by slice.

    Interrupted, the same command goes on after the last slice that was committed.
    """
    from crmcom import Range

    start_s, end_s = _epoch("--from", begin), _epoch("--to", end) if end else None
    if end_s is None:
        end_s = 2**33  # a run never reads beyond the server's now
    if end_s <= start_s:
        raise click.UsageError("--to must be later than --from")
    _run(ctx, Range(start_s, end_s), **options)


def _run(ctx: click.Context, backfill: Range | None, **options: Any) -> None:
    from crmcom_pipelines.progress import Progress

    resources = _resources(options["resources"])
    with Progress(sys.stderr, quiet=options["quiet"]) as progress:
        from crmcom import Run
        from crmcom_pipelines import load
        from crmcom_pipelines.config import dbt_vars

        settings = _settings(options, resources)
        run = Run(
            settings,
            resources=resources,
            reconcile=options["reconcile"],
            accept_deletions=options["accept_deletions"],
            backfill=backfill,
            slice_rows=load.SLICE_ROWS,
            on_progress=progress.counts,
        )
        outcome = load.sync(
            run,
            database=options["database"],
            dataset=options["dataset"],
            destination=options["destination"],
            transform=not options["no_transform"],
            vars=dbt_vars(),
            on_step=progress.step,
        )
    if options["as_json"]:
        click.echo(json.dumps(outcome.as_json()))
    _summarise(outcome)
    ctx.exit(outcome.exit_code)


def _settings(options: dict[str, Any], resources: tuple[str, ...]) -> Settings:
    from crmcom import settings_from_config

    given: dict[str, Any] = {"base_url": options["base_url"]}
    if options["full_scan"]:
        given["full_scan"] = [r for r in resources if r != "accounts"]
    return settings_from_config(**given)


def _resources(text: str) -> tuple[str, ...]:
    named = [name.strip() for name in text.split(",") if name.strip()]
    unknown = sorted(set(named) - set(RESOURCES))
    if unknown or not named:
        raise click.BadParameter(
            f"{', '.join(unknown) or 'none'}: choose from {', '.join(RESOURCES)}",
            param_hint="--resources",
        )
    return tuple(name for name in RESOURCES if name in named)


def _epoch(option: str, text: str) -> int:
    return int(_moment(option, text).timestamp())


def _moment(option: str, text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(
            f"{text!r} is not a date like 2019-01-31", param_hint=option
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _summarise(outcome: Outcome) -> None:
    """A line for each resource, on stderr, where progress is."""
    for name, result in outcome.resources.items():
        click.echo(f"{name:<11} {_line(result)}", err=True)
    for note in [*outcome.notes, *_transform_notes(outcome)]:
        click.echo(f"note: {note}", err=True)
    click.echo(f"run {outcome.run_id}: {outcome.seconds:.1f} s, exit {outcome.exit_code}", err=True)


def _line(result: Result) -> str:
    parts = [f"{result.rows:,} rows", f"{result.requests:,} requests"]
    parts += [
        f"{n:,} {what}"
        for n, what in (
            (result.retries, "retries"),
            (result.rejected, "rejected"),
            (result.deleted, "deleted"),
        )
        if n
    ]
    parts.append(result.verdict)
    if result.new_columns:
        parts.append(f"new columns: {', '.join(result.new_columns)}")
    if result.reason:
        parts.append(result.reason)
    return ", ".join(parts)


def _transform_notes(outcome: Outcome) -> list[str]:
    found = outcome.transformed
    return [] if found is None or found.ok else [found.summary]


@main.command(
    epilog="""Example: crmcom transform --vars '{"crmcom_report_timezone": "Asia/Nicosia"}'"""
)
@warehouse_options
@click.option("--vars", "variables", default="{}", metavar="JSON", help="Variables for dbt.")
@click.option("--full-refresh", is_flag=True, help="Build all history anew.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
@click.pass_context
def transform(
    ctx: click.Context,
    *,
    destination: str,
    database: Path,
    dataset: str,
    variables: str,
    full_refresh: bool,
    as_json: bool,
) -> None:
    """Build only the marts, from the tables that are loaded, and publish them."""
    from crmcom_pipelines.config import dbt_vars
    from crmcom_pipelines.load import rebuild

    _duckdb_only(destination)
    try:
        given = json.loads(variables)
    except ValueError as error:
        raise click.BadParameter(f"not JSON: {error}", param_hint="--vars") from None
    if not isinstance(given, dict):
        raise click.BadParameter("a JSON object is needed", param_hint="--vars")
    outcome = rebuild(
        database=database, dataset=dataset, vars={**dbt_vars(), **given}, full_refresh=full_refresh
    )
    if as_json:
        click.echo(json.dumps(outcome.as_json()))
    _summarise(outcome)
    ctx.exit(outcome.exit_code)


@main.command(
    epilog="""\b
Example: crmcom report overdue --format csv --output overdue.csv
         crmcom report overdue --format html --output overdue.html
         crmcom report --all --format html --output report/"""
)
@click.argument("name", required=False)
@click.option("--list", "lists", is_flag=True, help="List the reports, and what each answers.")
@click.option(
    "--all", "everything", is_flag=True, help="Every report, each to a file in the folder --output."
)
@warehouse_options
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
    _duckdb_only(destination)
    format_of(file_format)  # before the past is worked out, which takes a while
    with ExitStack() as past:
        source = None
        known = _moment("--known-at", known_at).astimezone(UTC) if known_at else None
        moment = known and known.replace(tzinfo=None)
        if as_of or moment:
            names = _needed(name, file_format)
            database, source = _past(past, names, database, dataset, as_of, moment), database
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
    dataset: str,
    as_of: str | None,
    known_at: datetime | None,
) -> Path:
    """The file that holds the reports as they were; it lives as long as `stack`."""
    from crmcom_pipelines.past import as_known
    from crmcom_pipelines.progress import Progress

    day = _moment("--as-of", as_of).date() if as_of else None
    with Progress(sys.stderr, quiet=not sys.stderr.isatty()) as progress:
        progress.step("working out what was known then")
        from crmcom_pipelines.config import dbt_vars

        return stack.enter_context(
            as_known(
                *names,
                database=database,
                dataset=dataset,
                as_of=day,
                known_at=known_at,
                vars=dbt_vars(),
            )
        )


def _duckdb_only(destination: str) -> None:
    if destination != "duckdb":
        raise click.UsageError(f"marts are built on duckdb only so far, not on {destination}")


@main.command(epilog="Example: crmcom demo --database demo.duckdb")
@warehouse_options
@click.option("--days", default=4, show_default=True, type=click.IntRange(1, 60))
@click.option("--contacts", default=2_000, show_default=True, type=click.IntRange(1))
@click.option("--activities", default=10_000, show_default=True, type=click.IntRange(0))
@click.pass_context
def demo(
    ctx: click.Context,
    *,
    destination: str,
    database: Path,
    dataset: str,
    days: int,
    contacts: int,
    activities: int,
) -> None:
    """Everything, against the bundled sandbox: no credentials needed.

    Replaces only a file that a demo made.
    """
    from crmcom_pipelines.progress import Progress

    _duckdb_only(destination)
    with _errors_only(logging.getLogger("crmcom")), Progress(sys.stderr) as progress:
        from crmcom_pipelines.demo import Size
        from crmcom_pipelines.demo import demo as run

        outcomes = run(database, dataset, Size(contacts, activities, days), progress)
    for outcome in outcomes:
        if outcome.exit_code:
            _summarise(outcome)
            ctx.exit(outcome.exit_code)
    from crmcom_pipelines.report import write

    for name, limit in (("overdue", 5), ("balances", None)):
        write(name, database=database, dataset=dataset, limit=limit)
        click.echo()
    rows = sum(r.rows for o in outcomes for r in o.resources.values())
    seconds = sum(o.seconds for o in outcomes)
    click.echo(
        f"{len(outcomes)} syncs, {rows:,} rows in {seconds:.0f} s. "
        f"The warehouse is {database.resolve()}"
    )
    click.echo("Try next:")
    for command in _next_commands(database, dataset):
        click.echo(f"  {command}")


@contextmanager
def _errors_only(logger: logging.Logger) -> Iterator[None]:
    """The sandbox's clock is not this machine's, and that is as it should be."""
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _next_commands(database: Path, dataset: str) -> list[str]:
    """Three commands that work as they are shown, from where the demo was run."""
    bin_dir = Path(sys.argv[0]).parent
    on_path = shutil.which("crmcom") is not None
    crmcom = "crmcom" if on_path else str(bin_dir / "crmcom")
    python = "python" if on_path else str(bin_dir / "python")
    where = (
        "" if database == Path("warehouse.duckdb") else f" --database {shlex.quote(str(database))}"
    )
    where += "" if dataset == "crmcom" else f" --dataset {dataset}"
    query = f"from {dataset}_reports.account_daily where overdue_gross > 0 order by date_day"
    connect = f"duckdb.connect('{database}', read_only=True)"
    tenant = "--base-url https://app.crm.com/backoffice/v2 --database mine.duckdb"
    return [
        f"{crmcom} report overdue{where} --format xlsx --output overdue.xlsx",
        f"{python} -c \"import duckdb; {connect}.sql('{query}').show()\"",
        f"SOURCES__CRMCOM__API_KEY=… {crmcom} sync {tenant}",
    ]


class _Sandbox(click.Command):
    """The command of the sandbox's own package, imported when it is used."""

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        from crmcom_sandbox.cli import sandbox

        return sandbox.make_context(info_name, args, parent, **extra)


main.add_command(_Sandbox("sandbox", short_help="Serve the bundled API on this machine."))


@main.command(epilog="Example: crmcom status --json")
@warehouse_options
@click.option("--runs", default=5, show_default=True, type=click.IntRange(1), help="How many.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def status(*, destination: str, database: Path, dataset: str, runs: int, as_json: bool) -> None:
    """The last runs, bookmarks, freshness, rows, and what could not be proven."""
    from crmcom_pipelines import ledger

    _duckdb_only(destination)
    found = ledger.status(database, dataset, runs=runs)
    if as_json:
        _print_json(found)
    else:
        from crmcom_pipelines.overview import overview

        for line in overview(found, database):
            click.echo(line)


@main.command(epilog="Example: crmcom explain activity 1cf0d458-b799-1d99-52e4-d7f5081b3c01")
@click.argument("kind", type=click.Choice(["contact", "account", "activity"]))
@click.argument("record_id", metavar="ID")
@warehouse_options
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def explain(
    *, kind: str, record_id: str, destination: str, database: Path, dataset: str, as_json: bool
) -> None:
    """Which run and window saw, changed, rejected or deleted a record."""
    from crmcom_pipelines import ledger

    _duckdb_only(destination)
    found = ledger.explain(database, dataset, cast("ledger.Kind", kind), record_id)
    if as_json:
        _print_json(found)
    else:
        _show(found)


def _print_json(found: dict[str, Any]) -> None:
    from crmcom_pipelines.ledger import plain

    click.echo(json.dumps(found, default=plain))


def _show(found: dict[str, Any]) -> None:
    """Nested values for people: a heading for each part, a line for each row."""
    from crmcom_pipelines.ledger import plain

    for part, value in found.items():
        if isinstance(value, list):
            click.echo(f"{part}:" if value else f"{part}: none")
            for item in value:
                shown = _pairs(item) if isinstance(item, dict) else str(item)
                click.echo(f"  {shown}")
        elif isinstance(value, dict):
            click.echo(f"{part}: {_pairs(value)}")
        else:
            click.echo(f"{part}: {'none' if value is None else plain(value)}")


def _pairs(row: dict[str, Any]) -> str:
    from crmcom_pipelines.ledger import plain

    return ", ".join(f"{k} {plain(v)}" for k, v in row.items() if v is not None)
