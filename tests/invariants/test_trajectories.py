"""Settings that must share one trajectory, and settings that must not."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from collapselab.config import presets
from collapselab.config.overrides import override
from collapselab.config.schema import RunConfig
from collapselab.loop import online_loop
from collapselab.records import Record, Value
from collapselab.step.parts import build


def records_of(config: RunConfig, **changes: object) -> list[Record]:
    return list(
        online_loop(build(override(config, {name.replace("__", "."): value for name, value in changes.items()})))
    )


def samples_of(records: list[Record]) -> list[tuple[int, ...]]:
    return [s.token_ids for r in records for s in r.samples if s.role == "train"]


def timeless(record: Record) -> Mapping[str, Value]:
    return {name: value for name, value in record.values.items() if not name.startswith("seconds_")}


def test_same_seed_same_records(tiny_config: RunConfig) -> None:
    first, second = records_of(tiny_config), records_of(tiny_config)
    assert [timeless(r) for r in first] == [timeless(r) for r in second]
    assert samples_of(first) == samples_of(second)
    assert len(first) == 4
    assert first[-1].values["ended_by"] == "budget"


def test_other_seed_other_samples(tiny_config: RunConfig) -> None:
    assert samples_of(records_of(tiny_config)) != samples_of(records_of(tiny_config, seed=9))


@pytest.mark.parametrize(
    "changes",
    [
        {"eval__every": 3},
        {"eval__full_every": 0},
        {"eval__protocol": "disjoint[64]"},
        {"eval__redraw": True},
        {"collapse__source": "probe", "collapse__probe_every": 2, "collapse__probe_samples": 2},
        {"collapse__start_samples": 0},
    ],
)
def test_evaluation_and_probes_do_not_change_training(tiny_config: RunConfig, changes: dict[str, object]) -> None:
    plain, other = records_of(tiny_config), records_of(tiny_config, **changes)
    assert samples_of(plain) == samples_of(other)
    assert [r.values["train_nll_nats"] for r in plain] == [r.values["train_nll_nats"] for r in other]
    assert [r.values["update_norm"] for r in plain] == [r.values["update_norm"] for r in other]


def test_the_start_is_sampled_once_and_from_the_untouched_model(tiny_config: RunConfig) -> None:
    def of_start(**changes: object) -> list[list[tuple[int, ...]]]:
        records = records_of(tiny_config, **changes)
        return [[s.token_ids for s in record.samples if s.role == "start"] for record in records]

    slow, quick = of_start(collapse__start_samples=3), of_start(collapse__start_samples=3, optim__lr=1e-2)
    assert [len(samples) for samples in slow] == [3, *[0] * (len(slow) - 1)]
    assert slow == quick
    assert len(set(slow[0])) == 3
    assert not any(of_start(collapse__start_samples=0))


def test_the_prompt_in_the_loss_changes_it(tiny_config: RunConfig) -> None:
    long = {"generate__prompt": "It is a truth universally acknowledged"}
    plain, scored = records_of(tiny_config, **long), records_of(tiny_config, train__prompt_in_loss=True, **long)
    assert samples_of(plain)[0] == samples_of(scored)[0]
    assert plain[0].values["train_nll_nats"] != scored[0].values["train_nll_nats"]


def test_record_t_describes_the_model_after_t_updates(tiny_config: RunConfig) -> None:
    """Record 0 is the untouched model, whatever the learning rate; record 1 is not."""
    slow, quick = records_of(tiny_config, optim__lr=1e-5), records_of(tiny_config, optim__lr=1e-2)
    names = ("train_nll_nats", "val_nll_nats", "seq_rep_4")
    assert [slow[0].values[n] for n in names] == [quick[0].values[n] for n in names]
    assert slow[1].values["val_nll_nats"] != quick[1].values["val_nll_nats"]


def test_full_split_is_scored_at_its_steps_and_the_last(tiny_config: RunConfig) -> None:
    records = records_of(tiny_config)
    assert [r.step for r in records if r.values.get("full_nll_nats") is not None] == [0, 2, 3]


def test_several_texts_share_one_run(tiny_config: RunConfig) -> None:
    (text,) = tiny_config.data
    both = records_of(tiny_config, data=("austen", text))
    assert samples_of(both) == samples_of(records_of(tiny_config))
    assert both[0].values["val_nll_nats"] == both[0].values["val_nll_nats[austen]"]
    assert both[0].values[f"val_nll_nats[{text}]"] == records_of(tiny_config)[0].values["val_nll_nats"]


def test_a_model_that_only_repeats_is_found_and_stopped(tiny_config: RunConfig) -> None:
    """Greedy text of a random model is a loop, so every sample is degenerate: onset at 0, total collapse at 7.

    Compared with nothing: otherwise, what a model wrote before the first update is its normal text.
    """
    greedy = {"sampling__greedy": True, "stop__max_steps": 50, "optim__lr": 1e-4}
    records = records_of(tiny_config, collapse__start_samples=0, **greedy)
    assert records[-1].values["ended_by"] == "collapse"
    assert records[-1].step == 7
    assert records[-1].values["grad_norm"] is None, "no update after the last record"
    assert [r.values["degenerate_share"] for r in records] == [k / 8 for k in range(1, 9)]


def test_divergence_is_a_recorded_outcome(tiny_config: RunConfig) -> None:
    records = records_of(tiny_config, optim__lr=1e6, optim__name="sgd", optim__clip=None, stop__max_steps=50)
    assert records[-1].values["ended_by"] == "divergence"


@pytest.mark.parametrize(
    ("setting", "off"),
    [
        ("train.retokenise", False),
        ("train.window", None),
        ("generate.context", 200),
        ("train.prompt_in_loss", False),
        ("sampling.temperature", 0.05),
        ("sampling.top_k", 5),
        ("generate.prompt", ""),
    ],
)
def test_every_setting_of_the_authors_code_counts(tiny_config: RunConfig, setting: str, off: object) -> None:
    """On a model of bytes, with a longer prompt: the preset's newline is one token, which is never a target."""
    small = {
        "model": tiny_config.model,
        "data": tiny_config.data,
        "generate.max_new_tokens": 130,
        "generate.prompt": "\nAnd so she said, ",
        "eval.protocol": "windows[20,2]",
        "stop.max_steps": 1,
        "optim.lr": 1e-3,
    }
    base = override(presets.load("authors-code"), small)
    plain, changed = records_of(base), records_of(override(base, {setting: off}))
    assert [r.values["train_nll_nats"] for r in plain] != [r.values["train_nll_nats"] for r in changed]
