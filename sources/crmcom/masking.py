"""Secrets that do not show themselves, and a scrubber for text that may hold one."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote, quote_plus

MASK = "***"


class Secret:
    """A value that prints, formats, copies into logs and pickles without itself.

    `reveal()` gives it, and is called only where a request is sent. A pickle of it is empty:
    run traces are pickled, and kept beside the data.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        if not self._value:
            raise ValueError("this secret was left out when its settings were pickled")
        return self._value

    def __repr__(self) -> str:
        return f"'{MASK}'"

    def __str__(self) -> str:
        return MASK

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __deepcopy__(self, memo: object) -> Secret:
        return self

    def __reduce__(self) -> tuple[type[Secret], tuple[str]]:
        return (Secret, ("",))


class Scrubber:
    """Replaces every secret it knows, in the forms in which text usually quotes one."""

    def __init__(self, *secrets: Secret) -> None:
        self._forms: tuple[str, ...] = ()
        for secret in secrets:
            self.add(secret)

    def add(self, secret: Secret) -> None:
        # The longest first: a form may be part of another one.
        forms = {*self._forms, *_forms(secret.reveal())}
        self._forms = tuple(sorted(forms, key=len, reverse=True))

    def __call__(self, text: str) -> str:
        for form in self._forms:
            text = text.replace(form, MASK)
        return text

    def __repr__(self) -> str:
        return f"Scrubber({len(self._forms)} forms)"


def _forms(value: str) -> set[str]:
    raw = value.encode()
    forms = {
        value,
        quote(value, safe=""),
        quote(value),
        quote_plus(value),
        json.dumps(value)[1:-1],
        json.dumps(value, ensure_ascii=False)[1:-1],
        repr(value)[1:-1],
        base64.b64encode(raw).decode().rstrip("="),
        base64.urlsafe_b64encode(raw).decode().rstrip("="),
    }
    return forms - {""}
