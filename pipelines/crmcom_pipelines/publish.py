"""A sync works on a DuckDB file of its own and publishes it by an atomic rename (POSIX only).

DuckDB lets one process write and locks readers out meanwhile. So readers get a file that nobody
writes: they never wait for a sync, never see half of one, and keep the last good file after a
failed one. Beside `warehouse.duckdb` stands

    .crmcom/warehouse.duckdb/
        lock            held while a sync runs, never deleted
        record.json     which file we published last
        profile.json    how the tenant's API is known to behave
        last_run.json   the last run that was begun, and how it ended (attempt.py)
        working/        the file that the sync writes; kept, since a copy of 2 GB takes seconds
        aside/          the last working file that we gave up, in case somebody wants it
        parts/          files being copied; what a crash leaves here goes at the next start
        pipelines/      dlt's working directory
        dbt/            dbt's

The working file has the name of the published one, so that its catalog has it too, and a folder
of its own, so that one rename moves it together with DuckDB's `.wal`.

    CrmcomError
    ├── SettingsError          a name to change (2)
    │   └── NotWritable        a permission to change (2)
    ├── Locked                 another run is under way (6)
    ├── PublishBlocked         somebody writes, or has replaced, the published file (6)
    └── StorageFailed          DuckDB or the file system refused (1)
        └── NoSpace            the disk is full (1)

None of them costs the last good file, nor what was loaded: the next run goes on from there.
"""

from __future__ import annotations

import contextlib
import enum
import errno
import fcntl
import hashlib
import os
import re
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import msgspec

from crmcom.errors import CrmcomError, SettingsError
from crmcom_pipelines import lock
from crmcom_pipelines.rewrite import MEMORY
from crmcom_pipelines.union import clear, create
from crmcom_pipelines.withheld import put_back

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from crmcom_pipelines.union import Union

_FICLONE = 0x40049409  # linux/fs.h
# Both of DuckDB's database headers: a checkpoint that writes anything changes one of them.
_HEADERS_BYTES = 3 * 4096
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class NotWritable(SettingsError):
    pass


class PublishBlocked(CrmcomError):
    exit_code = 6


class StorageFailed(CrmcomError):
    pass


class NoSpace(StorageFailed):
    def __init__(self, reason: str) -> None:
        super().__init__(
            f"{reason}. The last good file and what was loaded are kept. Make room and run again."
        )


class Published(enum.Enum):
    """What stands under the published name."""

    MISSING = enum.auto()
    OURS = enum.auto()
    THEIRS = enum.auto()


class Origin(enum.Enum):
    """Where the working file of a run comes from."""

    FRESH = "nothing was there"
    CONTINUED = "the working file of the last run"
    COPIED = "the published file; there was no working file"
    RESTORED = "the published file, which is not the one that the last run published"
    RECOVERED = "the last published state, since the working file cannot be opened"
    STARTED_OVER = "nothing, since the published file was deleted"


def origin(published: Published, *, working: bool, ever_published: bool) -> Origin:
    """Which file is the truth when a run starts.

    The working file, as long as the published one is the one we made: it holds at least as much.
    What somebody did to the published file is that person's wish: a backup put there is what we
    start from, and a deleted file means to start over.
    """
    if published is Published.THEIRS:
        return Origin.RESTORED if working else Origin.COPIED
    if published is Published.MISSING and ever_published:
        return Origin.STARTED_OVER
    if working:
        return Origin.CONTINUED
    return Origin.FRESH if published is Published.MISSING else Origin.COPIED


@dataclass(frozen=True, slots=True)
class Identity:
    """Tells one published file from another, without DuckDB.

    No inode: it changes when a volume is mounted elsewhere, and a copy that keeps its time is the
    same file. No id stored inside: it would stay the same when somebody edits the file.
    """

    size: int
    mtime_ns: int
    headers: str

    @classmethod
    def of(cls, path: Path) -> Identity | None:
        try:
            with path.open("rb") as file:
                stat = os.fstat(file.fileno())
                headers = hashlib.sha256(file.read(_HEADERS_BYTES)).hexdigest()
        except FileNotFoundError:
            return None
        return cls(stat.st_size, stat.st_mtime_ns, headers)


