"""Of every safeguard: set to nothing it changes no bit, a resumed run is bit-equal, and it does what it claims."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from statistics import fmean

import pytest
import torch
from safetensors.torch import load_file

from collapselab.config.overrides import override
from collapselab.config.safeguards import KINDS, by_id, parse, shown
from collapselab.config.schema import RunConfig
from collapselab.errors import Interrupted
from collapselab.loop import online_loop
from collapselab.records import Record
from collapselab.runner import run
from collapselab.safeguards import TABLE
from collapselab.step.parts import build
from run_files import newest_weights, stop_after, timeless

# Every sample of the random model counts as degenerate, or some of them do.
EASY: dict[str, object] = {
    "collapse.patience": 1,
    "collapse.window": 1,
    "collapse.start_samples": 0,
    "collapse.top_token_share": 0.01,
    "stop.on_collapse": False,
}
MIXED = EASY | {"collapse.top_token_share": 0.025}


@pytest.fixture
def config(tiny_config: RunConfig, text_file: Path) -> RunConfig:
    return override(tiny_config, {"train.real_text": str(text_file), "stop.max_steps": 4, "eval.full_every": 0})


def guarded(config: RunConfig, safeguards: str, **changes: object) -> list[Record]:
    return list(online_loop(build(override(config, {"safeguards": safeguards, **changes}))))


def numbers(records: list[Record]) -> list[dict[str, object]]:
    """Without times, costs and what only runs with safeguards have."""
    return [
        {k: v for k, v in r.values.items() if not k.startswith(("seconds_", "extra_")) and k != "objective_nats"}
        for r in records
    ]


def test_every_kind_is_in_both_tables() -> None:
    assert list(TABLE) == list(by_id()) == [kind().id for kind in KINDS]


def test_set_to_nothing_none_changes_a_bit(config: RunConfig) -> None:
    off = [kind.model_validate(kind.off) for kind in KINDS]
    assert all(settings.is_off for settings in off)
    assert not any(kind().is_off for kind in by_id().values())
    without, with_all = guarded(config, "none"), guarded(config, shown(off))
    assert numbers(with_all) == numbers(without)
    assert [r.samples for r in with_all] == [r.samples for r in without]
    assert [r.values["extra_forwards"] for r in with_all] == [0] * len(without)


RESUMED: dict[str, dict[str, object]] = {
    "real-mix, filter(rule=highest-loss, keep=2), token-edit, growing-batch(tau=1), label-smoothing": {},
    "real-mix(windows=fixed), verify, kl-anchor, truncated-ce, unlikelihood(form=greedy), dropout": {},
    "kl-anchor(contexts=real), verify(judge=detector), focal, unlikelihood(form=token), trust-stop": {},
    "replay": {},
    "replay(real_seed=2, capacity=2)": {},
    "entropy-bonus(adaptive=true)": {},
    "ema-teacher": {},
    "ema": {},
    "ema(mode=reset, every=1), neon(every=2)": {},
    "weight-anchor": {},
    "regulate, thermostat": {},
    "own-dpo": MIXED,
    "own-dpo(chosen=real)": EASY,
    "rollback(every=1)": EASY,
    "rollback(remedy=negate)": EASY,
    "rollback(remedy=real, past=1)": EASY,
    "rollback(repeat=true, every=1)": EASY,
}


@pytest.mark.parametrize("safeguards", RESUMED)
def test_a_resumed_run_is_that_of_one_sitting(config: RunConfig, tmp_path: Path, safeguards: str) -> None:
    changes = {"safeguards": safeguards, "checkpoint_every_s": 0.0, "stop.max_steps": 3, **RESUMED[safeguards]}
    config = override(config, changes)
    whole = run(config, tmp_path / "whole").path
    cut = tmp_path / "cut"
    with pytest.raises(Interrupted):
        run(config, cut, on_record=stop_after(1))
    run(config, cut, resume=True)
    assert timeless(cut) == timeless(whole)
    assert (cut / "samples.jsonl").read_bytes() == (whole / "samples.jsonl").read_bytes()
    mine, theirs = newest_weights(cut), newest_weights(whole)
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)


def test_a_checkpoint_holds_the_state_of_each(config: RunConfig, tmp_path: Path) -> None:
    config = override(config, {"safeguards": "ema, truncated-ce, thermostat", "checkpoint_every_s": 0.0})
    path = run(config, tmp_path / "run").path
    kept = load_file(max((path / "checkpoint").iterdir()) / "safeguards.safetensors")
    assert {name.partition("|")[0] for name in kept} == {"0", "2"}


def last(records: list[Record], name: str) -> float:
    """The value of the last step that made an update."""
    number = records[-2].number(name)
    assert number is not None, name
    return number


def mean(records: list[Record], name: str) -> float:
    return fmean(number for r in records if (number := r.number(name)) is not None)


def of_role(record: Record, role: str) -> list[tuple[int, ...]]:
    return [sample.token_ids for sample in record.samples if sample.role == role]


SHARP = {"optim.lr": 1e-2, "sampling.greedy": False, "sampling.temperature": 0.8, "sampling.top_k": 5}
# Settings, and what holds of the records without (a) and with (b) the safeguard.
CLAIMS: dict[str, tuple[dict[str, object], Callable[[list[Record], list[Record]], bool]]] = {
    "real-mix(rho=0.5)": ({}, lambda a, b: last(b, "val_nll_nats") < last(a, "val_nll_nats")),
    "replay": ({}, lambda a, b: any(of_role(b[1], "used")) and of_role(b[1], "used")[1:] == of_role(b[0], "train")),
    "filter(rule=lowest-loss)": ({}, lambda a, b: mean(b, "train_nll_nats") < mean(b, "own_nll_nats")),
    "filter(rule=highest-loss)": ({}, lambda a, b: mean(b, "train_nll_nats") > mean(b, "own_nll_nats")),
    "filter(keep=2)": ({}, lambda a, b: [len(of_role(r, "used")) for r in b] == [2] * len(b)),
    "verify": ({}, lambda a, b: mean(b, "train_nll_nats") < mean(b, "own_nll_nats")),
    "verify(judge=detector)": ({}, lambda a, b: [len(of_role(r, "used")) for r in b] == [2] * len(b)),
    "token-edit(threshold=0.001)": ({}, lambda a, b: mean(b, "kept_share") < 0.5),
    "growing-batch(tau=1, epsilon=0)": ({}, lambda a, b: [len(of_role(r, "used")) for r in b[1:]] == [2, 3, 4, 5]),
    "kl-anchor(beta=10)": ({}, lambda a, b: last(b, "displacement") < last(a, "displacement")),
    "entropy-bonus(eta=1)": ({}, lambda a, b: last(b, "entropy_nats") > last(a, "entropy_nats")),
    "truncated-ce(gamma=0.001)": ({}, lambda a, b: mean(b, "kept_share") == 0.0 and last(b, "grad_norm") == 0.0),
    "focal": ({}, lambda a, b: mean(b, "objective_nats") < mean(b, "train_nll_nats")),
    "label-smoothing(epsilon=1)": ({}, lambda a, b: last(b, "entropy_nats") > last(a, "entropy_nats")),
    "unlikelihood": ({"sampling.greedy": True}, lambda a, b: mean(b, "objective_nats") > mean(b, "train_nll_nats")),
    "unlikelihood(form=token)": ({}, lambda a, b: last(b, "train_nll_nats") > last(a, "train_nll_nats")),
    "unlikelihood(form=greedy)": ({}, lambda a, b: 0 < sum(r.number("extra_samples") or 0 for r in b) < len(b)),
    "own-dpo": (MIXED, lambda a, b: 0 == b[0].number("extra_forwards") < last(b, "extra_forwards")),
    "own-dpo(chosen=real)": (EASY, lambda a, b: last(b, "val_nll_nats") < last(a, "val_nll_nats")),
    "ema-teacher(weight=0.9)": ({}, lambda a, b: last(b, "objective_nats") < 0.2 * last(b, "train_nll_nats")),
    "dropout": ({}, lambda a, b: mean(b, "objective_nats") != mean(b, "train_nll_nats")),
    "weight-anchor(strength=1, importance=equal)": ({}, lambda a, b: last(b, "displacement") < 1e-6),
    "weight-anchor": ({}, lambda a, b: last(b, "displacement") < last(a, "displacement")),
    "ema(mode=reset, every=1)": ({}, lambda a, b: last(b, "displacement") < 0.1 * last(a, "displacement")),
    "ema": ({}, lambda a, b: of_role(b[3], "used") != [] and of_role(b[0], "used") == []),
    "neon(every=1, w=0)": ({}, lambda a, b: last(b, "displacement") == 0.0 == last(b, "path_length")),
    "trust-stop(delta=1e-9)": ({}, lambda a, b: last(b, "step_share") < 1 and last(b, "kl_start_nats") <= 1e-9),
    "regulate(power=50)": (SHARP, lambda a, b: last(b, "lr_factor") < last(b, "path_length") / last(a, "path_length")),
    "thermostat(gain=5)": (SHARP, lambda a, b: 1 < last(b, "temperature") <= 1.3),
    "rollback(every=100)": (EASY, lambda a, b: b[0].number("displacement") == 0.0 < last(b, "displacement")),
    "rollback(remedy=negate)": (EASY, lambda a, b: last(b, "train_nll_nats") > last(a, "train_nll_nats")),
    "rollback(remedy=real)": (EASY, lambda a, b: last(b, "val_nll_nats") < last(a, "val_nll_nats")),
}  # fmt: skip


@pytest.mark.parametrize("safeguards", CLAIMS)
def test_it_does_what_it_says(config: RunConfig, safeguards: str) -> None:
    changes, holds = CLAIMS[safeguards]
    config = override(config, changes)
    assert holds(guarded(config, "none"), guarded(config, safeguards))


def test_no_safeguard_is_left_out() -> None:
    for texts in (CLAIMS, RESUMED):
        assert {str(entry["id"]) for text in texts for entry in parse(text)} == set(TABLE)
    assert shown(()) == "none"


@pytest.mark.parametrize("safeguards", ["real-mix", "dropout", "own-dpo(chosen=real)", "kl-anchor(contexts=real)"])
def test_a_further_pass_has_its_gradient_in_fast_numerics_too(config: RunConfig, safeguards: str) -> None:
    """Matrices are rounded at random for the plain pass; the further one is in float32."""
    runs = [guarded(config, safeguards, numerics=numerics, **EASY) for numerics in ("exact", "fast")]
    exact, fast = (last(records, "grad_norm") for records in runs)
    assert fast == pytest.approx(exact, rel=0.1)
