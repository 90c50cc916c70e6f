"""The command line: `python -m crmcom_sandbox`, and the command object that others mount."""

import json
import os
import sys
import threading
from datetime import UTC, datetime

import click
import msgspec
import uvicorn

from .app import create_app
from .behaviour import BEHAVIOURS, Behaviour
from .faults import Faults
from .server import Address, listen, uvicorn_config
from .sessions import API_KEY, Credentials
from .world import World


def _date(_ctx: click.Context, _option: click.Parameter, value: str | None) -> datetime:
    try:
        moment = datetime.now(UTC) if value is None else datetime.fromisoformat(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    if moment.tzinfo is None:
        raise click.BadParameter("a zone is needed, as in 2026-01-12T09:00:00Z")
    return moment.replace(microsecond=0)


def _switches(ctx: click.Context, _option: click.Parameter, value: str) -> Behaviour:
    try:
        return BEHAVIOURS[ctx.params["behaviour"]].but(**msgspec.json.decode(value))
    except (msgspec.MsgspecError, TypeError) as error:
        raise click.BadParameter(str(error)) from error


def _faults(_ctx: click.Context, _option: click.Parameter, value: str) -> Faults:
    try:
        return msgspec.json.decode(value, type=Faults)
    except msgspec.MsgspecError as error:
        raise click.BadParameter(str(error)) from error


@click.command("sandbox", epilog="Example: crmcom sandbox --port 8080 --behaviour live")
@click.option("--port", default=0, show_default="a free one", help="Port on 127.0.0.1.")
@click.option("--seed", default=0, show_default=True, help="The same seed gives the same data.")
@click.option("--contacts", default=2_000, show_default=True, help="How many contacts.")
@click.option("--activities", default=10_000, show_default=True, help="How many activities.")
@click.option(
    "--behaviour",
    type=click.Choice(list(BEHAVIOURS)),
    default="reference",
    show_default=True,
    is_eager=True,
    help="As the API reference says, or as the live API is known to answer.",
)
@click.option("--switches", callback=_switches, default="{}", help="Changes from there, as JSON.")
@click.option("--faults", callback=_faults, default="{}", help='Like {"rate": 0.05, "seed": 1}.')
@click.option("--api-key", default=API_KEY, show_default=True, help="The key that opens it.")
@click.option("--now", callback=_date, help="The world's date, ISO 8601 with zone.  [default: now]")
@click.option("--frozen", is_flag=True, help="Let the world's clock stand still.")
@click.option("--exit-with-stdin", is_flag=True, help="Stop when standard input closes.")
def sandbox(
    *,
    port: int,
    seed: int,
    contacts: int,
    activities: int,
    behaviour: str,  # noqa: ARG001 - it became part of `switches`
    switches: Behaviour,
    faults: Faults,
    api_key: str,
    now: datetime,
    frozen: bool,
    exit_with_stdin: bool,
) -> None:
    """Serve a sandbox of the CRM.COM back-office API on this machine.

    Prints one line of JSON when ready: base_url, control_url, api_key, pid. Stops at Ctrl-C.
    """
    listener = listen(port)
    world = World.generate(seed=seed, contacts=contacts, activities=activities, now=now)
    if not frozen:
        world.clock.run()
    app = create_app(
        world,
        behaviour=switches,
        faults=faults,
        credentials=Credentials(api_key=api_key),
    )
    server = uvicorn.Server(uvicorn_config(app))
    if exit_with_stdin:
        threading.Thread(target=_stop_with_stdin, args=(server,), daemon=True).start()
    address = Address.at(listener.getsockname()[1], api_key)
    click.echo(json.dumps({**vars(address), "pid": os.getpid()}))
    server.run(sockets=[listener])


def _stop_with_stdin(server: uvicorn.Server) -> None:
    """So that nobody's sandbox outlives its user, however that one ends."""
    # Unbuffered: a buffered reader's lock, held by this thread, would break the interpreter's exit.
    while os.read(sys.stdin.fileno(), 1024):
        pass
    server.force_exit = server.should_exit = True
