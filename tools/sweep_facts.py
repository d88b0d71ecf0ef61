"""Prints the numbers in the texts of results/smollm2, sampler and safeguards that are in no table.

python tools/sweep_facts.py smollm2 FOLDER          (of the unpacked records.tar.xz, -prompts and -controls)
python tools/sweep_facts.py sampler FOLDER          (of sampler-map, -line, -sizes and -coarse, or sampler-sgd)
python tools/sweep_facts.py safeguards FOLDER       (of the sweep safeguards)
"""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd

from collapselab import load_runs
from collapselab.analysis.evidence import Material, gather, with_ends
from collapselab.analysis.safeguard_runs import families
from collapselab.analysis.safeguards import ladder, predict
from collapselab.analysis.sampler import arms_of, as_text, is_cut, is_pure, measured, regimes, t_interval
from collapselab.analysis.sampler_line import SLOPE, pairs, slope_on_rate
from collapselab.analysis.survival import Frame
from collapselab.rundir.frames import Runs

LOSS, JUMPS = "val_nll_nats", ("neon", "neon(w=0.25)", "neon(w=1)", "ema(mode=reset)")
SMALL_RATE, JUMP_EVERY = 3.2e-4, 20
ARM = ["lr", "sampling.temperature", "top_k", "generate.prompt"]


def smollm2(loaded: Runs) -> None:
    """Losses by step, displacement, gradients and updates, entropy, first words, probes of the controls."""
    material = gather(loaded)
    rows = measured(material)
    rows = rows.assign(top_k=rows["sampling.top_k"].map(as_text))
    steps: Frame = material.steps.merge(rows[["run", *ARM, "duration"]], on="run")
    at = steps[steps["step"].isin([0, 10, 20, 30, 40, 80, 120, 270]) & steps[LOSS].notna()]
    tell("loss on the first text, mean", at.groupby([*ARM, "step"])[LOSS].agg(["mean", "size"]).unstack())
    for arm, slope in rows.groupby(ARM)["entropy_slope"]:
        tell(f"slope of the entropy, nats per step, {arm}", with_ends(t_interval(slope)))
    moved = steps[steps["step"] == 85].groupby(ARM)["displacement"].agg(["min", "max", "size"])
    tell("displacement at step 85", moved)
    on_card = rows.loc[rows["device"] == "cuda", "run"]
    gradients = steps.loc[steps["run"].isin(on_card), "grad_norm"].dropna()
    shares = f"{100 * (gradients > 1).mean():.1f} % above 1, {100 * (gradients > 10).mean():.1f} % above 10"
    tell("gradient norms, runs on the card", f"{shares}, largest {gradients.max():.0f}")
    updates = steps[(steps["step"] >= 10) & (steps["step"] < steps["duration"]) & steps["run"].isin(on_card)]
    ends = updates.groupby("run")["relative_update_norm"].quantile([0.05, 0.95]).unstack()
    tell("the middle 90 % of a run's updates from step 10 to onset, factor", (ends[0.95] / ends[0.05]).describe())
    samples: Frame = loaded.samples
    begin = samples[samples["role"] == "start"].merge(rows[["run", *ARM]], on="run")
    is_dash = begin["text"].str.lstrip().str.startswith("-")
    counts = is_dash.groupby([begin[name] for name in ARM]).agg(["sum", "size"])
    tell('samples of the start that begin with "-"', counts)
    controls = material.runs.loc[material.runs["train.source"] != "own", "run"]
    probed = material.steps[material.steps["run"].isin(controls) & material.steps["degenerate"].notna()]
    found = probed.assign(low=["low-diversity" in reasons for reasons in probed["reasons"]]).groupby("run")
    tell("probes: degenerate, of low diversity among others", found[["degenerate", "low"]].sum())


def sampler(loaded: Runs) -> None:
    """What the arms of the map and the pairs of the line are made of, sweep by sweep."""
    runs: Frame = loaded.runs
    sweeps: list[str] = sorted(runs["run"].str.split("/").str[0].unique())
    materials = {name: gather(of_sweep(loaded, name)) for name in sweeps}
    for name, material in materials.items():
        rows = measured(material).assign(sweep=name)
        if name in ("sampler-map", "sampler-coarse"):
            regime, first = regimes(rows), rows.assign(cut=is_cut(rows)).groupby("arm", sort=False).first()
            temperature = first["sampling.temperature"].astype(float)
            said = np.select([first["cut"] | (temperature < 1), temperature > 1], ["freeze", "melt"], "drift")
            right = f"{int((said == regime).sum())} of {len(regime)}"
            tell(f"{name}: regimes named by the sampler's settings alone", right)
            low_diversity(rows, material.steps)
        if name in ("sampler-line", "sampler-sgd"):
            straight(rows, material.steps)
    if "sampler-line" in materials:
        line(measured(gather(loaded)), measured(materials["sampler-line"]))
    if {"sampler-map", "sampler-sizes"} <= set(materials):
        onsets_by_size(materials["sampler-map"], materials["sampler-sizes"])


def of_sweep(loaded: Runs, name: str) -> Runs:
    """The runs of one sweep."""
    frames: list[Frame] = [loaded.runs, loaded.steps, loaded.samples]
    return Runs(*(frame[frame["run"].str.startswith(f"{name}/")] for frame in frames))


