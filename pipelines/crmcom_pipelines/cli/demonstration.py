"""`demo`: everything, against the bundled sandbox."""

# ruff: noqa: PLC0415 - dlt, dbt and their kin take seconds to import: `--help` must not wait

from __future__ import annotations

import logging
import shlex
import shutil
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from crmcom_pipelines.cli.options import warehouse_options
from crmcom_pipelines.cli.stopping import stoppable
from crmcom_pipelines.cli.watching import Watch, log_options

if TYPE_CHECKING:
    from collections.abc import Iterator


@click.command(epilog="Example: crmcom demo --database demo.duckdb")
@warehouse_options
@click.option("--days", default=4, show_default=True, type=click.IntRange(1, 60))
@click.option("--contacts", default=2_000, show_default=True, type=click.IntRange(1))
@click.option("--activities", default=10_000, show_default=True, type=click.IntRange(0))
@log_options
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
    watch: Watch = ctx.obj
    if destination != "duckdb":
        raise click.UsageError(f"the demo makes a DuckDB file, and nothing on {destination}")
    with stoppable(ctx), _at_home(), watch.progress() as progress:
        from crmcom_pipelines.demo import Size
        from crmcom_pipelines.demo import demo as run

        outcomes = run(database, dataset, Size(contacts, activities, days), progress)
    for outcome in outcomes:
        if outcome.exit_code:
            watch.ends(outcome)
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
def _at_home() -> Iterator[None]:
    """The sandbox's clock is not this machine's, and that is as it should be: only events count."""
    logger = logging.getLogger("crmcom")

    def is_told(record: logging.LogRecord) -> bool:
        return hasattr(record, "event") or record.levelno >= logging.ERROR

    logger.addFilter(is_told)
    try:
        yield
    finally:
        logger.removeFilter(is_told)


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
