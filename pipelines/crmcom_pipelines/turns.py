"""Several processes at one lake: runs of one kind exclude each other, and slices take turns.

A slice asks what is stored, reads the API and writes rows back that it found in the warehouse. If
another process wrote meanwhile, the older reading could replace the newer one. So a slice is a
turn, and so is the publishing of marts; dbt works beside them.
"""

# ruff: noqa: PLC0415 - the driver is an extra's

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any, Protocol

from crmcom_pipelines import lock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

_PAUSE_S = 0.1
"""After a turn, so that who polls for a file's lock comes to it."""


class Turns(Protocol):
    def turn(self, what: str) -> AbstractContextManager[None]:
        """Waits until nobody else has a turn of this kind, and has one while the block runs."""
        ...


@contextlib.contextmanager
def on_server(credentials: Any, scope: str, work: str, command: str, name: str) -> Iterator[Turns]:
    """Advisory locks of a PostgreSQL server, which frees them when this connection ends.

    Raises `Locked` where another process does the same `work`.
    """
    from crmcom_pipelines.postgres import connected, take

    setting = "destination.ducklake.credentials.catalog"
    with connected(credentials, command, setting) as connection:
        with connection.cursor() as cursor:
            # Whoever waits for a turn may wait for as long as a slice takes.
            cursor.execute("set statement_timeout = 0; set lock_timeout = 0")
        take(connection, f"{scope} {work}", name)
        yield _OnServer(connection, scope)


class _OnServer:
    def __init__(self, connection: Any, scope: str) -> None:
        self._connection, self._scope = connection, scope

    @contextlib.contextmanager
    def turn(self, what: str) -> Iterator[None]:
        from crmcom_pipelines.postgres import lock_key

        key = lock_key(f"{self._scope} {what}")
        with self._connection.cursor() as cursor:
            cursor.execute("select pg_advisory_lock(%s)", [key])
            try:
                yield
            finally:
                # Where the connection was lost, this is what says so.
                cursor.execute("select pg_advisory_unlock(%s)", [key])


@contextlib.contextmanager
def on_files(folder: Path, work: str, command: str, *, alone: bool) -> Iterator[Turns]:
    """Locks of files in `folder`, which every process of this machine sees.

    `alone`: nobody else may do anything meanwhile, so that there are no turns to wait for.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with lock.hold(folder / f"{work}.lock", command=command):
        yield _Alone() if alone else _OnFiles(folder, command)


class _Alone:
    def turn(self, what: str) -> AbstractContextManager[None]:  # noqa: ARG002 - it is all ours
        return contextlib.nullcontext()


class _OnFiles:
    def __init__(self, folder: Path, command: str) -> None:
        self._folder, self._command = folder, command

    @contextlib.contextmanager
    def turn(self, what: str) -> Iterator[None]:
        with waiting(self._folder / f"{what}.lock", self._command):
            yield
        time.sleep(_PAUSE_S)


@contextlib.contextmanager
def waiting(path: Path, command: str) -> Iterator[None]:
    """As `lock.hold`, for as long as it takes."""
    with contextlib.ExitStack() as held:
        while True:
            try:
                held.enter_context(lock.hold(path, command=command))
            except lock.Locked:
                continue  # which has waited already
            break
        yield
