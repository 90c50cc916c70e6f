"""What the warehouse is made of, and from what each piece is made: for those who draw it.

Raw tables are known from the source, models and tests from dbt, whose parsing takes seconds and is
kept until the project or a variable changes.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from crmcom.records import ACCOUNT, ACTIVITY, CONTACT
from crmcom.schema import RAW_TABLES

if TYPE_CHECKING:
    from collections.abc import Mapping


class Model(msgspec.Struct, frozen=True):
    """`schema` and `relation`: where it is stored; an ephemeral model is part of its readers."""

    name: str
    schema: str
    relation: str
    layer: str
    """The folder of the project that it stands in: `staging`, `intermediate`, `marts`."""
    materialized: str
    description: str
    reads_tables: tuple[str, ...]
    reads_models: tuple[str, ...]


class Test(msgspec.Struct, frozen=True):
    """`model`: what it is a test of; of several models the one that is made from the others."""

    name: str
    model: str
    description: str


class Lineage(msgspec.Struct, frozen=True):
    """`tables`: the raw tables and their descriptions. Models stand after those that they read."""

    tables: dict[str, str]
    models: tuple[Model, ...]
    tests: tuple[Test, ...]


def lineage(cache: Path, *, dataset: str, variables: Mapping[str, object]) -> Lineage:
    """The dbt project's models and tests. `cache`: a folder that may be unwritable or missing.

    Raises `SettingsError` where the project cannot be parsed with these variables.
    """
    from crmcom_pipelines.transform import manifest, project_digest  # noqa: PLC0415

    fields = [t.__struct_fields__ for t in (Lineage, Model, Test)]
    key = repr((fields, project_digest(), _descriptions(), dataset, sorted(variables.items())))
    kept = cache / f"lineage-{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"
    with suppress(OSError, msgspec.DecodeError):
        return msgspec.json.decode(kept.read_bytes(), type=Lineage)
    with tempfile.TemporaryDirectory(prefix="crmcom-") as folder:
        found = _read(manifest(dataset=dataset, vars=variables, work_dir=Path(folder)))
    with suppress(OSError):
        _keep(kept, msgspec.json.encode(found))
    return found


def resource_of(table: str) -> str | None:
    """The resource whose reading fills a raw table; None for what every run writes."""
    for record in (CONTACT, ACCOUNT, ACTIVITY):
        if table == record.table or table.startswith(record.parent_key.removesuffix("id")):
            return record.table
    return None


def _descriptions() -> str:
    """Changes with what the project says beside its SQL."""
    from crmcom_pipelines.transform import project_dir  # noqa: PLC0415

    digest = hashlib.sha256()
    for path in sorted(project_dir().rglob("*.yml")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _read(manifest: Any) -> Lineage:
    nodes: dict[str, Any] = manifest.nodes
    models = {i: n for i, n in nodes.items() if n.resource_type == "model"}
    order = _order({i: [d for d in n.depends_on.nodes if d in models] for i, n in models.items()})
    described = {source.identifier: source.description for source in manifest.sources.values()}
    return Lineage(
        tables={table: described.get(table, "") for table in RAW_TABLES},
        models=tuple(_model(manifest, models[i]) for i in order),
        tests=tuple(
            Test(n.name, models[tested].name, n.description)
            for n in nodes.values()
            if n.resource_type == "test" and (tested := _tested(n, order))
        ),
    )


def _order(reads: Mapping[str, list[str]]) -> list[str]:
    from graphlib import TopologicalSorter  # noqa: PLC0415

    return list(TopologicalSorter(reads).static_order())


def _model(manifest: Any, node: Any) -> Model:
    reads = sorted(node.depends_on.nodes)
    return Model(
        name=node.name,
        schema=node.schema,
        relation=node.alias,
        layer=node.fqn[1],
        materialized=node.config.materialized,
        description=node.description,
        reads_tables=tuple(manifest.sources[i].identifier for i in reads if i in manifest.sources),
        reads_models=tuple(manifest.nodes[i].name for i in reads if i in manifest.nodes),
    )


def _tested(test: Any, order: list[str]) -> str | None:
    """A generic test says so; of what one in SQL reads, the last that is built. None: no model."""
    said = getattr(test, "attached_node", None)
    models = [i for i in ([said] if said else test.depends_on.nodes) if i in order]
    return max(models, key=order.index, default=None)


def _keep(path: Path, content: bytes) -> None:
    """Whole or not at all: several processes may load the definitions together."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        file.write(content)
    os.replace(file.name, path)  # noqa: PTH105
