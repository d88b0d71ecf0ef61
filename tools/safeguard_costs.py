"""Writes results/safeguards/costs.csv: the time of a step with each safeguard over that without, on an idle machine.

python tools/safeguard_costs.py

Each arm of the sweep `safeguards` runs for a few steps, right after a run without safeguards; the ratio of their median
times of a step (evaluation left out, which is the same) is one of `REPEATS` pairs.
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

STEPS, REPEATS = 10, 3
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
    """Runs all pairs, and prints and writes a row per arm."""
    few = {"stop.max_steps": STEPS, "eval.every": STEPS}
    plans = [plan for plan in expand(safeguards()) if plan.config.seed == 0]
    without = next(plan for plan in plans if plan.name.endswith("safeguards-none"))
    rows: list[dict[str, object]] = []
    for plan in plans:
        ratios: list[float] = []
        for _ in range(REPEATS):
            base = time_of_a_step(override(without.config, few))
            ratios.append(time_of_a_step(override(plan.config, few)) / base)
        arm = shown(plan.config.safeguards)
        name = plan.name.removeprefix("seed-0-") if arm == "none" else arm
        rows.append({"arm": name, "ratio": median(ratios), "least": min(ratios), "most": max(ratios), "pairs": REPEATS})
        print(f"{name}: {median(ratios):.2f} [{min(ratios):.2f}, {max(ratios):.2f}]", flush=True)
    pd.DataFrame(rows).to_csv(RESULTS, index=False, float_format="%.4g")


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
