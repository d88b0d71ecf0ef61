"""What a safeguard gains in steps, against what it costs in human loss and in time; and the Pareto front of both."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import altair as alt
import numpy as np

from collapselab.analysis.intervals import Floats, in_figures
from collapselab.analysis.safeguard_runs import LOSS_STEP, LOWER_RATE, NONE, PURE
from collapselab.analysis.safeguards import UNFINISHED
from collapselab.analysis.survival import Frame
from collapselab.report.direct_labels import CHAR_PX, LINE_PX
from collapselab.report.entries import Figure
from collapselab.report.safeguard_arms import shown_family
from collapselab.report.theme import RULE_COLOR, log_ticks, panel_title, panel_width, themed
from collapselab.report.values import counted, short
from collapselab.rundir.frames import Runs

HEIGHT, GAP = 360, 40
KINDS = {"safeguard": "#0072B2", "another rate": "#999999", "pure sampling": "#D55E00", "no safeguard": "#000000"}
ONSET, LASTING = "onset", "no onset: at least"
MAX_NAMES = 14  # in a panel: those of the front first
COSTS = {
    "loss": f"human loss at step {LOSS_STEP} − without safeguard (nats)",
    "time_ratio": "time of a step ÷ without safeguard",
}


@dataclass(frozen=True)
class Costs:
    """A row per arm: `name`, `part` (of `KINDS`), `fate`, `delay`, costs, and whether it is on the front of each."""

    rows: Frame
    model: str
    lr: float


def select(runs: Runs) -> Costs | None:
    """Every finished arm with a delay, and `none` at 1."""
    found = shown_family(runs)
    if found is None:
        return None
    rows, family = found
    is_none = rows["arm"] == NONE
    part = (
        rows["kind"].map({NONE: "no safeguard", PURE: "pure sampling", LOWER_RATE: "another rate"}).fillna("safeguard")
    )
    table: Frame = rows[["name", "verdict", "num_onsets", *COSTS]].assign(
        part=part,
        delay=rows["delay"].astype(float).where(~is_none, 1.0),
        loss=rows["loss"].astype(float).where(~is_none, 0.0),
        fate=np.where(rows["num_onsets"] > 0, ONSET, LASTING),
    )
    table = table[table["delay"].notna() & (table["verdict"] != UNFINISHED)].reset_index(drop=True)
    gain = table["delay"].where(table["num_onsets"] > 0, math.inf)
    for cost in COSTS:
        table[f"front_{cost}"] = front(table[cost].to_numpy(dtype=float), gain.to_numpy(dtype=float))
    first = family.reference.iloc[0]
    return Costs(table, str(first["model"]), float(first["lr"])) if len(table) > 1 else None


def front(cost: Sequence[float] | Floats, gain: Sequence[float] | Floats) -> list[bool]:
    """Which points no other one beats: none gains as much for less, or more for as little. Unknown ones are not."""
    points = list(zip(cost, gain, strict=True))
    return [
        math.isfinite(c) and not any(b >= g and a <= c and (b > g or a < c) for a, b in points if math.isfinite(a))
        for c, g in points
    ]


def draw(costs: Costs) -> alt.HConcatChart:
    """A point per arm; an arrow where no run has an onset; the line joins the arms that no other one beats."""
    width = panel_width(2, GAP)
    delays = costs.rows["delay"]
    ends = [0.8 * float(delays.min()), 1.25 * float(delays.max())]
    charts = [_panel(costs, cost, ends, width, is_first=i == 0) for i, cost in enumerate(COSTS)]
    subtitle = (
        "up: later onset; left: cheaper; arrows: no onset, so at least so much later; line: no other arm beats these"
    )
    title = alt.TitleParams(message(costs), subtitle=subtitle)
    return themed(alt.hconcat(*charts, spacing=GAP, title=title))


def _panel(costs: Costs, cost: str, ends: Sequence[float], width: int, *, is_first: bool) -> alt.LayerChart:
    rows: Frame = costs.rows[costs.rows[cost].notna()].assign(cost=costs.rows[cost].astype(float))
    low, high = float(rows["cost"].min()), float(rows["cost"].max())
    is_log = cost == "time_ratio"
    if is_log:
        low, high = 0.9 * low, 1.15 * high
        scale = alt.Scale(type="log", domain=[low, high], nice=False)
    else:
        low, high = low - 0.08 * (high - low + 1e-9), high + 0.08 * (high - low + 1e-9)
        scale = alt.Scale(domain=[low, high], nice=False, zero=False)
    ticks = [v for v in (0.5, 0.7, 1, 1.5, 2, 3, 5, 10, 20, 50) if low <= v <= high] if is_log else alt.Undefined
    x = alt.X("cost:Q", scale=scale, axis=alt.Axis(title=COSTS[cost], values=ticks, tickCount=6, format="~g"))
    y_ticks = [v for v in (0.2, 0.5, 0.7, 1, 1.5, 2, 3, 4, 5, *log_ticks(6, 100)) if ends[0] <= v <= ends[1]]
    axis = alt.Axis(title="onset ÷ onset without safeguard" if is_first else None, values=y_ticks, format="~g")
    y = alt.Y("delay:Q", scale=alt.Scale(type="log", domain=list(ends), nice=False), axis=axis)
    color = alt.Color(
        "part:N",
        scale=alt.Scale(domain=list(KINDS), range=list(KINDS.values())),
        legend=alt.Legend(title=None, orient="top"),
    )
    shape = alt.Shape(
        "fate:N",
        scale=alt.Scale(domain=[ONSET, LASTING], range=["circle", "arrow"]),
        legend=alt.Legend(title=None, orient="top"),
    )
    size = alt.condition(f"datum.fate === '{ONSET}'", alt.value(55), alt.value(160))
    data = rows[["name", "part", "fate", "verdict", "delay", "cost"]]
    tooltip = ["name:N", "verdict:N", alt.Tooltip("delay:Q", format=".3~g"), alt.Tooltip("cost:Q", format=".3~g")]
    points = alt.Chart(data).mark_point(filled=True, size=60, opacity=0.75)
    best = rows[rows[f"front_{cost}"]].sort_values("cost")[["cost", "delay"]]
    line = alt.Chart(best).mark_line(color=RULE_COLOR, strokeWidth=1.2, interpolate="step-after").encode(x=x, y=y)
    one = alt.Chart(alt.InlineData(values=[{"delay": 1}])).mark_rule(color="#999999", strokeDash=[3, 3]).encode(y=y)

    def place(row: Frame) -> tuple[float, float]:
        share = math.log(row["cost"] / low) / math.log(high / low) if is_log else (row["cost"] - low) / (high - low)
        return width * share, HEIGHT * (1 - math.log(row["delay"] / ends[0]) / math.log(ends[1] / ends[0]))

    names = _names(rows, cost, place, width)
    words = alt.Chart(alt.InlineData(values=names)).encode(
        x=alt.X("x:Q", scale=None, axis=None), y=alt.Y("y:Q", scale=None, axis=None), text="name:N"
    )
    labels = words.mark_text(align="left", baseline="middle", fontSize=10.5, color="#222222")
    layers = [one, line, points.encode(x=x, y=y, color=color, shape=shape, size=size, tooltip=tooltip)]
    chart = cast(Any, alt.layer(alt.layer(*layers), labels)).resolve_scale(x="independent", y="independent")
    return chart.properties(
        width=width, height=HEIGHT, title=panel_title("by human loss" if cost == "loss" else "by time")
    )


def _names(rows: Frame, cost: str, place: Callable[[Any], tuple[float, float]], width: int) -> list[dict[str, object]]:
    """Names in pixels, where they cover neither a point nor another name; what finds no place has none."""
    wanted = rows.assign(
        rank=np.select([rows["part"].isin(["pure sampling", "no safeguard"]), rows[f"front_{cost}"]], [0, 1], 2)
    )
    wanted = wanted.assign(minus=-wanted["delay"]).sort_values(["rank", "minus", "cost"], kind="stable")
    points = [place(row) for row in rows.to_dict("records")]
    taken = [(x - 5.0, x + 5.0, y - 5.0, y + 5.0) for x, y in points]
    found: list[dict[str, object]] = []
    for row in wanted.to_dict("records"):
        if len(found) == MAX_NAMES:
            break
        x, y = place(row)
        long = CHAR_PX * len(row["name"])
        for dx, dy in [
            (8, 0),
            (-8 - long, 0),
            *((across, down) for down in (LINE_PX, -LINE_PX) for across in (8, -8 - long, -long / 2)),
        ]:
            box = (x + dx, x + dx + long, y + dy - LINE_PX / 2, y + dy + LINE_PX / 2)
            inside = box[0] > 2 and box[1] < width - 2 and box[2] > 2 and box[3] < HEIGHT - 2
            if inside and not any(a < box[1] and box[0] < b and c < box[3] and box[2] < d for a, b, c, d in taken):
                taken.append(box)
                found.append({"name": row["name"], "x": x + dx, "y": y + dy})
                break
    return found


def message(costs: Costs) -> str:
    """How many arms are on the front by human loss, and which gains most."""
    best, where = costs.rows[costs.rows["front_loss"]], f"{costs.model}, learning rate {short(costs.lr)}"
    lasting = best[best["num_onsets"] == 0]
    if len(lasting):
        return f"{lasting.iloc[0]['name']}: no onset, at the least human loss; {where}"
    most = best.sort_values("delay").iloc[-1]
    return f"The longest delay: {most['name']}, × {in_figures(most['delay'])}; {where}"


def caption(costs: Costs) -> str:
    rows = costs.rows
    fronts = {
        words: ", ".join(
            f"{r['name']} (× {in_figures(r['delay'])})"
            for r in rows[rows[f"front_{cost}"]].sort_values("delay").to_dict("records")
        )
        for cost, words in {"loss": "by human loss", "time_ratio": "by time"}.items()
    }
    on_front = "; ".join(f"{words}: {names}" for words, names in fronts.items())
    lasting = int((rows["num_onsets"] == 0).sum())
    return (
        f"Delay of onset (onset ÷ onset without safeguard, logarithmic) of {counted(len(rows), 'arm')} against the "
        f"difference of human loss at step {LOSS_STEP}, and against the time of a step; {costs.model} at learning rate "
        f"{short(costs.lr)}. {lasting} without any onset are drawn at what their delay is at least, and count as the "
        f"longest. No other arm beats {on_front}. Intervals are in the table; arms that find no place have no name."
    )


FIGURE = Figure(
    "What safeguards gain and cost",
    select,
    draw,
    caption,
    "no safeguard was run beside the same settings without one.",
    "safeguards",
)