@dataclass(frozen=True, slots=True)
class Record:
    """What we know of the published file.

    `coming` is written before the rename and `published` after it, so that a crash between the
    two does not make a stranger of our own file. `behind`: the working file may hold more.
    `ahead`: the datasets of which it may, since their last run did not publish them.
    """

    published: Identity | None = None
    coming: Identity | None = None
    behind: bool = True
    ahead: tuple[str, ...] = ()

    def judge(self, found: Identity | None) -> Published:
        if found is None:
            return Published.MISSING
        return Published.OURS if found in (self.published, self.coming) else Published.THEIRS


class Workspace:
    """The paths of one warehouse. Making one touches no file.

    `union`: what the dataset's marts are a part of. Raises `SettingsError` for a name that DuckDB
    could not tell from the dataset's, and for a dataset's that dlt would change.
    """

    def __init__(self, database: Path, dataset: str, union: Union | None = None) -> None:
        check_dataset(dataset)
        self.dataset, self.union = dataset, union
        _refuse_ambiguous(database, dataset)
        # The file itself, so that every way to it meets the same lock, and a symlink stays one.
        self.published = Path(os.path.realpath(database.expanduser()))
        _refuse_ambiguous(self.published, dataset)
        self.folder = self.published.parent / ".crmcom" / self.published.name
        self.working = self.folder / "working" / self.published.name
        self.pipelines_dir = self.folder / "pipelines"
        self.dbt_dir = self.folder / "dbt"
        # Of several tenants each has its own, so that none throws away what dbt keeps of another.
        self.dbt_of_dataset = self.dbt_dir / dataset if union else self.dbt_dir
        self.aside_dir = self.folder / "aside"
        self.parts_dir = self.folder / "parts"
        self.record_file = self.folder / "record.json"
        self.lock_file = self.folder / "lock"

    @contextlib.contextmanager
    def draft(self, command: str) -> Iterator[Draft]:
        """Holds the lock while the block runs, and gives it the working file to write.

        `command` tells others what is under way; keep secrets out of it. Raises `Locked`,
        `NotWritable`, `NoSpace`, and `PublishBlocked` when somebody writes what must be copied.
        """
        with contextlib.ExitStack() as stack:
            with explained(f"work in {self.folder}"):
                self.make_folder()
                stack.enter_context(lock.hold(self.lock_file, command=command))
                draft = Draft(self)
                stack.callback(draft.close)
            yield draft

    def holder(self) -> lock.Holder | None:
        """Who is at work on this warehouse now."""
        return lock.holder(self.lock_file)

    def read_record(self) -> Record:
        try:
            return msgspec.json.decode(self.record_file.read_bytes(), type=Record)
        except (FileNotFoundError, NotADirectoryError, msgspec.MsgspecError):
            return Record()

    def next_start(self) -> Path | None:
        """The file that holds what the next run goes on from, as far as it may be read now.

        None where the next run begins with nothing. Touches no file: where the working file
        holds no more than the published one, or somebody is at work on it, that is the latter.
        """
        record, found = self.read_record(), Identity.of(self.published)
        how = origin(
            record.judge(found),
            working=self.working.exists(),
            ever_published=record.published is not None,
        )
        has_more = record.behind or self.dataset in record.ahead or not found
        if how is Origin.CONTINUED and has_more and self.holder() is None:
            return self.working
        return self.published if found and how is not Origin.STARTED_OVER else None

    def kept_aside(self) -> list[Path]:
        """Working files that were given up. They still hold what was loaded into them."""
        return sorted(self.aside_dir.glob("*/*"))

    def make_folder(self) -> None:
        """Raises `OSError` or `SettingsError` where there can be no sync."""
        home = self.published.parent
        if home.exists() and not os.access(home, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, "no permission to write", str(home))
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.folder.stat().st_dev != home.stat().st_dev:
            raise SettingsError(
                f"{self.folder} and {home} are on different file systems, so that no file can be "
                "renamed from one to the other. Let both be on one."
            )
        # A checkout is a likely place for a warehouse, and people's data has none in it.
        ignore = self.folder.parent / ".gitignore"
        if not ignore.exists():
            ignore.write_text("*\n")


