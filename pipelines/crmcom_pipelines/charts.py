"""Charts as SVG, drawn when the page is made: no script and no network is needed to see them.

Only lengths and places pass through floats, as shares of the largest amount; every amount that
is written comes in as text. Colours are the page's own, so one drawing serves light, dark and
paper.
"""

# ruff: noqa: PLC0415 - libraries are imported where they are used: `crmcom --help` is fast

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from crmcom_pipelines.money import amount

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

_WIDTH_PX = 460
_CHARACTER_PX = 8.3
"""Of a digit in a wide font at the size of the charts' text: how much room a label gets."""
_BAR_PX = 32
_TREND_PX = 170


@dataclass(frozen=True, slots=True)
class Bar:
    label: str
    value: Decimal
    text: str
    """The value as it is written."""
    is_unknown: bool = False
    """Drawn apart from what is known."""


@dataclass(frozen=True, slots=True)
class Point:
    day: date
    value: Decimal
    is_marked: bool
    """Gets a dot of its own on the line."""


@dataclass(frozen=True, slots=True)
class Drawing:
    """An SVG without its outermost element, which the page writes with its title."""

    width: int
    height: int
    body: str


def bars(rows: Sequence[Bar]) -> Drawing:
    """A horizontal bar for each row, its label before it and its text at the right edge."""
    import altair as alt

    left = _room_for(row.label for row in rows)
    right = _room_for(row.text for row in rows)
    length = max(120, _WIDTH_PX - left - right)
    width = left + length + right
    largest = max((row.value for row in rows), default=Decimal(0))
    values = [
        {
            "place": place,
            "share": _share(row.value, largest),
            "label": row.label,
            "text": row.text,
            "colour": "var(--bar-unknown)" if row.is_unknown else "var(--bar)",
        }
        for place, row in enumerate(rows)
    ]
    base = _chart(values).encode(
        y=alt.Y("place:O", axis=None, scale=alt.Scale(paddingInner=0.4, paddingOuter=0.1))
    )
    across = alt.Scale(domain=[0, 1], range=[left, left + length])
    drawn = alt.layer(
        base.mark_bar().encode(
            x=alt.X("share:Q", axis=None, scale=across), color=alt.Color("colour:N", scale=None)
        ),
        base.mark_text(align="left").encode(x=alt.value(0), text="label:N"),
        base.mark_text(align="right").encode(x=alt.value(width), text="text:N"),
    )
    return _drawn(drawn, width, _BAR_PX * max(1, len(rows)))


def trend(points: Sequence[Point]) -> Drawing:
    """Steps from day to day above a base line of zero; oldest first, at least two."""
    import altair as alt

    largest = max(point.value for point in points)
    ticks = _ticks(largest)
    left = _room_for(amount(tick, 0) for tick in ticks)
    first, last = points[0].day, points[-1].day
    values = [
        {
            "day": (point.day - first).days,
            "share": _share(point.value, largest),
            "size": 22 if point.is_marked else 0,
        }
        for point in points
    ]
    # The last day has a width of its own, as every other.
    end = (last - first).days + max(1, (last - points[-2].day).days)
    values.append({**values[-1], "day": end, "size": 0})
    right = _WIDTH_PX - 6
    x = alt.X(
        "day:Q",
        axis=None,
        scale=alt.Scale(domain=[0, end], range=[left, right], nice=False),
    )
    y = alt.Y("share:Q", axis=None, scale=alt.Scale(domain=[0, 1], nice=False))
    steps = _chart(values).encode(x=x, y=y)
    grid = _chart(
        [{"share": _share(tick, largest), "text": amount(tick, 0)} for tick in ticks]
    ).encode(y=y)
    ends = [
        _chart([{"text": str(day)}])
        .mark_text(align=align)
        .encode(x=alt.value(at), y=alt.value(_TREND_PX + 16), text="text:N")
        for day, at, align in ((first, left, "left"), (last, right, "right"))
    ]
    drawn = alt.layer(
        grid.mark_rule(color="var(--line)").encode(x=alt.value(left), x2=alt.value(right)),
        grid.mark_text(align="right", dx=-8).encode(x=alt.value(left), text="text:N"),
        steps.mark_area(interpolate="step-after", color="var(--bar)", opacity=0.14),
        steps.mark_line(interpolate="step-after", color="var(--bar)", strokeWidth=2),
        steps.mark_circle(color="var(--bar)", opacity=1).encode(
            size=alt.Size("size:Q", scale=None)
        ),
        *ends,
    )
    return _drawn(drawn, _WIDTH_PX, _TREND_PX)


def _chart(values: list[dict[str, Any]]) -> Any:
    import altair as alt

    return alt.Chart(alt.InlineData(values=values))


def _drawn(chart: Any, width: int, height: int) -> Drawing:
    import vl_convert

    spec = (
        chart.properties(width=width, height=height, background="transparent", padding=4)
        .configure(aria=False, font="inherit")
        .configure_view(stroke=None)
        .configure_text(color="currentColor", fontSize=13, baseline="middle")
    )
    svg: str = vl_convert.vegalite_to_svg(spec.to_json())
    found = re.fullmatch(
        r'<svg\b[^>]*? width="(\d+)"[^>]*? height="(\d+)"[^>]*>(.*)</svg>', svg.strip(), re.DOTALL
    )
    if found is None:
        raise RuntimeError(f"no SVG as it was expected: {svg[:200]}")
    # The drawing is one image with one name, which the page gives it: its parts have none.
    body = re.sub(r' (?:role|aria-\w+)="[^"]*"', "", found[3])
    return Drawing(int(found[1]), int(found[2]), body)


def _share(value: Decimal, largest: Decimal) -> float:
    return float(value / largest) if largest > 0 else 0.0


def _room_for(texts: Any) -> int:
    return 14 + round(max((len(text) for text in texts), default=0) * _CHARACTER_PX)


def _ticks(largest: Decimal) -> list[Decimal]:
    """Zero, and up to four round amounts that are not above the largest."""
    if largest <= 0:
        return [Decimal(0)]
    size = Decimal(1).scaleb(largest.adjusted() - 1)
    step = next(size * n for n in (2, 5, 10, 20, 50) if largest / (size * n) < 5)
    return [step * n for n in range(int(largest / step) + 1)]
