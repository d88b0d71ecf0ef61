"""Tokenizers: ids and text back and forth, the end-of-text token, visible tokens, known token counts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import models, pre_tokenizers

from collapselab.errors import InputError
from collapselab.inputs.tokenizers import (
    BUILTIN,
    END_OF_TEXT,
    Tokenizer,
    builtin_tokenizer,
    read_tokenizer,
    wrap_tokenizer,
)

SHARED = Path(__file__).parents[4] / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the shared texts (../shared/data) are not here")

BUILTIN_TOKENIZER = builtin_tokenizer()  # reading it takes longer than a hundred examples


def word_tokenizer(*words: str) -> tokenizers.Tokenizer:
    backend = tokenizers.Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token=words[0]))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return backend


def test_builtin_tokenizer_has_the_end_of_text_token_at_0() -> None:
    tokenizer = builtin_tokenizer()
    assert (tokenizer.end_of_text_id, tokenizer.vocab_size) == (0, 2048)
    assert tokenizer.decode([0]) == END_OF_TEXT
    assert tokenizer.encode(f"a{END_OF_TEXT}b") == [*tokenizer.encode("a"), 0, *tokenizer.encode("b")]


@settings(max_examples=200, deadline=None)
@given(st.text().filter(lambda text: END_OF_TEXT not in text))
def test_decode_undoes_encode_and_nothing_is_added(text: str) -> None:
    assert BUILTIN_TOKENIZER.decode(BUILTIN_TOKENIZER.encode(text)) == text


def test_a_tokenizers_own_limits_and_additions_are_taken_off(tmp_path: Path) -> None:
    backend = tokenizers.Tokenizer.from_file(str(BUILTIN / "tokenizer.json"))
    backend.enable_truncation(4)
    backend.enable_padding(length=50)
    backend.post_processor = tokenizers.processors.TemplateProcessing(
        single=f"{END_OF_TEXT} $A", special_tokens=[(END_OF_TEXT, 0)]
    )
    backend.save(str(tmp_path / "tokenizer.json"))
    text = "It is a truth universally acknowledged"
    assert read_tokenizer(tmp_path / "tokenizer.json").encode(text) == builtin_tokenizer().encode(text)


def test_visible_tokens_by_hand() -> None:
    tokenizer = builtin_tokenizer()
    newline, word, space = (tokenizer.encode(text) for text in ("\n", "whale", " "))
    assert tokenizer.count_visible([]) == 0
    assert tokenizer.count_visible(newline * 5 + space * 3) == 0
    assert tokenizer.count_visible([*newline, *word, 0, *space]) == len(word) + 1
    # A lone byte of a longer character is shown as a replacement mark, so it is visible; an id without text is not.
    assert tokenizer.count_visible([tokenizer.encode("é")[0], 10**6]) == 1


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 2047), max_size=50))
def test_visible_tokens_equal_the_slow_definition(ids: list[int]) -> None:
    backend = BUILTIN_TOKENIZER.backend
    slow = sum(1 for i in ids if backend.decode([i], skip_special_tokens=False).strip())
    assert BUILTIN_TOKENIZER.count_visible(ids) == slow  # from the ids that earlier examples left known, too


def test_end_of_text_is_the_token_of_that_name_before_an_eos() -> None:
    assert wrap_tokenizer(word_tokenizer("a", END_OF_TEXT, "<|im_end|>"), 2, "here").end_of_text_id == 1
    assert wrap_tokenizer(word_tokenizer("a", "</s>"), 1, "here").end_of_text_id == 1


def test_a_tokenizer_without_an_end_of_text_token_is_refused() -> None:
    with pytest.raises(InputError, match="needs an end-of-text token") as caught:
        wrap_tokenizer(word_tokenizer("a", "b"), None, "here")
    assert "eos_token_id" in (caught.value.hint or "")


@pytest.mark.parametrize("content", ["", "{}", "no json", '{"version": "1.0"}'])
def test_a_broken_tokenizer_file_is_an_input_error(tmp_path: Path, content: str) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(content)
    with pytest.raises(InputError, match="cannot read the tokenizer"):
        read_tokenizer(path)


@needs_shared
@pytest.mark.parametrize(("text", "num_tokens"), [("wikitext-2", 258_659), ("ptb", 92_830)])
def test_gpt2_token_counts_are_the_known_ones(text: str, num_tokens: int) -> None:
    bpe = models.BPE.from_file(str(SHARED / "gpt2-bpe" / "vocab.json"), str(SHARED / "gpt2-bpe" / "merges.txt"))
    backend = tokenizers.Tokenizer(bpe)
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer = wrap_tokenizer(backend, None, "gpt2")
    assert tokenizer.end_of_text_id == 50256
    assert len(tokenizer.encode((SHARED / text / "valid.txt").read_bytes().decode())) == num_tokens


def replace(pattern: str, content: str) -> dict[str, object]:
    return {"type": "Replace", "pattern": {"String": pattern}, "content": content}


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("normalizer", {"type": "Sequence", "normalizers": [replace("a", "aa")] * 40}),
        ("normalizer", {"type": "Sequence", "normalizers": [{"type": "ByteLevel"}] * 40}),
        ("decoder", {"type": "Sequence", "decoders": [replace("a", "aa")] * 40}),
    ],
)
def test_a_tokenizer_that_inflates_a_text_is_refused(tmp_path: Path, part: str, value: object) -> None:
    content = json.loads((BUILTIN / "tokenizer.json").read_text(encoding="utf-8"))
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps({**content, part: value}))
    with pytest.raises(InputError, match="times longer"):
        read_tokenizer(path)


def test_the_usual_normalizers_are_not(tmp_path: Path) -> None:
    content = json.loads((BUILTIN / "tokenizer.json").read_text(encoding="utf-8"))
    llama = {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, replace(" ", "▁")]}
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps({**content, "normalizer": llama}))
    assert read_tokenizer(path).end_of_text_id == 0


def test_the_same_text_has_the_same_ids(tmp_path: Path) -> None:
    content = json.loads((BUILTIN / "tokenizer.json").read_text(encoding="utf-8"))
    content["model"]["dropout"] = 0.5
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(content))
    text = "It is a truth universally acknowledged, that a single man"
    assert read_tokenizer(path).encode(text) == BUILTIN_TOKENIZER.encode(text)


def test_a_text_that_the_library_cannot_encode_is_an_input_error() -> None:
    broken = tokenizers.Tokenizer(models.WordLevel({END_OF_TEXT: 0}, unk_token="<unk>"))
    with pytest.raises(InputError, match="cannot encode this text"):
        wrap_tokenizer(broken, None, "here").encode("whale")


def slow_ends(tokenizer: Tokenizer, ids: list[int]) -> list[int]:
    """Where tokens end: as far as the text of the tokens so far is that of all of them, and never backward."""
    whole, ends = tokenizer.decode(ids), [0]
    for i in range(1, len(ids) + 1):
        text = tokenizer.decode(ids[:i])
        same = next(
            (k for k, (a, b) in enumerate(zip(text, whole, strict=False)) if a != b), min(map(len, (text, whole)))
        )
        ends.append(max(ends[-1], same))
    return ends[1:]


def test_the_ends_of_tokens_by_hand() -> None:
    ids = [*BUILTIN_TOKENIZER.encode("the"), *BUILTIN_TOKENIZER.encode("é"), *BUILTIN_TOKENIZER.encode(" sea")]
    assert len(ids) == 4, "é is two tokens of a byte each"
    assert BUILTIN_TOKENIZER.decode_with_ends(ids) == ("theé sea", (3, 3, 4, 8))
    assert BUILTIN_TOKENIZER.decode_with_ends([]) == ("", ())


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 2047), max_size=12))
def test_the_ends_of_any_tokens_are_those_of_the_slow_way(ids: list[int]) -> None:
    text, ends = BUILTIN_TOKENIZER.decode_with_ends(ids)
    assert text == BUILTIN_TOKENIZER.decode(ids)
    assert list(ends) == slow_ends(BUILTIN_TOKENIZER, ids)


def test_the_ends_of_tokens_whose_blank_in_front_is_not_written() -> None:
    backend = tokenizers.Tokenizer(models.WordLevel({"▁a": 0, "▁b": 1, "</s>": 2}, unk_token="</s>"))
    backend.decoder = tokenizers.decoders.Metaspace()
    assert wrap_tokenizer(backend, 2, "here").decode_with_ends([0, 1, 0]) == ("a b a", (1, 3, 5))
