"""The command line: `python -m crmcom_sandbox`, and the command object that others mount."""

import json
import os
import sys
import threading
from datetime import UTC, datetime

import click

from .app import create_app
from .behaviour import BEHAVIOURS
from .faults import Faults
from .server import Address, listen, uvicorn_server
from .sessions import API_KEY, Credentials
from .world import World


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
    help="As the API reference says, or as the live API is known to answer.",
)
@click.option("--switches", default="{}", metavar="JSON", help="Switches changed from there.")
@click.option("--faults", default="{}", metavar="JSON", help='As {"rate": 0.05, "seed": 1}.')
@click.option("--api-key", default=API_KEY, show_default=True, help="The key that opens it.")
@click.option(
    "--now",
    metavar="DATE",
    help="The world's date and time, ISO 8601 with zone. Default: the present.",
)
@click.option("--frozen", is_flag=True, help="Let the world's clock stand still.")
@click.option("--exit-with-stdin", is_flag=True, help="Stop when standard input closes.")
def sandbox(
    *,
    port: int,
    seed: int,
    contacts: int,
    activities: int,
    behaviour: str,
    switches: str,
    faults: str,
    api_key: str,
    now: str | None,
    frozen: bool,
    exit_with_stdin: bool,
) -> None:
    """Serve a sandbox of the CRM.COM back-office API on this machine.

    Prints one line of JSON when ready: base_url, control_url, api_key, pid. Stops at Ctrl-C.
    """
    moment = datetime.now(UTC) if now is None else datetime.fromisoformat(now)
    world = World.generate(
        seed=seed, contacts=contacts, activities=activities, now=moment.replace(microsecond=0)
    )
    if not frozen:
        world.clock.run()
    app = create_app(
        world,
        behaviour=BEHAVIOURS[behaviour].but(**json.loads(switches)),
        faults=Faults(**json.loads(faults)),
        credentials=Credentials(api_key=api_key),
    )
    listener = listen(port)
    server = uvicorn_server(app)
    if exit_with_stdin:

        def wait() -> None:
            sys.stdin.buffer.read()
            server.force_exit = server.should_exit = True

        threading.Thread(target=wait, daemon=True).start()
    address = Address.at(listener.getsockname()[1], api_key)
    click.echo(json.dumps({**vars(address), "pid": os.getpid()}))
    sys.stdout.flush()
    server.run(sockets=[listener])
