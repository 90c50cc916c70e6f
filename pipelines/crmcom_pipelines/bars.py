"""How far a run is, on a terminal: a bar for each resource, a spinner where no total is known."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from crmcom_pipelines.progress import REFRESHES_PER_SECOND, Line, left

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TextIO

    from rich.console import RenderableType

BAR_WIDTH = 20
_WIDE = {"of": 112, "in_flight": 92, "retries": 78, "per_second": 64, "rows": 50, "left": 36}
"""Columns a terminal must have for each part; what matters most goes last."""


def bars(stream: TextIO, look: Callable[[], tuple[str, list[Line]]]) -> Live:
    """A display that shows what `look` returns, some times a second, and is gone when it stops.

    What is written to stderr meanwhile stands above it.
    """
    console = Console(file=stream)
    name = "dots" if console.encoding.lower().startswith("utf") else "line"
    spinners: dict[str, Spinner] = {}

    def spinner(of: str) -> Spinner:
        # Kept, or it would begin anew each time that it is drawn.
        return spinners.setdefault(of, Spinner(name))

    def table() -> RenderableType:
        doing, lines = look()
        head = Table.grid(padding=(0, 1))
        head.add_row(spinner(""), doing)
        rows = Table.grid(padding=(0, 1))
        rows.add_column()
        rows.add_column(min_width=min(BAR_WIDTH, console.width // 3))
        shown = {part for part, width in _WIDE.items() if console.width >= width}
        for line in lines:
            rows.add_row(line.resource, _bar(line, spinner), *_cells(line, shown))
        for column in (*head.columns, *rows.columns):
            column.no_wrap = True
        return Group(head, rows) if lines else head

    return Live(
        console=console,
        get_renderable=table,
        refresh_per_second=REFRESHES_PER_SECOND,
        transient=True,
        redirect_stdout=False,
    )


def _bar(line: Line, spinner: Callable[[str], Spinner]) -> RenderableType:
    if line.state not in ("reading", "waiting"):
        return Text(line.state)
    if line.share is None:
        return spinner(line.resource)
    return ProgressBar(total=1, completed=line.share, width=BAR_WIDTH)


def _cells(line: Line, shown: set[str]) -> list[str]:
    cells = {
        "of": f"{line.done:,} of {line.planned:,}" if line.planned else "",
        "rows": f"{line.rows:,} rows",
        "per_second": f"{line.per_second:,.0f}/s",
        "in_flight": f"{line.in_flight} in flight",
        "retries": f"{line.retries:,} retries",
        "left": left(line.left_s),
    }
    return [text for name, text in cells.items() if name in shown]
