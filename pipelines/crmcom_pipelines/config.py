"""Settings of the marts, read from dlt's own providers."""

# ruff: noqa: PLC0415 - dlt costs a second to import

from __future__ import annotations

from crmcom.errors import SettingsError


def dbt_vars() -> dict[str, object]:
    """dbt's variables: `[transforms.crmcom.vars]` in `.dlt/config.toml`, for every command.

    Raises `SettingsError` where it is no table.
    """
    import dlt

    found: object = dlt.config.get("transforms.crmcom.vars")
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise SettingsError(
            "transforms.crmcom.vars is a table of dbt variables: [transforms.crmcom.vars]"
        )
    return dict(found)
