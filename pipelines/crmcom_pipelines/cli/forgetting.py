"""`forget`: a person erased everywhere."""

# ruff: noqa: PLC0415 - dlt, dbt and their kin take seconds to import: `--help` must not wait

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import click

from crmcom_pipelines.cli.options import warehouse_options
from crmcom_pipelines.cli.stopping import stoppable
from crmcom_pipelines.cli.tenancy import place_of, tenant_option

if TYPE_CHECKING:
    from pathlib import Path

    from crmcom_pipelines.cli.watching import Watch
    from crmcom_pipelines.forget import Erased


@click.command(epilog="Example: crmcom forget contact 0d4c5a1e-6a0f-4a8e-9a43-0f6b3c2a7d55 --yes")
@click.argument("kind", type=click.Choice(["contact"]))
@click.argument("record_id", metavar="ID")
@warehouse_options
@tenant_option
@click.option("--yes", is_flag=True, help="Do not ask whether it is meant.")
@click.option("--unseen", is_flag=True, help="Keep the ID out, though nothing is known of it.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
@click.pass_context
def forget(
    ctx: click.Context,
    *,
    kind: str,
    record_id: str,
    destination: str,
    database: Path,
    dataset: str,
    tenant: str | None,
    yes: bool,
    unseen: bool,
    as_json: bool,
) -> None:
    """Erase a person everywhere, history included, and keep them out of later runs.

    The contact goes with its accounts, their readings, its activities and all of their versions,
    so the totals of past reports change. What the API holds stays there.
    """
    if destination != "duckdb":
        raise click.UsageError(f"forget works on duckdb only so far, not on {destination}")
    record_id = record_id.strip()
    if not record_id:
        raise click.BadParameter("it is empty", param_hint="ID")
    place = place_of(dataset, tenant, "forget")
    if not yes:
        if as_json or not sys.stdin.isatty():
            raise click.UsageError(
                "forget asks whether it is meant: add --yes where nobody answers"
            )
        click.confirm(
            f"Erase {kind} {record_id}{place.of_tenant} from {database}, and from its reports "
            "of past days? This cannot be undone",
            abort=True,
            err=True,
        )
    watch: Watch = ctx.obj
    with stoppable(ctx), watch.progress() as progress:
        from crmcom_pipelines.forget import forget as erase

        erased = erase(
            record_id,
            database=database,
            dataset=place.dataset,
            unseen=unseen,
            vars=place.vars(),
            on_step=progress.step,
            union=place.union,
        )
    if as_json:
        click.echo(json.dumps(erased.as_json()))
    _summarise(erased)
    ctx.exit(erased.exit_code)


def _summarise(erased: Erased) -> None:
    """What went, on stderr, where progress is."""
    rows = ", ".join(f"{n:,} {table}" for table, n in erased.rows.items() if n)
    click.echo(f"erased: {rows or 'nothing was left of it'}", err=True)
    for where, count in erased.mentions.items():
        click.echo(f"note: the ID still stands in {count:,} rows of others: {where}", err=True)
    for note in erased.notes:
        click.echo(f"note: {note}", err=True)
