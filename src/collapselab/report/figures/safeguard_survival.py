"""The share of runs without onset against step, for the best safeguards beside none, pure sampling and lower rates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import altair as alt
import pandas as pd

from collapselab.analysis.safeguard_runs import LOWER_RATE, NONE, PURE
from collapselab.analysis.survival import Frame, kaplan_meier
from collapselab.report.captions import span
from collapselab.report.direct_labels import darker, name_labels
from collapselab.report.entries import Figure
from collapselab.report.safeguard_arms import arm_in_words, best_arms, num_lasting, shown_family
from collapselab.report.selection import left_out
from collapselab.report.theme import WIDTH, layered, log_ticks, share_axis, themed
from collapselab.report.values import counted, short
from collapselab.rundir.frames import Runs

HEIGHT = 300
LEVELS = (0.7, 0.5, 0.3, 0.1)  # of the names of falling curves, in turn: between the shares of five runs
GREYS = ("#000000", "#777777", "#999999", "#bbbbbb")
BEST_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00")


@dataclass(frozen=True)
class Curves:
    """Survival curves by name, in the order in which they are drawn, and their rows of the table."""

    curves: dict[str, Frame]
    colors: dict[str, str]
    rows: Frame
    model: str
    lr: float
    num_lasting: int
    left_out: str

    @property
    def last(self) -> int:
        return int(max(float(curve["step"].iloc[-1]) for curve in self.curves.values()))


def select(runs: Runs) -> Curves | None:
    """No safeguard, lower rates, pure sampling, and the best five safeguards."""
    found = shown_family(runs)
    if found is None:
        return None
    rows, family = found
    first = family.reference.iloc[0]
    is_lower = (rows["kind"] == LOWER_RATE) & (rows["lr"] < first["lr"])
    lower = rows[is_lower].sort_values("lr", ascending=False)["arm"].tolist()
    arms = [NONE, *lower[: len(GREYS) - 1], *rows.loc[rows["arm"] == PURE, "arm"], *best_arms(rows)]
    palette = dict(zip([NONE, *lower], GREYS, strict=False)) | {PURE: "#56B4E9"}
    palette |= dict(zip(best_arms(rows), BEST_COLORS, strict=False))
    curves = {arm_in_words(arm): _curve(family.arm(arm)) for arm in arms}
    kept: Frame = rows[rows["arm"].isin(arms)]
    missing = left_out(len(rows) - len(kept))
    colors = {arm_in_words(arm): palette[arm] for arm in arms}
    return Curves(curves, colors, kept, str(first["model"]), float(first["lr"]), num_lasting(rows), missing)


def _curve(part: Frame) -> Frame:
    """Steps and shares, from step 1 on; a curve goes on to its arm's last step."""
    curve: Frame = kaplan_meier(part["duration"].to_numpy(), part["is_event"].to_numpy())
    curve = curve[["step", "survival"]].assign(step=curve["step"].clip(lower=1))
    end = pd.DataFrame({"step": [float(part["duration"].max())], "survival": [float(curve["survival"].iloc[-1])]})
    return pd.concat([curve, end], ignore_index=True)


def draw(shown: Curves) -> alt.LayerChart:
    """Steps down where a run has its onset. Curves that lie on each other are moved apart by a hundredth."""
    shift = {name: 0.012 * i for i, name in enumerate(_at_the_top(shown))}
    data: Frame = pd.concat(
        [c.assign(arm=name, at=c["survival"] + shift.get(name, 0.0)) for name, c in shown.curves.items()],
        ignore_index=True,
    )
    names, high = list(shown.curves), 1 + 0.012 * max(1, len(shift))
    ends = [max(1.0, 0.5 * float(data.loc[data["survival"] < 1, "step"].min())), 1.05 * shown.last]
    scale = alt.Scale(type="log", domain=ends, nice=False)
    x = alt.X("step:Q", scale=scale, axis=alt.Axis(values=log_ticks(*ends), title="step"))
    y = alt.Y("at:Q", scale=alt.Scale(domain=[-0.03, high + 0.02]), axis=share_axis(title="runs without onset"))
    color = alt.Color("arm:N", legend=None, scale=alt.Scale(domain=names, range=[shown.colors[name] for name in names]))
    tooltip = ["arm:N", "step:Q", alt.Tooltip("survival:Q", format=".0%")]
    line = alt.Chart(data).mark_line(interpolate="step-after", strokeWidth=2, clip=True)
    labels = _labels(shown, data, ends, high)
    lines = line.encode(x=x, y=y, color=color, tooltip=tooltip)
    title = alt.TitleParams(
        message(shown),
        subtitle="share of runs without onset (Kaplan-Meier), curves at 100 % side by side; grey: lower rates alone",
    )
    return themed(layered(lines, *labels, width=WIDTH, height=HEIGHT, title=title))


