"""Marts that were built and tested on a server, given to its readers in one transaction.

Only the rows that changed are deleted and inserted. So every reader finds either the last marts or
the next ones, all of them, at any level of isolation; and what was granted on them, and the views
that others made of them, stay.
"""

# ruff: noqa: S608 - the only names put into SQL are the dataset's, which is checked, and the catalog's

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from crmcom.schema import RAW_TABLES
from crmcom_pipelines.postgres import PUBLISHED, RUNS, STAMP, literal, quoted
from crmcom_pipelines.union import Column

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from crmcom_pipelines.union import Union


def publish(
    connection: Any, dataset: str, tenants: Sequence[str], union: Union | None = None
) -> None:
    """`tenants` are the raw datasets that the marts were built from; `union` is what the marts
    are a part of, where each tenant has its own."""
    reports, beside = f"{dataset}_reports", f"{dataset}_intermediate"
    with connection.cursor() as cursor:
        cursor.execute("begin")
        try:
            # What is compared here outweighs what a server allows to a query of its users.
            cursor.execute("set local statement_timeout = 0")
            for schema in (reports, beside):
                cursor.execute(f"create schema if not exists {quoted(schema)}")
            views = _Views(cursor, dataset, union) if union else None
            for name in _names(cursor, f"{dataset}__build_reports"):
                build = _Table(f"{dataset}__build_reports", name)
                _replace(cursor, build, _Table(reports, name), views)
            for name in PUBLISHED:
                build = _Table(f"{dataset}__build_intermediate", name)
                _replace(cursor, build, _Table(beside, name), views)
            _stage_runs(cursor, tenants)
            _replace(cursor, _Table("pg_temp", RUNS), _Table(beside, RUNS), views)
            cursor.execute(f"create temp table {STAMP} on commit drop as select now() as at")
            _replace(cursor, _Table("pg_temp", STAMP), _Table(beside, STAMP), views)
            if views is not None:
                views.make()
        except BaseException:
            if not connection.closed:
                cursor.execute("rollback")
            raise
        cursor.execute("commit")


@dataclass(frozen=True, slots=True)
class _Table:
    schema: str
    name: str

    def __str__(self) -> str:
        return quoted(self.schema, self.name)


def _names(cursor: Any, schema: str) -> list[str]:
    cursor.execute(
        "select relname from pg_class where relnamespace = %s::regnamespace "
        "and relkind in ('r', 'v') order by relname",
        [quoted(schema)],
    )
    return [name for (name,) in cursor.fetchall()]


def _stage_runs(cursor: Any, tenants: Sequence[str]) -> None:
    columns = ", ".join(map(quoted, RAW_TABLES["_sync_runs"].schema.names))
    parts = []
    for tenant in tenants:
        cursor.execute("select to_regclass(%s)", [quoted(tenant, "_sync_runs")])
        if cursor.fetchone() != (None,):
            parts.append(
                f"select cast({literal(tenant)} as text) as source_relation, {columns} "
                f"from {quoted(tenant, '_sync_runs')}"
            )
    cursor.execute(f"create temp table {RUNS} on commit drop as {' union all '.join(parts)}")


def _replace(cursor: Any, source: _Table, target: _Table, views: _Views | None) -> None:
    """Makes `target` hold the rows of `source`."""
    comments = _comments(cursor, source)
    if _is_view(cursor, source):  # computed once; and no reader computes it anew
        made = _Table("pg_temp", source.name)
        cursor.execute(f"create temp table {quoted(source.name)} on commit drop as table {source}")
        source = made
    _ensure(cursor, source, target, views)
    for sql in _different(comments, _comments(cursor, target), target):
        cursor.execute(*sql)
    # A row's hash lets the server join; that it is the same row, its values say. The names have a
    # space in them: no column has one, which would stand for the row otherwise.
    new, old = quoted("built row"), quoted("published row")
    same = f"hash_record_extended({new}, 0) = hash_record_extended({old}, 0) and {new} = {old}"
    cursor.execute(
        f"delete from {target} as {old} where not exists "
        f"(select from {source} as {new} where {same})"
    )
    cursor.execute(
        f"insert into {target} select {new}.* from {source} as {new} where not exists "
        f"(select from {target} as {old} where {same})"
    )


def _is_view(cursor: Any, table: _Table) -> bool:
    cursor.execute("select relkind = 'v' from pg_class where oid = %s::regclass", [str(table)])
    return bool(cursor.fetchone() == (True,))


def _ensure(cursor: Any, source: _Table, target: _Table, views: _Views | None) -> None:
    """Makes `target` a table with the columns of `source`; what was granted on it stays."""
    grants: list[str] = []
    have = _columns(cursor, target)
    if have == _columns(cursor, source):
        return
    if have:
        grants = _grants(cursor, target)
        if views is not None:
            views.make_way(target)
        cursor.execute(f"drop table {target}")
    cursor.execute(f"create table {target} as table {source} with no data")
    for grant in grants:
        cursor.execute(grant)


