"""`check`: whether a sync would work, and how the tenant's API behaves."""

# ruff: noqa: PLC0415 - dlt, dbt and their kin take seconds to import: `--help` must not wait

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import click

from crmcom_pipelines.cli.options import (
    RESOURCES,
    given_of,
    options,
    resources_of,
    warehouse_options,
)
from crmcom_pipelines.cli.tenancy import place_of, tenant_option

if TYPE_CHECKING:
    from crmcom.findings import Finding

_MARKS = {True: "✓", False: "✗", None: "?"}

check_options = options(
    warehouse_options,
    tenant_option,
    click.option("--base-url", help="Default: the setting sources.crmcom.base_url."),
    click.option(
        "--resources", default=",".join(RESOURCES), show_default=True, help="Which to ask about."
    ),
    click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout."),
)


@click.command(epilog="Example: crmcom check --base-url https://app.crm.com/backoffice/v2")
@check_options
@click.pass_context
def check(ctx: click.Context, /, **options: Any) -> None:
    """Settings, credentials, API behaviour, destination: each with ✓ or what to do.

    Sends a few dozen requests, changes nothing at the API and loads nothing. `?` is what could
    not be told. What is learned of the API is kept beside the warehouse, compared by every
    sync, and shown where it changes.

    Exit codes as of a sync: 2 a setting or the destination, 3 refused, 4 unavailable; 5: it
    works, and a behaviour of the API keeps a sync from proving that it has read everything.
    """
    from crmcom_pipelines import check as checking
    from crmcom_pipelines.misspelt import misspelt

    resources = resources_of(options["resources"])
    # What the client would log is said by the findings.
    logging.getLogger("crmcom").setLevel(logging.ERROR)
    place = place_of(options["dataset"], options["tenant"], "check")
    given = given_of({**options, "full_scan": False}, resources)
    checked = checking.check(
        lambda: place.settings(given),
        misspelt,
        resources=resources,
        database=options["database"],
        dataset=place.dataset,
        destination=options["destination"],
    )
    if options["as_json"]:
        click.echo(json.dumps(checked.as_json()))
        ctx.exit(checked.exit_code)
    for finding in checked.findings:
        click.echo(_line(finding))
    for change in checked.changes:
        click.echo(f"! {change}")
    bad = sum(f.ok is False for f in checked.findings)
    untold = sum(f.ok is None for f in checked.findings)
    more = f", {untold} could not be told" if untold else ""
    click.echo(
        f"{f'{bad} to mend' if bad else 'all well'}{more}: {checked.seconds:.1f} s, "
        f"exit {checked.exit_code}",
        err=True,
    )
    ctx.exit(checked.exit_code)


def _line(finding: Finding) -> str:
    return f"{_MARKS[finding.ok]} {finding.name}: {finding.message}"
