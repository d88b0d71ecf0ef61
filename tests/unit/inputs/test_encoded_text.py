"""Bytes and words along the tokens of a text, against marking them in the text one by one, in several scripts."""

from __future__ import annotations

import math
from collections import Counter
from functools import cache
from pathlib import Path

import pytest
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from collapselab.config.protocols import parse_protocol
from collapselab.engine.plain import PlainEngine
from collapselab.inputs.encoded_text import encode_text
from collapselab.inputs.tokenizers import Tokenizer, builtin_tokenizer
from collapselab.randomness import rng
from collapselab.step.evaluate import Loss, evaluate, plan
from collapselab.testing import byte_tokenizer, uniform_model

GPT2 = Path(__file__).parents[4] / "shared" / "data" / "gpt2-bpe"
LATIN = "  It was a naïve 'Größe', she said.\r\n\r\n\tToo\u00a0late, alas!  "
TEXTS = {
    "latin": LATIN * 6,
    "chinese": "道可道,非常道。名可名,非常名。\n" * 6,
    "japanese": "吾輩は猫である。 名前はまだ無い。\u3000どこで生れたか" * 5,
    "emoji": "ok 👍🏽 so 👨‍👩‍👧‍👦! 😀😀 " * 8,
    "combining": "e\u0301te\u0301 n\u0303 ạ\u0302 cafe\u0301 " * 8,  # decomposed: a mark of its own after the letter
    "arabic": "الحَمْدُ لِلَّهِ رَبِّ العَالَمِينَ " * 8,
    "hindi": "कर्मण्येवाधिकारस्ते मा फलेषु कदाचन। " * 6,
    "blank first": " the" * 40,
}
PROTOCOLS = ("windows[12,9]", "disjoint[8]", "disjoint[8]+eot", "sliding[16,5]", "sliding[16,1]", "sliding[16,5]+eot")


def trained(backend: tokenizers.Tokenizer, trainer: object) -> tokenizers.Tokenizer:
    backend.train_from_iterator(
        [text for name, text in TEXTS.items() if name not in ("chinese", "blank first")], trainer
    )
    return backend


@cache
def tokenizer(name: str) -> Tokenizer:
    if name == "builtin":
        return builtin_tokenizer()
    if name == "bytes":
        return byte_tokenizer()
    if name == "gpt2":
        if not GPT2.is_dir():
            pytest.skip("the tokenizer of GPT-2 (../shared/data) is not here")
        bpe = models.BPE.from_file(str(GPT2 / "vocab.json"), str(GPT2 / "merges.txt"))
        backend = tokenizers.Tokenizer(bpe)
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
        return Tokenizer(backend, 50256)
    if name == "trimmed":  # as RoBERTa: offsets without the blanks that the tokens hold
        backend = tokenizers.Tokenizer.from_str(builtin_tokenizer().backend.to_str())
        backend.post_processor = processors.ByteLevel(trim_offsets=True, add_prefix_space=False)
        return Tokenizer(backend, 0)
    if name == "sentencepiece":  # as Llama: a blank is put first, unknown characters become bytes
        backend = tokenizers.Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
        backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        special = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
        trainer = trainers.BpeTrainer(vocab_size=420, special_tokens=special, show_progress=False)
        return Tokenizer(trained(backend, trainer), 0)
    if name == "unigram":  # as T5: compatibility forms are rewritten
        backend = tokenizers.Tokenizer(models.Unigram())
        backend.normalizer, backend.pre_tokenizer = normalizers.NFKC(), pre_tokenizers.Metaspace()
        trainer = trainers.UnigramTrainer(
            vocab_size=200, special_tokens=["<unk>"], unk_token="<unk>", show_progress=False
        )
        return Tokenizer(trained(backend, trainer), 0)
    assert name == "wordpiece", name  # as BERT: blanks are dropped, letters made small, accents taken off
    backend = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    backend.normalizer, backend.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    return Tokenizer(
        trained(backend, trainers.WordPieceTrainer(vocab_size=200, special_tokens=["[UNK]"], show_progress=False)), 0
    )


BYTE_LEVEL = ("builtin", "bytes", "gpt2", "trimmed")
NAMES = (*BYTE_LEVEL, "sentencepiece", "unigram", "wordpiece")
by_text = pytest.mark.parametrize("script", TEXTS)


def owners(chosen: Tokenizer, text: str) -> list[set[int]]:
    """The tokens that may own each byte of the text: those whose offsets hold its character, else the next token."""
    encoding = chosen.backend.encode(text, add_special_tokens=False)
    of_char: list[set[int]] = [
        {i for i, (start, end) in enumerate(encoding.offsets) if start <= place < end} for place in range(len(text))
    ]
    for place in range(len(text)):
        after = [i for i, (start, end) in enumerate(encoding.offsets) if end > place]
        of_char[place] = of_char[place] or {after[0] if after else len(encoding.ids) - 1}
    return [tokens for char, tokens in zip(text, of_char, strict=True) for _ in char.encode()]


@by_text
@pytest.mark.parametrize("name", [name for name in NAMES if name != "trimmed"])
def test_every_byte_belongs_to_one_token_that_holds_it(name: str, script: str) -> None:
    chosen, text = tokenizer(name), TEXTS[script]
    encoded = encode_text(chosen, text)
    assert (encoded.ids, encoded.bytes_before[0]) == (chosen.encode(text), 0)
    allowed = owners(chosen, text)
    assert encoded.bytes_before[-1] == len(text.encode()) == len(allowed)
    for token, (start, end) in enumerate(zip(encoded.bytes_before, encoded.bytes_before[1:], strict=False)):
        assert all(token in allowed[byte] for byte in range(start, end)), token


