"""The tools that train the builtin models: unwrapped text by hand, and a training that was interrupted."""

from __future__ import annotations

import random
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

TOOLS = Path(__file__).parents[2] / "tools"


@pytest.fixture(scope="module")
def tools() -> SimpleNamespace:
    sys.path.insert(0, str(TOOLS))
    try:
        import novel_batches
        import novels
        import pretrain
    finally:
        sys.path.remove(str(TOOLS))
    return SimpleNamespace(novels=novels, batches=novel_batches, pretrain=pretrain)


FULL = "Vanity was the beginning and the end of Sir Walter Elliot's character;"


@pytest.mark.parametrize(
    ("wrapped", "unwrapped"),
    [
        (f"{FULL}\nvanity of person.", f"{FULL} vanity of person."),
        (f"{FULL}\n\n\n\n{FULL}\nend.", f"{FULL}\n\n{FULL} end."),
        (f"{FULL}  never\nfailed.  This", f"{FULL} never failed. This"),
        (f"{FULL} after the birth--\nmarried", f"{FULL} after the birth--married"),
        (f"{FULL}\n--married", f"{FULL}--married"),
        (f"{FULL} the whale-\nship", f"{FULL} the whale-ship"),
        ("Chapter 1\nLoomings.", "Chapter 1\nLoomings."),  # a short line was not wrapped
        (f"CHAPTER 1. Loomings.\n\n\n{FULL}\nend.", f"CHAPTER 1. Loomings.\n\n{FULL} end."),
        (
            "     Hugest of living creatures, in the deep\n     Stretched like a promontory sleeps or swims,\n     And",
            "Hugest of living creatures, in the deep\nStretched like a promontory sleeps or swims,\nAnd",
        ),
        (  # an indented letter is prose
            '     "I have just had the honour of receiving your\n     letter, for which I beg to return',
            '"I have just had the honour of receiving your letter, for which I beg to return',
        ),
        ('     "I am, dear Madam,\n               "Your obedient', '"I am, dear Madam,\n"Your obedient'),
        ("\n\n  \nword\n \n", "word"),
    ],
)
def test_unwrapping_by_hand(tools: SimpleNamespace, wrapped: str, unwrapped: str) -> None:
    assert tools.novels.unwrap(wrapped) == unwrapped + "\n"


def test_unwrapping_keeps_every_word(tools: SimpleNamespace) -> None:
    text = (TOOLS.parent / "src/collapselab/builtin/texts/moby-dick.txt").read_text(encoding="utf-8")
    joined = tools.novels.unwrap(text)
    # Only around a dash or hyphen may two words have grown together.
    assert re.split(r"[\s-]+", joined.strip()) == re.split(r"[\s-]+", text.strip())
    assert sum("\n" in p for p in joined.strip().split("\n\n")) <= 1


def test_a_paragraph_cut_by_the_split_is_in_neither_part(
    tools: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tools.novels, "HELD_OUT_CHARS", {"persuasion": 12})
    training, held_out = tools.novels.split_unwrapped({"persuasion": "one\n\ntwo\nthree\n\nfour\n", "emma": "five\n"})
    assert training == {"persuasion": "one\n", "emma": "five\n"}
    assert held_out == {"austen": "four\n"}


def test_an_epoch_has_every_passage_once(tools: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools.batches, "PASSAGE_CHARS", 20)
    books = {"a": "".join(f"paragraph {n}.\n\n" for n in range(40)), "b": "other words\n\n" * 30}
    pieces = tools.batches.passages(books["a"], random.Random(0))
    assert "".join(pieces) == books["a"]
    assert len(pieces) > 10
    tokenizer = tools.batches.train_tokenizer(books, 300)
    batches = tools.batches.Batches(books, tokenizer, (2, 8), seed=0)
    epoch = torch.cat([batches.at(step) for step in range(batches.steps_per_epoch)])
    assert epoch.shape == (2 * batches.steps_per_epoch, 8)
    again = tools.batches.Batches(books, tokenizer, (2, 8), seed=0)
    second = batches.steps_per_epoch + 1
    torch.testing.assert_close(again.at(second), batches.at(second))  # a step asked for first is the same
    assert not torch.equal(batches.at(second), batches.at(1))
    assert not torch.equal(tools.batches.Batches(books, tokenizer, (2, 8), seed=1).at(0), batches.at(0))


def test_an_interrupted_training_ends_as_an_uninterrupted_one(
    tools: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tool, books = tools.pretrain, {"a": "".join(f"It was day {n} of the voyage.\n\n" for n in range(60))}
    monkeypatch.setattr(tool, "SHAPES", {"tiny": (16, 1, 2)})
    monkeypatch.setattr(tool, "CONTEXT", 16)
    monkeypatch.setattr(tool, "REPORT_EVERY", 4)
    monkeypatch.setattr(tool, "CHECKPOINT_EVERY_S", -1.0)
    recipe = tool.Recipe(num_steps=30, batch_size=4, warmup_steps=5)
    tokenizer = tools.batches.train_tokenizer(books, 300)
    whole, told = tool.train("tiny", 0, recipe, books, tokenizer, tmp_path / "whole.pt")
    losses = told["train_nll_nats"]
    assert losses[-1] < losses[0] - 0.5

    update, calls = tool.update, []

    def killed(*args: object) -> float:
        calls.append(1)
        if len(calls) == 15:
            raise KeyboardInterrupt
        return update(*args)

    monkeypatch.setattr(tool, "update", killed)
    with pytest.raises(KeyboardInterrupt):
        tool.train("tiny", 0, recipe, books, tokenizer, tmp_path / "cut.pt")
    resumed, again = tool.train("tiny", 0, recipe, books, tokenizer, tmp_path / "cut.pt")
    assert len(calls) == 15 + 30 - 12  # steps 13 and 14 are done twice
    assert again["train_nll_nats"] == losses
    for (name, expected), found in zip(whole.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(expected, found), name
    with pytest.raises(tool.InputError, match="a different training"):
        tool.train("tiny", 1, recipe, books, tokenizer, tmp_path / "cut.pt")

    tool.save_model(tmp_path / "model", resumed, tokenizer)
    card = tool.measure(tmp_path / "model", {"text": books["a"]})
    # fp16 weights and float32 arithmetic against bfloat16 with dropout: the same model, not the same number.
    assert card["held_out"]["text"]["nll_nats"] == pytest.approx(losses[-1], abs=0.5)
    assert len(card["samples"]) == tool.NUM_SAMPLES


def test_fast_attention_is_attention(tools: SimpleNamespace) -> None:
    torch.manual_seed(0)
    query, key, value = (torch.randn(2, 3, 8, 4) for _ in range(3))
    expected = torch.nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True)
    found, _ = tools.pretrain.causal_attention(torch.nn.Module(), query, key, value, None)
    # bfloat16 keeps 8 bits.
    torch.testing.assert_close(found.float(), expected.transpose(1, 2), atol=0.03, rtol=0.03)


def test_learning_rate_rises_stays_and_falls_to_zero(tools: SimpleNamespace) -> None:
    recipe = tools.pretrain.Recipe(num_steps=1000, warmup_steps=100, decay_share=0.5, learning_rate_at_width_100=1e-2)
    assert recipe.learning_rate(0, 100) == pytest.approx(1e-4)
    assert recipe.learning_rate(99, 100) == recipe.learning_rate(499, 100) == pytest.approx(1e-2)
    assert recipe.learning_rate(750, 100) == pytest.approx(5e-3)
    assert recipe.learning_rate(999, 100) == pytest.approx(2e-5)
    assert recipe.learning_rate(500, 400) == pytest.approx(5e-3)