def line(everything: Frame, rows: Frame) -> None:
    """Pairs of S1 at small rates, and S2b with AdamW alone."""
    found = pairs(everything[everything["lr"] <= SMALL_RATE])
    late = found[(found["outlasts"] == 1) & (found["optim.name"] == "adamw")]
    later = f"{len(late)}, {int(late['is_event'].sum())}"
    tell("pairs of S1 with AdamW up to 3.2e-4 that count, and of these with an onset later on", later)
    is_usual = (rows["optim.name"] == "adamw") & (rows["optim.weight_decay"] > 0) & (rows["generate.batch_size"] == 1)
    alone = rows[is_pure(rows) & is_usual & (rows["model"] == "builtin:pico")].assign(stratum=0)
    tell("slope of S2b, AdamW alone", with_ends(slope_on_rate(alone, SLOPE).effect))


def low_diversity(rows: Frame, steps: Frame) -> None:
    """The arms that freeze without repeating: under a tenth of 4-grams in the last eight steps, no total collapse."""
    frozen = rows[rows["arm"].map(regimes(rows)) == "freeze"]
    last = steps[steps["run"].isin(frozen["run"])].sort_values("step").groupby("run").tail(8)
    repeated = frozen["run"].map(last.groupby("run")["seq_rep_4"].mean())
    of_arm = frozen.assign(repeated=repeated, total=frozen["total_collapse_step"].notna()).groupby("arm")
    found = of_arm[["repeated", "val_rise_nats"]].mean().assign(total=of_arm["total"].any())
    found = found[(found["repeated"] < 0.1) & ~found["total"]]
    tell("arms that freeze and do not repeat", found)


def straight(rows: Frame, steps: Frame) -> None:
    """Displacement over path length after 400 and 30 steps, means of arms."""
    steps = steps[steps["run"].isin(rows["run"])]
    keys = ["model", "optim.name", "optim.weight_decay", "generate.batch_size", "lr", "sampling.temperature"]
    for count in (400, 30):
        then = steps[steps["step"] == count - 1].set_index("run")
        ratio = rows["run"].map(then["displacement"] / then["path_length"])
        tell(f"displacement ÷ path length after {count} steps", ratio.groupby([rows[key] for key in keys]).mean())


def onsets_by_size(of_map: Material, of_sizes: Material) -> None:
    """Onset that the law of H(p) − H(q), with the map's constant, predicts for `sampler-sizes`, over that observed."""
    logs: list[Frame] = []
    for material in (of_map, of_sizes):
        table: Frame = arms_of(material)
        frozen = table[(table["regime"] == "freeze") & (table["pull_nats"] > 0)].set_index("model")
        logs.append(np.log((frozen["onset"] * frozen["relative_update_norm"] * frozen["pull_nats"]).astype(float)))
    ratio: Frame = np.exp(logs[0].mean() - logs[1])
    tell("onset predicted by the map's constant of H(p) − H(q) ÷ observed, medians", ratio.groupby(level=0).median())


def safeguards(loaded: Runs) -> None:
    """What the ladder predicts, path lengths without jumps, first degenerate samples of the arm `none`."""
    family = families(loaded)[0]
    rows = family.rows
    lines = ladder(family.ladder)
    predicted = rows.assign(predicted=np.exp(predict(rows, lines)))[~rows.groupby("arm")["is_event"].transform("any")]
    ends = predicted.groupby("arm")["predicted"].agg(["min", "max"])
    tell("onset that the ladder predicts for arms without onset, of single runs", ends)
    steps: Frame = loaded.steps
    for arm in JUMPS:
        part = family.arm(arm).set_index("run")
        path = steps[steps["run"].isin(part.index)].pivot_table(index="step", columns="run", values="path_length")
        each = path.diff().fillna(path)
        between = each[(each.index + 1) % JUMP_EVERY != 0]
        mean = pd.Series({run: between.loc[between.index < part.at[run, "time"], run].mean() for run in part.index})
        ratio = np.log(part["time"]) - predict(part.assign(path_per_step=mean), lines)
        tell(f"{arm}, delay at the steps between jumps: least, mean", np.exp([ratio.min(), ratio.mean()]).round(2))
    none = steps[steps["run"].isin(family.reference["run"])]
    alone = none[[list(reasons) not in ([], ["low-diversity"]) for reasons in none["reasons"]]]
    first = alone.groupby("run")["step"].min() - family.reference.set_index("run")["time"]
    tell("`none`: steps from onset to the first degenerate sample", first.sort_values().tolist())


def tell(what: str, value: object) -> None:
    """Prints a heading and a value, or a table below it."""
    body = value.to_string() if isinstance(value, pd.DataFrame | pd.Series) else str(value)
    sys.stdout.write(f"{what}:{chr(10) if chr(10) in body else ' '}{body}\n")


TEXTS = {"smollm2": smollm2, "sampler": sampler, "safeguards": safeguards}

if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in TEXTS:
        sys.exit(__doc__)
    TEXTS[sys.argv[1]](load_runs(sys.argv[2]))
