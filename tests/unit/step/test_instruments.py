"""What a step records besides the loop's own numbers, against the definitions on the run's own samples."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from collapselab.config.overrides import override
from collapselab.config.schema import RunConfig
from collapselab.loop import online_loop
from collapselab.metrics import BINS, Window, that_need, window_metrics
from collapselab.metrics.reference import Reference
from collapselab.records import Record
from collapselab.rundir.layout import RunDir
from collapselab.runner import run
from collapselab.step.baseline import NUM_WINDOWS, WINDOW_TOKENS
from collapselab.step.instruments import TokenTally, tail_gap
from collapselab.step.parts import Parts, build
from run_files import stop_after, timeless

WINDOW = set(that_need("window"))
CONTEXTS = set(that_need("contexts"))


def records_of(config: RunConfig, **changes: object) -> tuple[Parts, list[Record]]:
    parts = build(override(config, {name.replace("__", "."): value for name, value in changes.items()}))
    return parts, list(online_loop(parts))


def ids_of(records: list[Record], role: str) -> list[tuple[int, ...]]:
    return [sample.token_ids for record in records for sample in record.samples if sample.role == role]


# --- the window of samples


def test_the_window_holds_the_last_samples_after_those_of_the_start(tiny_config: RunConfig) -> None:
    """Two samples of the start, one at each step: five are there at step 2; at step 5 none of the start's is left."""
    parts, records = records_of(
        tiny_config, collapse__start_samples=2, metrics__samples=5, metrics__every=1, stop__max_steps=5
    )
    assert [bool(WINDOW & record.values.keys()) for record in records] == [False, False, True, True, True, True]
    start, train = ids_of(records, "start"), ids_of(records, "train")
    reference = parts.baseline.reference
    assert np.array_equal(reference.ids, parts.encoded[parts.config.data[0]].ids), "the first text, unless one is named"
    for record, samples, before in (
        (records[2], [*start, *train[:3]], ()),
        (records[3], [start[1], *train[:4]], ()),
        (records[4], train[:5], start),
        (records[5], train[1:6], start),
    ):
        expected = window_metrics(Window(samples, reference, before))
        assert {name: record.values[name] for name in WINDOW} == expected, record.step
    assert records[3].values["lost_types"] is None, "the window has a sample of the start"
    assert records[4].values["lost_types"] is not None


@pytest.mark.parametrize(("every", "steps"), [(2, [2, 4]), (3, [3]), (0, [])])
def test_the_window_is_measured_every_so_many_steps(tiny_config: RunConfig, every: int, steps: list[int]) -> None:
    _, records = records_of(
        tiny_config, collapse__start_samples=0, metrics__samples=2, metrics__every=every, stop__max_steps=5
    )
    assert [record.step for record in records if record.values.keys() >= WINDOW] == steps
    assert all(WINDOW.isdisjoint(record.values) for record in records if record.step not in steps)


def test_probes_are_measured_where_they_are_judged(tiny_config: RunConfig) -> None:
    changes = {"collapse__source": "probe", "collapse__probe_every": 2, "collapse__probe_samples": 3}
    parts, records = records_of(tiny_config, **changes, metrics__samples=3, metrics__every=100)
    assert [record.values.keys() >= WINDOW for record in records] == [True, False, True, False]
    first, second = ids_of(records[:1], "probe"), ids_of(records[2:3], "probe")
    expected = window_metrics(Window(second, parts.baseline.reference, first))
    assert {name: records[2].values[name] for name in WINDOW} == expected
    assert records[0].values["lost_types"] is None, "these are the start's own"


def test_a_named_text_is_the_reference(tiny_config: RunConfig, tmp_path: Path) -> None:
    other = tmp_path / "other.txt"
    other.write_text("xyz " * 100, encoding="utf-8")
    parts = build(override(tiny_config, {"metrics.reference": str(other)}))
    assert parts.baseline.reference.ids.tolist() == parts.tokenizer.encode("xyz " * 100)
    assert parts.text_sha256.keys() == {*parts.config.data, str(other)}


# --- losses by frequency


