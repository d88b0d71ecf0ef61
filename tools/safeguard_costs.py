"""The time of a step with each safeguard over that without, on an idle machine: results/safeguards/costs.csv, and the
picture of what safeguards gain and cost with these times in place of those of the runs, which shared their machine.

python tools/safeguard_costs.py RUNS              # a quarter of an hour on two idle cores
python tools/safeguard_costs.py RUNS --draw       # only the picture, from costs.csv

RUNS has the records of the sweep `safeguards`. In each of `REPEATS` rounds every arm runs for a few steps, and before
every fourth a run without safeguards. A ratio is that of an arm's median time of a step (evaluation left out, which is
the same) to that run's.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from statistics import median

import pandas as pd

from collapselab import load_runs, run
from collapselab.config.overrides import override
from collapselab.config.schema import RunConfig
from collapselab.records import Record
from collapselab.report.drawing import Painter
from collapselab.report.figures.safeguard_costs import draw, front, select
from collapselab.report.safeguard_arms import arm_in_words, shown_family
from collapselab.rundir.frames import Runs
from collapselab.sweep.grid import expand
from collapselab.sweep.safeguards import safeguards

STEPS, REPEATS, GROUP = 10, 5, 4
TIMED = ("seconds_generate", "seconds_update", "seconds_measure", "seconds_safeguards")
RESULTS = Path(__file__).parents[1] / "results" / "safeguards"
TIMES, PICTURE = RESULTS / "costs.csv", RESULTS / "figures" / "safeguard-costs.svg"


def time_of_a_step(config: RunConfig) -> float:
    """The median over the steps after the first, in seconds."""
    found: list[float] = []

    def note(record: Record) -> None:
        found.append(sum(record.number(name) or 0.0 for name in TIMED))

    with tempfile.TemporaryDirectory() as folder:
        run(config, Path(folder) / "run", progress=False, on_record=note)
    return median(found[1:])


def arms(runs: Runs) -> dict[str, str]:
    """The arm of each run of seed 0, by the name of its directory."""
    shown = shown_family(runs)
    assert shown is not None, "no safeguard was run beside the same settings without one"
    rows = shown[1].rows[["run", "arm"]].to_dict("records")
    return {name: str(row["arm"]) for row in rows if (name := Path(str(row["run"])).name).startswith("seed-0-")}


def measure(names: Mapping[str, str]) -> pd.DataFrame:
    """A row per arm: the median ratio of all rounds and its extremes."""
    few = {"stop.max_steps": STEPS, "eval.every": STEPS}
    plans = [plan for plan in expand(safeguards()) if plan.name in names]
    without = next(plan for plan in plans if names[plan.name] == "none")
    ratios: dict[str, list[float]] = {plan.name: [] for plan in plans}
    for _ in range(REPEATS):
        for first in range(0, len(plans), GROUP):
            base = time_of_a_step(override(without.config, few))
            for plan in plans[first : first + GROUP]:
                ratios[plan.name].append(time_of_a_step(override(plan.config, few)) / base)
    return pd.DataFrame(
        {"arm": names[name], "ratio": median(found), "least": min(found), "most": max(found), "rounds": len(found)}
        for name, found in ratios.items()
    )


def picture(runs: Runs, times: pd.DataFrame) -> bytes:
    """The SVG of what safeguards gain and cost, with these times."""
    costs = select(runs)
    assert costs is not None, "no arm has a delay"
    ratio = dict(zip(map(arm_in_words, times["arm"]), times["ratio"], strict=True))
    rows = costs.rows.assign(time_ratio=costs.rows["name"].map(ratio))
    gain = rows["delay"].where(rows["num_onsets"] > 0, float("inf"))
    rows["front_time_ratio"] = front(rows["time_ratio"].to_numpy(dtype=float), gain.to_numpy(dtype=float))
    with Painter() as painter:
        return painter.draw(draw(replace(costs, rows=rows)).to_dict(), ["svg"])["svg"]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--draw", action="store_true", help="only draw, from costs.csv")
    options = parser.parse_args()
    loaded = load_runs(options.runs)
    if not options.draw:
        measure(arms(loaded)).to_csv(TIMES, index=False, float_format="%.4g")
    PICTURE.write_bytes(picture(loaded, pd.read_csv(TIMES)))
    print(f"{TIMES}\n{PICTURE}")
