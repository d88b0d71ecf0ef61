"""Text barcodes side by side: a run that freezes, one that drifts, one that melts, at one model and learning rate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import altair as alt
import numpy as np

from collapselab.analysis.sampler import arms
from collapselab.analysis.survival import Frame
from collapselab.collapse.words import percent
from collapselab.report.captions import sentence
from collapselab.report.entries import Figure
from collapselab.report.figures import barcode
from collapselab.report.groups import UNFINISHED
from collapselab.report.samplers import CUTS, REGIMES, sampler_in_words, sampler_runs
from collapselab.report.selection import OneRun, one_of, shown_run
from collapselab.report.theme import RULE_COLOR, layered, panel_width, themed
from collapselab.report.values import known, short
from collapselab.rundir.frames import Runs

HEIGHT, GAP, STRIP, STRIP_GAP = 300, 20, 36, 6
SIDES = 100  # pixels of a panel beside its barcode: axis, strip, and the labels of the strip

Regimes = Mapping[str, OneRun]


def select(runs: Runs) -> Regimes | None:
    """A run of each regime among arms that differ in the sampler only; those arms that show the most regimes.

    Of the arms of one regime: nothing cut off if possible, then the middle temperature; of their runs, one that is
    itself of that regime.
    """
    table, sampled = sampler_runs(runs), set(cast(Frame, runs.samples)["run"])
    known: Frame = arms(runs)
    table = table.assign(regime=table["arm"].map(known.set_index("arm")["regime"]))
    own = np.select([table["fate"] == "melted", table["is_event"]], ["melt", "freeze"], "drift")
    table = table[(table["regime"] == own) & table["run"].isin(sampled)]
    table = table[table["is_event"] | (table["ending"] != UNFINISHED)]  # an unfinished run may yet have an onset
    if table.empty:
        return None
    others = table.groupby("others", sort=False)["regime"].nunique().idxmax()
    found: dict[str, OneRun] = {}
    for regime in REGIMES:
        name = shown_run(_middle_arm(table[(table["others"] == others) & (table["regime"] == regime)]), sampled)
        found |= {} if name is None else {regime: one_of(runs, table, name)}
    return found if len(found) > 1 else None


def _middle_arm(table: Frame) -> Frame:
    is_whole = table[[f"sampling.{cut}" for cut in CUTS]].isna().all(axis=1)
    table = table[is_whole] if is_whole.any() else table
    ordered = table.sort_values("sampling.temperature", kind="stable").drop_duplicates("arm")["arm"].tolist()
    return table[table["arm"] == ordered[(len(ordered) - 1) // 2]] if ordered else table


def draw(regimes: Regimes) -> alt.HConcatChart:
    """One barcode per regime, each on its own steps, and beside it the entropy of the model's predictions."""
    width = panel_width(len(regimes), GAP) - SIDES
    most = max(float(run.steps["entropy_nats"].astype(float).max()) for run in regimes.values())
    pairs: list[alt.ConcatChart] = []
    for regime, run in regimes.items():
        lines = [sampler_in_words(run.row), _onset(run)]
        title = alt.TitleParams(regime, subtitle=lines, fontSize=13, offset=6)
        bars = barcode.panel(run, width, HEIGHT, is_alone=False)
        # Not an hconcat: on a narrow page those become columns, and these two belong together.
        pairs.append(alt.concat(bars, _entropy(run, most), columns=2, spacing=STRIP_GAP, title=title))
    row = next(iter(regimes.values())).row
    words = f"What {row['model_label']} writes at learning rate {short(row['lr'])}, by sampler"
    subtitle = "coloured: the text repeats itself; line: entropy of the model's predictions (nats)"
    return themed(alt.hconcat(*pairs, spacing=GAP, title=alt.TitleParams(words, subtitle=subtitle)))


def _entropy(run: OneRun, most: float) -> alt.LayerChart:
    """A narrow panel: entropy across, on the steps of the barcode beside it, with its first and its last value."""
    steps = run.samples["step"].astype(int)
    last = int(steps.iloc[-1])
    rows: Frame = run.steps[["step", "entropy_nats"]].astype(float).dropna()
    scale = alt.Scale(domain=[int(steps.iloc[0]), last + 1], nice=False, reverse=True)
    x = alt.X("entropy_nats:Q", axis=None, scale=alt.Scale(domain=[0, 1.05 * most], nice=False))
    chart = alt.Chart(rows).encode(x=x, y=alt.Y("step:Q", scale=scale, axis=None))
    first_and_last = rows.iloc[[0, -1]]
    ends = alt.Chart(first_and_last.assign(words=first_and_last["entropy_nats"].map("{:.1f}".format))).encode(
        x=alt.value("width"), y=alt.Y("step:Q", scale=scale, axis=None), text="words:N"
    )
    line = chart.mark_line(color=RULE_COLOR, strokeWidth=1.4).encode(order="step:Q")
    return layered(line, ends.mark_text(align="left", dx=3, color=RULE_COLOR), width=STRIP, height=HEIGHT)


def caption(regimes: Regimes) -> str:
    row = next(iter(regimes.values())).row
    parts: list[str] = []
    for regime, run in regimes.items():
        shares = [percent(barcode.repeated_share(ids)) for ids in run.samples["token_ids"].iloc[[0, -1]]]
        parts.append(
            f"{regime} (seed {run.row['seed']}, {run.row['last_step']} steps): {_seen(run)}; share of tokens in "
            f"repeated passages {shares[0]} in the first row and {shares[1]} in the last."
        )
    return (
        f"Runs of {row['model_label']} at learning rate {short(row['lr'])} that differ in the sampler only, as in the "
        f"text barcode: each row is the sample of one step, coloured where it repeats itself. Panels have their own "
        f"steps. " + " ".join(map(sentence, parts))
    )


def in_a_line(regimes: Regimes) -> str:
    """What is seen in the picture, for a terminal."""
    return "; ".join(f"{regime}: {_seen(run)}" for regime, run in regimes.items())


def _seen(run: OneRun) -> str:
    entropy = run.steps["entropy_nats"].astype(float).dropna()
    ends = f"entropy {entropy.iloc[0]:.2f} to {entropy.iloc[-1]:.2f} nats"
    return f"{sampler_in_words(run.row)}, {_onset(run)}, {ends}"


def _onset(run: OneRun) -> str:
    if not known(run.row, "onset_step"):
        return f"no onset in {run.row['last_step']} steps"
    return f"onset at step {int(run.row['onset_step'])}"


FIGURE = Figure(
    "Freeze, drift, melt: text barcodes of runs that differ in the sampler",
    select,
    draw,
    caption,
    "no two runs that differ only in the sampler are of different regimes and have samples.",
    "sampler",
)