def test_losses_by_frequency_are_the_means_over_their_tokens(tiny_config: RunConfig) -> None:
    """Every token of the windows is scored again by the module itself; byte 5 of the vocabulary is made rare."""
    parts, records = records_of(tiny_config, engine="plain", stop__max_steps=0)
    model, reference = build(tiny_config).learner.loaded.model, parts.baseline.reference
    sums, counts = np.zeros(len(BINS)), np.zeros(len(BINS))
    (plan,) = parts.plans.values()
    for window in plan.windows:
        ids = torch.tensor(plan.ids[window.start : window.end])
        with torch.no_grad():
            logp_TV = model(ids[None]).logits[0].log_softmax(-1)
        for i in range(1, len(ids)):
            place = reference.bin_V[ids[i]]
            sums[place] -= logp_TV[i - 1, ids[i]].item()
            counts[place] += 1
    for place, name in enumerate(BINS):
        value = records[0].values[f"nll_nats_rank_{name}"]
        assert value == (pytest.approx(sums[place] / counts[place], abs=1e-5) if counts[place] else None)
    assert (counts > 0).tolist() == [True, False, False, False], "a text of 21 bytes has no rare token"


def test_a_tally_by_hand() -> None:
    tally = TokenTally(Reference.of([*range(150), 3, 3], 200))
    assert tally.values() == dict.fromkeys(f"nll_nats_rank_{name}" for name in BINS)
    tally.add(torch.tensor([[3, 0], [120, 199]]), torch.tensor([[1.0, 2.0], [4.0, 8.0]]))
    tally.add(torch.tensor([[3]]), torch.tensor([[6.0]]))
    assert list(tally.values().values()) == [3.0, 4.0, None, 8.0]


def test_the_tail_gap_by_hand() -> None:
    first = {"nll_nats_rank_1_100": 2.0, "nll_nats_rank_101_1k": 4.0, "nll_nats_rank_1k_10k": 5.0}
    now = {"nll_nats_rank_1_100": 2.5, "nll_nats_rank_101_1k": 4.0, "nll_nats_rank_1k_10k": 7.0}
    assert tail_gap(now, first) == 2.0 - 0.5
    assert tail_gap(now | {"nll_nats_rank_1k_10k": None}, first) == 0.0 - 0.5, "the rarest bin that is known"
    assert tail_gap({"nll_nats_rank_1_100": 2.5}, first) is tail_gap(now, {}) is None


# --- the untouched model


def test_drift_by_the_definition(tiny_config: RunConfig) -> None:
    parts, records = records_of(tiny_config, metrics__contexts_every=3, optim__lr=1e-2)
    assert [record.values.keys() >= CONTEXTS for record in records] == [True, False, False, True]
    assert (records[0].values["kl_from_start_nats"], records[0].values["kl_to_start_nats"]) == (0, 0)
    contexts = parts.baseline.contexts
    assert contexts is not None
    assert contexts.tokens_BT.shape == (NUM_WINDOWS, WINDOW_TOKENS)
    text = parts.encoded[parts.config.data[0]].ids
    rows = contexts.tokens_BT.tolist()
    assert all(any(text[k : k + len(row)] == row for k in range(len(text))) for row in rows), "windows of the text"
    with torch.no_grad():
        first, last = (
            setup.learner.loaded.model(contexts.tokens_BT).logits.double().log_softmax(-1).flatten(0, 1)
            for setup in (build(tiny_config), parts)
        )
    kl_from, kl_to = (first.exp() * (first - last)).sum(-1).mean(), (last.exp() * (last - first)).sum(-1).mean()
    assert kl_from > 1e-2
    assert abs(kl_from - kl_to) > 1e-3 * kl_from, "else the two could be exchanged"
    values = records[3].values
    assert values["kl_from_start_nats"] == pytest.approx(kl_from.item(), rel=1e-4)
    assert values["kl_to_start_nats"] == pytest.approx(kl_to.item(), rel=1e-4)
    assert values["real_entropy_nats"] == pytest.approx(-(last.exp() * last).sum(-1).mean().item(), abs=1e-5)
    assert values["real_top_probability"] == pytest.approx(last.exp().amax(-1).mean().item(), abs=1e-6)
    reached = last.exp().sort(descending=True).values.cumsum(-1)
    assert values["real_nucleus_size"] == pytest.approx(((reached < 0.9).sum(-1) + 1.0).mean().item(), abs=0.02)


