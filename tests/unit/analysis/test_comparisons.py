"""Which runs are compared with which: equal but for what is studied, each trajectory once, sizes, equal updates."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import pytest

from collapselab.analysis.comparisons import LOOKING, condition, distinct, equal_update_sets, num_parameters
from collapselab.config.overrides import override
from collapselab.config.schema import RunConfig
from collapselab.records import flatten


def rows(*changes: dict[str, Any]) -> pd.DataFrame:
    """Rows as `load_runs` makes them; `duration` and `is_event` may be among the changes."""
    made: list[dict[str, Any]] = []
    for i, change in enumerate(changes):
        settings = {name: value for name, value in change.items() if name not in ("duration", "is_event")}
        config = override(RunConfig(), settings)
        row = dict(flatten(config.model_dump(mode="json")))
        row |= {"run": f"r{i}", "data": ",".join(row["data"]), "lr": row.pop("optim.lr")}
        made.append(row | {"duration": change.get("duration", 10.0), "is_event": change.get("is_event", True)})
    return pd.DataFrame(made)


def test_a_condition_is_all_settings_but_the_seed_and_those_studied() -> None:
    frame = rows(
        {}, {"seed": 3}, {"threads": 1}, {"optim.lr": 1e-3}, {"sampling.top_p": 0.9}, {"optim.betas": (0.8, 0.9)}
    )
    labels = condition(frame, ())
    assert len(set(labels[:3])) == 1
    assert labels.nunique() == 4
    assert condition(frame, ("lr",)).nunique() == 3
    assert condition(frame, ("lr", "sampling.", "optim.")).nunique() == 1


def test_settings_of_data_and_model_are_no_prefix_of_others() -> None:
    frame = rows({}, {"train.source": "other", "train.other_model": "builtin:mini"}, {"data": "austen"})
    assert condition(frame, ("model", "data")).nunique() == 2


def test_a_trajectory_seen_twice_counts_once() -> None:
    frame = rows(
        {"data": "austen", "duration": 20.0, "is_event": False},
        {"data": "moby-dick", "duration": 30.0, "is_event": False, "eval.every": 5, "stop.max_steps": 5000},
        {"data": "austen", "seed": 1},
        {"optim.lr": 1e-3},
    )
    assert distinct(frame)["run"].tolist() == ["r1", "r2", "r3"]


def test_a_trajectory_with_onset_stands_for_one_that_was_cut_off() -> None:
    frame = rows({"duration": 5.0, "is_event": False, "stop.max_steps": 5}, {"duration": 20.0, "is_event": True})
    assert distinct(frame)["run"].tolist() == ["r1"]
    assert distinct(rows({"duration": math.nan, "is_event": False})).empty


def test_a_trajectory_judged_in_two_ways_counts_once() -> None:
    frame = rows({"duration": 10.0}, {"collapse.source": "probe", "collapse.probe_every": 5, "duration": 20.0})
    assert distinct(frame)["run"].tolist() == ["r0"]
    assert distinct(frame, judged_by="probe")["run"].tolist() == ["r1"]
    assert distinct(frame.iloc[1:])["run"].tolist() == ["r1"]


def test_rules_of_collapse_are_part_of_a_trajectory() -> None:
    frame = rows({}, {"collapse.seq_rep_4": 0.4})
    assert condition(frame, LOOKING).nunique() == 2


def test_sizes_are_those_of_known_models_or_of_the_runs() -> None:
    frame = rows({"model": "builtin:nano"}, {"model": "gpt2-xl"}, {"model": "/a/folder"})
    sizes = num_parameters(frame)
    assert sizes.tolist()[:2] == [556_896, 1_557_611_200]
    assert math.isnan(sizes.iloc[2])
    assert num_parameters(frame.assign(num_parameters=[None, None, 7e6])).tolist() == [556_896, 1_557_611_200, 7e6]


def update_sets(*arms: tuple[str, float, float]) -> list[float]:
    """The sets of arms (model, learning rate, mean relative update of the first ten steps), two seeds each."""
    frame = rows(
        *({"model": f"builtin:{model}", "optim.lr": lr, "seed": seed} for model, lr, _ in arms for seed in (0, 1))
    )
    steps = [
        # Seeds above and below the mean, and later steps that must not count.
        {"run": f"r{2 * i + seed}", "step": step, "relative_update_norm": size * (0.5 + seed) if step < 10 else 99.0}
        for i, (_, _, size) in enumerate(arms)
        for seed in (0, 1)
        for step in (0, 9, 10, 11)
    ]
    return equal_update_sets(frame, pd.DataFrame(steps)).tolist()[::2]


def test_arms_within_a_tenth_are_one_set() -> None:
    assert update_sets(("nano", 1e-5, 1.0), ("micro", 2e-5, 1.099), ("mini", 3e-5, 1.2)) == [1, 1, 2]
    assert update_sets(("nano", 1e-5, 1.0), ("micro", 2e-5, 1.111)) == [1, 2]


def test_a_set_has_an_arm_a_model_and_an_arm_a_set() -> None:
    arms = [("nano", 1e-5, 1.0), ("nano", 2e-5, 1.05), ("micro", 1e-5, 1.02), ("micro", 2e-5, 1.08)]
    assert update_sets(*arms) == [1, 2, 1, 2]


def test_updates_that_were_not_recorded_make_no_set() -> None:
    frame = rows({"model": "builtin:nano"}, {"model": "builtin:micro"})
    assert equal_update_sets(frame, pd.DataFrame({"run": ["r0", "r1"], "step": [0, 0]})).isna().all()


def test_arms_of_other_settings_are_never_in_one_set() -> None:
    frame = rows({"model": "builtin:nano"}, {"model": "builtin:micro", "sampling.temperature": 1.0})
    steps = pd.DataFrame({"run": ["r0", "r1"], "step": [0, 0], "relative_update_norm": [1.0, 1.0]})
    assert equal_update_sets(frame, steps).nunique() == 2


@pytest.mark.parametrize(
    "name", ["seed", "threads", "checkpoint_every_s", "keep_checkpoints", "stop.max_steps", "data", "eval.every"]
)
def test_what_does_not_change_a_trajectory(name: str) -> None:
    values = {"data": ("austen",), "keep_checkpoints": False}
    frame = rows({}, {name: values.get(name, 7)})
    assert condition(frame, LOOKING).nunique() == 1
