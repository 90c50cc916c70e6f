"""One process at a time, by a lock that the kernel frees when its holder dies (POSIX only).

The lock is `flock` on a file that is never deleted: deleting it would let a second process lock a
new file of the same name. What the file says is for people; that it is locked is the kernel's word.
So a holder that was killed leaves nothing to clean up, and the next one overwrites what it wrote.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from crmcom.errors import CrmcomError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator

# A newcomer asks a few times: `holder` may be looking just now, and a new holder needs a moment
# to write its name over that of a dead one.
_TRIES, _PAUSE_S = 5, 0.05
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)


class Locked(CrmcomError):
    """Another process is at work. `holder`: which; None where it has not said."""

    exit_code = 6

    def __init__(self, message: str, *, holder: Holder | None = None) -> None:
        super().__init__(message)
        self.holder = holder


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a lock. `started_at` is UTC; `command` holds no argument that may be secret."""

    pid: int
    host: str
    started_at: datetime
    command: str

    def __str__(self) -> str:
        since = f"{self.started_at:%Y-%m-%d %H:%M:%S} UTC"
        return f"process {self.pid} on {self.host} since {since} ({self.command})"


@contextlib.contextmanager
def hold(path: Path, *, command: str) -> Iterator[None]:
    """Holds the lock while the block runs.

    Raises `Locked` within a quarter of a second when another process (or another block of this
    one) holds it, `SettingsError` on a file system without locks, `OSError` where the file cannot
    be made. Programs started meanwhile do not inherit the lock.
    """
    # Python opens with O_CLOEXEC: a dbt that outlives us does not keep the lock.
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        if not any(_take(descriptor, path, fcntl.LOCK_EX, wait=i > 0) for i in range(_TRIES)):
            found = _read(path)
            who = str(found) if found else "another process"
            raise Locked(
                f"{who} is at work on this warehouse and holds {path}. Wait until it has "
                "finished, or stop it.",
                holder=found,
            )
        me = Holder(os.getpid(), socket.gethostname(), datetime.now(UTC), command)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, msgspec.json.encode(me), 0)
        try:
            yield
        finally:
            os.ftruncate(descriptor, 0)
            fcntl.flock(descriptor, fcntl.LOCK_UN)  # closing is not enough if a fork has a copy
    finally:
        os.close(descriptor)


def holder(path: Path) -> Holder | None:
    """Who holds the lock now; None when nobody does."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        return None if _take(descriptor, path, fcntl.LOCK_SH) else _read(path)
    finally:
        os.close(descriptor)


def is_open(path: Path, *, for_writing: bool = False) -> bool:
    """Whether another process has this DuckDB file open.

    DuckDB holds a record lock as long as it does, exclusive when writing. This process must have
    no connection to the file: the kernel would drop its locks when we close ours.
    """
    with path.open("rb" if for_writing else "r+b") as file:
        try:
            fcntl.lockf(file, (fcntl.LOCK_SH if for_writing else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            return True
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
    return False


def users(*paths: Path) -> str:
    """Which processes have one of the files open, in brackets; empty where that is not known.

    Only Linux tells, and only of processes that this user may look into.
    """
    wanted = {str(path) for path in paths}
    found = []
    for process in sorted(Path("/proc").glob("[0-9]*")):
        with contextlib.suppress(OSError):  # gone meanwhile, or not ours to look into
            if any(_target(link) in wanted for link in (process / "fd").iterdir()):
                name = (process / "comm").read_text().strip()
                found.append(f"process {process.name}, {name}")
    return f" ({'; '.join(found)})" if found else ""


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except OSError:
        return ""


def _take(descriptor: int, path: Path, how: int, *, wait: bool = False) -> bool:
    if wait:
        time.sleep(_PAUSE_S)
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        raise SettingsError(
            f"The file system of {path.parent} has no file locks ({error.strerror}), so two syncs "
            "could run at once. Put the database on a local disk, and copy it from there."
        ) from error
    return True


def _read(path: Path) -> Holder | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Holder)
    except (OSError, msgspec.MsgspecError):
        return None
