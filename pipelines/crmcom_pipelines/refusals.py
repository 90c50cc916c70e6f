"""What dlt says of a destination that it cannot use, for people."""

# ruff: noqa: PLC0415 - dlt costs a second to import

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from crmcom.errors import CrmcomError, SettingsError, Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterable


def refusal(name: str, errors: Iterable[BaseException]) -> CrmcomError | None:
    """What one of these errors says of the destination `name`; None where none does."""
    found = (_refusal(name, error) for error in errors)
    return next((one for one in found if one is not None), None)


def _refusal(name: str, error: BaseException) -> CrmcomError | None:
    from dlt.common.configuration.exceptions import ConfigurationException
    from dlt.common.destination.exceptions import DestinationException, UnknownDestinationModule

    match error:
        case UnknownDestinationModule():
            return SettingsError(f"dlt knows no destination {name}: see --destination")
        case ImportError():
            return SettingsError(f"{name} needs a library ({error}): pip install 'dlt[{name}]'")
        case ConfigurationException():
            missing = ", ".join(getattr(error, "fields", ())) or type(error).__name__
            return SettingsError(
                f"{name} is not configured ({missing}): set [destination.{name}.credentials] in "
                ".dlt/secrets.toml"
            )
        case DestinationException():
            return Unavailable(f"{name} refuses: {first_line(error)}")
    return None


def first_line(error: BaseException) -> str:
    """Without the password that a driver may repeat with an address."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else type(error).__name__
    return re.sub(r"(://[^:/@\s]*):[^@\s]*@|(password\s*=\s*)\S+", r"\1\2***", text)[:300]
