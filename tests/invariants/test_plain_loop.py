"""Five steps of the loop against the experiment in plain code, with no part of the package except the draw."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from collapselab.config.overrides import override
from collapselab.config.schema import RunConfig
from collapselab.loop import online_loop
from collapselab.step.parts import build

STEPS, NEW_TOKENS, LR, CLIP = 5, 40, 1e-3, 0.5
# The gradient of a key's bias is 0 up to rounding; with a tiny epsilon AdamW would take full steps on the rounding.
EPS = 1e-5


def noise(seed: int, step: int, shape: tuple[int, int]) -> torch.Tensor:
    """The Exp(1) noise of one sample: Philox keyed by (seed, stream 0, step, sequence 0)."""
    generator = np.random.Generator(np.random.Philox(np.random.SeedSequence((seed, 0, step, 0))))
    return torch.from_numpy(generator.standard_exponential(shape, dtype=np.float32))


def plain_loop(
    model: torch.nn.Module, text: Sequence[int], starts: Sequence[int], seed: int, updates: int
) -> Iterator[tuple[list[int], float, float, float]]:
    """(sample, its loss, loss on human text, gradient norm of the last update) of each step."""
    decayed, other = ([p for p in model.parameters() if (p.dim() >= 2) is d] for d in (True, False))
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": other, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=LR, betas=(0.9, 0.95), eps=EPS)
    for step in range(STEPS):
        with torch.no_grad():
            windows = [torch.tensor([text[s : s + 20]]) for s in starts]
            val_nll = np.mean([cross_entropy(model(w).logits[0, :-1], w[0, 1:]).item() for w in windows])
            ids = [0]
            for noise_V in noise(seed, step, (NEW_TOKENS, 257)):
                scaled_V = model(torch.tensor([ids])).logits[0, -1] / 0.8
                kept_V = scaled_V.masked_fill(scaled_V < scaled_V.topk(50).values[-1], -torch.inf)
                ids.append(int((kept_V.softmax(-1) / noise_V).argmax()))
        losses, norm = [], math.nan
        for _ in range(updates):
            loss = cross_entropy(model(torch.tensor([ids])).logits[0, :-1], torch.tensor(ids[1:]))
            losses.append(loss.item())
            if step == STEPS - 1:
                break  # the last record has no update
            optimizer.zero_grad()
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP).item()
            optimizer.step()
        yield ids[1:], losses[0], float(val_nll), norm


@pytest.mark.parametrize("updates", [1, 3])
@pytest.mark.parametrize("engine", ["plain", "static", "native"])
def test_five_steps_equal_the_plain_loop(
    tiny_config: RunConfig, engine: str, updates: int, request: pytest.FixtureRequest
) -> None:
    if engine == "native":
        request.getfixturevalue("native")
    config = override(
        tiny_config,
        {
            "engine": engine,
            "numerics": "exact",
            "sampling.top_k": 50,
            "generate.max_new_tokens": NEW_TOKENS,
            "optim.lr": LR,
            "optim.clip": CLIP,
            "optim.eps": EPS,
            "train.steps_per_sequence": updates,
            "stop.max_steps": STEPS - 1,
        },
    )
    setup, mirror = build(config), build(config).learner.loaded.model
    (text,) = (text.ids for text in setup.encoded.values())
    starts = np.random.Generator(np.random.Philox(np.random.SeedSequence((0, 5, 0, 0)))).integers(0, len(text) - 19, 5)
    clipped = 0
    for record, (ids, nll, val_nll, norm) in zip(
        online_loop(setup), plain_loop(mirror, text, starts.tolist(), config.seed, updates), strict=True
    ):
        assert list(record.samples[0].token_ids) == ids
        assert record.number("train_nll_nats") == pytest.approx(nll, abs=1e-6)
        assert record.number("val_nll_nats") == pytest.approx(val_nll, abs=1e-6)
        if record.step < STEPS - 1:
            assert record.number("grad_norm") == pytest.approx(norm, rel=1e-4)
            clipped += norm > CLIP
        for (name, ours), theirs in zip(
            setup.learner.loaded.model.named_parameters(), mirror.parameters(), strict=True
        ):
            torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0, msg=f"step {record.step}: {name}")
    assert clipped, "the clip must be at work"
