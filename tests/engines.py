"""Engines and models for their tests."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from collapselab.engine.choose import make_engines
from collapselab.engine.interface import Engine, Precision, Scorer
from collapselab.engine.library import library
from collapselab.engine.rounded import RoundedModel
from collapselab.inputs.models import LoadedModel
from collapselab.step.batches import Batch
from collapselab.step.learner import TokenLosses
from collapselab.testing import BYTE_VOCAB, byte_tokenizer, tiny_model

ENGINES = ("plain", "static", "native")


def engine_of(model: PreTrainedModel, name: str, precision: Precision = "float32") -> Engine:
    return engines_of(model, name, precision)[0]


def engines_of(model: PreTrainedModel, name: str, precision: Precision = "float32") -> tuple[Engine, Scorer]:
    if name == "native" and library() is None:
        pytest.skip("no C compiler with OpenMP: the native engine cannot be built")
    return make_engines(model, name, write=precision, score=precision)


def llama(seed: int = 4, *, context: int = 64) -> LoadedModel:
    """A Llama with random weights over the bytes, with grouped queries and sizes that fill no vector evenly."""
    config = LlamaConfig(
        vocab_size=BYTE_VOCAB,
        hidden_size=42,
        intermediate_size=70,
        num_hidden_layers=2,
        num_attention_heads=6,
        num_key_value_heads=2,
        head_dim=10,
        max_position_embeddings=context,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=0,
        initializer_range=0.15,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config).eval()
    return LoadedModel(
        "llama", model, byte_tokenizer(), context, BYTE_VOCAB, sum(p.numel() for p in model.parameters())
    )


MODELS: dict[str, Callable[[], LoadedModel]] = {
    "gpt2": lambda: tiny_model(3, context=64, width=48),
    "gpt2-odd": lambda: tiny_model(3, context=64, width=38),
    "llama": llama,
}


def tokens(count: int, seed: int = 0) -> list[int]:
    return torch.randint(0, BYTE_VOCAB, (count,), generator=torch.Generator().manual_seed(seed)).tolist()


def batch_nll(model: PreTrainedModel | RoundedModel, batch: Batch) -> torch.Tensor:
    """The plain loss of a batch, with its graph."""
    is_rounded = isinstance(model, RoundedModel)
    logits_BTV = model.logits(batch.inputs_BT).float() if is_rounded else model(input_ids=batch.inputs_BT).logits
    return TokenLosses(logits_BTV, batch.targets_BT, batch.inputs_BT).mean
