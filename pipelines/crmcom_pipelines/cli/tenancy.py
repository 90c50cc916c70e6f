"""`--tenant`: which of several tenants a command is about."""

# ruff: noqa: PLC0415 - dlt, duckdb and their kin take long to import: `--help` must not wait

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from crmcom.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from crmcom import Settings
    from crmcom_pipelines.tenants import Tenants
    from crmcom_pipelines.union import Union


def complete_tenants(_: click.Context, __: click.Parameter, typed: str) -> list[str]:
    from crmcom_pipelines.tenants import listed

    return [name for name in listed() if name.startswith(typed)]


tenant_option = click.option(
    "--tenant",
    metavar="NAME",
    shell_complete=complete_tenants,
    help="Which one, where sources.crmcom.tenants lists several.",
)

tenants_option = click.option(
    "--tenant",
    "tenant",
    metavar="NAME",
    multiple=True,
    shell_complete=complete_tenants,
    help="One of sources.crmcom.tenants; may be repeated. Default: all of them.",
)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a command finds or puts one tenant's data. Without tenants: `dataset` alone."""

    dataset: str
    tenant: str = ""
    tenants: Tenants | None = None

    @property
    def union(self) -> Union | None:
        return self.tenants.union if self.tenants else None

    @property
    def of_tenant(self) -> str:
        """For a sentence about it."""
        return f" of tenant {self.tenant}" if self.tenant else ""

    @property
    def noted_as(self) -> str:
        """What the attempts of its runs are noted as, see `attempt.recorded`."""
        return self.dataset if self.tenants else ""

    def settings(self, given: Mapping[str, Any]) -> Settings:
        """Raises `SettingsError`."""
        return reader_of_settings(self.tenants, given)(self)

    def vars(self, given: Mapping[str, object] | None = None) -> dict[str, object]:
        """dbt's variables. Raises `SettingsError`."""
        from crmcom_pipelines.config import dbt_vars

        found = {**dbt_vars(), **(given or {})}
        if self.tenants and (own := {"crmcom_schema", "crmcom_dataset"} & set(found)):
            raise SettingsError(
                f"{min(own)} is told by sources.crmcom.tenants and --dataset where tenants are "
                "listed: leave it out of the variables"
            )
        if self.tenants and not self.tenant:
            found["crmcom_schema"] = list(self.tenants.union.members)
        return found


def reader_of_settings(
    tenants: Tenants | None, given: Mapping[str, Any]
) -> Callable[[Place], Settings]:
    """Tells each place its settings, which are read once. Both raise `SettingsError`: this one
    where tenants do not go together, the other one for what is wrong with a single one's."""
    from crmcom import settings_from_config
    from crmcom_pipelines.tenants import settings_of

    if tenants is None:
        return lambda _: settings_from_config(**given)
    read = settings_of(tenants, **given)

    def settings(place: Place) -> Settings:
        found = read[place.tenant]
        if isinstance(found, Exception):
            raise found
        return found

    return settings


def places_of(dataset: str, names: Sequence[str]) -> list[Place]:
    """Those of the tenants of these names, of all where none is named; without tenants one."""
    tenants = _configured(dataset, names)
    if tenants is None:
        return [Place(dataset)]
    return [Place(tenant.dataset, tenant.name, tenants) for tenant in tenants.named(names)]


def place_of(dataset: str, name: str | None, command: str) -> Place:
    """That of the one tenant that a command is about."""
    names = (name,) if name is not None else ()
    tenants = _configured(dataset, names)
    if tenants is None:
        return Place(dataset)
    found = tenants.named(names)
    if len(found) > 1:
        raise click.UsageError(
            f"`crmcom {command}` is about one tenant, and there are {', '.join(tenants.names)}: "
            "name it with --tenant"
        )
    return Place(found[0].dataset, found[0].name, tenants)


def report_place_of(dataset: str, name: str | None) -> Place:
    """That of one tenant's reports, or of all tenants' where none is named."""
    if name is None:
        return Place(dataset, tenants=_configured(dataset, ()))
    return place_of(dataset, name, "report")


def _configured(dataset: str, names: Sequence[str]) -> Tenants | None:
    from crmcom_pipelines.tenants import configured_tenants

    tenants = configured_tenants(dataset)
    if tenants is None and names:
        raise click.UsageError(
            f"no tenants are listed, so there is no {names[0]!r}: list them in "
            'sources.crmcom.tenants, as tenants = ["cyprus", "greece"]'
        )
    return tenants