def _at_the_top(shown: Curves) -> list[str]:
    return [name for name, curve in shown.curves.items() if curve["survival"].iloc[-1] == 1]


def _labels(shown: Curves, data: Frame, ends: Sequence[float], high: float) -> list[alt.Chart]:
    """Names right of the curves: of those that fall, at heights in turn; of the others, at their end."""
    px_x, px_y = WIDTH / math.log(ends[1] / ends[0]), HEIGHT / (high + 0.05)
    x = alt.X("step:Q", scale=alt.Scale(type="log", domain=list(ends), nice=False))
    y = alt.Y("value:Q", scale=alt.Scale(domain=[-0.03, high + 0.02]))
    falling, lasting = list[dict[str, object]](), dict[str, tuple[float, float]]()
    parts = {str(name): part for name, part in data.groupby("arm", sort=False)}
    fallen = {name: part[part["survival"] <= 1 / 2]["step"] for name, part in parts.items()}
    for name in sorted(parts, key=lambda name: float(fallen[name].min())):
        last = parts[name].iloc[-1]
        if fallen[name].empty:
            lasting[name] = math.log(float(last["step"]) / ends[0]), float(last["at"])
            continue
        height = LEVELS[len(falling) % len(LEVELS)]
        below = parts[name][parts[name]["survival"] <= height]
        falling.append(
            {
                "name": name,
                "value": height,
                "step": float((below if len(below) else parts[name].tail(1))["step"].iloc[0]),
            }
        )
    labels = name_labels(lasting, shown.colors, (px_x, px_y), (x, y))
    for label in labels:  # their places were found on the logarithm of the step
        for row in cast(Any, label).data.values:
            row["step"] = ends[0] * math.exp(row["step"])
    words = alt.Chart(alt.InlineData(values=falling)).encode(x=x, y=y, text="name:N")
    halo = words.mark_text(align="left", dx=6, stroke="#ffffff", strokeWidth=4, strokeOpacity=0.85)
    named = [
        alt.Chart(alt.InlineData(values=[row])).encode(x=x, y=y, text="name:N")
        .mark_text(align="left", dx=6, color=darker(shown.colors[str(row["name"])]))
        for row in falling
    ]  # fmt: skip
    return [*labels, halo, *named]


def message(shown: Curves) -> str:
    """How many safeguards have no onset, shown or not."""
    lasting = shown.num_lasting
    what = f"{counted(lasting, 'safeguard')} without any onset" if lasting else "No safeguard is without onset"
    return f"{what}; {shown.model} at learning rate {short(shown.lr)}"


def caption(shown: Curves) -> str:
    parts = [
        f"{name}: {row['verdict']}"
        + (f", median onset {row['onset']:.0f}" if row["onset"] == row["onset"] and row["onset"] is not None else "")
        for name, row in zip(shown.rows["name"], shown.rows.to_dict("records"), strict=True)
    ]
    return (
        f"Share of runs without onset of collapse against step (Kaplan-Meier), {shown.model} at learning rate "
        f"{short(shown.lr)}, {span(shown.rows['num_runs'], 0)} seeds per curve. "
        f"{'; '.join(parts)}. Without onset, the five with the smallest rise of human loss at step 200; lower rates "
        f"run until they have gone as far.{shown.left_out}"
    )


FIGURE = Figure(
    "What prevents collapse: the best safeguards beside none, pure sampling and lower rates",
    select,
    draw,
    caption,
    "no safeguard was run beside the same settings without one.",
    "safeguards",
)
