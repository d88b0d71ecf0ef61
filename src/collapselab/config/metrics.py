"""What is measured besides what the loop and its rules need: it changes no other number."""

from __future__ import annotations

from pydantic import Field

from collapselab.config.base import Settings


class Metrics(Settings):
    """What is measured besides what the loop and the rules need (`collapselab metrics`)."""

    every: int = Field(
        default=8, ge=0, description="steps between measurements of diversity and tails over the last samples; 0: never"
    )
    samples: int = Field(default=16, ge=2, description="how many of the last samples are measured together")
    reference: str | None = Field(
        default=None, description="text that counts as known: ranks of tokens, novelty; none: the first of `data`"
    )
    contexts_every: int = Field(
        default=0,
        ge=0,
        description="steps between forward passes on fixed real contexts (drift from the start); 0: never",
    )
    first_model: bool = Field(
        default=False, description="also the untouched model's loss on each training text; keeps a copy of its weights"
    )
