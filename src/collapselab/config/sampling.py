"""The settings of how a token is drawn."""

from __future__ import annotations

from pydantic import Field

from collapselab.config.base import Settings


class Sampling(Settings):
    """From logits to the distribution the next token is drawn from, in this order."""

    temperature: float = Field(default=0.8, gt=0, description="divides the logits")
    top_k: int | None = Field(default=500, ge=1, description="keep the k likeliest tokens")
    top_p: float | None = Field(default=None, gt=0, le=1, description="keep the smallest set of this probability")
    min_p: float | None = Field(default=None, ge=0, le=1, description="drop tokens below this share of the best")
    top_n_sigma: float | None = Field(
        default=None, gt=0, description="keep logits within n standard deviations of the highest"
    )
    repetition_penalty: float = Field(
        default=1.0, gt=0, description="divides positive logits of tokens that occurred, multiplies negative ones"
    )
    no_repeat_ngram: int | None = Field(default=None, ge=1, description="no n-gram of n tokens occurs twice")
    greedy: bool = Field(default=False, description="always take the likeliest token")

    @property
    def looks_back(self) -> bool:
        """Whether what may follow depends on which tokens occurred."""
        return self.repetition_penalty != 1 or self.no_repeat_ngram is not None