@by_text
@pytest.mark.parametrize("name", BYTE_LEVEL)
def test_byte_level_tokens_hold_the_bytes_they_spell(name: str, script: str) -> None:
    chosen, text = tokenizer(name), TEXTS[script]
    alphabet = set(pre_tokenizers.ByteLevel.alphabet())
    encoded, start = encode_text(chosen, text), 0
    for token, end in zip(encoded.ids, encoded.bytes_before[1:], strict=True):
        piece = chosen.backend.id_to_token(token)
        assert set(piece) <= alphabet
        if name != "trimmed" or token != encoded.ids[0]:
            assert end - start == len(piece)
        start = end


def test_a_blank_put_first_and_bytes_of_unknown_characters_by_hand() -> None:
    # "▁", then three tokens for the three bytes of 道, a blank, a token for a letter of two bytes.
    encoded = encode_text(tokenizer("sentencepiece"), "道 ï道")
    assert encoded.bytes_before.tolist() == [0, 0, 1, 2, 3, 4, 6, 7, 8, 9]
    assert encoded.words_before.tolist() == [0, 0, 1, 1, 1, 1, 2, 2, 2, 2]


def marked(chosen: Tokenizer, text: str, protocol: str) -> tuple[int, int, int, int]:
    """(tokens, bytes, words, line ends) scored, by marking each byte of the text and looking where words begin."""
    encoded = encode_text(chosen, text)
    windows = parse_protocol(protocol).windows(len(encoded.ids), rng(0, "evaluation", 0))
    tokens = Counter(token for w in windows for token in range(w.first_scored, w.end))
    marks = [0] * len(text.encode())
    for token, times in tokens.items():
        for byte in range(encoded.bytes_before[token], encoded.bytes_before[token + 1]):
            marks[byte] += times
    begins = [place for place in range(len(text)) if not text[place].isspace() and not text[:place][-1:].strip()]
    ends = [place for place, character in enumerate(text) if character == "\n"]
    words, lines = (sum(marks[len(text[:place].encode())] for place in places) for places in (begins, ends))
    return tokens.total(), sum(marks), words, lines


@by_text
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_protocol_counts_the_marked_bytes_and_words(name: str, script: str, protocol: str) -> None:
    chosen, text = tokenizer(name), TEXTS[script]
    planned = plan(parse_protocol(protocol), encode_text(chosen, text), rng(0, "evaluation", 0))
    num_tokens = sum(w.end - w.first_scored for w in planned.windows)
    counts = (num_tokens, planned.num_bytes, planned.num_words, planned.num_line_ends)
    assert counts == marked(chosen, text, protocol)


@by_text
@pytest.mark.parametrize("name", NAMES)
def test_a_text_read_from_its_begin_counts_whole_whatever_the_windows(name: str, script: str) -> None:
    chosen, text = tokenizer(name), TEXTS[script]
    for protocol in ("disjoint[7]+eot", "disjoint[200]+eot", "sliding[16,15]+eot", "sliding[16,1]+eot"):
        planned = plan(parse_protocol(protocol), encode_text(chosen, text), rng(0, "evaluation", 0))
        assert (planned.num_bytes, planned.num_words) == (len(text.encode()), len(text.split()))


@by_text
def test_bits_per_byte_and_word_perplexity_do_not_depend_on_the_stride(script: str) -> None:
    """A uniform model gives each byte the same bits, whatever its context: equal nats, so equal bits per byte."""
    model = uniform_model()
    encoded = encode_text(model.tokenizer, TEXTS[script])
    losses = [
        evaluate(PlainEngine(model.model), plan(parse_protocol(protocol), encoded, rng(0, "evaluation", 0)), 0)
        for protocol in ("sliding[64,63]", "sliding[64,8]", "sliding[64,1]")
    ]
    for loss in losses:
        assert loss.bits_per_byte == pytest.approx(math.log2(257), rel=1e-5)
        assert loss.num_words == losses[0].num_words
    assert encoded.bytes_before.tolist() == list(range(len(encoded.ids) + 1))


def test_a_text_without_a_word_in_what_is_scored_has_no_word_perplexity() -> None:
    model = uniform_model()
    planned = plan(parse_protocol("disjoint[64]"), encode_text(model.tokenizer, "道可道"), rng(0, "evaluation", 0))
    loss = evaluate(PlainEngine(model.model), planned, 0)
    assert (loss.num_bytes, loss.num_words, loss.word_perplexity) == (8, 0, None)


def test_an_empty_text_has_no_tokens() -> None:
    encoded = encode_text(builtin_tokenizer(), "")
    assert (encoded.ids, encoded.bytes_before.tolist(), encoded.words_before.tolist()) == ([], [0], [0])
    assert encoded.line_ends_before.tolist() == [0]


def test_perplexity_per_word_with_and_without_line_ends_by_hand() -> None:
    """Two words and a line end in nine tokens of ln 2 nats each: 2^(9/2) a word, 2^(9/3) with the line end."""
    loss = Loss("p", math.log(2), None, num_tokens=9, num_bytes=9, num_words=2, num_line_ends=1)
    assert (loss.word_perplexity, loss.word_perplexity_eol) == (pytest.approx(2**4.5), pytest.approx(8))
