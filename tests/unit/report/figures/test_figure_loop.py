"""Figure 1, the loop: the settings of the runs in words."""

from __future__ import annotations

import json

from collapselab.report.figures.loop import loop
from collapselab.report.groups import run_table
from collapselab.report.selection import main_runs
from collapselab.rundir.frames import Runs
from figure_specs import drawn


def test_the_loop_has_the_settings_of_the_runs(sweep: Runs, odd: Runs) -> None:
    facts = {heading: " | ".join(facts) for heading, facts in loop(main_runs(run_table(sweep))).items()}
    assert facts["1  Evaluate"] == "loss on human text: austen, moby-dick | protocol windows[100,100] | at every step"
    assert facts["2  Write"] == "100 tokens after the end-of-text token | temperature 0.8, top-k 500"
    assert "total collapse: the last 8 steps are all degenerate" in facts["3  Read and judge"]
    assert "learning rate 4e-5, 8e-5" in facts["4  Update"]
    text = json.dumps(drawn("figure-1", sweep))
    assert "nano (0.56 M), micro (2.2 M), after t updates" in text
    assert "12 runs, 3 seeds" in text
    facts = {heading: " | ".join(facts) for heading, facts in loop(run_table(odd)).items()}
    assert "training loss on own text, real text" in facts["3  Read and judge"]
    assert "temperature 0.5, 0.8" in facts["2  Write"]
