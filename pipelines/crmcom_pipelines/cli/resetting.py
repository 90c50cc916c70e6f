"""`reset`: read a resource anew."""

# ruff: noqa: PLC0415 - dlt, dbt and their kin take seconds to import: `--help` must not wait

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import click

from crmcom_pipelines.cli.options import RESOURCES, warehouse_options
from crmcom_pipelines.cli.stopping import stoppable
from crmcom_pipelines.cli.tenancy import place_of, tenant_option

if TYPE_CHECKING:
    from pathlib import Path

    from crmcom_pipelines.cli.watching import Watch

NEXT = "the next `crmcom sync` reads all {} again"
NO_DETAILS = (
    "details of activities, such as completion dates, went with their rows; a sync with "
    'SOURCES__CRMCOM__ACTIVITY_DETAILS="all" reads them again'
)


@click.command(
    epilog="""\b
Example: crmcom reset contacts
         crmcom reset activities --rows --yes --json"""
)
@click.argument("resource", type=click.Choice(RESOURCES))
@click.option("--rows", is_flag=True, help="Delete its rows and their children too.")
@click.option(
    "--history",
    is_flag=True,
    help="With --rows: delete also what the API cannot give again.",
)
@warehouse_options
@tenant_option
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
@click.pass_context
def reset(
    ctx: click.Context,
    *,
    resource: str,
    rows: bool,
    history: bool,
    destination: str,
    database: Path,
    dataset: str,
    tenant: str | None,
    yes: bool,
    as_json: bool,
) -> None:
    """Forget how far a resource has been read, so that the next sync reads it from its start.

    Its rows stay and are merged with what comes. With --rows they are deleted, and the marts built
    without them; account observations, activity versions, and records that are gone from the API
    are kept, because nothing could bring them back. --history deletes those too.
    """
    if destination != "duckdb":
        raise click.UsageError(f"reset works on duckdb only so far, not on {destination}")
    if history and not rows:
        raise click.UsageError("--history goes with --rows: say both, or neither")
    place = place_of(dataset, tenant, "reset")
    if not yes:
        _confirm(f"{resource}{place.of_tenant}", database, rows=rows, history=history)
    watch: Watch = ctx.obj
    with stoppable(ctx), watch.progress() as progress:
        from crmcom_pipelines.reset import reset

        done = reset(
            resource,
            database=database,
            dataset=place.dataset,
            rows=rows,
            history=history,
            vars=place.vars(),
            union=place.union,
            on_step=progress.step,
        )
    done.notes.append(NEXT.format(resource))
    if done.deleted.get("activities"):
        done.notes.append(NO_DETAILS)
    if as_json:
        click.echo(json.dumps(done.as_json()))
    for table, number in done.deleted.items():
        click.echo(f"{table}: {number:,} rows deleted", err=True)
    for note in done.notes:
        click.echo(f"note: {note}", err=True)
    ctx.exit(done.exit_code)


def _confirm(resource: str, database: Path, *, rows: bool, history: bool) -> None:
    what = f"Forget how far {resource} have been read"
    what += ", and delete their rows" if rows else ""
    what += " and their history, which nothing brings back" if history else ""
    if not sys.stdin.isatty():
        raise click.UsageError("there is no terminal to ask for a confirmation: add --yes")
    click.confirm(f"{what}, in {database}?", abort=True, err=True)
