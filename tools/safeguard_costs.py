"""Writes results/safeguards/costs.csv: the time of a step with each safeguard over that without, on an idle machine.

python tools/safeguard_costs.py

In each of `REPEATS` rounds every arm of the sweep `safeguards` runs for a few steps, and before every fourth a run
without safeguards. A ratio is that of an arm's median time of a step (evaluation left out, which is the
same) to that run's.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from statistics import median

import pandas as pd

from collapselab import run
from collapselab.config.overrides import override
from collapselab.config.safeguards import shown
from collapselab.config.schema import RunConfig
from collapselab.records import Record
from collapselab.sweep.grid import expand
from collapselab.sweep.safeguards import safeguards

STEPS, REPEATS, GROUP = 10, 5, 4
TIMED = ("seconds_generate", "seconds_update", "seconds_measure", "seconds_safeguards")
RESULTS = Path(__file__).parents[1] / "results" / "safeguards" / "costs.csv"


def time_of_a_step(config: RunConfig) -> float:
    """The median over the steps after the first, in seconds."""
    found: list[float] = []

    def note(record: Record) -> None:
        found.append(sum(record.number(name) or 0.0 for name in TIMED))

    with tempfile.TemporaryDirectory() as folder:
        run(config, Path(folder) / "run", progress=False, on_record=note)
    return median(found[1:])


def main() -> None:
    """Runs all rounds, and prints and writes a row per arm."""
    few = {"stop.max_steps": STEPS, "eval.every": STEPS}
    plans = [plan for plan in expand(safeguards()) if plan.config.seed == 0]
    without = next(plan for plan in plans if plan.name.endswith("safeguards-none"))
    ratios: dict[str, list[float]] = {plan.name: [] for plan in plans}
    for _ in range(REPEATS):
        for first in range(0, len(plans), GROUP):
            base = time_of_a_step(override(without.config, few))
            for plan in plans[first : first + GROUP]:
                ratios[plan.name].append(time_of_a_step(override(plan.config, few)) / base)
    rows: list[dict[str, object]] = []
    for plan in plans:
        found, arm = ratios[plan.name], shown(plan.config.safeguards)
        name = plan.name.removeprefix("seed-0-") if arm == "none" else arm
        rows.append(
            {"arm": name, "ratio": median(found), "least": min(found), "most": max(found), "rounds": len(found)}
        )
        print(f"{name}: {median(found):.2f} [{min(found):.2f}, {max(found):.2f}]", flush=True)
    pd.DataFrame(rows).to_csv(RESULTS, index=False, float_format="%.4g")


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
