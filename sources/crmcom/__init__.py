"""A dlt source for CRM.COM back offices: `from crmcom import crmcom_source`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crmcom.run import Range, Result, Run
    from crmcom.settings import Settings
    from crmcom.source import crmcom_source, settings_from_config, slice_of

_HOMES = {
    "Range": "crmcom.run",
    "Result": "crmcom.run",
    "Run": "crmcom.run",
    "Settings": "crmcom.settings",
    "crmcom_source": "crmcom.source",
    "settings_from_config": "crmcom.source",
    "slice_of": "crmcom.source",
}

__all__ = [
    "Range",
    "Result",
    "Run",
    "Settings",
    "crmcom_source",
    "settings_from_config",
    "slice_of",
]


def __getattr__(name: str) -> Any:
    # dlt costs a second to import, and an error or a setting needs none of it.
    if name not in _HOMES:
        raise AttributeError(f"module 'crmcom' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