class Draft:
    """One run's working file, and the way to publish it. Comes from `Workspace.draft`.

    `path`: the DuckDB file to load into; missing until something is loaded. `origin`: where it
    comes from. `note`: what a person should know about that; empty when all is as usual.
    """

    def __init__(self, workspace: Workspace) -> None:
        self.path = workspace.working
        self.note = ""
        self._at = workspace
        self._make_folders()
        record = workspace.read_record()
        self._found = Identity.of(workspace.published)
        self.origin = origin(
            record.judge(self._found),
            working=self.path.exists(),
            ever_published=record.published is not None,
        )
        self._make_ready()
        self._behind = record.behind and self.origin is Origin.CONTINUED
        ahead = set(record.ahead if self.origin is Origin.CONTINUED else ())
        self._was_ahead = workspace.dataset in ahead
        self._others_ahead = tuple(sorted(ahead - {workspace.dataset}))
        if obstacle := self._obstacle():
            self.note = f"{self.note} Until this is settled, nothing can be published: {obstacle}"
        if workspace.union is not None and self.path.exists():
            with duckdb.connect(str(self.path)) as connection:
                clear(connection, workspace.union)
        self._began_with = Identity.of(self.path)
        self._published = False
        self._write_record(Record(published=self._found, ahead=self._ahead))

    def publish(self, *, changed: bool = True) -> bool:
        """Puts the working file in the published one's place, for all readers at once.

        Close every connection of this process first. `changed=False`: this run alone gives no
        reason to copy, as it only kept its books; what an earlier run could not publish still is.
        Says whether it published. Raises `PublishBlocked`, `NoSpace` or `StorageFailed`, always
        with the last good file in place, and `path` as loaded.
        """
        if not self.path.exists():
            return False
        with explained(f"publish {self._at.published}"):
            if not (changed or self._behind) and self._found:
                self._published = True
                self._write_record(Record(self._found, behind=False, ahead=self._ahead))
                return False
            self._refuse_changed()
            _checkpoint(self.path)
            self._replace_published()
        return True

    def close(self) -> None:
        """Notes where nothing was written after all, so that nothing is kept from readers."""
        if self._published or self._was_ahead or _wal(self.path):
            return
        with contextlib.suppress(OSError):  # then it is kept from them, until the next run
            if Identity.of(self.path) == self._began_with:
                self._published = True
                self._write_record(Record(self._found, behind=self._behind, ahead=self._ahead))

    def replace(self, change: Callable[[Path], Path]) -> None:
        """Puts another file in the working one's place. `change` makes it from a copy that it
        may write, in the same folder. A kill leaves the working file as it was, or as changed."""
        folder = self._at.parts_dir / "change"
        with explained(f"work in {folder}"):
            copy = folder / self.path.name
            folder.mkdir()
            _checkpoint(self.path)
            _copy(self.path, copy)
            try:
                changed = change(copy)
            except duckdb.Error as error:
                if is_full(error):
                    raise OSError(errno.ENOSPC, str(error).strip()) from None
                raise StorageFailed(
                    f"DuckDB cannot rewrite {self.path}: {str(error).strip()}. The last good file "
                    "is kept."
                ) from error
            _sync_file(changed)
            changed.replace(self.path)
            _sync_folder(self.path.parent)
            shutil.rmtree(folder)

    def discard_leftovers(self) -> None:
        """Removes what the runs before this one left beside the working file: older copies, and
        the files of dlt and dbt."""
        at = self._at
        for folder in (at.aside_dir, at.pipelines_dir, at.dbt_dir):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(exist_ok=True)

    @property
    def _ahead(self) -> tuple[str, ...]:
        own = () if self._published else (self._at.dataset,)
        return (*self._others_ahead, *own)

    def _make_folders(self) -> None:
        at = self._at
        shutil.rmtree(at.parts_dir, ignore_errors=True)
        for folder in (
            at.parts_dir,
            at.aside_dir,
            at.pipelines_dir,
            at.dbt_dir,
            at.working.parent,
        ):
            folder.mkdir(exist_ok=True)

    def _make_ready(self) -> None:
        at = self._at
        if self.origin is Origin.CONTINUED:
            if lock.is_open(self.path):
                raise lock.Locked(
                    f"{self.path} is open in another process{lock.users(self.path)}, perhaps "
                    "left over from a run that was killed. End that process and run again."
                )
            if not (trouble := _trouble(self.path)):
                shutil.rmtree(f"{self.path}.tmp", ignore_errors=True)  # DuckDB's, after a crash
                return
            self.origin = Origin.RECOVERED
            self.note = f"The working file cannot be opened ({trouble}): "
            self.note += "going on from the published one." if self._found else "starting anew."
        elif self.origin is Origin.RESTORED:
            self.note = f"{at.published} is not the file that the last run published: using it."
        elif self.origin is Origin.STARTED_OVER:
            self.note = f"{at.published} was deleted: starting over."
        if self._found:
            self._copy_published()
        if kept := self._replace_working():
            self.note += f" The last working file is kept as {kept}."

    def _copy_published(self) -> None:
        """Makes `parts/working/` hold a copy of the published file that DuckDB can write."""
        at = self._at
        self._refuse_writer()
        copy = at.parts_dir / "working" / self.path.name
        copy.parent.mkdir()
        _copy(at.published, copy)
        copy.chmod(copy.stat().st_mode | 0o200)
        if trouble := _trouble(copy):
            raise SettingsError(
                f"{at.published} is no database that this DuckDB can open ({trouble}). Restore "
                "it from a backup, or move it away to start over."
            )

    def _replace_published(self) -> None:
        published, coming = self._at.published, self._at.parts_dir / "next"
        if self._others_ahead or self._at.union:
            self._complete(coming)
        else:
            _copy(self.path, coming)
        # Whoever may read the last one, may read the next one; nobody may write it.
        like = (published if self._found else self.path).stat()
        for owner in ((-1, like.st_gid), (like.st_uid, -1)):
            with contextlib.suppress(PermissionError):
                os.chown(coming, *owner)
        coming.chmod(like.st_mode & 0o444)
        identity = Identity.of(coming)
        self._write_record(Record(self._found, coming=identity, ahead=self._ahead))
        self._refuse_changed()  # again: copying takes seconds
        coming.replace(published)
        _sync_folder(published.parent)
        self._found, self._behind, self._published = identity, False, True
        self._write_record(Record(identity, behind=False, ahead=self._ahead))

    def _complete(self, coming: Path) -> None:
        """Makes of a copy of the working file what readers are to see."""
        # A folder of its own, since its views may name the catalog, and so the file.
        copy = self._at.parts_dir / "complete" / self.path.name
        copy.parent.mkdir()
        _copy(self.path, copy)
        try:
            with duckdb.connect(str(copy), config=MEMORY) as connection:
                if self._others_ahead:
                    published = self._at.published if self._found else None
                    put_back(connection, published, self._others_ahead)
                if self._at.union is not None:
                    clear(connection, self._at.union)
                    create(connection, self._at.union)
        except duckdb.Error as error:
            if is_full(error):
                raise OSError(errno.ENOSPC, str(error).strip()) from None
            raise StorageFailed(
                f"DuckDB cannot complete {copy}: {str(error).strip()}. The last good file is kept."
            ) from error
        _checkpoint(copy)
        _sync_file(copy)
        copy.replace(coming)
        shutil.rmtree(copy.parent)

    def _replace_working(self) -> Path | None:
        """Puts `parts/working/` in the place of `working/`. Says where the old file is kept."""
        at = self._at
        folder, copy = self.path.parent, at.parts_dir / "working"
        kept = None
        if self.path.exists():
            older = list(at.aside_dir.glob("*"))
            kept = at.aside_dir / f"{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}"
            folder.rename(kept)
            for path in older:  # one is enough: each may be as large as the warehouse
                shutil.rmtree(path, ignore_errors=True)
        else:
            shutil.rmtree(folder)  # at most a `.wal` that has lost its file
        if copy.exists():
            copy.rename(folder)
        else:
            folder.mkdir()
        _sync_folder(at.folder)
        return kept / self.path.name if kept else None

    def _refuse_changed(self) -> None:
        self._refuse_writer()
        if Identity.of(self._at.published) != self._found:
            raise PublishBlocked(
                f"{self._at.published} was replaced or deleted while this run was under way, so "
                "it was left as it is. Run again: the next run starts from it."
            )

    def _refuse_writer(self) -> None:
        if obstacle := self._obstacle():
            raise PublishBlocked(f"{obstacle} Then run again; what was loaded is kept.")

    def _obstacle(self) -> str:
        """Who writes the published file, and what to do about it; empty when nobody does.

        DuckDB would put such changes into the next file: it finds a `.wal` by its name alone.
        """
        published = self._at.published
        if wal := _wal(published):
            return (
                f"{wal[0]} stands beside the published file{lock.users(*wal)}: somebody "
                "opened that for writing, and DuckDB would put it into the next one. Close that "
                "session; if nobody has it open, move the .wal away. To read, use -readonly."
            )
        if self._found and lock.is_open(published, for_writing=True):
            return (
                f"{published} is open for writing{lock.users(published)}, and DuckDB would put "
                "changes into the next file. Close that session. To read, use -readonly."
            )
        return ""

    def _write_record(self, record: Record) -> None:
        part = self._at.parts_dir / "record.json"
        with part.open("wb") as file:
            file.write(msgspec.json.encode(record))
            file.flush()
            os.fsync(file.fileno())
        part.replace(self._at.record_file)
        _sync_folder(self._at.folder)


