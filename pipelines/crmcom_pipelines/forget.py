"""A person erased from every table, history included, and kept out of later runs.

What is gone: the contact, its custom fields and tags, its accounts with all readings, its
activities with their children and versions, its rejected records, and what runs noted of it. The
reports of past days are built anew without it, so their totals change: see DECISIONLOG.md.
"""

# ruff: noqa: S608 - the names and values put into SQL are quoted

from __future__ import annotations

import json
import re
import secrets
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import duckdb

from crmcom.errors import SettingsError
from crmcom.forgotten import TABLE, Forgotten, Kind
from crmcom_pipelines import lock
from crmcom_pipelines.publish import Workspace
from crmcom_pipelines.rewrite import Dataset, has_marts, literal, quoted, rewrite

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from crmcom_pipelines.union import Union

_LEDGER = ("_sync_runs", "_sync_windows", "_rejects")
_CHILDREN = {
    "contact": ("contact_custom_fields", "contact_tags"),
    "activity": ("activity_custom_fields", "activity_tags", "activity_states"),
}

OUT_OF_REACH = (
    "Reports that were exported, copies and backups of the file, and programs that have the former "
    "file open still hold the person"
)


class NobodyThere(SettingsError):
    """Nothing is known of the ID."""


@dataclass(slots=True)
class Erased:
    """What was erased. `rows` by table; `mentions`: rows of others that hold the ID, by column."""

    contact_id: str
    rows: dict[str, int] = field(default_factory=dict)
    mentions: dict[str, int] = field(default_factory=dict)
    published: bool = False
    transform: str | None = None
    """Why the marts could not be built."""
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def exit_code(self) -> int:
        return 0 if self.transform is None else 7

    def as_json(self) -> dict[str, Any]:
        """The machine-readable result; its keys are part of the interface."""
        return {
            "exit_code": self.exit_code,
            "contact_id": self.contact_id,
            "rows": self.rows,
            "mentions": self.mentions,
            "published": self.published,
            "notes": self.notes,
            "seconds": round(self.seconds, 3),
        }


def forget(
    contact_id: str,
    *,
    database: Path,
    dataset: str = "crmcom",
    unseen: bool = False,
    vars: Mapping[str, object] | None = None,  # noqa: A002 - dbt's own word
    on_step: Callable[[str], None] | None = None,
    union: Union | None = None,
) -> Erased:
    """Erases a contact and publishes the file without it. Safe to kill and to repeat.

    `unseen`: keep the ID out of later runs though nothing is known of it. Raises `NobodyThere`
    where nothing is, and nothing was erased before.
    """
    started_s = time.monotonic()
    step = on_step or (lambda _: None)
    erased = Erased(contact_id)
    workspace = Workspace(database, dataset, union)
    # The command stands in a file: no ID in it.
    with workspace.draft(f"crmcom forget in {database.name}") as draft:
        erased.notes += [draft.note] if draft.note else []
        if not draft.path.exists():
            raise SettingsError(
                f"there is no {database} to forget anybody in: name the file with --database"
            )
        _must_be_known(draft.path, dataset, contact_id, unseen=unseen)
        marts = has_marts(draft.path, dataset) or has_marts(workspace.published, dataset)
        step("erase")
        rewrite(draft, dataset, lambda data: _erase(data, contact_id, erased))
        if marts:
            step("transform")
            from crmcom_pipelines.transform import transform  # noqa: PLC0415 - dbt takes 2.6 s

            built = transform(
                draft.path,
                dataset=dataset,
                vars=vars or {},
                full_refresh=True,
                work_dir=workspace.dbt_of_dataset,
            )
            if not built.ok:
                erased.transform = built.summary
                erased.notes.append(
                    f"{built.summary}\n{database} still holds the person, since the marts could "
                    "not be built without it. Put that right, then run the same command again."
                )
        if erased.transform is None:
            step("publish")
            readers = _readers(workspace.published)
            erased.published = draft.publish()
            erased.notes.append(f"{OUT_OF_REACH}{readers}.")
    erased.seconds = time.monotonic() - started_s
    return erased


def _readers(published: Path) -> str:
    return lock.users(published) if published.exists() else ""


def _must_be_known(path: Path, dataset: str, contact_id: str, *, unseen: bool) -> None:
    with duckdb.connect(str(path), read_only=True) as connection:
        data = Dataset(connection, dataset)
        tables = data.columns()
        if not tables:
            raise SettingsError(f"there is no dataset {dataset} in {path.name}: see --dataset")
        known = (
            unseen
            or _forgotten(data, tables).has("contact", contact_id)
            or any(
                data.rows(
                    f"select 1 from {data.table(t)} where {c} = {literal(contact_id)} limit 1"
                )
                for t, c in _OWNED.items()
                if t in tables
            )
        )
    if not known:
        raise NobodyThere(
            f"nothing is known of a contact {contact_id}, so nothing was erased. Look at the ID; "
            "to keep it out of later runs all the same, add --unseen"
        )


_OWNED = {
    "contacts": "id",
    "contact_custom_fields": "contact_id",
    "contact_tags": "contact_id",
    "accounts": "contact_id",
    "account_observations": "contact_id",
    "activities": "contact__id",
    "activity_versions": "contact__id",
    "_rejects": "record_id",
}
"""Where a contact's ID stands as such."""