def test_short_texts_and_contexts_have_shorter_windows(tiny_config: RunConfig, tmp_path: Path) -> None:
    short = tmp_path / "short.txt"
    short.write_text("A short text of forty characters, or so.", encoding="utf-8")
    parts = build(override(tiny_config, {"data": (str(short),), "metrics.contexts_every": 1}))
    assert parts.baseline.contexts is not None
    assert parts.baseline.contexts.tokens_BT.shape == (NUM_WINDOWS, 40)


@pytest.mark.parametrize("update", ["float32", "bfloat16"])
def test_the_untouched_model_reads_the_training_text(tiny_config: RunConfig, update: str) -> None:
    _, records = records_of(tiny_config, metrics__first_model=True, numerics__update=update, optim__lr=1e-2)
    model = build(tiny_config).learner.loaded.model
    for record in records:
        (ids,) = ids_of([record], "train")
        tokens = torch.tensor([[0, *ids]])
        with torch.no_grad():
            expected = model(tokens, labels=tokens).loss.item()
        values = record.values
        assert values["first_model_nll_nats"] == pytest.approx(expected, abs=1e-5 if update == "float32" else 2e-2)
        own, first = record.number("train_nll_nats"), record.number("first_model_nll_nats")
        assert own is not None
        assert first is not None
        assert values["own_nll_gap_nats"] == first - own
    assert records[0].values["own_nll_gap_nats"] == 0, "at step 0 they are one model"
    assert abs(records[3].number("own_nll_gap_nats") or 0.0) > 1e-3


def test_measures_of_writing(tiny_config: RunConfig) -> None:
    _, (record,) = records_of(tiny_config, engine="plain", stop__max_steps=0)
    (ids,) = ids_of([record], "train")
    with torch.no_grad():
        logits_TV = build(tiny_config).learner.loaded.model(torch.tensor([[0, *ids[:-1]]])).logits[0]
    p_TV = logits_TV.double().softmax(-1)
    assert record.values["top_probability"] == pytest.approx(p_TV.amax(-1).mean().item(), abs=1e-5)
    reached = p_TV.sort(descending=True).values.cumsum(-1)
    assert record.values["nucleus_size"] == pytest.approx(((reached < 0.9).sum(-1) + 1.0).mean().item(), abs=0.02)
    entropy = record.number("entropy_nats")
    assert entropy is not None
    assert record.values["effective_vocabulary"] == math.exp(entropy)


def test_text_that_no_model_wrote_has_no_measures(tiny_config: RunConfig, text_file: Path) -> None:
    changes = {"train__source": "real", "train__real_text": str(text_file), "stop__max_steps": 0}
    _, (record,) = records_of(tiny_config, **changes)
    names = ("top_probability", "nucleus_size", "effective_vocabulary")
    assert [record.values[name] for name in names] == [None] * 3


# --- what it must not do


def test_no_other_number_depends_on_what_is_measured(tiny_config: RunConfig) -> None:
    settings = {"metrics__every": 1, "metrics__samples": 2, "metrics__contexts_every": 1, "metrics__first_model": True}
    _, less = records_of(tiny_config, metrics__every=0)
    _, more = records_of(tiny_config, **settings)
    for few, many in zip(less, more, strict=True):
        extra = many.values.keys() - few.values.keys()
        assert extra <= WINDOW | CONTEXTS | set(that_need("first model"))
        timeless_values = {k: v for k, v in few.values.items() if not k.startswith("seconds_")}
        assert {name: many.values[name] for name in timeless_values} == timeless_values
        assert many.samples == few.samples


def test_a_resumed_run_measures_as_one_of_one_sitting(tiny_config: RunConfig, tmp_path: Path) -> None:
    changes = {"metrics.every": 1, "metrics.samples": 4, "metrics.contexts_every": 1, "metrics.first_model": True}
    config = override(tiny_config, {**changes, "collapse.start_samples": 2, "checkpoint_every_s": 0.0})
    whole = run(config, tmp_path / "whole").path
    with pytest.raises(Exception, match="interrupted"):
        run(config, tmp_path / "cut", on_record=stop_after(1))
    run(config, tmp_path / "cut", resume=True)
    assert timeless(tmp_path / "cut") == timeless(whole)
    last = RunDir(whole).read_records()[-1].values
    assert WINDOW | CONTEXTS | {"own_nll_gap_nats", "tail_gap_nats"} <= last.keys()
    assert last["kl_from_start_nats"] != 0, "θ_0 is that of the beginning, not of where the run was resumed"
