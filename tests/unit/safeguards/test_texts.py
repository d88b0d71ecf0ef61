"""What safeguards choose to train on, by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from collapselab.config.overrides import override
from collapselab.config.safeguards import on_text as settings
from collapselab.config.schema import RunConfig
from collapselab.errors import InputError
from collapselab.metrics.repetition import match_entropy_nats
from collapselab.safeguards.base import Shared
from collapselab.safeguards.growing_batch import GrowingBatch
from collapselab.safeguards.replay import Replay
from collapselab.safeguards.selection import Filter, Verify, mean_nll
from collapselab.safeguards.token_edit import TokenEdit
from collapselab.step.parts import build
from collapselab.step.sources import TrainingText

PROMPT = [0]
VARIED = [(i * i) % 251 for i in range(100)]
LOOP = [5, 6, 7, 8] * 25
HALF = VARIED[:50] + [9] * 50


@pytest.fixture
def shared(tiny_config: RunConfig, text_file: Path) -> Shared:
    return Shared(build(override(tiny_config, {"train.real_text": str(text_file)})), 0)


def text_of(*samples: list[int]) -> TrainingText:
    return TrainingText([PROMPT] * len(samples), list(samples), {})


class Drawn(Shared):
    """Further samples as a test wants them."""

    def __init__(self, shared: Shared, samples: list[list[int]]) -> None:
        super().__init__(shared.parts, 0)
        self._samples = samples

    def written(self, step: int, prompts: Any, model: Any = None) -> list[list[int]]:
        assert len(prompts) == len(self._samples)
        return self._samples


@pytest.mark.parametrize(("rule", "expected"), [("healthy", VARIED), ("low-rep-4", VARIED), ("match-entropy", VARIED)])
def test_filter_keeps_what_does_not_repeat(shared: Shared, rule: Any, expected: list[int]) -> None:
    kept = Filter(settings.Filter(draws=3, rule=rule), Drawn(shared, [VARIED, HALF]))
    assert kept.text(0, shared.parts.learner, text_of(LOOP)).samples == [expected]
    assert (match_entropy_nats(VARIED) or 0) > (match_entropy_nats(HALF) or 0)


def test_filter_by_loss_takes_both_ends(shared: Shared) -> None:
    learner, samples = shared.parts.learner, [VARIED, LOOP, HALF, VARIED[::-1]]
    ranked = sorted(samples, key=lambda ids: mean_nll(learner, PROMPT, ids))
    for rule, expected in (("lowest-loss", ranked[:2]), ("highest-loss", ranked[2:])):
        kept = Filter(settings.Filter(keep=2, rule=rule), Drawn(shared, samples[1:]))  # pyright: ignore
        assert kept.text(0, learner, text_of(samples[0])).samples == [ids for ids in samples if ids in expected]


def test_of_equal_samples_the_models_own_is_kept(shared: Shared) -> None:
    other = [(i * i + 1) % 251 for i in range(100)]
    for rule in ("healthy", "low-rep-4"):
        kept = Filter(settings.Filter(draws=2, rule=rule), Drawn(shared, [other]))  # pyright: ignore
        assert kept.text(0, shared.parts.learner, text_of(VARIED)).samples == [VARIED]


def test_the_judge_is_the_untouched_model(shared: Shared) -> None:
    learner = shared.parts.learner
    verify = Verify(settings.Verify(draws=2), Drawn(shared, [HALF]))
    best = min((VARIED, HALF), key=lambda ids: mean_nll(learner, PROMPT, ids))
    learner.assign({name: torch.zeros_like(p) for name, p in learner.weights().items()})
    assert verify.text(0, learner, text_of(VARIED)).samples == [best]


def test_the_detector_draws_again_by_its_weights(shared: Shared) -> None:
    """(1 − c)^10 of a loop is as good as nothing; no sequence is taken more than three times."""
    verify = Verify(settings.Verify(draws=2, judge="detector", upsampling=6), Drawn(shared, [LOOP]))
    assert verify.text(0, shared.parts.learner, text_of(VARIED)).samples == [VARIED] * 3 + [LOOP] * 3
    only = Verify(settings.Verify(draws=2, judge="detector", upsampling=2), Drawn(shared, [LOOP]))
    assert only.text(0, shared.parts.learner, text_of(VARIED)).samples == [VARIED] * 2


def test_a_judge_with_another_tokenizer_is_refused(shared: Shared) -> None:
    with pytest.raises(InputError, match="another tokenizer"):
        Verify(settings.Verify(judge="model", model="builtin:pico"), shared)


def test_a_loss_is_the_mean_over_the_sample(shared: Shared) -> None:
    learner = shared.parts.learner
    logp_TV = learner.logits(torch.tensor([PROMPT + VARIED]))[0].log_softmax(-1)
    expected = -sum(float(logp_TV[i, token]) for i, token in enumerate(VARIED)) / len(VARIED)
    assert mean_nll(learner, PROMPT, VARIED) == pytest.approx(expected, abs=2e-2)  # the scorer reads bfloat16


def test_replay_is_a_share_of_the_batch_on_average(shared: Shared) -> None:
    replay = Replay(settings.Replay(share=0.25), shared)
    counts = [
        len(replay.text(step, shared.parts.learner, text_of([step] * 5, [step] * 5)).samples) for step in range(200)
    ]
    assert counts[0] == 2, "nothing is there to be replayed"
    assert set(counts[1:]) == {2, 3}
    # Of 2 new ones with 2 · 0.25 / 0.75 = 2/3 old; the standard deviation of the mean is 0.033.
    assert sum(counts[1:]) / 199 - 2 == pytest.approx(2 / 3, abs=0.14)


def test_the_reservoir_is_an_even_sample_of_all_steps(shared: Shared) -> None:
    seen: list[int] = []
    replay = Replay(settings.Replay(capacity=50), shared)
    for step in range(1000):
        replay.text(step, shared.parts.learner, text_of([step] * 3))
    seen = [row[1] for row in replay.tensors()["own"].tolist()]
    assert len(set(seen)) == 50
    assert 350 < sum(seen) / 50 < 650  # mean 500, standard deviation 41


def test_real_text_stays_in_the_reservoir(shared: Shared) -> None:
    replay = Replay(settings.Replay(real_seed=1), shared)
    (window,) = shared.real(0, 1, 101)
    assert replay.text(0, shared.parts.learner, text_of(VARIED)).samples == [VARIED, window[1:]]


def test_token_edit_replaces_what_is_certain_by_one_of_the_likeliest(shared: Shared) -> None:
    learner = shared.parts.learner
    probs_TV = learner.logits(torch.tensor([PROMPT + VARIED]))[0, :-1].softmax(-1)
    p_T = probs_TV.gather(1, torch.tensor(VARIED)[:, None])[:, 0]
    threshold = float(p_T.median())
    edit = TokenEdit(settings.TokenEdit(threshold=threshold, top_k=3), shared)
    (edited,) = edit.text(0, learner, text_of(VARIED)).samples
    likeliest_TK = probs_TV.topk(3).indices.tolist()
    for i, (old, new) in enumerate(zip(VARIED, edited, strict=True)):
        assert new in likeliest_TK[i] if float(p_T[i]) > threshold else new == old
    assert edited != VARIED


def test_token_edit_draws_by_a_power_of_p(shared: Shared) -> None:
    """Over 4,000 draws at one position: the two likeliest tokens have the odds (p_1 / p_2)^(1/β), within 4 sigma."""
    learner = shared.parts.learner
    p_1, p_2 = learner.logits(torch.tensor([PROMPT]))[0, 0].softmax(-1).topk(2).values.tolist()
    edit = TokenEdit(settings.TokenEdit(threshold=1e-9, top_k=2, beta=0.05), shared)
    text = TrainingText([PROMPT] * 4000, [[1]] * 4000, {})
    likeliest = int(learner.logits(torch.tensor([PROMPT]))[0, 0].argmax())
    share = sum(ids == [likeliest] for ids in edit.text(0, learner, text).samples) / 4000
    expected = p_1**20 / (p_1**20 + p_2**20)
    assert share == pytest.approx(expected, abs=4 * (expected * (1 - expected) / 4000) ** 0.5)


def test_growing_batch_grows_up_to_its_bound(shared: Shared) -> None:
    grow = GrowingBatch(settings.GrowingBatch(most=4, tau=2, epsilon=1.0), shared)
    counts = [len(grow.text(step, shared.parts.learner, text_of(VARIED)).samples) for step in range(5)]
    assert counts == [1, 2, 4, 4, 4]  # (1 + t/2)² is 1, 2.25, 4, 6.25, 9
    assert grow.text(0, shared.parts.learner, text_of(VARIED)) == text_of(VARIED)
