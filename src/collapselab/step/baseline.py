"""What a run is measured against: a human text, and the model as it was before the first update.

Shape letters: B windows, T positions, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.functional import kl_div

from collapselab.config.protocols import Protocol
from collapselab.engine.rounded import RoundedModel
from collapselab.engine.sampling import nucleus_sizes
from collapselab.metrics import Reference
from collapselab.randomness import rng
from collapselab.records import Value
from collapselab.step.batches import Batch
from collapselab.step.learner import Learner, TokenLosses

NUM_WINDOWS, WINDOW_TOKENS = 4, 64


@dataclass(frozen=True, eq=False)
class Baseline:
    """What is kept of the beginning; `None`: the run does not ask for it."""

    reference: Reference
    contexts: Contexts | None
    first_model: FirstModel | None


def make_baseline(learner: Learner, text_ids: Sequence[int], reference_ids: Sequence[int]) -> Baseline:
    """The baseline of a model whose weights have not been updated yet.

    Args:
        learner: the model; its configuration says what is wanted.
        text_ids: of the first human text.
        reference_ids: of the reference text; empty: that text.
    """
    settings = learner.config.metrics
    return Baseline(
        Reference.of(reference_ids or text_ids, learner.vocab_size),
        Contexts(learner, text_ids) if settings.contexts_every else None,
        FirstModel(learner) if settings.first_model else None,
    )


class Contexts:
    """Fixed windows of a human text, and log p_0 (B, T, V) after each of their tokens: 51 MB for 50,257 words."""

    def __init__(self, learner: Learner, ids: Sequence[int]) -> None:
        length = min(WINDOW_TOKENS, learner.context_length, len(ids))
        protocol = Protocol("windows", length, NUM_WINDOWS)
        # As of the evaluation: the same windows whatever the seed.
        windows = protocol.windows(len(ids), rng(0, "evaluation", 0, 1))
        rows = [list(ids[window.start : window.end]) for window in windows]
        self.tokens_BT = torch.tensor(rows, device=learner.loaded.model.device)
        self.first_logp_BTV = self._logp_BTV(learner)

    def values(self, learner: Learner) -> dict[str, Value]:
        """How far the model's predictions p_t have come from p_0, and how sharp they are: means over all positions.

        KL(p_0‖p_t) grows where p_t forgets what p_0 knew; KL(p_t‖p_0), the smaller where it concentrates, where it says
        what p_0 did not. Competing definitions: on the model's own text, where p_t is at home.

        Reference: Kullback & Leibler 1951; Gibbs & Su 2002 (other distances between distributions).
        """
        logp_BTV = self._logp_BTV(learner)
        sums = torch.zeros(5, dtype=torch.float64)
        for first_TV, logp_TV in zip(self.first_logp_BTV, logp_BTV, strict=True):  # a window at a time, for memory
            p_TV = logp_TV.exp()
            of_rows = (
                kl_div(logp_TV, first_TV, reduction="none", log_target=True).sum(-1),
                kl_div(first_TV, logp_TV, reduction="none", log_target=True).sum(-1),
                -(p_TV * logp_TV).sum(-1),
                p_TV.amax(-1),
                nucleus_sizes(p_TV),
            )
            sums += torch.stack([values.double().sum().cpu() for values in of_rows])
        names = ("kl_from_start_nats", "kl_to_start_nats", "real_entropy_nats", "real_top_probability")
        means = cast(list[float], (sums / self.tokens_BT.numel()).tolist())
        return dict(zip((*names, "real_nucleus_size"), means, strict=True))

    @torch.no_grad()
    def _logp_BTV(self, learner: Learner) -> Tensor:
        model: Any = learner.loaded.model
        return model(input_ids=self.tokens_BT, use_cache=False).logits.float().log_softmax(-1)


class FirstModel:
    """A copy of the model as it was before the first update, which computes losses as the model itself does."""

    def __init__(self, learner: Learner) -> None:
        self._model: Any = deepcopy(learner.loaded.model)
        self._rounded = RoundedModel(self._model, learner.kernels) if learner.is_rounded else None
        self._model.requires_grad_(False)

    @torch.no_grad()
    def nll_nats(self, batch: Batch) -> float:
        """The loss on a training batch, per token.

        What the model grows sure of while its former self finds it odd has a high loss here and a low one there.

        Reference: Shumailov et al. 2024, Figure 1 (histograms of perplexity under the first model).
        """
        if self._rounded is None:
            logits_BTV = self._model(input_ids=batch.inputs_BT, use_cache=False).logits
        else:
            logits_BTV = self._rounded.logits(batch.inputs_BT).float()
        return TokenLosses(logits_BTV, batch.targets_BT, batch.inputs_BT).mean.item()
