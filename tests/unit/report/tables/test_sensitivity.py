"""Steps judged again from their records: equal to the rules, at other thresholds."""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np
import pandas as pd
import pytest

from collapselab.analysis import sensitivity
from collapselab.analysis.sensitivity import JudgedRun, Rules, judged_runs, onset_with, variations, verdicts
from collapselab.collapse.course import CollapseState, Observation, advance
from collapselab.collapse.rules import SampleVerdict, StepVerdict, judge_sample, judge_step
from collapselab.collapse.start import Start
from collapselab.config.schema import Collapse
from collapselab.metrics import repetition_metrics
from collapselab.rundir.frames import Runs
from synthetic_runs import make_config, make_records

HEALTHY = SampleVerdict(False)


def random_sample(draw: random.Random) -> tuple[int, ...]:
    length = draw.choice((60, 100, 150, 200, 260))
    free = draw.randrange(length)
    body = [draw.randrange(50) for _ in range(draw.choice((1, 2, 7, 40)))]
    return tuple(([draw.randrange(draw.choice((5, 400))) for _ in range(free)] + body * length)[:length])


@pytest.mark.parametrize("seed", range(5))
def test_verdicts_are_those_of_the_rules(seed: int) -> None:
    """Under random thresholds the columns give what `judge_sample` and `judge_step` give sample by sample."""
    draw = random.Random(seed)
    thresholds = Collapse(
        seq_rep_4=draw.uniform(0.1, 0.9),
        seq_rep_4_short=draw.uniform(0.1, 0.9),
        loop_copies=draw.uniform(2, 6),
        loop_share=draw.uniform(0.1, 0.9),
        match_entropy_nats=draw.uniform(0, 2),
        top_token_share=draw.uniform(0.1, 0.9),
        frozen_nll_nats=draw.uniform(0, 0.5),
    )
    samples, losses = [random_sample(draw) for _ in range(80)], [draw.uniform(0, 1) for _ in range(80)]
    visible_tokens = [draw.choice((5, 50)) for _ in range(80)]
    expected: list[StepVerdict] = []
    for ids, loss, count in zip(samples, losses, visible_tokens, strict=True):
        verdict = judge_sample(ids, thresholds, count)
        expected.append(judge_step([ids], [verdict], [], loss, thresholds))
    rows = [{"num_tokens": len(ids), **repetition_metrics(ids)} for ids in samples]
    metrics = {
        name: np.array([math.nan if row[name] is None else row[name] for row in rows]) for name in sensitivity.METRICS
    }
    whitespace = np.array(["whitespace" in verdict.reasons for verdict in expected])
    broken = {"whitespace": whitespace, "template": np.zeros(80, dtype=bool)}
    rules = Rules(thresholds)
    judged, degenerate = verdicts(JudgedRun(metrics | {sensitivity.LOSS: np.array(losses)}, broken, rules), rules)
    assert judged.tolist() == [verdict.degenerate is not None for verdict in expected]
    assert degenerate.tolist() == [verdict.degenerate is True for verdict in expected]
    assert 5 < sum(degenerate) < 75, "neither all nor nothing"


def judged_again(config: Any, onset_near: float) -> tuple[list[Any], JudgedRun, Runs]:
    records = make_records(config, onset_near)
    rows = [{"run": "a", **record.values} for record in records]
    steps = pd.DataFrame(rows).astype({"degenerate": "boolean"})
    settings_of = {f"collapse.{name}": value for name, value in config.collapse.model_dump().items()}
    row = {"run": "a", "train.source": "own", "generate.batch_size": 1, **settings_of}
    runs = Runs(pd.DataFrame([row]), steps, pd.DataFrame())
    (run,) = judged_runs(runs)
    return records, run, runs


def test_onset_by_other_thresholds_is_that_of_a_run_judged_by_them() -> None:
    config = make_config(stop__on_collapse=False, stop__max_steps=40)
    records, run, _ = judged_again(config, 15)
    changed = {"seq_rep_4_short": 0.95, "loop_share": 0.6, "match_entropy_nats": 0.1}
    thresholds = config.collapse.model_copy(update=changed)
    state = CollapseState(vocab_size=400)
    for record in records:
        ids = record.samples[0].token_ids
        verdict: SampleVerdict = judge_sample(ids, thresholds, None)
        own_nll = record.number("train_nll_nats")
        step = judge_step([ids], [verdict], state.earlier_samples(thresholds), own_nll, thresholds)
        state = advance(state, Observation(record.step, step, (ids,)), thresholds)
    assert onset_with(run, Rules(thresholds)) == state.onset_step
    recorded = onset_with(run, run.rules)
    assert recorded is not None
    assert state.onset_step is not None
    assert recorded < state.onset_step


def test_only_runs_whose_verdicts_come_out_again_are_judged_anew() -> None:
    _, _, runs = judged_again(make_config(), 10)
    assert len(judged_runs(runs)) == 1
    thinned = Runs(runs.runs, runs.steps.iloc[::2], runs.samples)
    assert judged_runs(thinned) == []
    for name, value in (("generate.batch_size", 2), ("train.source", "real"), ("collapse.source", "probe")):
        assert judged_runs(Runs(runs.runs.assign(**{name: value}), runs.steps, runs.samples)) == []
    other = runs.steps.assign(degenerate=~runs.steps["degenerate"])
    assert judged_runs(Runs(runs.runs, other, runs.samples)) == [], "other rules made these verdicts"
    assert judged_runs(Runs(runs.runs, runs.steps.drop(columns="reasons"), runs.samples)) == []


