"""Writes docs/commands.md from the command line's own help, and into docs/destinations.md what the
tests claim of each destination. Called by `make docs`."""

import re
import runpy
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


def write_claims() -> None:
    claims = runpy.run_path(str(TARGET.parents[1] / "tests" / "destinations" / "claims.py"))
    page: Path = claims["PAGE"]
    table = f"<!-- claims -->\n{claims['table']()}<!-- end -->"
    text = re.sub(
        r"<!-- claims -->\n.*<!-- end -->", lambda _: table, page.read_text(), flags=re.DOTALL
    )
    page.write_text(text)


if __name__ == "__main__":
    TARGET.write_text(commands())
    write_claims()
