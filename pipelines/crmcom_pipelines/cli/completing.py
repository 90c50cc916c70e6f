"""`completion`: what a shell needs to complete commands, options, resources and reports."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

SHELLS = ("bash", "zsh", "fish")


@click.command(
    epilog="""\b
Example: crmcom completion bash > ~/.local/share/bash-completion/completions/crmcom
         crmcom completion zsh > ~/.zfunc/_crmcom
         crmcom completion fish > ~/.config/fish/completions/crmcom.fish"""
)
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the script that completes `crmcom` in a shell. For now only: eval "$(…)"."""
    root = ctx.find_root()
    found = get_completion_class(shell)
    assert found is not None  # noqa: S101 - click knows all of SHELLS
    click.echo(found(root.command, {}, "crmcom", "_CRMCOM_COMPLETE").source())
