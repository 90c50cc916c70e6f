"""The command line: parse, call, format. What a command does stands in its own module.

Exit codes: 0 ok; 1 unexpected; 2 usage or settings; 3 the API refused us; 4 a resource stayed
unavailable; 5 loaded, but something could not be proven or was rejected; 6 another process
holds the lock or the file; 7 loaded, but a transform or its test failed.
"""

from __future__ import annotations

import click

from crmcom_pipelines.cli.commands import EXIT_CODES, Commands
from crmcom_pipelines.cli.demonstration import demo
from crmcom_pipelines.cli.ledger import explain, status
from crmcom_pipelines.cli.reporting import report
from crmcom_pipelines.cli.serving import sandbox
from crmcom_pipelines.cli.syncing import backfill, sync, transform

__all__ = ["main"]


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
def main() -> None:
    """Keeps a warehouse in step with a CRM.COM back office, and tells finance who owes what."""


for command in (sync, backfill, transform, report, status, explain, demo, sandbox):
    main.add_command(command)