def _columns(cursor: Any, table: _Table) -> list[tuple[str, str]]:
    """Names and types; none where there is no such table."""
    cursor.execute(
        "select attname, format_type(atttypid, atttypmod) from pg_attribute "
        "where attrelid = to_regclass(%s) and attnum > 0 and not attisdropped order by attnum",
        [str(table)],
    )
    return list(cursor.fetchall())


def _grants(cursor: Any, table: _Table) -> list[str]:
    cursor.execute(
        "select format('grant %%s on %%s to %%s', privilege_type, oid::regclass, "
        "case when grantee = 0 then 'public' else quote_ident(pg_get_userbyid(grantee)) end) "
        "from pg_class, aclexplode(relacl) where oid = %s::regclass and grantee <> relowner",
        [str(table)],
    )
    return [grant for (grant,) in cursor.fetchall()]


def _comments(cursor: Any, table: _Table) -> dict[str | None, str]:
    """By column; None stands for the table itself."""
    cursor.execute(
        "select attname, description from pg_description left join pg_attribute "
        "on attrelid = objoid and attnum = objsubid and attnum > 0 "
        "where objoid = to_regclass(%s) and classoid = 'pg_class'::regclass",
        [str(table)],
    )
    return dict(cursor.fetchall())


def _different(
    wanted: dict[str | None, str], have: dict[str | None, str], table: _Table
) -> Iterator[tuple[str, list[str]]]:
    for column, text in wanted.items():
        if have.get(column) != text:
            on = f"table {table}" if column is None else f"column {table}.{quoted(column)}"
            yield f"comment on {on} is %s", [text]


# --- the marts of several tenants as one ------------------------------------------------------


def refuse_tables(connection: Any, union: Union) -> None:
    """Raises `SettingsError` where tables stand in the schemas of the views."""
    with connection.cursor() as cursor:
        cursor.execute(
            "select nspname from pg_class join pg_namespace n on n.oid = relnamespace "
            "where nspname = any(%s) and relkind <> 'v' and relkind <> 'i' limit 1",
            [list(union.schemas)],
        )
        if found := cursor.fetchone():
            raise union.refusal(found[0])


class _Views:
    """The views of a union, while the marts of one of its datasets are replaced."""

    def __init__(self, cursor: Any, dataset: str, union: Union) -> None:
        self._cursor, self._dataset, self._union = cursor, dataset, union
        self._granted: dict[_Table, list[str]] = {}
        # Two tenants' runs may publish at once.
        lock = "select pg_advisory_xact_lock(hashtextextended(%s, 0))"
        cursor.execute(lock, [f"crmcom union {union.dataset}"])

    def make_way(self, mart: _Table) -> None:
        """Takes away the view that keeps a mart from being replaced by one of other columns."""
        part = mart.schema.removeprefix(self._dataset)
        self._drop(_Table(f"{self._union.dataset}{part}", mart.name))

    def make(self) -> None:
        """One that says what it said before is left alone: to replace it, its readers would have
        to be waited for."""
        views = list(self._union.views(self._columns()))
        for schema in self._union.schemas:
            self._cursor.execute(f"create schema if not exists {quoted(schema)}")
            wanted = {view.name for view in views if view.schema == schema}
            for name in set(_names(self._cursor, schema)) - wanted:
                self._drop(_Table(schema, name))
        for view in views:
            at = _Table(view.schema, view.name)
            said = f"The rows of all tenants [{view.digest}]"
            if _comments(self._cursor, at).get(None) == said:
                continue
            self._replace(at, view.select)
            for statement in (*view.commented(), *self._granted.get(at, [])):
                self._cursor.execute(statement)
            self._cursor.execute(f"comment on view {at} is {literal(said)}")

    def _columns(self) -> Iterator[Column]:
        self._cursor.execute(
            "select nspname, relname, attname, format_type(atttypid, atttypmod), "
            "col_description(attrelid, attnum) from pg_attribute "
            "join pg_class c on c.oid = attrelid join pg_namespace n on n.oid = relnamespace "
            "where nspname = any(%s) and relkind in ('r', 'v') and attnum > 0 "
            "and not attisdropped order by nspname, relname, attnum",
            [list(self._union.sources())],
        )
        return (Column(*row) for row in self._cursor.fetchall())

    def _replace(self, view: _Table, select: str) -> None:
        """In its place where its columns are the same ones: then views of others on it stay."""
        from psycopg2.errors import InvalidTableDefinition  # noqa: PLC0415 - an extra's

        self._cursor.execute("savepoint before_view")
        try:
            self._cursor.execute(f"create or replace view {view} as {select}")
        except InvalidTableDefinition:
            self._cursor.execute("rollback to savepoint before_view")
            self._drop(view)
            self._cursor.execute(f"create view {view} as {select}")
        self._cursor.execute("release savepoint before_view")

    def _drop(self, view: _Table) -> None:
        """What was granted on it is kept, for the next one of its name."""
        if _columns(self._cursor, view):
            self._granted[view] = _grants(self._cursor, view)
            self._cursor.execute(f"drop view {view}")
