"""The authors' method, reimplemented from what their script does: a nanoGPT training script run on its own output.

Every token is a full forward pass over at most `context` tokens, in float32, without a cache; losses are estimated on
single windows, redrawn at every update, for a training and a validation text; the optimiser is the default AdamW.
Two choices, as in nanoGPT, favour the authors: during generation the output layer sees only the last position, and an
update sees one block of `context` tokens, not the whole sample.

Reference: Herel & Mikolov 2024; Karpathy's nanoGPT (generate, estimate_loss, configure_optimizers).
Shape letters: B sequences, T positions, V vocabulary.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel

from benchmarks.workload import Arm, Workload, seconds_by_phase, update_sequence
from collapselab.inputs.models import load_model
from collapselab.inputs.texts import load_text
from collapselab.step.measure import Stopwatch

WEIGHT_DECAY, BETAS = 0.1, (0.9, 0.95)


def next_token(logits_BV: Tensor, temperature: float, top_k: int, generator: torch.Generator) -> Tensor:
    """One token per row, shape (B, 1): temperature, top-k cut, softmax, multinomial."""
    scaled_BV = logits_BV / temperature
    largest_BK, _ = scaled_BV.topk(min(top_k, scaled_BV.shape[-1]))
    scaled_BV[scaled_BV < largest_BK[:, -1:]] = -torch.inf
    return torch.multinomial(scaled_BV.softmax(-1), 1, generator=generator)


@torch.no_grad()
def generate(
    model: PreTrainedModel,
    prompt_BT: Tensor,
    *,
    max_new_tokens: int,
    context: int,
    temperature: float,
    top_k: int,
    generator: torch.Generator,
) -> Tensor:
    """Prompt and sample, shape (B, T + max_new_tokens); each token needs a new pass over the last `context` tokens."""
    tokens_BT = prompt_BT
    for _ in range(max_new_tokens):
        logits_BV = _logits(model, tokens_BT[:, -context:], logits_to_keep=1)[:, -1]
        tokens_BT = torch.cat([tokens_BT, next_token(logits_BV, temperature, top_k, generator)], dim=1)
    return tokens_BT


@torch.no_grad()
def estimate_loss(
    model: PreTrainedModel, ids_N: Tensor, *, block: int, num_windows: int, generator: torch.Generator
) -> float:
    """Mean loss in nats over newly drawn windows of `block` predictions, one window per pass."""
    losses = torch.zeros(num_windows)
    for k in range(num_windows):
        inputs_1T, targets_1T = random_block(ids_N, block, generator)
        losses[k] = _loss(model, inputs_1T, targets_1T).item()
    return losses.mean().item()


def random_block(ids_N: Tensor, block: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """(inputs, targets) at one random place of a text, shape (1, block) each; all of it if the text is shorter."""
    places = max(1, len(ids_N) - block)
    start = int(torch.randint(places, (1,), generator=generator))
    taken = ids_N[start : start + block + 1]
    return taken[None, :-1], taken[None, 1:]


def make_optimizer(model: PreTrainedModel, lr: float) -> torch.optim.Optimizer:
    """PyTorch's default AdamW on a CPU (neither fused nor batched), with nanoGPT's parameter groups and betas."""
    parameters = list(model.parameters())
    groups: list[dict[str, Any]] = [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": WEIGHT_DECAY},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=lr, betas=BETAS)


def update(
    model: PreTrainedModel, optimizer: torch.optim.Optimizer, inputs_BT: Tensor, targets_BT: Tensor, clip: float
) -> float:
    """Makes one update; returns the loss in nats before it."""
    loss = _loss(model, inputs_BT, targets_BT)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss.item()


def arm(workload: Workload) -> Arm:
    """The authors' method; the task `update` trains on its whole sequence."""
    loaded, block = load_model(workload.model), workload.authors_context
    model, optimizer = loaded.model, make_optimizer(loaded.model, workload.lr)
    generator = torch.Generator().manual_seed(0)
    text_N = torch.tensor(loaded.tokenizer.encode(load_text(workload.text).text))
    prompt_BT = torch.full((workload.batch_size, 1), loaded.tokenizer.end_of_text_id)
    whole_1T = torch.tensor([update_sequence(workload, loaded.vocab_size, loaded.tokenizer.end_of_text_id)])

    def write() -> Tensor:
        return generate(
            model,
            prompt_BT,
            max_new_tokens=workload.max_new_tokens,
            context=block,
            temperature=workload.temperature,
            top_k=workload.top_k,
            generator=generator,
        )

    def loss() -> float:
        return estimate_loss(model, text_N, block=block, num_windows=workload.num_windows, generator=generator)

    def iteration() -> dict[str, float]:
        clock = Stopwatch()
        loss()  # on their training text
        loss()  # on their validation text
        clock.lap("evaluate")
        written_BT = write()
        clock.lap("generate")
        blocks = [random_block(ids_T, block, generator) for ids_T in written_BT]
        inputs_BT, targets_BT = (torch.cat(parts) for parts in zip(*blocks, strict=True))
        update(model, optimizer, inputs_BT, targets_BT, workload.clip)
        clock.lap("update")
        return seconds_by_phase(clock.seconds)

    return Arm(
        decode=lambda: cast(list[list[int]], write()[:, 1:].tolist()),
        evaluate=loss,
        update=lambda: update(model, optimizer, whole_1T[:, :-1], whole_1T[:, 1:], workload.clip),
        iteration=iteration,
    )


def _logits(model: PreTrainedModel, tokens_BT: Tensor, **options: Any) -> Tensor:
    return model(input_ids=tokens_BT, use_cache=False, **options).logits


def _loss(model: PreTrainedModel, inputs_BT: Tensor, targets_BT: Tensor) -> Tensor:
    logits_BTV = _logits(model, inputs_BT)
    return functional.cross_entropy(logits_BTV.flatten(0, 1), targets_BT.flatten())
