"""`plan`: what the next sync will ask."""

# ruff: noqa: PLC0415 - dlt, dbt and their kin take seconds to import: `--help` must not wait

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from crmcom_pipelines.cli.options import given_of, resources_of, run_options
from crmcom_pipelines.cli.tenancy import place_of, tenant_option

if TYPE_CHECKING:
    from collections.abc import Iterator

    from crmcom.planning import Forecast, Step
    from crmcom_pipelines.plan import Outlook


@click.command(
    epilog="""\b
Example: crmcom plan
         crmcom plan --reconcile --json"""
)
@run_options
@tenant_option
@click.pass_context
def plan(ctx: click.Context, /, **options: Any) -> None:
    """What the next sync will ask: windows, accounts, requests, time, and whether all is listed.

    Takes the options of `sync`, asks the API a handful of times, and writes nothing.
    """
    from crmcom import Run
    from crmcom.planning import PATIENCE, TIMEOUT_S
    from crmcom_pipelines import load
    from crmcom_pipelines.misspelt import named_with_errors
    from crmcom_pipelines.plan import plan

    resources = resources_of(options["resources"])
    place = place_of(options["dataset"], options["tenant"], "plan")
    with named_with_errors():
        settings = place.settings(given_of(options, resources))
    run = Run(
        replace(settings, request_timeout_s=min(settings.request_timeout_s, TIMEOUT_S)),
        resources=resources,
        reconcile=options["reconcile"],
        slice_rows=load.SLICE_ROWS,
        patience=PATIENCE,
    )
    found = plan(
        run,
        database=options["database"],
        dataset=place.dataset,
        destination=options["destination"],
    )
    if options["as_json"]:
        click.echo(json.dumps(found.as_json()))
    else:
        for line in _lines(found):
            click.echo(line)
    for name, forecast in found.resources.items():
        if forecast.error:
            click.echo(f"Error: {name}: {forecast.error}", err=True)
    ctx.exit(found.exit_code)


def _lines(found: Outlook) -> Iterator[str]:
    for name, forecast in found.resources.items():
        if forecast.error:
            yield f"{name}: cannot be told, see below"
            continue
        why = f" ({forecast.why})" if forecast.why else ""
        yield f"{name}: {forecast.mode}{why}, {_requests(forecast.requests, forecast)}"
        for step in forecast.steps:
            yield f"  {_step(step)}"
        if forecast.mode == "incremental" and forecast.reconcile_due_at:
            yield f"  the next full listing is due at {forecast.reconcile_due_at} UTC"
    least = "at least " if found.at_least else ""
    yield (
        f"In all {least}{_count(found.requests, 'request')}, {least or 'about '}"
        f"{_duration(found.seconds)} at {found.rate.per_s:,.1f} requests/s, the rate of "
        f"{found.rate.source}; loading and the marts come on top."
    )
    for note in found.notes:
        yield f"note: {note}"
    yield f"This plan took {_count(found.asked, 'request')}."


def _step(step: Step) -> str:
    from crmcom_pipelines.plan import window_ends

    parts = [step.what]
    if step.window is not None:
        start, end = ("…" if at is None else f"{at}" for at in window_ends(step.window))
        parts[0] += f" [{start}, {end})"
    if step.rows is not None:
        parts.append(_count(step.rows, "row"))
    parts.append(_requests(step.requests, step))
    return ", ".join(parts)


def _requests(number: int, of: Forecast | Step) -> str:
    return f"{'at least ' if of.at_least else ''}{_count(number, 'request')}"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _duration(seconds: float) -> str:
    if seconds < 1:
        return "1 s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return (
        f"{hours} h {minutes} min"
        if hours
        else f"{minutes} min {rest} s"
        if minutes
        else f"{rest} s"
    )
