"""`sandbox`: the bundled API."""

# ruff: noqa: PLC0415 - dlt, dbt and their kin take seconds to import: `--help` must not wait

from __future__ import annotations

from typing import Any

import click


class _Sandbox(click.Command):
    """The command of the sandbox's own package, imported when it is used."""

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        from crmcom_sandbox import cli

        return cli.sandbox.make_context(info_name, args, parent, **extra)


sandbox = _Sandbox("sandbox", short_help="Serve the bundled API on this machine.")