def test_longer_samples_are_allowed_more_repeated_4_grams() -> None:
    metrics = {name: np.zeros(4) for name in (*sensitivity.METRICS, sensitivity.LOSS)}
    metrics |= {"num_tokens": np.array([99.0, 100, 199, 200]), "seq_rep_4": np.full(4, 0.75)}
    metrics |= {"match_entropy_nats": np.ones(4), sensitivity.LOSS: np.ones(4)}
    rules = Rules(Collapse())
    run = JudgedRun(metrics, {name: np.zeros(4, dtype=bool) for name in sensitivity.RECORDED_RULES}, rules)
    judged, degenerate = verdicts(run, rules)
    assert judged.tolist() == [False, True, True, True]
    assert degenerate.tolist() == [False, True, True, False]


def test_each_rule_can_be_left_out() -> None:
    rules = Rules(Collapse())
    changed = {v.setting: v.apply(rules) for v in variations() if v.change == "left out"}
    assert set(changed) == {f"rule {n}" for n in (*sensitivity.LEFT_OUT, *sensitivity.RECORDED_RULES)}
    metrics = dict.fromkeys(sensitivity.METRICS, np.array([1.0]))
    metrics |= {
        "num_tokens": np.array([200.0]),
        "match_entropy_nats": np.array([0.0]),
        sensitivity.LOSS: np.array([9.0]),
    }
    metrics |= {"seq_rep_4": np.array([0.7]), "loop_span": np.array([0.0]), "top_token_share": np.array([0.0])}
    run = JudgedRun(metrics, {"whitespace": np.array([False]), "template": np.array([False])}, rules)
    assert verdicts(run, rules)[1].tolist() == [True]
    assert verdicts(run, changed["rule match_entropy"])[1].tolist() == [False]
    assert verdicts(run, changed["rule loop"])[1].tolist() == [True]


def test_low_diversity_is_judged_anew_where_its_numbers_are_recorded() -> None:
    """The columns give what `judge_step` gives; what was recorded by other thresholds does not matter."""
    draw, thresholds = random.Random(0), Collapse(entropy_drop_nats=0.3, distinct_4_share=0.9)
    samples = [tuple(draw.randrange(8 + 40 * (i < 6)) for _ in range(120)) for i in range(12)]
    start = Start(thresholds, None, tuple(samples[:4]))
    found = [judge_step(samples[i : i + 1], [HEALTHY], samples[max(0, i - 3) : i], 1.0, thresholds, start=start)
             for i in range(4, 12)]  # fmt: skip
    assert {verdict.degenerate for verdict in found} == {True, False}
    metrics = {name: np.full(8, 0.0) for name in sensitivity.METRICS} | {"num_tokens": np.full(8, 120.0)}
    metrics |= {"match_entropy_nats": np.ones(8), sensitivity.LOSS: np.ones(8)}
    metrics |= {name: np.array([getattr(v, name) for v in found], dtype=float) for name in sensitivity.DIVERSITY}
    rules = Rules(thresholds)
    run = JudgedRun(metrics, {"low-diversity": np.ones(8, dtype=bool)}, rules)
    assert run.tells_diversity
    assert verdicts(run, rules)[1].tolist() == [verdict.degenerate for verdict in found]
    changes = {(v.setting, v.change): v.apply(rules) for v in variations(tells_diversity=True)}
    assert set(sensitivity.DIVERSITY) < {setting for setting, _ in changes}
    assert verdicts(run, changes["rule low-diversity", "left out"])[1].tolist() == [False] * 8
    strict = Rules(thresholds.model_copy(update={"entropy_drop_nats": 9.0, "distinct_4_share": 0.0}))
    assert verdicts(run, strict)[1].tolist() == [False] * 8
    by_one = Rules(thresholds.model_copy(update={"entropy_drop_nats": 9.0}))
    assert verdicts(run, by_one)[1].tolist() == [v.distinct_4_share <= 0.9 for v in found]
    unknown = JudgedRun({k: v for k, v in metrics.items() if k != "distinct_4_share"}, run.broken, rules)
    assert verdicts(unknown, strict)[1].tolist() == [True] * 8, "as recorded"


def test_runs_of_earlier_versions_have_no_diversity_to_judge_by() -> None:
    _, run, runs = judged_again(make_config(), 10)
    assert not run.tells_diversity
    told = runs.steps.assign(entropy_drop_nats=0.1, distinct_4_share=1.0)
    (again,) = judged_runs(Runs(runs.runs, told, runs.samples))
    assert again.tells_diversity
    (empty,) = judged_runs(
        Runs(runs.runs, runs.steps.assign(entropy_drop_nats=None, distinct_4_share=None), runs.samples)
    )
    assert not empty.tells_diversity