def chain(error: BaseException) -> list[BaseException]:
    """An exception and all that led to it, the nearest first."""
    found = [error]
    for one in found:
        for before in (one.__cause__, one.__context__):
            if before is not None and not any(before is f for f in found):
                found.append(before)
    return found


def is_full(error: BaseException) -> bool:
    """Whether this exception says that there is no room; DuckDB says it in words alone."""
    if isinstance(error, duckdb.Error):
        return any(os.strerror(number) in str(error) for number in _FULL)
    return isinstance(error, OSError) and error.errno in _FULL


def check_dataset(name: str, longest: int | None = None) -> None:
    """Raises `SettingsError` for a name that dlt would change: it would load into one schema, and
    the marts would be built on another, which is empty."""
    too_long = longest is not None and len(name) > longest
    if too_long or not re.fullmatch("[a-z][a-z0-9]*(_[a-z0-9]+)*", name):
        most = f", {longest} characters at most" if longest else ""
        raise SettingsError(
            f"--dataset {name!r} is no name that schemas can have everywhere: use a-z, 0-9 and "
            f"single _, a letter first{most}"
        )


def _refuse_ambiguous(database: Path, dataset: str) -> None:
    # DuckDB names the catalog after the file, up to the first dot, and ignores case.
    catalog = database.name.split(".")[0]
    # It also puts the name of a `.wal` before a question mark, as in a URL.
    if not catalog or catalog == ":memory:" or "?" in str(database) or database.is_dir():
        raise SettingsError(f"{database} is no file name for a database: say warehouse.duckdb.")
    if catalog.lower() in (dataset.lower(), f"{dataset.lower()}_staging"):
        raise SettingsError(
            f"{database.name} would be catalog {catalog}, which DuckDB cannot tell from the "
            f"dataset {dataset}: `from {catalog}.contacts` would mean either. Give the file or "
            "the dataset another name; warehouse.duckdb is the usual one."
        )


