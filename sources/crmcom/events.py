"""What happened, told through the standard `logging`: a name and fields, for people and programs.

Each record of the logger `crmcom` that is an event has `event`, its name, and `fields`; its message
is the same as text. Nothing is told for each request, so telling costs nothing that matters.
"""

from __future__ import annotations

import logging
from typing import Any

log = logging.getLogger("crmcom")


def tell(event: str, *, level: int = logging.INFO, **fields: Any) -> None:
    """`fields` hold numbers, texts and lists of them: counts and names, never a record's data."""
    if log.isEnabledFor(level):
        log.log(level, "%s", _text(event, fields), extra={"event": event, "fields": fields})


def _text(event: str, fields: dict[str, Any]) -> str:
    shown = [(name, value) for name, value in fields.items() if _is_shown(name, value)]
    parts = (f"{_words(name)} {_value(value)}" for name, value in shown)
    return f"{_words(event)}: {', '.join(parts)}"


def _words(name: str) -> str:
    return name.replace("_", " ")


def _is_shown(name: str, value: Any) -> bool:
    return name != "run_id" and value not in (None, [], {})


def _value(value: Any) -> str:
    if isinstance(value, list | tuple):
        return " ".join(map(str, value))
    return f"{value:,}" if type(value) is int else str(value)
