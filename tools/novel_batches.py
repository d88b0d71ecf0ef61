"""From novels to a tokenizer and to the batches that a model is trained on. Shape letters: B sequences, T positions."""

from __future__ import annotations

import functools
import math
import random
import re

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor

from collapselab.inputs.tokenizers import END_OF_TEXT

PASSAGE_CHARS = 1500


def train_tokenizer(books: dict[str, str], vocab_size: int) -> Tokenizer:
    """Byte-level BPE; the end-of-text token is id 0."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([p for text in books.values() for p in text.split("\n\n")], trainer)
    return tokenizer


def passages(text: str, draw: random.Random) -> list[str]:
    """The text cut at paragraph ends into pieces of about `PASSAGE_CHARS` characters, cut differently at each call."""
    pieces: list[str] = []
    current, limit = "", PASSAGE_CHARS * draw.uniform(0.2, 1.8)
    for paragraph in re.split(r"(?<=\n\n)", text):
        current += paragraph
        if len(current) >= limit:
            pieces.append(current)
            current, limit = "", PASSAGE_CHARS * draw.uniform(0.2, 1.8)
    return [*pieces, current] if current else pieces


class Batches:
    """The batch of each step, always the same for a step; an epoch is all passages in random order."""

    def __init__(self, books: dict[str, str], tokenizer: Tokenizer, shape: tuple[int, int], seed: int) -> None:
        self._books, self._tokenizer, self._seed = books, tokenizer, seed
        self._batch_size, self._length = shape
        # Each passage adds an end-of-text token, which is more than what is cut off at the end of an epoch.
        self.tokens_per_epoch = sum(len(e.ids) for e in tokenizer.encode_batch(list(books.values())))
        self.steps_per_epoch = self.tokens_per_epoch // math.prod(shape)
        self._epoch = functools.lru_cache(maxsize=1)(self._blocks)

    def at(self, step: int) -> Tensor:
        """Token ids (B, T) of one step."""
        epoch, index = divmod(step, self.steps_per_epoch)
        return self._epoch(epoch)[index * self._batch_size :][: self._batch_size]

    def _blocks(self, epoch: int) -> Tensor:
        draw = random.Random(f"{self._seed} {epoch}")
        pieces = [p for text in self._books.values() for p in passages(text, draw)]
        draw.shuffle(pieces)
        end = self._tokenizer.token_to_id(END_OF_TEXT)
        ids = [i for e in self._tokenizer.encode_batch(pieces) for i in (end, *e.ids)][draw.randrange(self._length) :]
        blocks = torch.tensor(ids[: len(ids) // self._length * self._length]).view(-1, self._length)
        order = list(range(len(blocks)))
        draw.shuffle(order)
        return blocks[order]
