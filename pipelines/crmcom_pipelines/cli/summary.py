"""What a run came to, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from crmcom import Result
    from crmcom_pipelines.load import Outcome


def summarise(outcome: Outcome) -> None:
    """A line for each resource, on stderr, where progress is."""
    for name, result in outcome.resources.items():
        click.echo(f"{name:<11} {_line(result)}", err=True)
    for note in [*outcome.notes, *_transform_notes(outcome)]:
        click.echo(f"note: {note}", err=True)
    click.echo(f"run {outcome.run_id}: {outcome.seconds:.1f} s, exit {outcome.exit_code}", err=True)


def _line(result: Result) -> str:
    parts = [f"{result.rows:,} rows", f"{result.requests:,} requests"]
    parts += [
        f"{n:,} {what}"
        for n, what in (
            (result.retries, "retries"),
            (result.rejected, "rejected"),
            (result.deleted, "deleted"),
        )
        if n
    ]
    parts.append(result.verdict)
    if result.new_columns:
        parts.append(f"new columns: {', '.join(result.new_columns)}")
    if result.reason:
        parts.append(result.reason)
    return ", ".join(parts)


def _transform_notes(outcome: Outcome) -> list[str]:
    found = outcome.transformed
    return [] if found is None or found.ok else [found.summary]
