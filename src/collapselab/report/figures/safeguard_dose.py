"""Loss on human text after a number of steps on own text, by temperature and rate, and with neon."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import altair as alt
import pandas as pd

from collapselab.analysis.intervals import in_figures
from collapselab.analysis.safeguard_runs import NONE
from collapselab.analysis.safeguard_sweeps import doses
from collapselab.analysis.survival import Frame
from collapselab.report.curves import MIN_FOR_INTERVAL
from collapselab.report.direct_labels import name_labels
from collapselab.report.entries import Figure
from collapselab.report.theme import RULE_COLOR, layered, panel_title, panel_width, shades, themed
from collapselab.report.values import counted, short
from collapselab.rundir.frames import Runs

HEIGHT, GAP = 260, 34
ALPHA = 0.05


@dataclass(frozen=True)
class Dose:
    """Rows of `doses` with `panel` and `curve`, and which text the loss is on."""

    rows: Frame
    panels: Sequence[str]
    model: str
    text: str

    def significant(self, sign: int) -> Frame:
        """The cells above 0 or below, with p < 0.05 after Holm's correction."""
        rows = self.rows
        return rows[(sign * rows["rise"] > 0) & (rows["p"].astype(float) < ALPHA)]


def select(runs: Runs) -> Dose | None:
    """Panels by rate, and by rate with neon."""
    rows: Frame = doses(runs)
    if rows.empty:
        return None
    rows = rows.assign(
        panel=[
            f"learning rate {short(r['lr'])}" + ("" if r["safeguards"] == NONE else ", neon")
            for r in rows.to_dict("records")
        ],
        curve=rows["temperature"].map(short),
    )
    order = rows.assign(guard=rows["safeguards"] != NONE).sort_values(["guard", "lr"], kind="stable")
    first = rows.iloc[0]
    return Dose(rows, list(dict.fromkeys(order["panel"])), str(first["model"]), str(first["data"]).split(",")[0])


def draw(dose: Dose) -> alt.HConcatChart:
    """A curve per temperature: the mean over seeds, and from five seeds on its 95 % t-interval."""
    rows, width = dose.rows, panel_width(len(dose.panels), GAP)
    known = rows["n"] >= MIN_FOR_INTERVAL
    rows = rows.assign(low=rows["low"].astype(float).where(known), high=rows["high"].astype(float).where(known))
    every: Frame = pd.concat([rows[name] for name in ("rise", "low", "high")]).dropna()
    low, high = float(every.min()), float(every.max())
    domain = [low - 0.04 * (high - low), high + 0.04 * (high - low)]
    curves = [short(t) for t in sorted(rows["temperature"].unique())]
    colors = dict(zip(curves, shades(len(curves), ordered=True), strict=True))
    color = alt.Color("curve:N", legend=None, scale=alt.Scale(domain=curves, range=list(colors.values())))
    last = int(rows["step"].max())
    charts: list[alt.LayerChart] = []
    for i, panel in enumerate(dose.panels):
        part: Frame = rows[rows["panel"] == panel][["step", "rise", "low", "high", "curve", "p", "n"]]
        x = alt.X(
            "step:Q",
            axis=alt.Axis(title="steps on own text", tickCount=6, format="d"),
            scale=alt.Scale(domain=[0, 1.16 * last], nice=False),
        )
        axis = (
            alt.Axis(title="rise of loss from step 0 (nats per token)")
            if i == 0
            else alt.Axis(title=None, labelOpacity=0, ticks=False)
        )
        y = alt.Y("rise:Q", axis=axis, scale=alt.Scale(domain=domain, nice=False))
        base = alt.Chart(part).encode(x=x, color=color)
        zero = (
            alt.Chart(alt.InlineData(values=[{"rise": 0}])).mark_rule(color=RULE_COLOR, strokeDash=[3, 3]).encode(y=y)
        )
        tooltip = [
            alt.Tooltip("curve:N", title="temperature"),
            "step:Q",
            *(alt.Tooltip(f"{n}:Q", format=".4f") for n in ("rise", "low", "high", "p")),
            "n:Q",
        ]
        ends = {
            str(name): (float(last), float(of["rise"].iloc[-1]))
            for name, of in part.sort_values("step").groupby("curve")
        }
        px = (width / (1.16 * last), HEIGHT / (domain[1] - domain[0]))
        names = name_labels(ends, colors, px, (x, alt.Y("value:Q", scale=alt.Scale(domain=domain, nice=False))))
        layers = [
            zero,
            base.transform_filter("isValid(datum.low)").mark_area(opacity=0.15).encode(y=alt.Y("low:Q"), y2="high:Q"),
            base.mark_line(strokeWidth=2).encode(y=y, tooltip=tooltip),
            *names,
        ]
        charts.append(layered(*layers, width=width, height=HEIGHT, title=panel_title(panel)))
    bands = "; bands: 95 % t-intervals" if known.any() else ""
    subtitle = f"rise of the loss on {dose.text}, mean over seeds, by temperature (numbers at the curves){bands}"
    title = alt.TitleParams(message(dose), subtitle=subtitle)
    return themed(alt.hconcat(*charts, spacing=GAP, title=title).resolve_scale(y="shared"))


def message(dose: Dose) -> str:
    """Whether any dose is good for the loss on human text."""
    num = len(dose.significant(-1))
    if num:
        return f"Own text lowers the loss on {dose.text} in {num} of {len(dose.rows)} cells; {dose.model}"
    return f"No dose of own text lowers the loss on {dose.text}; {dose.model}"


def caption(dose: Dose) -> str:
    good, bad, rows = dose.significant(-1), dose.significant(1), dose.rows
    best = rows.loc[rows["rise"].astype(float).idxmin()]
    begins = [
        f"{panel}, temperature {curve}: from step {int(part['step'].min())}"
        for (panel, curve), part in bad.groupby(["panel", "curve"], sort=False)
    ]
    return (
        f"Rise of the loss on {dose.text} from step 0, in nats per token, against steps on own text, by temperature: "
        f"{dose.model}, {counted(int(rows['n'].max()), 'seed')}. Of {len(rows)} cells (temperature, rate, step, with "
        f"neon or without) {len(good)} are below 0 and {len(bad)} above, p < 0.05 after Holm's correction. The lowest "
        "mean is "
        f"{in_figures(best['rise'], signed=True)} ({best['panel']}, temperature {best['curve']}, step {best['step']}). "
        f"Harm begins at {'; '.join(begins) or 'no step'}."
    )


FIGURE = Figure(
    "Dose and response: loss on human text after steps on own text",
    select,
    draw,
    caption,
    "no model was run with neon at two temperatures, and without, past collapse.",
    "safeguards",
)
