"""A client meets a limit that nobody told it, halved and doubled on the way: `make bench-pace`.

Over real HTTP, for a minute and a half. Writes the figures of docs/pace.md and its plot.
"""

from __future__ import annotations

import asyncio
import re
import time
from bisect import bisect_left
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import altair as alt
import pandas as pd
from first_load import serving, stats

from crmcom import Settings
from crmcom.client import Client
from crmcom.endpoints import GET_ACCOUNT
from crmcom.errors import Answered
from crmcom.limiter import Limiter
from crmcom.protocol import Request

DOCS = Path(__file__).parent.parent / "docs"
STEPS = ((0, 100), (30, 50), (60, 100))
"""From this second on, so many requests are answered per second."""
END_S = 90
WORKERS = 64


class Told(NamedTuple):
    at_s: float
    is_accepted: bool


class Noting(Limiter):
    """Notes each reply as it comes."""

    def __init__(self, **limits: int) -> None:
        super().__init__(**limits)
        self.told: list[Told] = []

    def done(self, ticket, result, now, retry_after_s=None):
        super().done(ticket, result, now, retry_after_s)
        self.told.append(Told(now, result != "refused"))


async def ask_all_the_time(server: dict[str, str]) -> list[Told]:
    """When each reply came, in seconds from the first request on."""
    settings = Settings(base_url=server["base_url"], api_key="any")
    limiter = Noting(max_in_flight=WORKERS)
    async with Client(settings) as client:
        client._gate.limiter = limiter  # noqa: SLF001 - to look on, not to take part
        began_s = time.monotonic()

        async def work() -> None:
            while time.monotonic() - began_s < END_S:
                with suppress(Answered):  # a 404 is an answer as any other
                    await client.get(Request(GET_ACCOUNT, "nobody"))

        async def change() -> None:
            for at_s, rate in STEPS[1:]:
                await asyncio.sleep(began_s + at_s - time.monotonic())
                await asyncio.to_thread(stats, server, f"?rate={rate}")

        await asyncio.gather(change(), *(work() for _ in range(WORKERS)))
    return [Told(at_s - began_s, accepted) for at_s, accepted in limiter.told]


def allowed(second: float) -> int:
    return STEPS[bisect_left(STEPS, (second, 10**9)) - 1][1]


def per_second(told: list[Told]) -> pd.DataFrame:
    seconds = (
        pd.DataFrame(told).assign(second=lambda t: t.at_s.astype(int)).query("second < @END_S")
    )
    counted = seconds.groupby("second").is_accepted.agg(["sum", "count"])
    counted = counted.reindex(range(END_S), fill_value=0)
    return pd.DataFrame(
        {
            "second": counted.index,
            "accepted": counted["sum"],
            "refused": counted["count"] - counted["sum"],
            "allowed": [allowed(second) for second in counted.index],
        }
    )


def followed_after_s(seconds: pd.DataFrame, changed_s: int, rate: int) -> int:
    """Seconds until three in a row use 90 % of the new limit, with few refusals."""
    later = seconds[seconds.second >= changed_s]
    fits = (later.accepted >= 0.9 * rate) & (later.refused <= 0.1 * rate)
    return int((fits.rolling(3).sum() == 3).idxmax()) - changed_s - 2


def table(seconds: pd.DataFrame) -> str:
    lines = ["| from second | limit | used | refused | followed after |", "|---" * 5 + "|"]
    ends = [at_s for at_s, _ in STEPS[1:]] + [END_S]
    for (at_s, rate), end_s in zip(STEPS, ends, strict=True):
        settled = seconds[(seconds.second >= at_s + 10) & (seconds.second < end_s)]
        used = settled.accepted.sum() / (rate * len(settled))
        refused = settled.refused.sum() / (settled.accepted.sum() + settled.refused.sum())
        after_s = followed_after_s(seconds, at_s, rate)
        lines.append(f"| {at_s} | {rate}/s | {used:.1%} | {refused:.2%} | {after_s} s |")
    return "\n".join(lines)


def plot(seconds: pd.DataFrame) -> alt.LayerChart:
    x = alt.X("second:Q", title="seconds", scale=alt.Scale(domain=[0, END_S]))
    base = alt.Chart(seconds)
    limit = base.mark_line(interpolate="step-after", color="#888", strokeDash=[4, 3]).encode(
        x, alt.Y("allowed:Q", title="requests per second")
    )
    accepted = base.mark_line(color="#0b6e4f", strokeWidth=1.8).encode(x, alt.Y("accepted:Q"))
    refused = base.mark_bar(color="#d1660a", width=3).encode(x, alt.Y("refused:Q"))
    title = "Accepted (line) and refused (bars) requests; dashed: the limit that nobody told"
    return (
        alt.layer(limit, refused, accepted)
        .properties(width=720, height=240, background="white", padding=12, title=title)
        .configure_axis(labelFontSize=11, titleFontSize=12, gridColor="#e6e6e6")
    )


def main() -> None:
    with serving("--contacts", "1", "--activities", "0", "--rate", str(STEPS[0][1])) as server:
        seconds = per_second(asyncio.run(ask_all_the_time(server)))
    plot(seconds).save(str(DOCS / "pace.svg"))
    written = f"<!-- figures: written by `make bench-pace` -->\n{table(seconds)}\n<!-- end -->"
    page = DOCS / "pace.md"
    page.write_text(
        re.sub(r"<!-- figures.*end -->", lambda _: written, page.read_text(), flags=re.DOTALL)
    )
    print(table(seconds))


if __name__ == "__main__":
    main()
