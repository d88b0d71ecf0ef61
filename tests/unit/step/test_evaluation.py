"""Losses against exact values and against a plain loop of `transformers`."""

from __future__ import annotations

import math

import pytest
import torch

from collapselab.config.protocols import parse_protocol
from collapselab.engine.plain import PlainEngine
from collapselab.errors import InputError
from collapselab.inputs.encoded_text import encode_text
from collapselab.randomness import rng
from collapselab.step.evaluate import evaluate, plan
from collapselab.testing import BYTE_VOCAB, tiny_model, uniform_model

TEXT = "It is a truth universally acknowledged, that a single man in possession of a good fortune. " * 7


def loss_of(loaded, protocol: str, text: str = TEXT):
    planned = plan(parse_protocol(protocol), encode_text(loaded.tokenizer, text), rng(0, "evaluation", 0))
    return evaluate(PlainEngine(loaded.model), planned, loaded.tokenizer.end_of_text_id)


@pytest.mark.parametrize("protocol", ["windows[20,7]", "disjoint[64]", "disjoint[64]+eot", "sliding[64,16]"])
def test_uniform_model_has_loss_ln_v(protocol: str) -> None:
    loss = loss_of(uniform_model(), protocol)
    assert loss.nll_nats == pytest.approx(math.log(BYTE_VOCAB), abs=1e-6)
    assert loss.perplexity == pytest.approx(BYTE_VOCAB, rel=1e-5)
    assert loss.bits_per_byte == pytest.approx(math.log2(BYTE_VOCAB), rel=1e-5)  # one token a byte


@torch.no_grad()
def plain_disjoint(loaded, text: str, n: int) -> tuple[float, int]:
    """The recipe as one writes it by hand: the model's own `labels` loss on each window."""
    ids, total, count = loaded.tokenizer.encode(text), 0.0, 0
    for start in range(0, len(ids), n):
        window = torch.tensor([ids[start : start + n]])
        if window.shape[1] > 1:
            total += loaded.model(window, labels=window).loss.double().item() * (window.shape[1] - 1)
            count += window.shape[1] - 1
    return total / count, count


def test_disjoint_equals_a_plain_loop() -> None:
    loaded = tiny_model(4)
    loss = loss_of(loaded, "disjoint[64]")
    expected, count = plain_disjoint(loaded, TEXT, 64)
    assert loss.nll_nats == pytest.approx(expected, abs=1e-6)
    assert loss.num_tokens == count


def test_disjoint_equals_a_plain_loop_on_a_shipped_model() -> None:
    from collapselab.inputs.models import load_model
    from collapselab.inputs.texts import load_text

    loaded, text = load_model("builtin:nano"), load_text("austen").text[:20_000]
    loss = loss_of(loaded, "disjoint[256]", text)
    expected, count = plain_disjoint(loaded, text, 256)
    assert loss.nll_nats == pytest.approx(expected, abs=1e-4)
    assert loss.num_tokens == count


@torch.no_grad()
def test_sliding_scores_each_token_once_with_its_context() -> None:
    loaded = tiny_model(4)
    ids, total = loaded.tokenizer.encode(TEXT), 0.0
    n, stride, scored_to = 64, 16, 64
    windows = [(0, 64, 1)]
    while scored_to < len(ids):
        end = min(scored_to + stride, len(ids))
        windows.append((max(0, end - n), end, scored_to))
        scored_to = end
    for start, end, first in windows:
        logp_TV = loaded.model(torch.tensor([ids[start:end]])).logits[0].log_softmax(-1)
        total -= sum(logp_TV[t - 1 - start, ids[t]].item() for t in range(first, end))
    loss = loss_of(loaded, "sliding[64,16]")
    assert loss.num_tokens == len(ids) - 1
    assert loss.nll_nats == pytest.approx(total / (len(ids) - 1), abs=1e-5)


def test_prefix_scores_the_first_token_too() -> None:
    loaded = tiny_model(4)
    ids = loaded.tokenizer.encode(TEXT)
    assert loss_of(loaded, "disjoint[64]+eot").num_tokens == len(ids)
    assert loss_of(loaded, "disjoint[64]").num_tokens == len(ids) - math.ceil(len(ids) / 64)


def test_words_and_bytes_count_the_scored_text() -> None:
    loss = loss_of(uniform_model(), "disjoint[256]+eot", "één twee drie " * 10)
    assert loss.num_bytes == len(("één twee drie " * 10).encode())
    assert loss.num_words == 30
    assert loss.word_perplexity == pytest.approx(BYTE_VOCAB ** (loss.num_tokens / 30), rel=1e-4)


def test_standard_error_treats_windows_as_units() -> None:
    """Against the textbook formula for windows of equal length: s / sqrt(k)."""
    loaded = tiny_model(4)
    loss = loss_of(loaded, "disjoint[49]", TEXT[: 49 * 13])
    ids = loaded.tokenizer.encode(TEXT[: 49 * 13])
    with torch.no_grad():
        means = torch.tensor(
            [
                loaded.model(torch.tensor([ids[s : s + 49]]), labels=torch.tensor([ids[s : s + 49]])).loss.item()
                for s in range(0, len(ids), 49)
            ]
        )
    assert loss.se_nats == pytest.approx(means.std().item() / math.sqrt(13), rel=1e-4)


def test_one_window_has_no_standard_error() -> None:
    assert loss_of(uniform_model(), "disjoint[64]", TEXT[:40]).se_nats is None


def test_too_short_a_text_is_refused() -> None:
    with pytest.raises(InputError, match="at least 100 tokens, received 5"):
        loss_of(uniform_model(), "windows[100,10]", "abcde")
