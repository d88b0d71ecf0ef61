"""Each setting that changes training, by the effect that its description promises, computed here by hand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from collapselab.config.overrides import override
from collapselab.config.schema import RunConfig
from collapselab.loop import online_loop
from collapselab.records import Record
from collapselab.step.parts import Parts, build

LR = 1e-3


def built(config: RunConfig, **changes: object) -> Parts:
    named = {name.replace("__", "."): value for name, value in changes.items()}
    return build(override(config, {"optim.lr": LR, "optim.weight_decay": 0.0, **named}))


def records_of(config: RunConfig, **changes: object) -> list[Record]:
    return list(online_loop(built(config, **changes)))


def logits_of(setup: Parts, ids: list[int]) -> Tensor:
    """Logits (T, V) of the untouched model after each token."""
    with torch.no_grad():
        return setup.learner.loaded.model(torch.tensor([ids])).logits[0]


def nll_of(setup: Parts, ids: list[int]) -> list[float]:
    """-log p of each token after the first."""
    logp_TV = logits_of(setup, ids).log_softmax(-1)
    return [-logp_TV[i - 1, ids[i]].item() for i in range(1, len(ids))]


def noise_of(setup: Parts, step: int = 0, index: int = 0, num_tokens: int = 100) -> Tensor:
    seeds = np.random.SeedSequence((setup.config.seed, 0, step, index))
    generator = np.random.Generator(np.random.Philox(seeds))
    return torch.from_numpy(generator.standard_exponential((num_tokens, 257), dtype=np.float32))


def first_of(setup: Parts) -> tuple[Record, list[list[int]]]:
    """Record 0, and the ids of each of its samples after the prompt; no update is waited for."""
    record = next(online_loop(setup))
    return record, [[0, *sample.token_ids] for sample in record.samples if sample.role == "train"]


def top_k(p_V: Tensor) -> Tensor:
    return p_V * (p_V >= sorted(p_V.tolist())[-5])


def top_p(p_V: Tensor) -> Tensor:
    kept, total = torch.zeros_like(p_V), 0.0
    for token in p_V.argsort(descending=True):
        if total >= 0.3:
            break
        kept[token], total = p_V[token], total + p_V[token].item()
    return kept


@pytest.mark.parametrize(
    ("changes", "q_of"),
    [
        ({"sampling__temperature": 0.5}, lambda logits_V: (logits_V / 0.5).softmax(-1)),
        ({"sampling__temperature": 1.0, "sampling__top_k": 5}, lambda logits_V: top_k(logits_V.softmax(-1))),
        ({"sampling__temperature": 1.0, "sampling__top_p": 0.3}, lambda logits_V: top_p(logits_V.softmax(-1))),
        (
            {"sampling__temperature": 0.1, "sampling__min_p": 0.5},
            lambda logits_V: (p_V := (logits_V / 0.1).softmax(-1)) * (p_V >= 0.5 * p_V.max()),
        ),
        ({"sampling__greedy": True}, lambda logits_V: (logits_V == logits_V.max()).float()),
    ],
    ids=["temperature", "top_k", "top_p", "min_p", "greedy"],
)
def test_each_token_is_drawn_by_the_rule(
    tiny_config: RunConfig, changes: dict[str, object], q_of: Callable[[Tensor], Tensor]
) -> None:
    setup = built(tiny_config, engine="plain", **changes)
    untouched = built(tiny_config, engine="plain")
    _, (ids,) = first_of(setup)
    logits_TV = logits_of(untouched, ids)
    expected = [int((q_of(logits_TV[i]) / noise).argmax()) for i, noise in enumerate(noise_of(setup))]
    assert ids[1:] == expected
    assert ids[1:] != first_of(built(tiny_config))[1][0][1:]


def test_a_cropped_context_shows_the_last_tokens_only(tiny_config: RunConfig) -> None:
    setup = built(tiny_config, engine="plain", generate__context=50, generate__context_mode="crop")
    untouched = built(tiny_config)
    _, (ids,) = first_of(setup)
    for i, noise in enumerate(noise_of(setup)):
        logits_V = logits_of(untouched, ids[: i + 1][-50:])[-1]
        assert ids[i + 1] == int(((logits_V / 0.8).softmax(-1) / noise).argmax())


def test_a_batch_adds_sequences_with_noise_of_their_own(tiny_config: RunConfig) -> None:
    setup, untouched = built(tiny_config, generate__batch_size=2), built(tiny_config)
    record, (first, second) = first_of(setup)
    assert first == first_of(built(tiny_config))[1][0]
    expected = [
        int(((logits_V / 0.8).softmax(-1) / noise).argmax())
        for logits_V, noise in zip(logits_of(untouched, second), noise_of(setup, index=1), strict=False)
    ]
    assert second[1:] == expected
    both = np.mean([*nll_of(untouched, first), *nll_of(untouched, second)])
    assert record.number("train_nll_nats") == pytest.approx(both, abs=1e-5)


def test_a_window_is_one_block_of_the_sample_read_alone(tiny_config: RunConfig) -> None:
    record, (ids,) = first_of(built(tiny_config, train__window=50))
    untouched = built(tiny_config)
    blocks = [np.mean(nll_of(untouched, ids[start : start + 51])) for start in range(51)]
    assert min(abs(block - (record.number("train_nll_nats") or 0.0)) for block in blocks) < 1e-6
    assert record.number("train_nll_nats") != pytest.approx(np.mean(nll_of(untouched, ids)), abs=1e-5)


def test_a_retokenised_sample_is_read_from_its_text(tiny_config: RunConfig) -> None:
    setup = built(tiny_config, train__retokenise=True, train__window=200)
    record, (ids,) = first_of(setup)
    again = setup.learner.tokenizer.encode(setup.learner.tokenizer.decode(ids))
    assert again != ids
    assert len(again) <= 201, "else only a block of it is read"
    expected = np.mean(nll_of(built(tiny_config), again))
    assert record.number("train_nll_nats") == pytest.approx(expected, abs=1e-5)


def test_the_learning_rate_scales_the_first_update(tiny_config: RunConfig) -> None:
    slow, quick = (records_of(tiny_config, optim__lr=lr)[0].number("update_norm") for lr in (LR, 2 * LR))
    assert slow is not None
    assert quick == pytest.approx(2 * slow, rel=1e-4)


def test_weight_decay_shrinks_the_matrices_and_nothing_else(tiny_config: RunConfig) -> None:
    before, plain, decayed = (built(tiny_config), built(tiny_config), built(tiny_config, optim__weight_decay=0.5))
    next(online_loop(plain))
    next(online_loop(decayed))
    models = (s.learner.loaded.model.named_parameters() for s in (before, plain, decayed))
    for (name, old), (_, without), (_, with_decay) in zip(*models, strict=True):
        shrunk = LR * 0.5 * old if old.dim() >= 2 else torch.zeros_like(old)
        torch.testing.assert_close(with_decay, without - shrunk, atol=1e-7, rtol=0, msg=name)


@pytest.mark.parametrize("changes", [{"optim__betas": (0.0, 0.0)}, {"optim__reset_each_step": True}])
def test_adamw_without_memory_moves_every_weight_by_the_learning_rate(
    tiny_config: RunConfig, changes: dict[str, object]
) -> None:
    """Weights without a gradient (positions past the sample) stay; the others move by the same length."""
    no_eps: dict[str, object] = {"optim__eps": 1e-20, "optim__clip": None}
    setup = built(tiny_config, **no_eps, **changes)
    moved: list[int] = []
    weights = [p.detach().clone() for p in setup.learner.loaded.model.parameters()]
    for record in online_loop(setup):
        now = [p.detach().clone() for p in setup.learner.loaded.model.parameters()]
        changes_of = torch.cat([(a - b).flatten().abs() for a, b in zip(now, weights, strict=True)])
        weights = now
        if record.values["ended_by"] is None:
            step_lengths = changes_of[changes_of > 1e-9]
            # float32 weights of size 1 are rounded to 6e-8, 6e-5 of the step.
            torch.testing.assert_close(step_lengths, torch.full_like(step_lengths, LR), rtol=5e-3, atol=1e-7)
            moved.append(len(step_lengths))
    assert len(moved) == 3
    assert min(moved) > 0.5 * sum(p.numel() for p in weights)


def test_a_large_epsilon_makes_the_first_step_of_adamw_one_along_the_gradient(tiny_config: RunConfig) -> None:
    record = records_of(tiny_config, optim__eps=1e3, optim__lr=1e2, optim__clip=None)[0]
    grad_norm = record.number("grad_norm")
    assert grad_norm is not None
    assert record.number("update_norm") == pytest.approx(1e2 / 1e3 * grad_norm, rel=1e-3)


@pytest.mark.parametrize("clip", [None, 0.01])
def test_sgd_moves_along_the_clipped_gradient(tiny_config: RunConfig, clip: float | None) -> None:
    for record in records_of(tiny_config, optim__name="sgd", optim__clip=clip, optim__lr=0.1)[:-1]:
        grad_norm, update_norm = record.number("grad_norm"), record.number("update_norm")
        assert grad_norm is not None
        assert grad_norm > 0.01, "the clip must be at work"
        assert update_norm == pytest.approx(0.1 * (grad_norm if clip is None else clip), rel=1e-3)


def test_momentum_adds_the_former_step(tiny_config: RunConfig) -> None:
    plain: dict[str, object] = {"optim__name": "sgd", "optim__clip": None, "optim__lr": 0.1}
    without, with_momentum = records_of(tiny_config, **plain), records_of(tiny_config, **plain, optim__momentum=0.9)
    assert with_momentum[0].values["update_norm"] == without[0].values["update_norm"]
    second, gradient = with_momentum[1].number("update_norm"), with_momentum[1].number("grad_norm")
    assert second is not None
    assert gradient is not None
    first = without[0].number("update_norm") or 0.0
    # Two gradients at any angle: between difference and sum of the two lengths, and no longer the gradient's alone.
    assert abs(0.9 * first - 0.1 * gradient) <= second <= 0.9 * first + 0.1 * gradient
    assert second != pytest.approx(0.1 * gradient, rel=1e-2)


@pytest.mark.parametrize("part", ["write", "update"])
def test_bfloat16_changes_little(tiny_config: RunConfig, part: str) -> None:
    exact = records_of(tiny_config, numerics__evaluate="float32")
    rounded = records_of(tiny_config, numerics__evaluate="float32", **{f"numerics__{part}": "bfloat16"})
    assert exact[0].values["val_nll_nats"] == rounded[0].values["val_nll_nats"], "evaluation is exact in both"
    assert exact[0].number("train_nll_nats") == pytest.approx(rounded[0].number("train_nll_nats"), abs=0.02)
    assert [r.values["train_nll_nats"] for r in exact] != [r.values["train_nll_nats"] for r in rounded]
