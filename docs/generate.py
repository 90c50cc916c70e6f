"""Writes the pages that say what the code says: docs/commands.md and docs/settings.md, and into
docs/destinations.md what the tests claim of each destination.

Called by `make docs`. A test compares what stands there with what the code says.
"""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import TYPE_CHECKING

from click.testing import CliRunner

from crmcom.settings import Settings
from crmcom_pipelines.cli import main
from crmcom_pipelines.cli.commands import EXIT_CODES

if TYPE_CHECKING:
    from collections.abc import Iterator

DOCS = Path(__file__).parent
CONFIG = DOCS.parent / ".dlt" / "config.toml"
SECRETS = DOCS.parent / ".dlt" / "example.secrets.toml"
WIDTH = 96


def commands() -> str:
    """The program's help, then that of each command."""
    parts = ["# Commands", "Written by `make docs` from the help of each command.", _help()]
    for name in sorted(main.commands):
        parts += [f"## crmcom {name}", _help(name)]
    return "\n\n".join(parts) + "\n"


def _help(*command: str) -> str:
    width = {"terminal_width": WIDTH, "max_content_width": WIDTH}
    shown = CliRunner().invoke(main, [*command, "--help"], prog_name="crmcom", **width)
    lines = [line.rstrip() for line in shown.stdout.splitlines()]
    return "```text\n" + "\n".join(lines) + "\n```"


def settings() -> str:
    """Every setting, as `.dlt/config.toml` explains it, and where else it may be set."""
    parts = [
        "# Settings",
        _WHERE,
        "## Who you are",
        "In the environment, or in `.dlt/secrets.toml`, which no repository should hold:",
        f"```toml\n{SECRETS.read_text().strip()}\n```",
        *(f"- `{environment('sources.crmcom', name)}`" for name in SECRET_NAMES),
    ]
    section = ""
    for found in _explained(CONFIG.read_text()):
        if found["section"] != section:
            section = found["section"]
            parts.append(f"## {_HEADINGS.get(section, section)}")
        is_example = found["line"].endswith("# an example")
        value = found["line"].partition("=")[2].removesuffix("# an example").strip()
        name = found["line"].partition("=")[0].strip()
        parts.append(f"### {name}")
        parts.append(" ".join(found["comment"].split()))
        parts.append(f"- {'for example' if is_example else 'default'}: `{value}`")
        if section == "sources.crmcom":
            parts.append(f"- environment: `{environment(section, name)}`")
    parts += ["## Exit codes", "Each command ends with one of these.", _exit_codes()]
    return re.sub(r"(^- .*)\n\n(?=- )", r"\1\n", "\n\n".join(parts) + "\n", flags=re.MULTILINE)


_WHERE = """Written by `make docs` from [`.dlt/config.toml`](../.dlt/config.toml), which explains
each one, and from the code. An option of the command line wins over the environment, the
environment over the files: `.dlt/config.toml` and `.dlt/secrets.toml` of the folder in which a
command is called, then those of `~/.dlt`."""
SECRET_NAMES = ("username", *Settings.SECRETS)
_HEADINGS = {
    "sources.crmcom": "The source: `[sources.crmcom]`",
    "transforms.crmcom.vars": "The reports: `[transforms.crmcom.vars]`",
}


def environment(section: str, name: str) -> str:
    """A setting's name in the environment."""
    return "__".join((*section.upper().split("."), name.upper()))


def _explained(text: str) -> Iterator[dict[str, str]]:
    """Each line of settings with its section and the comment above it."""
    section, comment = "", ""
    for line in text.splitlines():
        if line.startswith("["):
            section, comment = line.strip("[]"), ""
        elif line.startswith("#: "):
            yield {"section": section, "line": line.removeprefix("#: "), "comment": comment}
            comment = ""
        elif line.startswith("# ") and not line.startswith("# ---"):
            comment += line.removeprefix("#")
        else:
            comment = ""


def _exit_codes() -> str:
    rows = re.findall(r"^  (\d)  (.*)$", EXIT_CODES, re.MULTILINE)
    lines = ["| exit code | meaning |", "|---|---|", *(f"| {c} | {what} |" for c, what in rows)]
    return "\n".join(lines) + "\n\n" + EXIT_CODES.splitlines()[-1]


def write_claims() -> None:
    claims = runpy.run_path(str(DOCS.parent / "tests" / "destinations" / "claims.py"))
    page: Path = claims["PAGE"]
    table = f"<!-- claims -->\n{claims['table']()}<!-- end -->"
    text = re.sub(
        r"<!-- claims -->\n.*<!-- end -->", lambda _: table, page.read_text(), flags=re.DOTALL
    )
    page.write_text(text)


if __name__ == "__main__":
    (DOCS / "commands.md").write_text(commands())
    (DOCS / "settings.md").write_text(settings())
    write_claims()
