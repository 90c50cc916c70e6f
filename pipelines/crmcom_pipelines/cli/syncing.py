"""`sync`, `backfill` and `transform`: what changes the warehouse."""

# ruff: noqa: PLC0415 - dlt, dbt and their kin take seconds to import: `--help` must not wait

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from crmcom_pipelines.cli.options import (
    epoch,
    given_of,
    resources_of,
    run_options,
    warehouse_options,
)
from crmcom_pipelines.cli.stopping import stoppable
from crmcom_pipelines.cli.tenancy import (
    Place,
    place_of,
    places_of,
    reader_of_settings,
    tenant_option,
    tenants_option,
)
from crmcom_pipelines.cli.watching import Watch, hook_options, log_options

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from crmcom import Range
    from crmcom_pipelines.load import Outcome
    from crmcom_pipelines.progress import Progress
    from crmcom_pipelines.several import Outcomes


@click.command(
    epilog="""\b
Example: crmcom sync --database warehouse.duckdb
         crmcom sync --tenant cyprus --tenant greece"""
)
@run_options
@tenants_option
@log_options
@hook_options
@click.pass_context
def sync(ctx: click.Context, /, **options: Any) -> None:
    """One incremental run: load, then build the marts, then publish the file.

    Safe to repeat, to kill at any moment, and to schedule. Where sources.crmcom.tenants lists
    several tenants each has such a run, one after the other, and one that fails stops no other.
    """
    _run(ctx, None, places_of(options["dataset"], options.pop("tenant")), **options)


@click.command(epilog="Example: crmcom backfill --from 2019-01-01 --to 2020-01-01")
@click.option("--from", "begin", required=True, metavar="DATE", help="First day, UTC.")
@click.option("--to", "end", metavar="DATE", help="Day after the last one, UTC. Default: now.")
@run_options
@tenant_option
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
    place = place_of(options["dataset"], options.pop("tenant"), "backfill")
    _run(ctx, Range(start_s, end_s), [place], **options)


def _run(
    ctx: click.Context, backfill: Range | None, places: Sequence[Place], **options: Any
) -> None:
    resources = resources_of(options["resources"])
    settings = reader_of_settings(places[0].tenants, given_of(options, resources))
    watch: Watch = ctx.obj

    def run_of(place: Place, progress: Progress) -> Outcome:
        from crmcom import Run
        from crmcom_pipelines import load
        from crmcom_pipelines.misspelt import misspelt, named_with_errors

        with named_with_errors():
            read = settings(place)
        run = Run(
            read,
            resources=resources,
            reconcile=options["reconcile"],
            accept_deletions=options["accept_deletions"],
            backfill=backfill,
            slice_rows=load.SLICE_ROWS,
        )
        run.notices += map(str, misspelt())
        watch.begins(run)
        progress.follow(run)
        return load.sync(
            run,
            database=options["database"],
            dataset=place.dataset,
            destination=options["destination"],
            transform=not options["no_transform"],
            vars=place.vars(),
            on_step=progress.step,
            union=place.union,
        )

    _each(ctx, places, run_of, as_json=options["as_json"])


def _each(
    ctx: click.Context,
    places: Sequence[Place],
    act: Callable[[Place, Progress], Outcome],
    *,
    as_json: bool,
) -> None:
    """Does it for each tenant, or for the one dataset where there are no tenants."""
    watch: Watch = ctx.obj
    found: Outcome | Outcomes
    with stoppable(ctx), watch.progress() as progress:
        tenants = {place.tenant: place for place in places}
        if places[0].tenants is None:
            found = act(places[0], progress)
        else:
            from crmcom_pipelines.several import for_each

            def of_tenant(name: str) -> Outcome:
                progress.chapter(name)
                return act(tenants[name], progress)

            found = for_each(tenants, of_tenant)
    if as_json:
        click.echo(json.dumps(found.as_json()))
    watch.ends(found)
    ctx.exit(found.exit_code)


@click.command(
    epilog="""Example: crmcom transform --vars '{"crmcom_report_timezone": "Asia/Nicosia"}'"""
)
@warehouse_options
@tenants_option
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
    tenant: tuple[str, ...],
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

    def marts_of(place: Place, progress: Progress) -> Outcome:
        from crmcom_pipelines.load import rebuild

        return rebuild(
            database=database,
            dataset=place.dataset,
            destination=destination,
            vars=place.vars(given),
            full_refresh=full_refresh,
            on_step=progress.step,
            union=place.union,
        )

    _each(ctx, places_of(dataset, tenant), marts_of, as_json=as_json)
