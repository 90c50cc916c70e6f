"""The options that commands share, and what is read from them."""

from __future__ import annotations

import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from collections.abc import Callable

F = TypeVar("F", bound="Callable[..., Any]")

RESOURCES = ("contacts", "accounts", "activities")


def configured() -> dict[str, str]:
    """Defaults of options that `crmcom init` wrote: `[pipelines.crmcom]` in `.dlt/config.toml`.

    Read without dlt, which takes a second to import. A file that is no TOML has none; who needs
    it says what is wrong with it.
    """
    try:
        settings = tomllib.loads(Path(".dlt/config.toml").read_text(encoding="utf-8"))
        chosen = settings["pipelines"]["crmcom"]
        names = ("destination", "database", "dataset")
        return {name: chosen[name] for name in names if isinstance(chosen.get(name), str)}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def options(*options: Callable[[F], F]) -> Callable[[F], F]:
    def add(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return add


def complete(*names: str) -> Callable[[click.Context, click.Parameter, str], list[str]]:
    """Completes to these names."""
    return lambda _ctx, _param, typed: [name for name in names if name.startswith(typed)]


def _complete_resources(_: click.Context, __: click.Parameter, typed: str) -> list[str]:
    """The last of several, with those before it."""
    before, comma, last = typed.rpartition(",")
    left = [name for name in RESOURCES if name not in before.split(",") and name.startswith(last)]
    return [f"{before}{comma}{name}" for name in left]


warehouse_options = options(
    click.option(
        "--destination",
        default="duckdb",
        show_default=True,
        shell_complete=complete(
            "duckdb", "postgres", "ducklake", "motherduck", "snowflake", "bigquery"
        ),
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
        "--resources",
        default=",".join(RESOURCES),
        show_default=True,
        shell_complete=_complete_resources,
        help="Which to read.",
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
)


def given_of(options: dict[str, Any], resources: tuple[str, ...]) -> dict[str, Any]:
    """Settings that the command line gives."""
    given: dict[str, Any] = {"base_url": options["base_url"]}
    if options["full_scan"]:
        given["full_scan"] = [r for r in resources if r != "accounts"]
    return given


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
