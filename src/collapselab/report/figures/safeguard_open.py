"""What moves onset that the paper leaves open: prompt, context, retokenising, window, batch, optimiser."""

from __future__ import annotations

from dataclasses import dataclass

import altair as alt
import pandas as pd

from collapselab.analysis.evidence import with_ends
from collapselab.analysis.safeguard_sweeps import left_open
from collapselab.analysis.survival import Frame
from collapselab.report.entries import Figure
from collapselab.report.theme import RULE_COLOR, WIDTH, layered, themed
from collapselab.report.values import counted, short
from collapselab.rundir.frames import Runs

ROW_PX = 24
RATIO, AT_LEAST = "time ratio", "at least"


@dataclass(frozen=True)
class Open:
    """A row per arm: `name`, `ratio`, `low`, `high`, `fate`, `words`; and the runs of the first arm."""

    rows: Frame
    first: Frame
    num_runs: int


def select(runs: Runs) -> Open | None:
    """The time ratio of each arm to the first; `None` for fewer than five arms beside it."""
    found = left_open(runs)
    if not found:
        return None
    rows: list[dict[str, object]] = []
    for name, delay, part in found[1:]:
        interval = delay.interval
        fate = AT_LEAST if delay.is_at_least else RATIO
        words = with_ends(interval) if interval.estimate is not None else "unknown"
        num = int(part["is_event"].sum())
        words = f"{'≥ ' if delay.is_at_least else ''}{words}" + ("" if num == len(part) else f"; {num} of {len(part)}")
        rows.append(
            {
                "name": name,
                "ratio": interval.estimate,
                "low": interval.low,
                "high": interval.high,
                "fate": fate,
                "words": words,
            }
        )
    table: Frame = pd.DataFrame(rows).sort_values("ratio", kind="stable", na_position="last")
    table = table.astype({"ratio": float, "low": float, "high": float})
    return Open(table, found[0][2], sum(len(part) for _, _, part in found))


def draw(shown: Open) -> alt.LayerChart:
    """A point per arm with its 95 % interval, in order of the ratio; a triangle where it is at least so large."""
    rows = shown.rows[shown.rows["ratio"].notna()]
    every: Frame = pd.concat([rows[name] for name in ("ratio", "low", "high")]).dropna()
    ends = [0.85 * min(1.0, max(0.05, float(every.min()))), 1.15 * max(1.0, min(50.0, float(every.max())))]
    ticks = [v for v in (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 5, 10, 20, 50) if ends[0] <= v <= ends[1]]
    scale = alt.Scale(type="log", domain=ends, nice=False, clamp=True)
    x = alt.X("ratio:Q", scale=scale, axis=alt.Axis(values=ticks, title="onset ÷ onset of the first arm", format="~g"))
    names = rows["name"].tolist()
    y = alt.Y("name:N", sort=names, axis=alt.Axis(title=None, labelLimit=400, grid=False))
    base = alt.Chart(rows).encode(y=y)
    shape = alt.Shape(
        "fate:N", scale=alt.Scale(domain=[RATIO, AT_LEAST], range=["circle", "triangle-right"]), legend=None
    )
    one = alt.Chart(alt.InlineData(values=[{"ratio": 1}])).mark_rule(color=RULE_COLOR, strokeDash=[3, 3]).encode(x=x)
    layers = [
        one,
        base.transform_filter("isValid(datum.low)")
        .mark_rule(strokeWidth=2, color="#0072B2")
        .encode(x=alt.X("low:Q", scale=scale), x2="high:Q"),
        base.mark_point(filled=True, size=60, color="#0072B2", opacity=1).encode(
            x=x, shape=shape, tooltip=["name:N", "words:N"]
        ),
        base.mark_text(align="left", dx=8, color="#222222").encode(x=alt.value(WIDTH), text="words:N"),
    ]
    subtitle = "time ratio to the first arm, with 95 % interval over seeds; triangle: at least; n of m: runs with onset"
    title = alt.TitleParams(message(shown), subtitle=subtitle)
    return themed(layered(*layers, width=WIDTH, height=ROW_PX * len(names), title=title))


def message(shown: Open) -> str:
    """Which settings move onset, by intervals that leave out 1."""
    rows = shown.rows
    sooner, later = int((rows["high"] < 1).sum()), int((rows["low"] > 1).sum())
    return f"What the paper leaves open: {sooner} of {len(rows)} changes hasten collapse, {later} delay it"


def caption(shown: Open) -> str:
    first = shown.first.iloc[0]
    parts = "; ".join(f"{row['name']}: {row['words']}" for row in shown.rows.to_dict("records"))
    return (
        f"Time ratio of onset of each arm to the first, {counted(shown.num_runs, 'run')} of {first['model']} at "
        f"learning rate {short(first['lr'])}, {counted(int(shown.first['seed'].nunique()), 'seed')}; 95 % intervals "
        f"over seeds, not corrected for their number. Each arm changes one thing (and what goes with it): {parts}."
    )


FIGURE = Figure(
    "What moves onset that the paper leaves open",
    select,
    draw,
    caption,
    "fewer than five arms differ in prompt, context, window, batch or optimiser alone.",
    "safeguards",
)
