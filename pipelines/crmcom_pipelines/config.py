"""Settings of the marts, read from dlt's own providers."""

# ruff: noqa: PLC0415 - dlt costs a second to import

from __future__ import annotations

from crmcom.errors import SettingsError


def dbt_vars() -> dict[str, object]:
    """dbt's variables: `[transforms.crmcom.vars]` in `.dlt/config.toml`, for every command.

    Raises `SettingsError` where it is no table.
    """
    import dlt
    from dlt.common.configuration.exceptions import ConfigurationValueError

    try:
        found = dlt.config.get("transforms.crmcom.vars", dict)
    except ConfigurationValueError:
        raise SettingsError(
            "transforms.crmcom.vars is a table of dbt variables: [transforms.crmcom.vars], or "
            "JSON in TRANSFORMS__CRMCOM__VARS"
        ) from None
    return dict(found or {})
