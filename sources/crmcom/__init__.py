"""A dlt source for CRM.COM back offices: `from crmcom import crmcom_source`."""

from crmcom.run import Range, Result, Run
from crmcom.settings import Settings
from crmcom.source import crmcom_source, settings_from_config, slice_of

__all__ = [
    "Range",
    "Result",
    "Run",
    "Settings",
    "crmcom_source",
    "settings_from_config",
    "slice_of",
]