def _wal(database: Path) -> list[Path]:
    """What DuckDB would replay when it opens the file."""
    names = (f"{database}{suffix}" for suffix in (".wal", ".wal.checkpoint", ".wal.recovery"))
    return [Path(name) for name in names if os.path.lexists(name)]


def _trouble(database: Path) -> str:
    """Why DuckDB cannot open a file; empty when it can. What a `.wal` holds is taken in."""
    try:
        duckdb.connect(str(database)).close()
    except duckdb.Error as error:
        if is_full(error):
            raise OSError(errno.ENOSPC, str(error).strip()) from None
        return str(error).strip()
    return ""


def _checkpoint(database: Path) -> None:
    try:
        with duckdb.connect(str(database)) as connection:
            connection.execute("CHECKPOINT")
    except duckdb.Error as error:
        if is_full(error):
            raise OSError(errno.ENOSPC, str(error).strip()) from None
        raise StorageFailed(
            f"DuckDB cannot complete {database}: {str(error).strip()}. The last good file is kept."
        ) from error
    if wal := _wal(database):
        raise StorageFailed(f"{wal[0]} is still in use: a connection of this run is open.")


def _copy(source: Path, target: Path) -> None:
    """Makes a durable copy that shares its blocks with the source where the file system can."""
    with source.open("rb") as reader, target.open("xb") as writer:
        try:
            fcntl.ioctl(writer, _FICLONE, reader.fileno())
        except OSError:
            need, free = os.fstat(reader.fileno()).st_size, shutil.disk_usage(target.parent).free
            if free < need:
                raise OSError(
                    errno.ENOSPC, f"{need / 1e6:,.0f} MB needed, {free / 1e6:,.0f} MB free"
                ) from None
            shutil.copyfile(source, target)
        os.fsync(writer.fileno())


def _sync_file(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def explained(doing: str) -> Iterator[None]:
    """Turns the operating system's errors into ours."""
    try:
        yield
    except OSError as error:
        reason = f"Cannot {doing}: {error.strerror or error}"
        if error.filename:
            reason += f" ({error.filename})"
        if is_full(error):
            raise NoSpace(reason) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST):
            raise NotWritable(
                f"{reason}. Let this user write there, or name another place with --database."
            ) from error
        raise StorageFailed(f"{reason}. The last good file is kept.") from error
