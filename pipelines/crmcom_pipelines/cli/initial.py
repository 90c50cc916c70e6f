"""`init`: the settings files of a new tenant."""

# ruff: noqa: PLC0415 - what a command needs is imported when it is used: `--help` must not wait

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from crmcom_pipelines.cli.checking import check
from crmcom_pipelines.cli.options import RESOURCES, options
from crmcom_pipelines.cli.stopping import Stopped

if TYPE_CHECKING:
    from crmcom import Settings
    from crmcom_pipelines.settings_files import Edit

SOURCE, OPTIONS = "sources.crmcom", "pipelines.crmcom"
CREDENTIALS = ("api_key", "access_token", "username", "password", "secret_key")
WAYS = {
    "key": ("api_key",),
    "token": ("access_token",),
    "login": ("username", "password", "api_key", "secret_key"),
}
_DEFAULTS = {"destination": "duckdb", "database": "warehouse.duckdb", "dataset": "crmcom"}

NEXT = "Next: crmcom check, then crmcom sync"

Answers = dict[str, str | None]


def _option(name: str, help: str) -> Any:  # noqa: A002 - click's own word
    """One that is also read from the environment, where other users do not see it."""
    variable = f"{SOURCE}.{name}".replace(".", "__").upper()
    flag = f"--{name.replace('_', '-')}"
    return click.option(flag, envvar=variable, show_envvar=True, help=help)


@click.command(
    epilog="""\b
Example: crmcom init
         crmcom init --base-url https://app.crm.com/backoffice/v2 --api-key your-secret-key"""
)
@options(
    _option("base_url", "The address of the back office's API."),
    _option("api_key", "A secret key; or, with a login, the key that goes with it."),
    _option("access_token", "A token that somebody else obtained."),
    _option("username", "A user's login; with --password, --api-key and --secret-key."),
    _option("password", "The user's password."),
    _option("secret_key", "The secret key that goes with what follows the login."),
    click.option("--destination", help="A dlt destination.  [default: duckdb]"),
    click.option(
        "--destination-credentials",
        help="Of another destination than duckdb, like postgresql://user:password@host/name.",
    ),
    click.option("--database", help="The DuckDB file.  [default: warehouse.duckdb]"),
    click.option("--dataset", help="The schema of the raw tables.  [default: crmcom]"),
    click.option("--force", "--yes", "-y", is_flag=True, help="Replace settings without asking."),
    click.option("--check/--no-check", "checks", default=None, help="Run `crmcom check` then."),
)
@click.pass_context
def init(ctx: click.Context, /, *, force: bool, checks: bool | None, **given: str | None) -> None:
    """Write .dlt/config.toml and .dlt/secrets.toml in this folder.

    Asks for what it is not told. On a terminal secrets are not shown while they are typed; where
    there is none, nothing is asked. What stands in the files is kept, and a setting is replaced
    only when you agree. The secrets are readable by you alone, and git ignores them.
    """
    from crmcom_pipelines.settings_files import keep_from_git

    asks = sys.stdin.isatty()
    answers, settings = _answers(given, asks=asks)
    edits = _edits(answers, settings)
    _agree(edits, force=force, asks=asks)
    for warning in keep_from_git(Path.cwd()):
        click.echo(f"Warning: {warning}", err=True)
    for edit in edits:
        edit.write()
        click.echo(f"{edit.path}: {'written' if edit.shown else 'nothing to change'}", err=True)
    for name in _overruled(settings):
        click.echo(f"Warning: {name} in the environment overrules what was written", err=True)
    try:
        if checks or (checks is None and asks and click.confirm("Check it now?", default=True)):
            ctx.invoke(check, **_chosen(answers), base_url=None, resources=",".join(RESOURCES))
    except (click.Abort, KeyboardInterrupt):
        raise Stopped(f"The settings are written. {NEXT}") from None
    click.echo(NEXT, err=True)


# --- what is needed ---


def _answers(given: Answers, *, asks: bool) -> tuple[Answers, Settings]:
    """What is given, what is there already, and what is asked; and the settings that it makes.

    Raises `SettingsError` for what is missing or wrong.
    """
    from crmcom import Settings
    from crmcom_pipelines.settings_files import CONFIG, SECRETS, at, read

    there, secret = read(CONFIG), read(SECRETS)
    known: Answers = {
        name: found if isinstance(found, str) else None
        for name in ("base_url", *CREDENTIALS)
        for found in (at(secret, f"{SOURCE}.{name}") or at(there, f"{SOURCE}.{name}"),)
    }
    known |= {name: at(there, f"{OPTIONS}.{name}") for name in _DEFAULTS}
    if not asks:
        _refuse_silence(given, known)
    answers = dict(given)
    answers["base_url"] = given["base_url"] or _base_url(known["base_url"], asks=asks)
    if not any(given[name] for name in CREDENTIALS):
        answers |= _credentials(known, asks=asks)
    for name, default in _DEFAULTS.items():
        answers[name] = given[name] or known[name] or (None if asks else default)
    if asks:
        _ask_destination(answers, given, known)
    if given["destination_credentials"] and answers["destination"] == "duckdb":
        raise click.UsageError("duckdb needs no --destination-credentials: say --destination too")
    credentials = {name: answers[name] for name in CREDENTIALS if answers[name]}
    return answers, Settings(base_url=answers["base_url"] or "", **credentials)  # type: ignore[arg-type]


