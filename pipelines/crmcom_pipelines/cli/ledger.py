"""`status` and `explain`: what runs came to, and what became of one record."""

# ruff: noqa: PLC0415 - dlt, dbt and their kin take seconds to import: `--help` must not wait

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

import click

from crmcom.errors import CrmcomError
from crmcom_pipelines.cli.options import warehouse_options
from crmcom_pipelines.cli.tenancy import Place, place_of, places_of, tenant_option, tenants_option

if TYPE_CHECKING:
    from pathlib import Path

    from crmcom_pipelines import ledger


@click.command(epilog="Example: crmcom status --json")
@warehouse_options
@tenants_option
@click.option("--runs", default=5, show_default=True, type=click.IntRange(1), help="How many.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
@click.pass_context
def status(
    ctx: click.Context,
    *,
    destination: str,
    database: Path,
    dataset: str,
    tenant: tuple[str, ...],
    runs: int,
    as_json: bool,
) -> None:
    """The last runs, bookmarks, freshness, rows, and what could not be proven."""
    places = places_of(dataset, tenant)
    if places[0].tenants is None:
        found, lines = _status(destination, database, places[0], runs)
        if as_json:
            print_json(found)
        else:
            click.echo("\n".join(lines))
        return
    of_all: dict[str, dict[str, Any]] = {}
    codes: list[int] = []
    for place in places:
        try:
            found, lines = _status(destination, database, place, runs)
        except CrmcomError as error:  # a tenant that was never loaded hides no other
            found, lines = _unknown(destination, database, place, error)
            codes.append(error.exit_code)
        of_all[place.tenant] = found
        if not as_json:
            click.echo(
                "\n".join([f"--- tenant {place.tenant}, dataset {place.dataset}", *lines, ""])
            )
    if as_json:
        print_json({"tenants": of_all})
    if len(codes) == len(places):
        ctx.exit(codes[0])


def _status(
    destination: str, database: Path, place: Place, runs: int
) -> tuple[dict[str, Any], list[str]]:
    """For programs, and as lines for people."""
    from crmcom_pipelines import ledger
    from crmcom_pipelines.overview import overview
    from crmcom_pipelines.warehouse import warehouse_at

    warehouse = warehouse_at(destination, database, place.dataset)
    with warehouse.ledger() as file:
        found = ledger.status(
            file, place.dataset, runs=runs, folder=warehouse.folder, tenant=place.noted_as
        ) | {"database": warehouse.address}
        return found, list(overview(found, file))


def _unknown(
    destination: str, database: Path, place: Place, error: CrmcomError
) -> tuple[dict[str, Any], list[str]]:
    """What is known of a tenant that the warehouse does not tell of."""
    from crmcom_pipelines import attempt
    from crmcom_pipelines.overview import attempted
    from crmcom_pipelines.tenants import as_written
    from crmcom_pipelines.warehouse import warehouse_at

    folder = warehouse_at(destination, database, place.dataset).folder
    last = attempt.last(folder, place.noted_as)
    lines = list(attempted(last)) if last else [str(error)]
    lines = [as_written(line, place.tenant) for line in lines]
    return {"error": str(error), "last_attempt": last}, lines


@click.command(epilog="Example: crmcom explain activity 1cf0d458-b799-1d99-52e4-d7f5081b3c01")
@click.argument("kind", type=click.Choice(["contact", "account", "activity"]))
@click.argument("record_id", metavar="ID")
@warehouse_options
@tenant_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def explain(
    *,
    kind: str,
    record_id: str,
    destination: str,
    database: Path,
    dataset: str,
    tenant: str | None,
    as_json: bool,
) -> None:
    """Which run and window saw, changed, rejected or deleted a record."""
    from crmcom_pipelines import ledger
    from crmcom_pipelines.warehouse import warehouse_at

    known = cast("ledger.Kind", kind)
    dataset = place_of(dataset, tenant, "explain").dataset
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
