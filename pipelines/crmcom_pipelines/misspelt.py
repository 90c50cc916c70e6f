"""Settings that nobody reads: misspelt, or one section off. dlt passes over them in silence.

Only what seems to be meant for us is looked at: the files and the environment hold other
programs' settings too.
"""

from __future__ import annotations

import contextlib
import os
import re
import tomllib
from dataclasses import dataclass
from difflib import SequenceMatcher, get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crmcom.errors import SettingsError
from crmcom.settings import NAMES
from crmcom_pipelines.tenants import DATASET, LIST, OF_DLT, listed
from crmcom_pipelines.transform import project_dir

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SOURCE, VARS, OPTIONS = "sources.crmcom", "transforms.crmcom.vars", "pipelines.crmcom"
DEFAULTS = ("destination", "database", "dataset")
"""Options of the command line whose defaults stand in `[pipelines.crmcom]`."""

_OF_TENANT = (*NAMES, DATASET)
_CLOSE = 0.8


@dataclass(frozen=True, slots=True)
class Misspelt:
    """`name`: as the user wrote it. `where`: in which file, or in the environment. `nearest`: the
    right one, written for the same place; empty where nothing is near."""

    name: str
    where: str
    nearest: str

    def __str__(self) -> str:
        meant = f": did you mean {self.nearest}?" if self.nearest else ""
        return f"{self.name} ({self.where}) is no setting, and nobody reads it{meant}"


def dbt_variables() -> tuple[str, ...]:
    """The variables of the reports, from the dbt project itself."""
    text = (project_dir() / "dbt_project.yml").read_text()
    declared = re.search(r"^vars:\n((?:[ #].*\n|\n)*)", text, re.MULTILINE)
    return tuple(re.findall(r"^  (\w+):", declared[1] if declared else "", re.MULTILINE))


def misspelt(environ: Mapping[str, str] = os.environ) -> list[Misspelt]:
    """What is set in `.dlt/*.toml` and in `environ`, is meant for us and is no setting."""
    known = _Known()
    found = [
        Misspelt(path, where, known.nearest(path))
        for where, paths in _written()
        for path in paths
        if known.is_ours(path) and not known.has(path)
    ]
    return found + [
        Misspelt(name, "the environment", nearest)
        for name in sorted(environ)
        if (nearest := known.meant(name)) is not None
    ]


@contextlib.contextmanager
def named_with_errors() -> Iterator[None]:
    """A setting that is missing may be there, misspelt: the error says so."""
    try:
        yield
    except SettingsError as error:
        unread = misspelt()
        if not unread:
            raise
        raise SettingsError(". ".join(map(str, (error, *unread)))) from None


def _written() -> Iterator[tuple[str, list[str]]]:
    """Each of dlt's files, with the paths of the values in it."""
    from dlt.common.configuration.container import Container  # noqa: PLC0415 - takes a second
    from dlt.common.configuration.exceptions import ConfigProviderException  # noqa: PLC0415
    from dlt.common.configuration.specs.pluggable_run_context import (  # noqa: PLC0415
        PluggableRunContext,
    )

    try:
        providers = Container()[PluggableRunContext].providers.providers
    except ConfigProviderException:  # a file is no TOML, as reading the settings has said
        return
    for provider in providers:
        for location in provider.present_locations:
            # dlt has read it just now; what it could not read, it has said.
            with contextlib.suppress(OSError, ValueError):
                text = Path(location).read_text(encoding="utf-8")
                yield str(Path(location)), list(_paths(tomllib.loads(text)))


def _paths(table: Mapping[str, Any], above: str = "") -> Iterator[str]:
    for key, value in table.items():
        path = f"{above}.{key}" if above else key
        if isinstance(value, dict):
            yield from _paths(value, path)
        else:
            yield path


def _is_near(word: str, right: str) -> bool:
    return SequenceMatcher(None, word.lower(), right).ratio() >= _CLOSE


def _ours(path: list[str]) -> bool:
    """Whether a section is called as ours is, or nearly so."""
    sections = [section.lower() for section in path[:-1]]
    if sections[:1] == ["crmcom"] and len(sections) > 1 and sections[1] not in ("vars", "sources"):
        return False  # dlt's sections of a pipeline: [crmcom.destination.postgres]
    return any(_is_near(section, "crmcom") for section in sections)


class _Known:
    def __init__(self) -> None:
        self._variables = dbt_variables()
        self._tenants = listed()
        self._paths = {
            **{f"{SOURCE}.{name}": name for name in (*NAMES, *OF_DLT, LIST)},
            **{f"{SOURCE}.{t}.{name}": name for t in self._tenants for name in _OF_TENANT},
            **{f"{VARS}.{name}": name for name in self._variables},
            **{f"{OPTIONS}.{name}": name for name in DEFAULTS},
        }
        self._environ = {
            _variable(path): path
            for path in (*self._paths, VARS)
            if not path.startswith((f"{VARS}.", f"{SOURCE}.crmcom"))
        }

    def is_ours(self, path: str) -> bool:
        """Whether it is meant for us: by its section, or as a variable in whichever section."""
        parts = path.split(".")
        return _ours(parts) or parts[-1] in self._variables

    def has(self, path: str) -> bool:
        """Whether it is read, or stands below something that is."""
        if path.startswith((f"{OPTIONS}.", "crmcom.sources.crmcom.")):
            return True  # dlt's own as well
        parts = path.split(".")
        return any(".".join(parts[:n]) in self._paths for n in range(1, len(parts) + 1))

    def nearest(self, path: str) -> str:
        """The setting that was probably meant by a path of a file."""
        *sections, key = path.split(".")
        # What stands in a section like the variables' is a variable; elsewhere either.
        tenant = self._nearest_tenant(sections)
        if any(_is_near(s, "vars") or _is_near(s, "transforms") for s in sections):
            names = {name: f"{VARS}.{name}" for name in self._variables}
        elif tenant:
            names = {name: f"{SOURCE}.{tenant}.{name}" for name in _OF_TENANT}
        else:
            names = {name: f"{SOURCE}.{name}" for name in (*NAMES, LIST)}
            names |= {name: f"{VARS}.{name}" for name in self._variables}
        near = get_close_matches(key.lower(), names, n=1, cutoff=0.5)
        return names[near[0]] if near else ""

    def _nearest_tenant(self, sections: list[str]) -> str:
        """The tenant whose section is meant; empty where none is."""
        below = sections[SOURCE.count(".") + 1 :]
        near = get_close_matches(below[0].lower(), self._tenants, n=1) if below else []
        return near[0] if near else ""

    def meant(self, name: str) -> str | None:
        """The variable that was probably meant by one of the environment, empty where nothing is
        near; None where it is right, or none of our business."""
        if not any(_is_near(word, "crmcom") for word in name.split("_")) or self._read(name):
            return None
        near = get_close_matches(name.upper(), self._environ, n=1, cutoff=0.85)
        sections = name.split("__")
        if not near and len(sections) > 1 and _ours(sections):
            path = self.nearest(".".join(sections).lower())
            near = [VARS if path.startswith(VARS) else path] if path else [""]
            near = [_variable(near[0])]
        return near[0] if near else None

    def _read(self, name: str) -> bool:
        """dlt reads upper-case names alone."""
        path = name.replace("__", ".").lower()
        is_ours = name == name.upper() and self.has(path) and not path.startswith(f"{VARS}.")
        return name in self._environ or is_ours


def _variable(path: str) -> str:
    """A path of a file as the environment's variable."""
    return path.replace(".", "__").upper()