def _refuse_silence(given: Answers, known: Answers) -> None:
    """Where nobody can be asked, all that is needed is to be told."""
    for flag, names in (("--base-url", ("base_url",)), ("--api-key", CREDENTIALS)):
        if not any(given[name] or known[name] for name in names):
            raise click.UsageError(f"there is no terminal to ask on: say {flag} (see --help)")


def _base_url(known: str | None, *, asks: bool) -> str | None:
    from crmcom import Settings
    from crmcom.errors import SettingsError
    from crmcom.settings import EXAMPLE_URL

    while asks:
        url: str = click.prompt("Base URL of the API", default=known or EXAMPLE_URL, err=True)
        try:
            return Settings(base_url=url, api_key="to be asked").base_url
        except SettingsError as error:
            click.echo(f"Error: {error}", err=True)
    return known


def _credentials(known: Answers, *, asks: bool) -> Answers:
    has = any(known[name] for name in CREDENTIALS)
    if not asks:
        return {name: known[name] for name in CREDENTIALS}
    ways = [*WAYS, *(["keep"] if has else [])]
    way = click.prompt(
        "Log in with a secret key, a token, or a user's login"
        + (", or keep what is there" if has else ""),
        type=click.Choice(ways),
        default="keep" if has else "key",
        err=True,
    )
    if way == "keep":
        return {name: known[name] for name in CREDENTIALS}
    return {
        name: click.prompt(
            name.replace("_", " ").capitalize(), hide_input=name != "username", err=True
        )
        for name in WAYS[way]
    }


def _ask_destination(answers: Answers, given: Answers, known: Answers) -> None:
    """What is known is the default of the question; what is given is not asked."""
    if not given["destination"]:
        answers["destination"] = click.prompt(
            "Destination", default=known["destination"] or _DEFAULTS["destination"], err=True
        )
    if answers["destination"] == "duckdb" and not given["database"]:
        answers["database"] = click.prompt(
            "DuckDB file", default=known["database"] or _DEFAULTS["database"], err=True
        )
    if answers["destination"] != "duckdb" and not given["destination_credentials"]:
        answers["destination_credentials"] = click.prompt(
            "Its credentials, as a URL (empty: they are set elsewhere)",
            default="",
            show_default=False,
            hide_input=True,
            err=True,
        )
    answers["database"] = answers["database"] or _DEFAULTS["database"]
    answers["dataset"] = answers["dataset"] or _DEFAULTS["dataset"]


# --- what is written ---


def _edits(answers: Answers, settings: Settings) -> list[Edit]:
    """The secrets first: a file that lacks them is of no use."""
    from crmcom.masking import Secret
    from crmcom_pipelines.settings_files import CONFIG, SECRETS, at, edit, read

    credentials: Answers = {}
    for name in CREDENTIALS:
        value = getattr(settings, name)
        credentials[f"{SOURCE}.{name}"] = value.reveal() if isinstance(value, Secret) else value
    secret = dict(credentials)
    if answers["destination_credentials"] and answers["destination"] != "duckdb":
        path = f"destination.{answers['destination']}.credentials"
        if answers["destination"] == "ducklake":
            path += ".catalog"
        secret[path] = answers["destination_credentials"]
    # A secret in the wrong file would go on being read, and git would not ignore it.
    there = read(CONFIG)
    plain: Answers = {path: None for path in credentials if at(there, path) is not None}
    plain[f"{SOURCE}.base_url"] = settings.base_url
    for name, value in _chosen(answers).items():
        is_default = str(value) == _DEFAULTS[name] and name != "destination"
        known = at(there, f"{OPTIONS}.{name}") is not None
        if known or not is_default:
            plain[f"{OPTIONS}.{name}"] = str(value)
    return [edit(SECRETS, secret, is_secret=True), edit(CONFIG, plain)]


def _chosen(answers: Answers) -> dict[str, Any]:
    return {
        "destination": answers["destination"],
        "database": Path(answers["database"] or ""),
        "dataset": answers["dataset"],
    }


def _agree(edits: list[Edit], *, force: bool, asks: bool) -> None:
    """Nothing that stands in a file is lost without somebody's word for it."""
    replaced = [edit for edit in edits if edit.replaces]
    if not replaced or force:
        return
    for edit in replaced:
        click.echo(f"{edit.path} exists. It would change:", err=True)
        for line in edit.shown:
            click.echo(f"  {line}", err=True)
    if not asks:
        files = " and ".join(shlex.quote(str(edit.path)) for edit in replaced)
        raise click.UsageError(f"{files} would change: say --force to replace what is there")
    click.confirm("Change it?", default=False, abort=True, err=True)


def _overruled(settings: Settings) -> list[str]:
    """Variables of the environment that hold something else than the files."""
    from crmcom.masking import Secret

    found = []
    for name in ("base_url", *CREDENTIALS):
        variable = f"{SOURCE}.{name}".replace(".", "__").upper()
        value = getattr(settings, name)
        text = value.reveal() if isinstance(value, Secret) else value
        if os.environ.get(variable) and os.environ[variable].strip().rstrip("/") != (text or ""):
            found.append(variable)
    return found
