"""Forget how far a resource has been read, and on request its rows, so that it is read anew."""

# ruff: noqa: PLC0415 - dlt costs a second to import, and `crmcom --help` must not pay for it
# ruff: noqa: S608 - the only names put into SQL are the destination's and our tables'

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from crmcom.errors import SettingsError
from crmcom_pipelines.around_dlt import quiet_dlt, without_extras
from crmcom_pipelines.load import TRANSFORM_FAILED, pipeline_on
from crmcom_pipelines.publish import Workspace
from crmcom_pipelines.warehouse import duckdb_target

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from dlt import Pipeline

    from crmcom_pipelines.union import Union

HISTORY = {"accounts": "account_observations", "activities": "activity_versions"}
"""What each resource has that the API cannot give again."""


@dataclass(slots=True)
class Reset:
    """What a reset came to. `deleted`: rows by table. `notes`: what to know, and to do next."""

    resource: str
    deleted: dict[str, int] = field(default_factory=dict)
    published: bool = False
    exit_code: int = 0
    notes: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """The machine-readable result; its keys are part of the interface."""
        return {
            "resource": self.resource,
            "exit_code": self.exit_code,
            "deleted": self.deleted,
            "published": self.published,
            "notes": self.notes,
        }


def reset(
    resource: str,
    *,
    database: Path,
    dataset: str = "crmcom",
    rows: bool = False,
    history: bool = False,
    transform: bool = True,
    vars: Mapping[str, object] | None = None,  # noqa: A002 - dbt's own word
    on_step: Callable[[str], None] | None = None,
    union: Union | None = None,
) -> Reset:
    """Forget the bookmarks of a resource; with `rows`, its rows and their children too.

    Rows that the API no longer has stay, as do observations and versions: nobody could load them
    again. `history` deletes those too. All of it happens in one transaction, or nothing does.
    """
    step = on_step or (lambda _: None)
    done = Reset(resource)
    workspace = Workspace(database, dataset, union)
    with workspace.draft(f"crmcom reset of {database.name}") as draft:
        if draft.note:
            done.notes.append(draft.note)
        if not draft.path.exists():
            raise SettingsError(
                f"there is no {database} to reset: run `crmcom sync` first, or name the file "
                "with --database"
            )
        step("reset")
        with quiet_dlt(), without_extras():
            shutil.rmtree(workspace.pipelines_dir, ignore_errors=True)
            pipeline = pipeline_on(duckdb_target(draft.path), workspace.pipelines_dir, dataset)
            _forget(pipeline, done, rows=rows or history, history=history)
        if transform and (rows or history):
            from crmcom_pipelines.transform import transform as build

            step("transform")
            built = build(
                draft.path,
                dataset=dataset,
                vars=vars or {},
                work_dir=workspace.dbt_of_dataset,
            )
            if not built.ok:
                done.exit_code = TRANSFORM_FAILED
                done.notes.append(
                    f"the marts were not built, so readers keep the last good file: {built.summary}"
                )
                return done
        step("publish")
        done.published = draft.publish()
    return done


def _forget(pipeline: Pipeline, done: Reset, *, rows: bool, history: bool) -> None:
    from dlt.pipeline.state_sync import bump_pipeline_state_version_if_modified, state_doc

    from crmcom.feed import OF_THE_ROWS

    pipeline.sync_destination()
    state: Any = pipeline.state
    resources = state.get("sources", {}).get("crmcom", {}).get("resources", {})
    if not resources:
        raise SettingsError(
            f"nothing has been loaded into dataset {pipeline.dataset_name} yet: there is nothing "
            "to reset. Name another with --dataset, or run `crmcom sync`"
        )
    kept = resources.get(done.resource, {})
    resources[done.resource] = {k: v for k, v in kept.items() if k in OF_THE_ROWS}
    bump_pipeline_state_version_if_modified(state)
    doc = state_doc(state)
    with pipeline.sql_client() as client:
        named = client.make_qualified_table_name
        states, loads = named("_dlt_pipeline_state"), named("_dlt_loads")
        current = (
            f"select max(l.load_id) from {loads} l join {states} s on s._dlt_load_id = l.load_id "
            "where l.status = 0 and s.pipeline_name = %s"
        )
        doomed = _doomed(done.resource, history=history, named=named) if rows else ()
        with client.begin_transaction():
            for table, where in doomed:
                ((number,),) = client.execute_sql(
                    f"select count(*) from {named(table)} where {where}"
                ) or ((0,),)
                client.execute_sql(f"delete from {named(table)} where {where}")
                done.deleted[table] = number
            client.execute_sql(
                f"update {states} set state = %s, version = %s, version_hash = %s "
                f"where pipeline_name = %s and _dlt_load_id = ({current})",
                *(doc["state"], doc["version"], doc["version_hash"]),
                *(pipeline.pipeline_name, pipeline.pipeline_name),
            )


def _doomed(
    resource: str, *, history: bool, named: Callable[[str], str]
) -> Iterator[tuple[str, str]]:
    """The tables to delete from, children first, and the condition for each."""
    from crmcom.resources import READERS

    record, _ = READERS[resource]
    alive = "1 = 1" if history else "_deleted_at is null"
    parents = f"select id from {named(record.table)} where {alive}"
    for child in record.children:
        yield child.table, f"{record.parent_key} in ({parents})"
    yield record.table, alive
    if history and resource in HISTORY:
        yield HISTORY[resource], "1 = 1"