def _erase(data: Dataset, contact_id: str, erased: Erased) -> None:
    tables = data.columns()
    person = literal(contact_id)

    def ids(table: str, key: str, where: str) -> list[str]:
        if table not in tables:
            return []
        found = data.rows(f"select distinct {key} from {data.table(table)} where {where}")
        return sorted(i for (i,) in found if i is not None)

    accounts = ids("accounts", "id", f"contact_id = {person}")
    were_theirs = ids("activity_versions", "activity_id", f"contact__id = {person}")
    activities = ids(
        "activities",
        "id",
        f"contact__id = {person} or (contact__id is null and id in {_list(were_theirs)})",
    )
    all_ids = [contact_id, *accounts, *activities]
    gone = {
        "contacts": f"id = {person}",
        **dict.fromkeys(_CHILDREN["contact"], f"contact_id = {person}"),
        "accounts": f"contact_id = {person}",
        "account_observations": f"contact_id = {person} or account_id in {_list(accounts)}",
        "activities": f"id in {_list(activities)}",
        **dict.fromkeys(_CHILDREN["activity"], f"activity_id in {_list(activities)}"),
        "activity_versions": f"contact__id = {person} or activity_id in {_list(activities)}",
        "_rejects": f"record_id in {_list(all_ids)} "
        f"or contains(payload, {literal(json.dumps(contact_id))})",
    }
    for table, where in gone.items():
        if table in tables:
            erased.rows[table] = data.change(f"delete from {data.table(table)} where {where}")
    _clean_ledger(data, tables, all_ids)
    data.change_states(lambda state: _pruned(state, set(all_ids)))
    _keep_out(data, _forgotten(data, tables), contact_id, activities)
    erased.mentions = _mentions(data, tables, contact_id)


def _clean_ledger(data: Dataset, tables: Mapping[str, Any], ids: Sequence[str]) -> None:
    """What runs noted of the records, and payloads of which nobody can tell whose they are."""
    if "_rejects" in tables:
        data.change(f"update {data.table('_rejects')} set payload = '' where record_id is null")
    for table in (t for t in _LEDGER if t in tables):
        where = data.table(table)
        for (reason,) in data.rows(f"select distinct reason from {where} where reason <> ''"):
            clean = reason
            for i in (i for i in ids if i in reason):
                clean = re.sub(rf"(?<![\w-]){re.escape(i)}(?![\w-])", "(forgotten)", clean)
            if clean != reason:
                data.change(
                    f"update {where} set reason = {literal(clean)} where reason = {literal(reason)}"
                )


def _pruned(state: Any, ids: set[str]) -> Any:
    """Bookkeeping without these records: an ID, or a list that begins with one, in a list."""
    if isinstance(state, dict):
        return {k: _pruned(v, ids) for k, v in state.items()}
    if not isinstance(state, list):
        return state
    heads = (v[0] if isinstance(v, list) and v else v for v in state)
    return [
        _pruned(v, ids)
        for v, head in zip(state, heads, strict=True)
        if not (isinstance(head, str) and head in ids)
    ]


def _forgotten(data: Dataset, tables: Mapping[str, Any]) -> Forgotten:
    if TABLE not in tables:
        return Forgotten()
    found = data.rows(f"select salt, digest from {data.table(TABLE)}")
    return Forgotten(found[0][0], frozenset(d for _, d in found)) if found else Forgotten()


def _keep_out(data: Dataset, before: Forgotten, contact_id: str, activities: list[str]) -> None:
    """Digests alone; see `crmcom.forgotten`."""
    salted = Forgotten(before.salt or secrets.token_hex(16))
    named: list[tuple[Kind, str]] = [
        ("contact", contact_id),
        *(("activity", i) for i in activities),
    ]
    new = {salted.digest(kind, i): kind for kind, i in named}
    where = data.table(TABLE)
    data.connection.execute(
        f"create table if not exists {where} (kind varchar not null, digest varchar not null, "
        "salt varchar not null, forgotten_at timestamp not null)"
    )
    now = "cast(current_timestamp at time zone 'UTC' as timestamp)"
    rows = [
        f"({literal(kind)}, {literal(digest)}, {literal(salted.salt)}, {now})"
        for digest, kind in new.items()
        if digest not in before.digests
    ]
    if rows:
        data.change(f"insert into {where} values {', '.join(rows)}")


def _mentions(data: Dataset, tables: Mapping[str, Mapping[str, str]], text: str) -> dict[str, int]:
    """Rows of others that hold the ID, such as an object that points to a relation."""
    found = {}
    for table, columns in tables.items():
        for column, kind in columns.items():
            if kind == "VARCHAR" and not table.startswith("_dlt_"):
                ((count,),) = data.rows(
                    f"select count(*) from {data.table(table)} "
                    f"where contains({quoted(column)}, {literal(text)})"
                )
                if count:
                    found[f"{table}.{column}"] = count
    return found


def _list(ids: Iterable[str]) -> str:
    # An empty list is no SQL.
    return f"({', '.join([*map(literal, ids), 'null'])})"
