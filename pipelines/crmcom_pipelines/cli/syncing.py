"""`sync`, `backfill` and `transform`: what changes the warehouse."""

# ruff: noqa: PLC0415 - dlt, dbt and their kin take seconds to import: `--help` must not wait

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from crmcom_pipelines.cli.options import (
    epoch,
    resources_of,
    run_options,
    settings_of,
    warehouse_options,
)
from crmcom_pipelines.cli.stopping import stoppable
from crmcom_pipelines.cli.watching import Watch, hook_options, log_options

if TYPE_CHECKING:
    from pathlib import Path

    from crmcom import Range


@click.command(epilog="Example: crmcom sync --database warehouse.duckdb")
@run_options
@log_options
@hook_options
@click.pass_context
def sync(ctx: click.Context, /, **options: Any) -> None:
    """One incremental run: load, then build the marts, then publish the file.

    Safe to repeat, to kill at any moment, and to schedule.
    """
    _run(ctx, None, **options)


@click.command(epilog="Example: crmcom backfill --from 2019-01-01 --to 2020-01-01")
@click.option("--from", "begin", required=True, metavar="DATE", help="First day, UTC.")
@click.option("--to", "end", metavar="DATE", help="Day after the last one, UTC. Default: now.")
@run_options
@log_options
@hook_options
@click.pass_context
def backfill(ctx: click.Context, /, *, begin: str, end: str | None, **options: Any) -> None:
    """Load a past range of created dates, slice by slice.

    Interrupted, the same command goes on after the last slice that was committed.
    """
    from crmcom import Range

    start_s, end_s = epoch("--from", begin), epoch("--to", end) if end else None
    if end_s is None:
        end_s = 2**33  # a run never reads beyond the server's now
    if end_s <= start_s:
        raise click.UsageError("--to must be later than --from")
    _run(ctx, Range(start_s, end_s), **options)


def _run(ctx: click.Context, backfill: Range | None, **options: Any) -> None:
    watch: Watch = ctx.obj
    resources = resources_of(options["resources"])
    with stoppable(ctx), watch.progress() as progress:
        from crmcom import Run
        from crmcom_pipelines import load
        from crmcom_pipelines.config import dbt_vars
        from crmcom_pipelines.misspelt import misspelt

        settings = settings_of(options, resources)
        run = Run(
            settings,
            resources=resources,
            reconcile=options["reconcile"],
            accept_deletions=options["accept_deletions"],
            backfill=backfill,
            slice_rows=load.SLICE_ROWS,
        )
        run.notices += map(str, misspelt())
        watch.begins(run)
        progress.follow(run)
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
    watch.ends(outcome)
    ctx.exit(outcome.exit_code)


@click.command(
    epilog="""Example: crmcom transform --vars '{"crmcom_report_timezone": "Asia/Nicosia"}'"""
)
@warehouse_options
@click.option("--vars", "variables", default="{}", metavar="JSON", help="Variables for dbt.")
@click.option("--full-refresh", is_flag=True, help="Build all history anew.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
@log_options
@hook_options
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
    try:
        given = json.loads(variables)
    except ValueError as error:
        raise click.BadParameter(f"not JSON: {error}", param_hint="--vars") from None
    if not isinstance(given, dict):
        raise click.BadParameter("a JSON object is needed", param_hint="--vars")
    watch: Watch = ctx.obj
    with stoppable(ctx), watch.progress() as progress:
        from crmcom_pipelines.config import dbt_vars
        from crmcom_pipelines.load import rebuild

        outcome = rebuild(
            database=database,
            dataset=dataset,
            destination=destination,
            vars={**dbt_vars(), **given},
            full_refresh=full_refresh,
            on_step=progress.step,
        )
    if as_json:
        click.echo(json.dumps(outcome.as_json()))
    watch.ends(outcome)
    ctx.exit(outcome.exit_code)
