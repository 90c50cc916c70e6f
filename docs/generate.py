"""Writes docs/commands.md from the command line's own help. Called by `make docs`."""

from pathlib import Path

from click.testing import CliRunner

from crmcom_pipelines.cli import main

TARGET = Path(__file__).with_name("commands.md")
WIDTH = 96


def commands() -> str:
    """The page: the program's help, then that of each command."""
    parts = ["# Commands", "Written by `make docs` from the help of each command.", _help()]
    for name in sorted(main.commands):
        parts += [f"## crmcom {name}", _help(name)]
    return "\n\n".join(parts) + "\n"


def _help(*command: str) -> str:
    width = {"terminal_width": WIDTH, "max_content_width": WIDTH}
    shown = CliRunner().invoke(main, [*command, "--help"], prog_name="crmcom", **width)
    lines = [line.rstrip() for line in shown.stdout.splitlines()]
    return "```text\n" + "\n".join(lines) + "\n```"


if __name__ == "__main__":
    TARGET.write_text(commands())
