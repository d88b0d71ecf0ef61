"""Generation: one loop for all engines, with noise keyed by position, and n-gram speculation that changes no token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
import torch
from torch import Tensor

from collapselab.config.schema import Sampling
from collapselab.engine.interface import Draw, Engine
from collapselab.engine.plain import draw_plainly

NGRAM = 4  # a guess is made if this many last tokens occurred before
MAX_GUESS = 15  # with the token before them, guesses fill the 16 rows that cost little more than one
NOISE_BLOCK = 16  # positions whose noise is drawn at a time


@dataclass(frozen=True)
class Generated:
    """What a model wrote.

    `token_ids`: one list per sequence, without the prompt, with the end-of-text token if generation stopped there.
    `draws`: the draw of each of these tokens, with its measures.
    `num_passes`: forward passes taken; fewer than tokens if speculation helped.
    """

    token_ids: list[list[int]]
    draws: list[list[Draw]]
    num_passes: int

    def mean(self, measure: str) -> float:
        """The mean of a measure over the tokens of each sequence, then over the sequences."""
        return fmean(fmean(getattr(draw, measure) for draw in draws) for draws in self.draws)


def generate(
    engine: Engine,
    prompts: Sequence[Sequence[int]],
    rule: Sampling,
    noise: Sequence[np.random.Generator],
    *,
    vocab_size: int,
    max_new_tokens: int,
    context: int,
    stop_token: int | None = None,
    speculate: bool = True,
) -> Generated:
    """`max_new_tokens` tokens after each prompt.

    Args:
        engine: the model.
        prompts: B token sequences of one length.
        rule: from logits to the sampling distribution.
        noise: a generator for each sequence; position i of a sequence uses the i-th block of V draws, so a sequence
            depends neither on the others in its batch nor on how its logits are computed.
        vocab_size: V.
        max_new_tokens: length of each sequence.
        context: positions the model sees. Up to this length keys and values are cached. Beyond it the oldest tokens
            are dropped, positions are renumbered, and each token is a full forward pass.
        stop_token: end a sequence after this token; `None` continues.
        speculate: guess that the tokens which followed the last ones before follow again; check the guesses in one
            pass. The drawn tokens are the same without speculation.

    Reference: Leviathan 2023 (speculative decoding), Saxena 2023 (guesses from the prompt).
    """
    assert len(prompts) == len(noise) and len({len(p) for p in prompts}) == 1, (len(prompts), len(noise))
    sequences = [_Sequence(list(p), len(p), g, vocab_size) for p, g in zip(prompts, noise, strict=True)]
    longest_guess = max(1, (MAX_GUESS + 1) // len(prompts) - 1) if speculate and engine.is_ragged else 0
    total, num_passes = len(prompts[0]) + max_new_tokens, 0
    engine.begin(len(prompts), min(total, context))
    alone = sequences[0] if len(sequences) == 1 and not rule.looks_back else None
    while growing := [s for s in sequences if not s.is_ended and len(s.tokens) < total]:
        cached = [s for s in growing if len(s.tokens) <= context]
        if alone and cached and num_passes and not alone.guess(longest_guess):
            count = min(NOISE_BLOCK, total - len(alone.tokens), context + 1 - len(alone.tokens))
            written = engine.write(alone.tokens[-1], alone.num_read, alone.noise(count), rule, stop_token)
            for draw in written:
                alone.take([draw], [], stop_token)
            num_passes += len(written)
            if written:
                continue
        if cached:
            room = min(total - 1, context)
            guesses = {id(s): s.guess(min(longest_guess, room - len(s.tokens))) for s in cached}
            # Engines that are not ragged advance all sequences together; what an ended one writes is not kept.
            reading = cached if engine.is_ragged else sequences
            new = [[*s.tokens[s.num_read :], *guesses.get(id(s), [])] if s in reading else [] for s in sequences]
            logits_RV = engine.read(new, [s.num_read for s in sequences], last_only=num_passes == 0)
        else:
            guesses, reading = {}, growing if engine.is_ragged else sequences
            logits_RV = engine.reread([s.tokens[-context:] for s in reading])
        counts = [1 + len(guesses.get(id(s), [])) for s in reading]
        noise_RV = _joined([s.noise(n) for s, n in zip(reading, counts, strict=True)])
        if rule.looks_back:
            guessed = [
                [*s.tokens, *guesses.get(id(s), [])[:i]] for s, n in zip(reading, counts, strict=True) for i in range(n)
            ]
            drawn = draw_plainly(logits_RV, noise_RV, rule, guessed)
        else:
            drawn = engine.draw(logits_RV, noise_RV, rule)
        rows = iter(drawn)
        for s, count in zip(reading, counts, strict=True):
            s.take([next(rows) for _ in range(count)], guesses.get(id(s), []), stop_token)
        num_passes += 1
    return Generated(
        [[draw.token for draw in s.draws] for s in sequences],
        [s.draws for s in sequences],
        num_passes,
    )


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)


class _Sequence:
    """One sequence while it is written."""

    def __init__(self, prompt: list[int], num_prompt: int, generator: np.random.Generator, vocab_size: int) -> None:
        self.tokens, self.num_prompt, self.num_read = prompt, num_prompt, 0
        self.draws: list[Draw] = []
        self.is_ended = False
        self._generator = generator
        self._ring = torch.empty(2 * NOISE_BLOCK, vocab_size)  # noise of two neighbouring blocks of positions
        self._num_blocks = 0
        self._followed_at: dict[tuple[int, ...], int] = {}  # by n-gram: the position of the token that followed it
        self._guess_length = 1

    def guess(self, longest: int) -> list[int]:
        """A guess at the next tokens: what followed the last four the previous time, longer if guesses were right."""
        start = self._followed_at.get(tuple(self.tokens[-NGRAM:])) if longest > 0 else None
        if start is None:
            return []
        # If the loop is shorter than the guess, repeat it.
        period = len(self.tokens) - start
        return [self.tokens[start + i % period] for i in range(min(longest, self._guess_length))]

    def noise(self, count: int) -> Tensor:
        """Exp(1) noise (count, V) of the next positions."""
        first = len(self.tokens) - self.num_prompt
        last = first + count - 1
        while self._num_blocks * NOISE_BLOCK <= last:
            begin = self._num_blocks % 2 * NOISE_BLOCK
            block = self._ring[begin : begin + NOISE_BLOCK]
            self._generator.standard_exponential(dtype=np.float32, out=block.numpy())
            self._num_blocks += 1
        begin, end = first % (2 * NOISE_BLOCK), last % (2 * NOISE_BLOCK) + 1
        return self._ring[begin:end] if begin < end else torch.cat([self._ring[begin:], self._ring[:end]])

    def take(self, drawn: Sequence[Draw], guess: Sequence[int], stop_token: int | None) -> None:
        """Appends the drawn tokens up to the first wrong guess."""
        num_right = 0
        for i, draw in enumerate(drawn):
            token = draw.token
            self._followed_at[tuple(self.tokens[-NGRAM:])] = len(self.tokens)
            self.tokens.append(token)
            if not self.is_ended:
                self.draws.append(draw)
            self.is_ended |= token == stop_token
            if self.is_ended or i == len(guess) or token != guess[i]:
                break
            num_right += 1
        self.num_read = len(self.tokens) - 1
        if guess:
            self._guess_length = min(2 * len(guess), MAX_GUESS) if num_right == len(guess) else max(1, num_right)
