"""`status` and `explain`: what runs came to, and what became of one record."""

# ruff: noqa: PLC0415 - dlt, dbt and their kin take seconds to import: `--help` must not wait

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

import click

from crmcom_pipelines.cli.options import warehouse_options

if TYPE_CHECKING:
    from pathlib import Path

    from crmcom_pipelines import ledger


@click.command(epilog="Example: crmcom status --json")
@warehouse_options
@click.option("--runs", default=5, show_default=True, type=click.IntRange(1), help="How many.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def status(*, destination: str, database: Path, dataset: str, runs: int, as_json: bool) -> None:
    """The last runs, bookmarks, freshness, rows, and what could not be proven."""
    from crmcom_pipelines import ledger
    from crmcom_pipelines.warehouse import warehouse_at

    warehouse = warehouse_at(destination, database, dataset)
    with warehouse.ledger() as file:
        found = ledger.status(file, dataset, runs=runs, folder=warehouse.folder) | {
            "database": warehouse.address
        }
        if as_json:
            print_json(found)
        else:
            from crmcom_pipelines.overview import overview

            for line in overview(found, file):
                click.echo(line)


@click.command(epilog="Example: crmcom explain activity 1cf0d458-b799-1d99-52e4-d7f5081b3c01")
@click.argument("kind", type=click.Choice(["contact", "account", "activity"]))
@click.argument("record_id", metavar="ID")
@warehouse_options
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def explain(
    *, kind: str, record_id: str, destination: str, database: Path, dataset: str, as_json: bool
) -> None:
    """Which run and window saw, changed, rejected or deleted a record."""
    from crmcom_pipelines import ledger
    from crmcom_pipelines.warehouse import warehouse_at

    known = cast("ledger.Kind", kind)
    warehouse = warehouse_at(destination, database, dataset)
    with warehouse.ledger(ledger.TABLES[known], record_id) as file:
        found = ledger.explain(file, dataset, known, record_id)
    if as_json:
        print_json(found)
    else:
        _show(found)


def print_json(found: dict[str, Any]) -> None:
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
