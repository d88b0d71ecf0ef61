"""A text as token ids, and how many of its bytes and words each run of tokens holds."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import decoders

from collapselab.inputs.tokenizers import Tokenizer

Counts = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class EncodedText:
    """The ids of a text; `bytes_before[i]`, `words_before[i]` and `line_ends_before[i]` count in the first i tokens.

    Every UTF-8 byte of the text belongs to exactly one token, so counts depend on the tokens scored, not on how they
    are grouped into windows. A word (separated by white space) belongs to the token that holds its first byte.
    """

    ids: list[int]
    bytes_before: Counts
    words_before: Counts
    line_ends_before: Counts


def encode_text(tokenizer: Tokenizer, text: str) -> EncodedText:
    """A text's ids, with bytes and words counted along them.

    What a tokenizer drops (such as white space) belongs to the next token, or at the end of the text to the last one.
    Tokens that share a character, such as those of an emoji in byte-level BPE, share its bytes: exactly if their
    pieces spell the bytes, in proportion to the length of the pieces if a normaliser has rewritten the character.

    Raises:
        InputError: the text has a token that the model has no embedding for.
    """
    encoding = tokenizer.encoding(text)
    byte_before_char = _byte_before_char(text)
    if not encoding.ids:
        return EncodedText([], *(np.zeros(1, np.int64) for _ in range(3)))
    offsets = np.asarray(encoding.offsets, dtype=np.int64)
    reached = np.maximum.accumulate(offsets[:, 1])
    reached[-1] = len(text)
    # A group: tokens that share characters, usually a single token.
    is_first = np.concatenate([[True], offsets[1:, 0] >= reached[:-1]])
    first = np.flatnonzero(is_first)
    group = np.cumsum(is_first) - 1
    group_end = byte_before_char[reached[np.append(first[1:], len(reached)) - 1]]
    group_start = np.concatenate([[0], group_end[:-1]])
    lengths = _piece_lengths(tokenizer.backend, encoding.ids)
    length_before = np.concatenate([[0], np.cumsum(lengths)])
    within = length_before[1:] - length_before[first][group]
    byte_ends = group_start[group] + (group_end - group_start)[group] * within // np.add.reduceat(lengths, first)[group]
    bytes_before = np.concatenate([[0], byte_ends])
    words, line_ends = (
        np.searchsorted(byte_before_char[[found.start() for found in re.finditer(pattern, text)]], bytes_before)
        for pattern in (r"\S+", "\n")
    )
    return EncodedText(encoding.ids, bytes_before, words, line_ends)


def _byte_before_char(text: str) -> Counts:
    """The UTF-8 position of each character, and of the text's end."""
    code = np.frombuffer(text.encode("utf-32-le"), dtype="<u4")
    return np.concatenate([[0], np.cumsum(1 + (code > 0x7F) + (code > 0x7FF) + (code > 0xFFFF), dtype=np.int64)])


def _piece_lengths(backend: Any, ids: list[int]) -> Counts:
    """The number of bytes that each token's piece spells, as far as the vocabulary shows."""
    is_byte_level = isinstance(backend.decoder, decoders.ByteLevel)
    unique, inverse = np.unique(np.asarray(ids), return_inverse=True)
    lengths = [_piece_length(backend.id_to_token(int(token)) or "", is_byte_level) for token in unique]
    return np.asarray(lengths, dtype=np.int64)[inverse]


def _piece_length(piece: str, is_byte_level: bool) -> int:
    if is_byte_level:  # each character of its alphabet stands for a byte
        return max(1, len(piece))
    return max(1, len(piece.replace("▁", " ").encode()))
