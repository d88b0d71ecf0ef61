"""Samples of a model that is being trained, drawn so that the training does not notice."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import fmean
from typing import Any


@dataclass(frozen=True)
class Probes:
    """What is sampled in a training that shows no completions.

    The first probes come at successive steps, until the alarms have their baselines; then every `every` steps.

    Args:
        every: steps between probes.
        samples: sequences per probe.
        tokens: tokens per sequence, at least 100.
        prompts: texts that they continue, in turn; none: the tokenizer's begin or end token.
        seed: of the probes' own generator.
    """

    every: int = 100
    samples: int = 4
    tokens: int = 200
    prompts: tuple[str, ...] = ()
    seed: int = 0


@dataclass(frozen=True)
class Probe:
    """The samples of one probe, with the model's own loss and entropy on them, and the prompt of each."""

    token_ids: list[list[int]]
    nll_nats: float
    entropy_nats: float
    groups: list[int]


def draw(model: Any, tokenizer: Any, settings: Probes, step: int, autocast: Any = None) -> Probe:
    """Samples from the model itself: temperature 1, nothing cut off. Never greedy: a healthy model's greedy text loops.

    Weights, training mode of every module, gradients and the global generators are as before afterwards. Every
    sequence goes on past its end tokens, so that all have one length.

    Args:
        model: a causal language model of transformers.
        tokenizer: its tokenizer.
        settings: how many, how long, of which prompts.
        step: with the seed, decides the noise.
        autocast: dtype of matrix products; none: that of the weights.
    """
    import torch

    device = next(model.parameters()).device
    prompts = _prompts(tokenizer, settings)
    devices = [device] if device.type == "cuda" else []
    with _evaluating(model), torch.no_grad(), torch.random.fork_rng(devices):
        torch.manual_seed(settings.seed * 1_000_003 + step)
        with torch.autocast(device.type, dtype=autocast, enabled=autocast is not None):
            parts = [_continue(model, ids, n, settings.tokens) for ids, n in prompts]
    return Probe(
        [ids for part in parts for ids in part[0]],
        fmean(nll for part in parts for nll in part[1]),
        fmean(entropy for part in parts for entropy in part[2]),
        [i for i, (_, n) in enumerate(prompts) for _ in range(n)],
    )


def _prompts(tokenizer: Any, settings: Probes) -> list[tuple[list[int], int]]:
    """The ids of each prompt, and how many samples continue it."""
    if not settings.prompts:
        known = [tokenizer.bos_token_id, tokenizer.eos_token_id]
        return [([next((token for token in known if token is not None), 0)], settings.samples)]
    prompts = settings.prompts[: settings.samples]
    shares = [len(range(i, settings.samples, len(prompts))) for i in range(len(prompts))]
    return [(list(tokenizer(text)["input_ids"]), n) for text, n in zip(prompts, shares, strict=True)]


def _continue(
    model: Any, prompt: Sequence[int], n: int, tokens: int
) -> tuple[list[list[int]], list[float], list[float]]:
    """n sequences of `tokens` tokens after a prompt, with the mean loss and entropy of each."""
    import torch

    # One loop for all models: `generate` takes settings from the model's own file (top_k 50, repetition penalty).
    device = next(model.parameters()).device
    ids_BT = torch.tensor([list(prompt)] * n, device=device)
    nll_B, entropy_B = torch.zeros(n, device=device), torch.zeros(n, device=device)
    drawn: list[Any] = []
    cache: Any = None
    for _ in range(tokens):
        output = model(input_ids=ids_BT, past_key_values=cache, use_cache=True)
        cache = output.past_key_values
        log_p_BV = torch.log_softmax(output.logits[:, -1].float(), dim=-1)
        p_BV = log_p_BV.exp()
        ids_BT = torch.multinomial(p_BV, 1)
        nll_B -= log_p_BV.gather(1, ids_BT)[:, 0]
        entropy_B -= (p_BV * log_p_BV.clamp(min=torch.finfo(torch.float32).min)).sum(-1)
        drawn.append(ids_BT)
    found: Any = torch.cat(drawn, 1).tolist(), (nll_B / tokens).tolist(), (entropy_B / tokens).tolist()
    return found


@contextmanager
def _evaluating(model: Any) -> Generator[None]:
    """The model in evaluation mode; afterwards each module is in the mode it was in."""
    modes = list(_modes(model))
    model.eval()
    try:
        yield
    finally:
        for module, is_training in modes:
            module.training = is_training


def _modes(model: Any) -> Iterator[tuple[Any, bool]]:
    return ((module, module.training) for module in model.modules())
