"""The tenants of one warehouse, as `.dlt/*.toml` and the environment list them.

    [sources.crmcom]
    tenants = ["cyprus", "greece"]

    [sources.crmcom.cyprus]
    base_url = "https://app.crm.com/backoffice/v2"

What a tenant's section lacks is taken from `[sources.crmcom]`, credentials apart. Read without
dlt, which takes a second to import: `status` and `report` need none of it.
"""

# ruff: noqa: PLC0415 - dlt and duckdb are imported where they are used: `--help` is fast

from __future__ import annotations

import difflib
import json
import os
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crmcom.errors import CrmcomError, SettingsError
from crmcom.settings import NAMES, RESOURCES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from crmcom import Settings
    from crmcom_pipelines.union import Union

LIST, DATASET = "tenants", "dataset"
"""The list's name, and that of the one setting of a tenant that is not the source's."""

OF_DLT = ("crmcom", "crmcom_source", "max_table_nesting", "root_key", "schema_contract")
"""A source's options that are dlt's own."""

FILES = ("secrets.toml", "config.toml")
_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_RESERVED = (*NAMES, *RESOURCES, LIST, DATASET, *OF_DLT)


@dataclass(frozen=True, slots=True)
class Tenant:
    name: str
    dataset: str
    """The schema of its raw tables."""


@dataclass(frozen=True, slots=True)
class Tenants:
    """In their order. `dataset`: what the schemas begin with in which their marts are united."""

    dataset: str
    all: tuple[Tenant, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(tenant.name for tenant in self.all)

    @property
    def union(self) -> Union:
        from crmcom_pipelines.union import Union

        return Union(self.dataset, tuple(tenant.dataset for tenant in self.all))

    def named(self, names: Sequence[str]) -> tuple[Tenant, ...]:
        """Those of these names, or all where none is named. Raises `SettingsError`."""
        for name in names:
            if name not in self.names:
                near = difflib.get_close_matches(name, self.names, n=1)
                meant = f"; did you mean {near[0]}?" if near else "."
                raise SettingsError(
                    f"there is no tenant {name!r}{meant} There are: {', '.join(self.names)}"
                )
        return tuple(tenant for tenant in self.all if not names or tenant.name in names)


def configured_tenants(dataset: str) -> Tenants | None:
    """None where no tenants are listed. `dataset`: what the name of a tenant's begins with, where
    its section does not say it. Raises `SettingsError` for a list that cannot be used."""
    names = _names(_setting((LIST,)))
    if not names:
        return None
    tenants = Tenants(dataset, tuple(Tenant(n, _dataset(n, dataset)) for n in names))
    _refuse_overlap(tenants)
    return tenants


def listed() -> tuple[str, ...]:
    """The tenants' names; none where the list cannot be used, which another one says."""
    try:
        return _names(_setting((LIST,)))
    except SettingsError:
        return ()


def settings_of(tenants: Tenants, **given: Any) -> dict[str, Settings | CrmcomError]:
    """Each tenant's settings, or why there are none: one that is wrong stops no other.

    What is given wins. Raises `SettingsError` where two tenants would read the same data, which
    the marts of all would hold twice.
    """
    from crmcom import settings_from_config

    found: dict[str, Settings | CrmcomError] = {}
    for name in tenants.names:
        try:
            found[name] = settings_from_config(name, **given)
        except SettingsError as error:
            found[name] = SettingsError(as_written(str(error), name))
    right = [(n, s) for n, s in found.items() if not isinstance(s, CrmcomError)]
    for n, (name, settings) in enumerate(right):
        for other, theirs in right[:n]:
            if (settings.base_url, settings.credentials) == (theirs.base_url, theirs.credentials):
                raise SettingsError(
                    f"tenants {other} and {name} have the same address and the same credentials, "
                    "so what one of them owns would be counted twice: change those of one, or "
                    "take it out of sources.crmcom.tenants"
                )
    return found


def as_written(text: str, tenant: str) -> str:
    """A message about settings, with their names as they are in the tenant's section."""
    names = "|".join((*NAMES, DATASET))
    text = re.sub(rf"sources\.crmcom\.(?=(?:{names})\b)", f"sources.crmcom.{tenant}.", text)
    in_environment = f"SOURCES__CRMCOM__{tenant.upper()}__"
    return re.sub(rf"SOURCES__CRMCOM__(?=(?:{names.upper()})\b)", in_environment, text)


def _names(value: Any) -> tuple[str, ...]:
    """Raises `SettingsError`."""
    if isinstance(value, str):  # from the environment
        try:
            value = json.loads(value)
        except ValueError:
            value = [name.strip() for name in value.split(",") if name.strip()]
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise SettingsError(
            "sources.crmcom.tenants (SOURCES__CRMCOM__TENANTS) is no list of names: write it like "
            '["cyprus", "greece"], and the settings of each in [sources.crmcom.cyprus] and so on'
        )
    for n, name in enumerate(value):
        if not _NAME.fullmatch(name):
            raise SettingsError(
                f"sources.crmcom.tenants: {name!r} is no name for a tenant: use a-z, 0-9 and "
                "single _, and begin with a letter"
            )
        if name in _RESERVED:
            raise SettingsError(
                f"sources.crmcom.tenants: a tenant cannot be called {name}, which is the name of "
                "something else in [sources.crmcom]: call it otherwise"
            )
        if name in value[:n]:
            raise SettingsError(f"sources.crmcom.tenants: {name} is listed twice")
    return tuple(value)


def _dataset(tenant: str, common: str) -> str:
    value = _setting((tenant, DATASET))
    if value is None:
        return f"{common}_{tenant}"
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise SettingsError(
            f"{as_written('sources.crmcom.dataset', tenant)} is no name for a schema: use "
            "a-z, 0-9 and single _, and begin with a letter"
        )
    return value


def _refuse_overlap(tenants: Tenants) -> None:
    """Schemas of two datasets may not have one name: each would overwrite the other's."""
    from crmcom_pipelines.rewrite import MARTS

    taken = {schema.lower(): "the marts of all tenants" for schema in tenants.union.schemas}
    for tenant in tenants.all:
        for part in ("", *MARTS):
            schema = f"{tenant.dataset}{part}".lower()
            if schema in taken:
                raise SettingsError(
                    f"schema {schema} would hold the data of tenant {tenant.name}, and also "
                    f"{taken[schema]}: give one of them another dataset, with dataset = … in "
                    f"[sources.crmcom.{tenant.name}], or with --dataset for what is united"
                )
            taken[schema] = f"that of tenant {tenant.name}"


def _setting(path: tuple[str, ...]) -> Any:
    """A value of `sources.crmcom`, as dlt would find it; None where it is not set."""
    variable = "__".join(("sources", "crmcom", *path)).upper()
    if os.environ.get(variable):
        return os.environ[variable]
    for table in _tables():
        found: Any = table
        for key in ("sources", "crmcom", *path):
            found = found.get(key) if isinstance(found, dict) else None
        if found is not None:
            return found
    return None


def _tables() -> Iterator[dict[str, Any]]:
    """dlt's files, those of this folder first. One that is no TOML is told by who needs it."""
    for folder in (Path(".dlt"), Path.home() / ".dlt"):
        for file in FILES:
            try:
                yield tomllib.loads((folder / file).read_text(encoding="utf-8"))
            except (OSError, ValueError):
                continue
