"""A simple loop with `transformers`: `generate`, the model's own `labels` loss, `AdamW`.

Everything is the library's default, in float32: the growing key-value cache of `generate`, one window per forward pass,
an optimiser with only a learning rate.

Shape letters: B sequences, T positions.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from transformers import GenerationConfig, PreTrainedModel

from benchmarks.workload import Arm, Workload, seconds_by_phase, update_sequence
from collapselab.config.protocols import Protocol
from collapselab.inputs.models import LoadedModel, load_model
from collapselab.inputs.texts import load_text
from collapselab.randomness import rng
from collapselab.step.measure import Stopwatch

WINDOWS_PER_PASS = 1


def generate(
    model: PreTrainedModel, prompt_BT: Tensor, *, max_new_tokens: int, temperature: float, top_k: int
) -> Tensor:
    """Prompt and sample, shape (B, T + max_new_tokens), by `transformers`; draws from torch's global generator."""
    settings = GenerationConfig(
        do_sample=True,
        temperature=temperature,
        top_k=top_k,
        top_p=1.0,
        max_new_tokens=max_new_tokens,
        pad_token_id=0,  # unused, but avoids a warning
    )
    return cast(Any, model).generate(prompt_BT, attention_mask=torch.ones_like(prompt_BT), generation_config=settings)


@torch.no_grad()
def mean_loss(model: PreTrainedModel, windows_NT: Tensor, windows_per_pass: int) -> float:
    """Mean loss in nats over windows of equal length, every token scored except the first of each."""
    total = 0.0
    for start in range(0, len(windows_NT), windows_per_pass):
        rows_BT = windows_NT[start : start + windows_per_pass]
        total += model(input_ids=rows_BT, labels=rows_BT).loss.item() * len(rows_BT)
    return total / len(windows_NT)


def update(model: PreTrainedModel, optimizer: torch.optim.Optimizer, tokens_BT: Tensor, clip: float) -> float:
    """Makes one update on whole sequences; returns the loss in nats before it."""
    loss = model(input_ids=tokens_BT, labels=tokens_BT).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
    optimizer.step()
    optimizer.zero_grad()
    return loss.item()


def windows(loaded: LoadedModel, workload: Workload) -> Tensor:
    """The windows of the workload's text that our `windows[n,k]` scores, shape (k, n)."""
    ids = loaded.tokenizer.encode(load_text(workload.text).text)
    protocol = Protocol("windows", workload.window_tokens, workload.num_windows)
    places = protocol.windows(len(ids), rng(0, "evaluation", 0))
    return torch.tensor([ids[place.start : place.end] for place in places])


def arm(workload: Workload) -> Arm:
    """The plain `transformers` variant."""
    loaded = load_model(workload.model)
    model, optimizer = loaded.model, torch.optim.AdamW(loaded.model.parameters(), lr=workload.lr)
    library: Any = model
    library.generation_config.eos_token_id = None  # continue past the end-of-text token, like the other variants
    library.loss_type = "ForCausalLM"  # its fallback, without the notice
    windows_NT = windows(loaded, workload)
    prompt_BT = torch.full((workload.batch_size, 1), loaded.tokenizer.end_of_text_id)
    whole_1T = torch.tensor([update_sequence(workload, loaded.vocab_size, loaded.tokenizer.end_of_text_id)])

    def write() -> Tensor:
        return generate(
            model,
            prompt_BT,
            max_new_tokens=workload.max_new_tokens,
            temperature=workload.temperature,
            top_k=workload.top_k,
        )

    def loss() -> float:
        return mean_loss(model, windows_NT, WINDOWS_PER_PASS)

    def iteration() -> dict[str, float]:
        clock = Stopwatch()
        loss()
        clock.lap("evaluate")
        written_BT = write()
        clock.lap("generate")
        update(model, optimizer, written_BT, workload.clip)
        clock.lap("update")
        return seconds_by_phase(clock.seconds)

    return Arm(
        decode=lambda: cast(list[list[int]], write()[:, 1:].tolist()),
        evaluate=loss,
        update=lambda: update(model, optimizer, whole_1T, workload.clip),
        iteration=iteration,
    )
