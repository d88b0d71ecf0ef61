"""Figure 1, the loop: the settings of the runs in words."""

from __future__ import annotations

import json

from collapselab.report.figures import FIGURES
from collapselab.report.figures.loop import settings_of_loop
from collapselab.report.groups import run_table
from collapselab.report.selection import main_runs, one_run
from collapselab.report.theme import specification
from collapselab.rundir.frames import Runs
from figure_specs import drawn, rows_of


def test_the_loop_has_the_settings_of_the_runs(sweep: Runs, odd: Runs) -> None:
    facts = {heading: " | ".join(facts) for heading, facts in settings_of_loop(main_runs(run_table(sweep))).items()}
    assert facts["Evaluate"] == "loss on human text: austen, moby-dick | protocol windows[100,100] | at every step"
    assert facts["Write"] == "100 tokens after the end-of-text token | temperature 0.8, top-k 500"
    assert "total collapse: the last 8 steps are all degenerate" in facts["Read and judge"]
    assert "learning rate 4e-5, 8e-5" in facts["Update"]
    assert all(fact in FIGURES["figure-1"].caption(sweep) for fact in ("12 runs", "learning rate 4e-5, 8e-5"))
    facts = {heading: " | ".join(facts) for heading, facts in settings_of_loop(run_table(odd)).items()}
    assert "training loss on own text, real text" in facts["Read and judge"]
    assert "temperature 0.5, 0.8" in facts["Write"]


def words_of(key: str, runs: Runs) -> list[str]:
    return [row["words"] for row in rows_of(drawn(key, runs)) if "words" in row]


def test_the_schema_shows_a_text_that_a_model_wrote(sweep: Runs) -> None:
    words = words_of("figure-1", sweep)
    assert [word for word in ("text of step t", "model", "loss", "updated model") if word not in words] == []
    assert "loss on human text (austen, moby-dick)" in words
    shown = one_run(sweep)
    assert shown is not None
    begin = " ".join(str(shown.samples["text"].iloc[0]).split())[:12]
    assert any(word.startswith(f"“{begin}") for word in words)
    assert "the text it has just written" in json.dumps(drawn("figure-1", sweep))


def test_the_schema_of_controls_alone_does_not_say_that_a_model_writes_its_text(odd: Runs) -> None:
    real = odd.runs[odd.runs["train.source"] == "real"]
    runs = Runs(real, odd.steps[odd.steps["run"].isin(real["run"])], odd.samples.head(0))
    chart = FIGURES["figure-1"].draw(runs)
    assert chart is not None
    text = json.dumps(specification(chart))
    assert "A model is trained on real text" in text
    assert "(the records have no sample)" in text
    assert "the updated model writes" not in text
