"""dlt's settings files, changed value by value: what else stands in them stays as it is.

`.dlt/secrets.toml` is readable by its owner alone from its first byte, and git is told to leave
it alone before it is written. A file is replaced as a whole: a kill leaves the old one or the new.
"""

# ruff: noqa: PLC0415 - tomlkit is imported where a file is changed

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crmcom.errors import SettingsError
from crmcom.masking import MASK
from crmcom.settings import Settings
from crmcom_pipelines.publish import explained

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

FOLDER = Path(".dlt")
CONFIG, SECRETS = FOLDER / "config.toml", FOLDER / "secrets.toml"
IGNORED = (SECRETS.as_posix(), f"{FOLDER}/*.part")
"""What git must not see: the second is a file that a kill may leave half written."""

Value = str | None
"""None: the setting is to be taken away."""


@dataclass(frozen=True, slots=True)
class Edit:
    """One file as it is to be. `shown`: a line for each value that changes, no secret in it.
    `replaces`: whether anything that stands there now would be lost."""

    path: Path
    text: str = field(repr=False)
    shown: tuple[str, ...]
    replaces: bool
    is_secret: bool = False

    def write(self) -> None:
        with explained(f"write {self.path}"):
            _replace(Path(os.path.realpath(self.path)), self.text, is_secret=self.is_secret)


def read(path: Path) -> dict[str, Any]:
    """What stands in a file; nothing where there is none. Raises `SettingsError`."""
    return _parse(path, _text(path))


def at(settings: Mapping[str, Any], path: str) -> Any:
    """The value at a dotted path, or None."""
    value: Any = settings
    for key in path.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return value


def edit(path: Path, values: Mapping[str, Value], *, is_secret: bool = False) -> Edit:
    """The file with the values at these dotted paths. Raises `SettingsError` where it cannot be
    changed without touching more."""
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    text = _text(path)
    before = _parse(path, text)
    wanted = _parse(path, text)
    changes = {p: v for p, v in values.items() if at(before, p) != v}
    try:
        document = tomlkit.parse(text)
        for dotted, value in changes.items():
            _set(wanted, dotted, value, dict)
            _set(document, dotted, value, tomlkit.table)
        after = tomlkit.dumps(document)
        after.encode()
    except (TOMLKitError, TypeError, ValueError, KeyError, AttributeError):
        after = ""
    if tomllib.loads(after) != wanted:
        names = ", ".join(changes)
        raise SettingsError(f"{path} cannot be changed without touching more: set {names} by hand")
    return Edit(
        path=path,
        text=after,
        shown=tuple(_shown(before, changes, is_secret=is_secret)),
        replaces=any(at(before, p) is not None for p in changes),
        is_secret=is_secret,
    )


def keep_from_git(folder: Path) -> list[str]:
    """Have git ignore the secrets of `folder`. Says what it cannot help."""
    path = folder / ".gitignore"
    with explained(f"write {path}"):
        before = path.read_bytes() if path.exists() else b""
        missing = [
            line for line in IGNORED if line.encode() not in map(bytes.strip, before.splitlines())
        ]
        if missing:
            gap = b"" if not before or before.endswith(b"\n") else b"\n"
            path.write_bytes(before + gap + "".join(f"{line}\n" for line in missing).encode())
    if _git(folder, "ls-files", "--error-unmatch", IGNORED[0]):
        return [f"git has {IGNORED[0]} already: take it out with `git rm --cached {IGNORED[0]}`"]
    if _git(folder, "rev-parse") and not _git(folder, "check-ignore", "-q", IGNORED[0]):
        return [f"git does not ignore {IGNORED[0]}: some other rule in a .gitignore overrules it"]
    return []


def _git(folder: Path, *command: str) -> bool:
    """Whether git is here and says yes."""
    git = shutil.which("git")
    if git is None:
        return False
    done = subprocess.run((git, *command), cwd=folder, capture_output=True, check=False)  # noqa: S603
    return done.returncode == 0


def _text(path: Path) -> str:
    with explained(f"read {path}"):
        try:
            return path.read_bytes().decode()
        except FileNotFoundError:
            return ""
        except UnicodeDecodeError:
            raise SettingsError(f"{path} is no UTF-8 text: mend it, or move it away") from None


def _parse(path: Path, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path} is no TOML ({error}): mend it, or move it away") from None


def _set(table: Any, dotted: str, value: Value, new: Any) -> None:
    *sections, key = dotted.split(".")
    for section in sections:
        if section not in table:
            table[section] = new()
        table = table[section]
    if value is None:
        del table[key]
    else:
        table[key] = value


def _shown(
    before: Mapping[str, Any], changes: Mapping[str, Value], *, is_secret: bool
) -> Iterator[str]:
    for path, value in changes.items():
        hidden = is_secret or path.split(".")[-1] in Settings.SECRETS
        was, will = (MASK if hidden else repr(v) for v in (at(before, path), value))
        if value is None:
            yield f"- {path} = {was}"
        elif at(before, path) is None:
            yield f"+ {path} = {will}"
        else:
            yield f"~ {path} = {was} becomes {will}"


def _replace(path: Path, text: str, *, is_secret: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    mode = 0o600 if is_secret else 0o666
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
        if is_secret:
            part.chmod(mode)
        elif path.exists():
            part.chmod(path.stat().st_mode & 0o777)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
