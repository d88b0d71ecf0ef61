"""The shipped models are what their cards say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from collapselab.collapse.rules import judge_sample
from collapselab.config.protocols import parse_protocol
from collapselab.config.schema import Collapse, Sampling
from collapselab.engine.decoding import generate
from collapselab.engine.plain import PlainEngine
from collapselab.inputs.encoded_text import encode_text
from collapselab.inputs.models import load_model
from collapselab.inputs.texts import load_text
from collapselab.inputs.tokenizers import BUILTIN
from collapselab.randomness import rng
from collapselab.step.evaluate import evaluate, plan

NAMES = ("pico", "nano", "micro", "mini")


def card(name: str) -> dict[str, Any]:
    return json.loads((BUILTIN / name / "card.json").read_text(encoding="utf-8"))


def test_held_out_loss_falls_with_size() -> None:
    for text in ("austen", "moby-dick"):
        losses = [card(name)["held_out"][text]["bits_per_byte"] for name in NAMES]
        assert losses == sorted(losses, reverse=True)


def test_all_weights_together_are_at_most_20_mb() -> None:
    files: list[Path] = [BUILTIN / name / "model.safetensors" for name in NAMES]
    assert sum(file.stat().st_size for file in files) <= 20e6


@pytest.mark.parametrize("text", ["austen", "moby-dick"])
def test_the_card_of_nano_is_what_its_weights_score(text: str) -> None:
    loaded, written = load_model("builtin:nano"), card("nano")
    encoded = encode_text(loaded.tokenizer, load_text(text).text)
    planned = plan(parse_protocol(written["protocol"]), encoded, rng(0, "evaluation", 0))
    loss = evaluate(PlainEngine(loaded.model), planned, loaded.tokenizer.end_of_text_id)
    assert loss.nll_nats == pytest.approx(written["held_out"][text]["nll_nats"], abs=1e-4)
    assert loss.bits_per_byte == pytest.approx(written["held_out"][text]["bits_per_byte"], abs=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_model_has_its_size_and_is_healthy(name: str) -> None:
    """Four samples with the end-of-text token as the only prompt; human text is flagged once in thousands."""
    loaded = load_model(f"builtin:{name}")
    assert loaded.num_parameters == card(name)["parameters"]
    noise = [rng(1, "sample", 0, i) for i in range(4)]
    engine = PlainEngine(loaded.model)
    rule = Sampling(top_k=None)
    made = generate(engine, [[0]] * 4, rule, noise, vocab_size=loaded.vocab_size, max_new_tokens=200, context=256)
    for ids in made.token_ids:
        verdict = judge_sample(ids, Collapse(), loaded.tokenizer.count_visible(ids))
        assert verdict.degenerate is False, (verdict.reasons, loaded.tokenizer.decode(ids))
