"""Samples as vectors: the mean of a model's last hidden states."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from collapselab.errors import InputError
from collapselab.inputs.models import LoadedModel


@torch.no_grad()
def embed(loaded: LoadedModel, samples: Sequence[Sequence[int]]) -> NDArray[np.float32]:
    """Embeddings (N, width) of token sequences: the mean over tokens of the model's last hidden states.

    Use one fixed model for all that is compared, better than the one that wrote; `metrics.distributions` takes the
    rows. Competing definitions: the last token's state (MAUVE's own), a sentence encoder.

    Args:
        loaded: the model that reads; the samples are ids of its tokenizer.
        samples: each of at least one token; what exceeds the model's context is cut off.

    Raises:
        InputError: an empty sample, or none.
    """
    if not samples or not all(samples):
        raise InputError("embed needs samples of at least one token, received an empty one", "leave them out")
    model: Any = loaded.model
    rows: list[torch.Tensor] = []
    for ids in samples:
        tokens_BT = torch.tensor([list(ids[: loaded.context_length])], device=model.device)
        states = model(input_ids=tokens_BT, use_cache=False, output_hidden_states=True).hidden_states
        rows.append(states[-1][0].float().mean(0).cpu())
    return torch.stack(rows).numpy()
