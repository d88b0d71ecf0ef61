"""Text to token ids and back, without torch: a thin wrapper around Hugging Face's fast tokenizers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import TypeVar, cast

import tokenizers

from collapselab.errors import InputError
from collapselab.inputs.tokenizer_growth import check_growth

END_OF_TEXT = "<|endoftext|>"
BUILTIN = Path(__file__).parents[1] / "builtin"
EXCERPT = 20  # characters shown on both sides of a token that the model does not have
T = TypeVar("T")


@dataclass(frozen=True)
class Tokenizer:
    """A tokenizer, the id of its end-of-text token, and of its begin token if that is a different one (Llama's `<s>`).

    `num_rows`: how many embeddings the model has; ids beyond them are refused. `None` if no model is known.
    """

    backend: tokenizers.Tokenizer
    end_of_text_id: int
    begin_id: int | None = None
    num_rows: int | None = None
    _pieces: dict[int, str] = field(default_factory=dict[int, str], repr=False, compare=False)

    @property
    def vocab_size(self) -> int:
        """Number of tokens, added ones included; a model's own `vocab_size` may be padded beyond it."""
        return self.backend.get_vocab_size(with_added_tokens=True)

    @property
    def start_id(self) -> int:
        """The token with which samples and `+eot` windows begin: the begin token, else the end-of-text token."""
        return self.end_of_text_id if self.begin_id is None else self.begin_id

    def encode(self, text: str) -> list[int]:
        """The ids of a text, no special token added; a special token spelt out in the text becomes its id.

        Raises:
            InputError: the tokenizer cannot read the text, or the model has no embedding for one of its tokens.
        """
        return self.encoding(text).ids

    def encode_all(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` of many texts, on all cores; for texts of no model, so that no id is refused.

        Raises:
            InputError: the tokenizer cannot read one of them.
        """
        found = _guarded(lambda: self.backend.encode_batch_fast(list(texts), add_special_tokens=False), "encode texts")
        return [encoding.ids for encoding in found]

    def encoding(self, text: str) -> tokenizers.Encoding:
        """The ids of `encode` with their positions in the text. Raises the same errors."""
        found = _guarded(lambda: self.backend.encode(text, add_special_tokens=False), "encode this text")
        self.check_ids(found.ids, lambda i: _place(text, *found.offsets[i]))
        return found

    def check_ids(self, ids: Sequence[int], place: Callable[[int], str] = "position {}".format) -> None:
        """Refuses ids that the model has no embedding for; `place` says where the i-th of them is.

        Raises:
            InputError: there is such an id.
        """
        if self.num_rows is None or not ids or max(ids) < self.num_rows:
            return
        index = next(i for i, token in enumerate(ids) if token >= self.num_rows)
        raise InputError(
            f"the model has {self.num_rows} embeddings, but none for the token "
            f"{self.backend.id_to_token(ids[index])!r} (id {ids[index]}) at {place(index)}",
            "remove that token from the text or prompt, or use the tokenizer that the model was trained with",
        )

    def prompt(self, text: str) -> list[int]:
        """The ids before a sample: the model's own begin token if it has one, and the text; never empty."""
        ids = self.encode(text) if text else []
        if self.begin_id is not None and ids[:1] != [self.begin_id]:
            ids = [self.begin_id, *ids]
        return ids or [self.end_of_text_id]

    def again(self, ids: Sequence[int]) -> list[int]:
        """The ids after decoding and encoding again; a start token in front stays as it is.

        Behind it special tokens are text like any other: a generated `<|endoftext|>` comes back as the tokens of its
        letters, as by tiktoken's `encode_ordinary`, which the authors' script calls.
        """
        start = [self.start_id] if ids[:1] == [self.start_id] else []
        text = self.decode(ids[len(start) :])
        self.backend.encode_special_tokens = True
        try:
            return start + self.encode(text)
        finally:
            self.backend.encode_special_tokens = False

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, special tokens kept and spaces left as they are."""
        return _guarded(lambda: self.backend.decode(list(ids), skip_special_tokens=False), "decode token ids")

    def decode_with_ends(self, ids: Sequence[int]) -> tuple[str, tuple[int, ...]]:
        """The text of `decode`, and where in it each token ends, in characters.

        A token that completes no character, because it holds a part of its bytes only, ends where the one before it
        does.
        """
        text = self.decode(ids)
        pieces = [self._piece(token) for token in ids]
        if "".join(pieces) == text:
            return text, tuple(accumulate(map(len, pieces)))
        # Some tokens read differently beside others: parts of a character, or blanks at the start of a text.
        ends = [_num_equal(self.decode(ids[:i]), text) for i in range(1, len(ids))]
        return text, tuple(accumulate([*ends, len(text)][: len(ids)], max))

    def same_as(self, other: Tokenizer) -> bool:
        """Whether the ids of both mean the same text."""
        return self is other or self.backend.to_str() == other.backend.to_str()

    def count_visible(self, ids: Sequence[int]) -> int:
        """How many of the ids decode to more than white space on their own."""
        return sum(bool(self._piece(token).strip()) for token in ids)

    def _piece(self, token: int) -> str:
        """The text of one token on its own."""
        # Cached: a run asks for the same few thousand ids at every step, and decoding one costs microseconds.
        known = self._pieces.get(token)
        if known is None:
            known = self._pieces[token] = self.decode([token])
        return known


def _num_equal(one: str, other: str) -> int:
    """How many characters two texts have in common at their beginning."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def wrap_tokenizer(
    backend: tokenizers.Tokenizer, eos: object, origin: str, *, bos: object = None, begin_token: str | None = None
) -> Tokenizer:
    """The tokenizer around a backend.

    The end-of-text token is the one spelled `<|endoftext|>`, else `eos`: an instruct model's eos ends a turn of a
    chat (SmolLM2: `<|im_end|>`), while the token between the documents of its pretraining keeps its old name.
    The begin token is `begin_token`, else the one that the tokenizer itself puts before a text, else `bos` if it is a
    special token and the tokenizer has no `<|endoftext|>`.

    Raises:
        InputError: there is no end-of-text token, an id is invalid, or the tokenizer inflates texts.
    """
    backend.no_truncation()
    backend.no_padding()
    if isinstance(backend.model, tokenizers.models.BPE):
        backend.model.dropout = None  # only for training tokenizers: equal texts would get different ids
    check_growth(backend, origin)
    found = backend.token_to_id(END_OF_TEXT)
    end_of_text_id = _token_id(eos, "eos_token_id", origin) if found is None else found
    if end_of_text_id is None:
        raise InputError(
            f"{origin}: a tokenizer needs an end-of-text token, but has neither {END_OF_TEXT} nor an eos token",
            "set eos_token_id in the model's config.json",
        )
    if begin_token is not None:
        return Tokenizer(backend, end_of_text_id, _named_token(backend, begin_token, origin))
    begin_id = _added_in_front(backend)
    if begin_id is None and found is None:
        begin_id = _token_id(bos, "bos_token_id", origin)
        specials = [id for id, token in backend.get_added_tokens_decoder().items() if token.special]
        begin_id = begin_id if begin_id in specials else None
    return Tokenizer(backend, end_of_text_id, None if begin_id == end_of_text_id else begin_id)


def _token_id(value: object, name: str, origin: str) -> int | None:
    first = value
    if isinstance(value, list) and value:  # instruct models list several: the first ends a text, the others a turn
        first = cast(list[object], value)[0]
    if first is None or (type(first) is int and first >= 0):
        return first
    raise InputError(f"{origin}: {name} must be a token id, or a list of them, received {value!r}", "see config.json")


def _named_token(backend: tokenizers.Tokenizer, name: str, origin: str) -> int:
    token = backend.token_to_id(name)
    if token is None:
        specials = [repr(t.content) for t in backend.get_added_tokens_decoder().values() if t.special]
        raise InputError(
            f"{origin}: the begin token {name!r} is not a token of the tokenizer",
            f"special tokens: {', '.join(specials[:10]) or 'none'}",
        )
    return token


def _added_in_front(backend: tokenizers.Tokenizer) -> int | None:
    """The token that the tokenizer puts before every text."""
    if backend.num_special_tokens_to_add(is_pair=False) == 0:
        return None
    plain = _guarded(lambda: backend.encode("a", add_special_tokens=False).ids, "encode a letter")
    full = _guarded(lambda: backend.encode("a", add_special_tokens=True).ids, "encode a letter")
    return full[0] if full[:1] != plain[:1] else None


def _guarded(call: Callable[[], T], purpose: str) -> T:
    try:
        return call()
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic of the Rust library is not an Exception
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"the tokenizer cannot {purpose}: {reason}", "check that its file is complete") from error


def _place(text: str, start: int, end: int) -> str:
    return f"character {start}, in {text[max(0, start - EXCERPT) : end + EXCERPT]!r}"


def read_tokenizer(path: Path, eos: object = None, *, bos: object = None, begin_token: str | None = None) -> Tokenizer:
    """The tokenizer of a `tokenizer.json`.

    Raises:
        InputError: the file cannot be read, or `wrap_tokenizer` refuses it.
    """
    try:
        backend = tokenizers.Tokenizer.from_file(str(path))
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # the library raises nothing more specific, and its panics are not Exceptions
        raise InputError(
            f"cannot read the tokenizer {path}: {error}", "use a tokenizer.json made by the library tokenizers"
        ) from error
    return wrap_tokenizer(backend, eos, str(path), bos=bos, begin_token=begin_token)


def builtin_tokenizer(begin_token: str | None = None) -> Tokenizer:
    """The byte-level BPE of the shipped models; its end-of-text token is id 0."""
    return read_tokenizer(BUILTIN / "tokenizer.json", begin_token=begin_token)
