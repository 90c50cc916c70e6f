"""The command line: parse, call, format. What a command does stands in its own module.

Exit codes: 0 ok; 1 unexpected; 2 usage or settings; 3 the API refused us; 4 a resource stayed
unavailable; 5 loaded, but something could not be proven or was rejected; 6 another process
holds the lock or the file; 7 loaded, but a transform or its test failed.
"""

from __future__ import annotations

import click

from crmcom_pipelines.cli.checking import check
from crmcom_pipelines.cli.commands import EXIT_CODES, Commands
from crmcom_pipelines.cli.completing import completion
from crmcom_pipelines.cli.demonstration import demo
from crmcom_pipelines.cli.forgetting import forget
from crmcom_pipelines.cli.initial import init
from crmcom_pipelines.cli.ledger import explain, status
from crmcom_pipelines.cli.options import configured
from crmcom_pipelines.cli.planning import plan
from crmcom_pipelines.cli.reporting import report
from crmcom_pipelines.cli.resetting import reset
from crmcom_pipelines.cli.serving import sandbox
from crmcom_pipelines.cli.syncing import backfill, sync, transform

__all__ = ["main"]

UNCONFIGURED = ("init", "demo", "sandbox")
"""Commands that have defaults of their own, whichever tenant this folder is for."""


@click.group(
    cls=Commands, epilog=EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(package_name="crmcom-warehouse")
@click.option(
    "--debug",
    is_flag=True,
    expose_value=False,
    help="Show where an unexpected error comes from.",
)
@click.pass_context
def main(ctx: click.Context) -> None:
    """Keeps a warehouse in step with a CRM.COM back office, and tells finance who owes what."""
    ctx.default_map = {name: configured() for name in main.commands if name not in UNCONFIGURED}


COMMANDS = (
    *(init, check, plan, sync, backfill, transform, report),
    *(status, explain, reset, forget, demo, sandbox, completion),
)
for command in COMMANDS:
    main.add_command(command)
