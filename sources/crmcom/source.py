"""The dlt source, and its options in dlt's own configuration."""

# dlt reads these signatures at run time, so annotations here are not postponed.
from collections.abc import Iterable
from dataclasses import fields
from typing import Any, ClassVar

import dlt
from dlt.common.configuration import configspec, resolve_configuration
from dlt.common.configuration.const import TYPE_EXAMPLES
from dlt.common.configuration.exceptions import (
    ConfigProviderException,
    ConfigValueCannotBeCoercedException,
    ValueNotSecretException,
)
from dlt.common.configuration.specs import BaseConfiguration
from dlt.common.typing import TSecretStrValue
from dlt.extract import DltResource, DltSource

from crmcom.errors import SettingsError
from crmcom.resources import resource
from crmcom.run import Run
from crmcom.settings import CREDENTIALS, RESOURCES, Settings, setting

SECTIONS = ("sources", "crmcom")

# Types are frozen, so that a conflict fails while reading and leaves nothing behind: one that
# reached the load would stay pending and fail every later run.
CONTRACT: Any = {"data_type": "freeze"}


@configspec
class Options(BaseConfiguration):
    """`sources.crmcom` in dlt's providers: one key for each field of `Settings`."""

    base_url: str | None = None
    api_key: TSecretStrValue | None = None
    access_token: TSecretStrValue | None = None
    username: str | None = None
    password: TSecretStrValue | None = None
    secret_key: TSecretStrValue | None = None
    page_size: int | None = None
    max_concurrency: int | None = None
    max_requests_per_second: float | None = None
    transport: str | None = None
    request_timeout_s: float | None = None
    run_timeout_s: float | None = None
    start_date: Any | None = None
    lag_s: int | None = None
    lookback_s: int | None = None
    reconcile_every_days: float | None = None
    account_refresh: Any | None = None
    activity_details: str | None = None
    full_scan: list[str] | None = None
    privacy: dict[str, Any] | None = None
    privacy_key: TSecretStrValue | None = None

    __section__: ClassVar[str] = "crmcom"


def _options_of(section: str) -> Options:
    """Those that stand in this section alone: dlt would put a common one of the environment
    before one that a file has of the section."""
    spec: Any = type("OptionsOf", (Options,), {"__section__": section})
    options: Options = configspec(spec)()
    return options


def settings_from_config(section: str = "", **given: Any) -> Settings:
    """The settings from `.dlt/*.toml` and the environment; what is given wins.

    A `section` is one below `sources.crmcom`, which what it lacks is taken from. Credentials are
    not: they say whose data is read. Raises `SettingsError` for what is missing or wrong.
    """
    try:
        options = resolve_configuration(Options(), sections=SECTIONS)
        own = resolve_configuration(_options_of(section), sections=SECTIONS) if section else options
    except ConfigValueCannotBeCoercedException as error:
        # Its own text repeats the value, which may be a secret in the wrong place.
        raise SettingsError(
            f"{setting(error.field_name)} is no {getattr(error.hint, '__name__', error.hint)}: "
            "see .dlt/config.toml for how to write it"
        ) from None
    except ValueNotSecretException as error:
        name = error.key.rpartition(".")[2]
        raise SettingsError(
            f"{setting(name)} is a secret, and stands in .dlt/{error.provider_name}: move it to "
            ".dlt/secrets.toml, which git ignores"
        ) from None
    except ConfigProviderException as error:
        why = str(error).splitlines()[-1]
        raise SettingsError(f".dlt/{error.provider_name} is no TOML: {why}") from None
    found = {f.name: getattr(own, f.name) for f in fields(Settings)}
    common = (name for name, v in found.items() if v is None and name not in CREDENTIALS)
    found |= {name: getattr(options, name) for name in common}
    chosen = found | {name: value for name, value in given.items() if value is not None}
    # An empty place in a file that `dlt init` wrote is a setting that is not set.
    is_set = {name: v for name, v in chosen.items() if v not in (None, TYPE_EXAMPLES["text"])}
    return Settings(**is_set)


@dlt.source(name="crmcom", section="crmcom", schema_contract=CONTRACT)
def crmcom_source(
    base_url: str = dlt.config.value,
    api_key: TSecretStrValue | None = None,
    start_date: str | None = None,
    **more: Any,
) -> Iterable[DltResource]:
    """Contacts, accounts and activities of a CRM.COM back office, kept in step run by run.

    Credentials are one of: `api_key`; `access_token`; or `username`, `password`, `api_key` and
    `secret_key`. `start_date` leaves out what was created before. Every field of `Settings` is
    read from `sources.crmcom`, or given here by its name. Raises an error of `crmcom.errors`
    where a resource fails, and then nothing of this load is kept.
    """
    # `dlt init` makes a place to fill in for each secret that is named above: so only the one
    # that most tenants need is.
    settings = settings_from_config(
        base_url=base_url, api_key=api_key, start_date=start_date, **more
    )
    run = Run(settings, raises=True)
    return [resource(name, run) for name in RESOURCES]


def slice_of(run: Run) -> DltSource:
    """The next slice of a run: a source that reads the run's resources, each once."""

    @dlt.source(name="crmcom", section="crmcom", schema_contract=CONTRACT)
    def crmcom() -> Iterable[DltResource]:
        return [resource(name, run) for name in run.resources]

    return crmcom()
