"""The options that commands share, and what is read from them."""

# ruff: noqa: PLC0415 - dlt, dbt and their kin take seconds to import: `--help` must not wait

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from collections.abc import Callable

    from crmcom import Settings

F = TypeVar("F", bound="Callable[..., Any]")

RESOURCES = ("contacts", "accounts", "activities")


def options(*options: Callable[[F], F]) -> Callable[[F], F]:
    def add(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return add


warehouse_options = options(
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

run_options = options(
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


def settings_of(options: dict[str, Any], resources: tuple[str, ...]) -> Settings:
    from crmcom import settings_from_config

    given: dict[str, Any] = {"base_url": options["base_url"]}
    if options["full_scan"]:
        given["full_scan"] = [r for r in resources if r != "accounts"]
    return settings_from_config(**given)


def resources_of(text: str) -> tuple[str, ...]:
    named = [name.strip() for name in text.split(",") if name.strip()]
    unknown = sorted(set(named) - set(RESOURCES))
    if unknown or not named:
        raise click.BadParameter(
            f"{', '.join(unknown) or 'none'}: choose from {', '.join(RESOURCES)}",
            param_hint="--resources",
        )
    return tuple(name for name in RESOURCES if name in named)


def epoch(option: str, text: str) -> int:
    return int(moment_of(option, text).timestamp())


def moment_of(option: str, text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(
            f"{text!r} is not a date like 2019-01-31", param_hint=option
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
