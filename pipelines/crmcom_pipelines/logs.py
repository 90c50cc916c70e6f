"""What is said on stderr: text for people, or one JSON object per line for programs.

Events are those of `crmcom.events`; whatever else is logged, warned of or written to stderr while
the format is JSON becomes a line of its own.
"""

from __future__ import annotations

import io
import json
import logging
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TextIO

Format = Literal["text", "json"]


@dataclass(slots=True)
class Context:
    """What a line says of the run that it belongs to, once there is one. `scrub` masks secrets."""

    run_id: str | None = None
    scrub: Callable[[str], str] = field(default=str)


@contextmanager
def logging_to_stderr(
    log_format: Format = "text", *, verbose: bool = False, quiet: bool = False, debug: bool = False
) -> Iterator[Context]:
    """Messages, and where the format is JSON or `verbose` is set also events, go to stderr.

    `quiet` leaves out what is no problem. `debug` adds what the source says of each request that
    it repeats.
    """
    context, as_json, before = Context(), log_format == "json", sys.stderr
    formatter: logging.Formatter = _Json(context) if as_json else _Text(context)
    handler = _Stderr(before if as_json else None)
    handler.setFormatter(formatter)
    handler.setLevel(logging.WARNING if quiet else logging.NOTSET)
    handler.addFilter(lambda record: as_json or verbose or not _is_event(record))
    root, ours = logging.getLogger(), logging.getLogger("crmcom")
    level = ours.level
    root.addHandler(handler)
    ours.setLevel(logging.DEBUG if debug else logging.INFO)
    # What asyncio says of tasks that a failure has ended is no news to anybody.
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    logging.captureWarnings(as_json)
    # On a full disk dbt cannot write its log; 20 lines on stderr for each message hide the cause.
    shows, logging.raiseExceptions = logging.raiseExceptions, debug
    lines = _Lines()
    if as_json:
        sys.stderr = lines
    try:
        yield context
    finally:
        if as_json:
            lines.finish()
            sys.stderr = before
            logging.captureWarnings(False)  # noqa: FBT003 - its only parameter
        logging.raiseExceptions = shows
        ours.setLevel(level)
        root.removeHandler(handler)


def _is_event(record: logging.LogRecord) -> bool:
    return hasattr(record, "event")


class _Stderr(logging.StreamHandler[Any]):
    """Writes to `file`, or to whatever stderr is just then: a progress display takes it over."""

    def __init__(self, file: TextIO | None) -> None:
        logging.Handler.__init__(self)
        self._file = file

    @property
    def stream(self) -> TextIO:
        return self._file or sys.stderr

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's own name
        """Nobody reads stderr any more: that is no reason to end a run."""


class _Text(logging.Formatter):
    def __init__(self, context: Context) -> None:
        super().__init__()
        self._context = context

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        if _is_event(record):
            text = f"{datetime.fromtimestamp(record.created, UTC):%H:%M:%S}Z {text}"
        return self._context.scrub(text)


class _Json(logging.Formatter):
    def __init__(self, context: Context) -> None:
        super().__init__()
        self._context = context

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = dict(getattr(record, "fields", {}))
        if not _is_event(record):
            fields = {"logger": record.name, "message": record.getMessage()}
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        at = datetime.fromtimestamp(record.created, UTC)
        line = {
            "time": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "event": getattr(record, "event", "log"),
            "run_id": fields.pop("run_id", None) or self._context.run_id,
            "resource": fields.pop("resource", None),
            **{name: self._scrubbed(value) for name, value in fields.items()},
        }
        return json.dumps(line, default=str)

    def _scrubbed(self, value: Any) -> Any:
        match value:
            case str():
                return self._context.scrub(value)
            case list() | tuple():
                return [self._scrubbed(item) for item in value]
            case dict():
                return {name: self._scrubbed(item) for name, item in value.items()}
        return value


class _Lines(io.TextIOBase):
    """A stderr of which each line is logged: what libraries print must not break the format."""

    def __init__(self) -> None:
        self._begun = ""
        self._lock = threading.Lock()

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        with self._lock:
            *whole, self._begun = (self._begun + text).split("\n")
        for line in whole:
            if line.strip():
                logging.getLogger("stderr").warning("%s", line.rstrip())
        return len(text)

    def finish(self) -> None:
        if self._begun:
            self.write("\n")
