"""What heals a collapsed model, and until when: share healed and human loss against steps past onset."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import altair as alt
import pandas as pd

from collapselab.analysis.safeguard_runs import NONE
from collapselab.analysis.safeguard_sweeps import HEALTHY_STEPS, RECOVERY_STEPS, recoveries, recovery_shares
from collapselab.analysis.survival import Frame
from collapselab.report.direct_labels import name_labels
from collapselab.report.entries import Figure
from collapselab.report.theme import COLORS, layered, panel_title, panel_width, share_axis, themed
from collapselab.report.values import counted, short
from collapselab.rundir.frames import Runs

HEIGHT, GAP = 240, 100
WORDS = {NONE: "nothing", "restore": "old weights", "negate": "updates negated", "real": "real text"}
DASHES = {name: [5, 4] if name == WORDS[NONE] else [1, 0] for name in WORDS.values()}
ALL = dict(zip(WORDS.values(), ("#000000", *COLORS[1:4]), strict=True))


def select(runs: Runs) -> Frame | None:
    """The rows of `recoveries`; `None` without a remedy."""
    rows: Frame = recoveries(runs)
    if rows.empty:
        return None
    return rows.assign(curve=rows["remedy"].map(WORDS))


def draw(rows: Frame) -> alt.HConcatChart:
    """Left the share of runs that healed, right the rise of human loss at the end: each run, and the mean."""
    names = [name for name in WORDS.values() if (rows["curve"] == name).any()]
    shares: Frame = recovery_shares(rows)
    shares = _across(shares.assign(curve=shares["remedy"].map(WORDS)), rows)
    # Lines at one height are moved apart by a little.
    shares = shares.assign(share=shares["share"] + 0.014 * shares["curve"].map(names.index))
    points: Frame = rows.loc[rows["remedy"] != NONE, ["past", "curve", "rise_end"]]
    panels = [
        _panel(shares, None, "share", [-0.04, 1.1], names),
        _panel(shares, points, "rise_end", _domain(rows), names),
    ]
    subtitle = (
        f"healed: no degenerate step among the last {HEALTHY_STEPS} of {RECOVERY_STEPS}; lines: means over seeds; "
        "small points: runs"
    )
    title = alt.TitleParams(message(rows), subtitle=subtitle)
    return themed(alt.hconcat(*panels, spacing=GAP, title=title))


def _panel(
    shares: Frame, points: Frame | None, value: str, ends: Sequence[float], names: Sequence[str]
) -> alt.LayerChart:
    width, last = panel_width(2, GAP), max(1, int(shares["past"].max()))
    is_share, colors = points is None, [ALL[name] for name in names]
    color = alt.Color("curve:N", legend=None, scale=alt.Scale(domain=list(names), range=colors))
    dash = alt.StrokeDash("curve:N", legend=None, scale=alt.Scale(domain=list(names), range=[DASHES[n] for n in names]))
    steps = alt.Scale(domain=[-0.03 * last, 1.03 * last], nice=False)
    axis = alt.Axis(
        values=sorted(shares["past"].unique().tolist()), title="steps past the step at which onset is known"
    )
    x, values = alt.X("past:Q", axis=axis, scale=steps), alt.Scale(domain=list(ends), nice=False)
    words = "rise of loss on human text at the end (nats)"
    y = alt.Y(f"{value}:Q", axis=share_axis(title="runs") if is_share else alt.Axis(title=words), scale=values)
    tooltip = ["curve:N", "past:Q", "num_healed:Q", "num_runs:Q", alt.Tooltip("rise_end:Q", format=".3f")]
    base = alt.Chart(shares).encode(x=x, y=y, color=color, tooltip=tooltip)
    layers: list[alt.Chart] = [base.mark_line(strokeWidth=2).encode(strokeDash=dash)]
    layers.append(base.mark_point(filled=True, size=45, opacity=1).transform_filter(f"datum.curve !== '{WORDS[NONE]}'"))
    if points is not None:
        layers.append(alt.Chart(points).mark_point(filled=True, size=16, opacity=0.5).encode(x=x, y=y, color=color))
    ordered = shares.sort_values("past", kind="stable")
    places = {str(n): (float(last), float(part[value].iloc[-1])) for n, part in ordered.groupby("curve", sort=False)}
    px = width / (1.06 * last), HEIGHT / (ends[1] - ends[0])
    at = alt.X("step:Q", scale=steps), alt.Y("value:Q", scale=values)
    layers += name_labels(places, ALL, px, at)
    return layered(
        *layers, width=width, height=HEIGHT, title=panel_title("healed" if is_share else "loss on human text")
    )


def _across(shares: Frame, rows: Frame) -> Frame:
    """Runs to which nothing was done have a line across."""
    alone = shares[shares["remedy"] == NONE]
    return pd.concat([shares, alone.assign(past=int(rows["past"].max()))], ignore_index=True)


def _domain(rows: Frame) -> list[float]:
    low, high = float(rows["rise_end"].min()), float(rows["rise_end"].max())
    room = 0.06 * max(high - low, 1e-6)
    return [low - room, high + room]


def message(rows: Frame) -> str:
    """Which remedy heals, and how late."""
    shares: Frame = recovery_shares(rows)
    healed = [
        WORDS[str(remedy)]
        for remedy, part in shares[shares["remedy"] != NONE].groupby("remedy")
        if (part["share"] == 1).all()
    ]
    if healed:
        return f"Healed in every run, however late: {', '.join(healed)}"
    best = shares[shares["remedy"] != NONE].sort_values("share", kind="stable").iloc[-1]
    if not best["num_healed"]:
        return "No remedy heals any run"
    begun = f"{WORDS[str(best['remedy'])]}, {best['past']} steps past onset"
    return f"No remedy always heals; the best: {begun} ({best['num_healed']} of {best['num_runs']} runs)"


def caption(rows: Frame) -> str:
    first, shares = rows.iloc[0], cast(Frame, recovery_shares(rows))
    parts = [
        f"{WORDS[row['remedy']]}{'' if row['remedy'] == NONE else ', ' + str(row['past']) + ' steps'}: "
        f"{row['num_healed']} of {row['num_runs']} (loss {row['rise_end']:+.3f})".replace("-", "−")
        for row in shares.to_dict("records")
    ]
    return (
        f"Share of runs that healed (no degenerate step among the last {HEALTHY_STEPS} of {RECOVERY_STEPS}) and rise "
        "of the loss on human text from step 0 to the end, in nats per token, by remedy and by the steps past the step "
        f"at which onset is known: {counted(len(rows), 'run')} of {first['model']} at learning rate "
        f"{short(first['lr'])}, {counted(int(rows['seed'].nunique()), 'seed')}. {'; '.join(parts)}. Where "
        "five of five heal, the share is at least 48 % (Clopper-Pearson, 95 %)."
    )


FIGURE = Figure(
    "What heals a collapsed model, and until when",
    select,
    draw,
    caption,
    "no run that goes on past collapse has a remedy (rollback).",
    "safeguards",
)
