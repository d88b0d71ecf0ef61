"""Text to token ids and back, without torch: one thin wrapper on the fast tokenizers of Hugging Face."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import tokenizers

from collapselab.errors import InputError

END_OF_TEXT = "<|endoftext|>"
BUILTIN = Path(__file__).parent / "builtin"


@dataclass(frozen=True)
class Tokenizer:
    """A tokenizer and the id of its end-of-text token, from which a sample without a prompt begins."""

    backend: tokenizers.Tokenizer
    end_of_text_id: int
    _visible: dict[int, bool] = field(default_factory=dict[int, bool], repr=False, compare=False)

    @property
    def vocab_size(self) -> int:
        """Number of tokens, added ones included; a model's own `vocab_size` may be padded beyond it."""
        return self.backend.get_vocab_size(with_added_tokens=True)

    def encode(self, text: str) -> list[int]:
        """The ids of a text, no special token added; a special token spelt out in the text becomes its id."""
        return self.backend.encode(text, add_special_tokens=False).ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, special tokens kept and spaces left as they are."""
        return self.backend.decode(list(ids), skip_special_tokens=False)

    def same_as(self, other: Tokenizer) -> bool:
        """Whether the ids of both mean the same text."""
        return self is other or self.backend.to_str() == other.backend.to_str()

    def count_visible(self, ids: Sequence[int]) -> int:
        """How many of the ids have a text of their own that is not only white space."""
        return sum(self._is_visible(token) for token in ids)

    def _is_visible(self, token: int) -> bool:
        # Remembered: a run asks for the same few thousand ids at every step, and decoding one costs microseconds.
        known = self._visible.get(token)
        if known is None:
            known = self._visible[token] = bool(self.decode([token]).strip())
        return known


def wrap_tokenizer(backend: tokenizers.Tokenizer, eos_id: int | None, origin: str) -> Tokenizer:
    """The tokenizer around a backend.

    The end-of-text token is the one spelt `<|endoftext|>`, else `eos_id`: an instruct model's eos ends a turn of a
    chat (SmolLM2: `<|im_end|>`), while the token between the documents of its pretraining keeps its old name.

    Raises:
        InputError: there is neither.
    """
    backend.no_truncation()
    backend.no_padding()
    found = backend.token_to_id(END_OF_TEXT)
    end_of_text_id = eos_id if found is None else found
    if end_of_text_id is None:
        raise InputError(
            f"{origin}: a tokenizer needs an end-of-text token, and it has neither {END_OF_TEXT} nor an eos token",
            "give eos_token_id in the model's config.json",
        )
    return Tokenizer(backend, end_of_text_id)


def read_tokenizer(path: Path, eos_id: int | None = None) -> Tokenizer:
    """The tokenizer of a `tokenizer.json`.

    Raises:
        InputError: the file cannot be read, or has no end-of-text token.
    """
    try:
        backend = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing more special
        raise InputError(
            f"cannot read the tokenizer {path}: {error}", "a tokenizer.json of the library tokenizers is needed"
        ) from error
    return wrap_tokenizer(backend, eos_id, str(path))


def builtin_tokenizer() -> Tokenizer:
    """The byte-level BPE of the shipped models; its end-of-text token is id 0."""
    return read_tokenizer(BUILTIN / "tokenizer.json")
