"""Models of known shapes with random weights: the cost of a step does not depend on the weights' values."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import tokenizers
import torch
from tokenizers import decoders, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedModel
from transformers.utils import logging

from collapselab.inputs.models import LoadedModel
from collapselab.inputs.tokenizers import END_OF_TEXT, Tokenizer
from collapselab.testing import save_folder

SMALL_VOCAB, GPT2_VOCAB = 2048, 50257  # of the shipped models; of GPT-2


@dataclass(frozen=True)
class Shape:
    """The sizes of a GPT-2 or Llama model; `mlp_width` and `kv_heads` are for Llama; GPT-2 derives them."""

    layers: int
    width: int
    heads: int
    vocab_size: int
    context: int = 1024
    family: Literal["gpt2", "llama"] = "gpt2"
    mlp_width: int | None = None
    kv_heads: int | None = None


SHAPES: dict[str, Shape] = {
    "gpt2-0.5m-shape": Shape(2, 96, 2, SMALL_VOCAB),
    "gpt2-2m-shape": Shape(3, 192, 3, SMALL_VOCAB),
    "gpt2-8m-shape": Shape(6, 320, 5, SMALL_VOCAB),
    "gpt2-30m-shape": Shape(9, 512, 8, SMALL_VOCAB),
    "gpt2-shape": Shape(12, 768, 12, GPT2_VOCAB),
    "gpt2-medium-shape": Shape(24, 1024, 16, GPT2_VOCAB),
    "gpt2-large-shape": Shape(36, 1280, 20, GPT2_VOCAB),
    "gpt2-xl-shape": Shape(48, 1600, 25, GPT2_VOCAB),
    "smollm2-shape": Shape(30, 576, 9, 49152, 8192, "llama", mlp_width=1536, kv_heads=3),
}


def make_model(shape: Shape, seed: int) -> LoadedModel:
    """A model of that shape in float32 with seeded random weights, and a tokenizer of its vocabulary."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _module(shape).eval()
    num_parameters = sum(p.numel() for p in model.parameters())
    return LoadedModel("shape", model, _tokenizer(shape.vocab_size), shape.context, shape.vocab_size, num_parameters)


def skeleton(shape: Shape) -> PreTrainedModel:
    """The model of a shape without weights: it has sizes and takes no memory."""
    with torch.device("meta"):
        return _module(shape)


def locate(name: str, folder: Path, seed: int) -> str:
    """The argument of `load_model` for a name: for a shape, a model folder written below `folder`; otherwise the name.

    Every variant then loads its model as a user does.
    """
    if name not in SHAPES:
        return name
    path = folder / name
    if not path.exists():
        with _without_bars():
            save_folder(make_model(SHAPES[name], seed), path)
    return str(path)


@contextlib.contextmanager
def _without_bars() -> Generator[None]:
    had_bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if had_bars:
            logging.enable_progress_bar()


def _module(shape: Shape) -> PreTrainedModel:
    ids: dict[str, Any] = {"bos_token_id": 0, "eos_token_id": 0}
    if shape.family == "llama":
        return LlamaForCausalLM(
            LlamaConfig(
                vocab_size=shape.vocab_size,
                hidden_size=shape.width,
                intermediate_size=cast(int, shape.mlp_width),
                num_hidden_layers=shape.layers,
                num_attention_heads=shape.heads,
                num_key_value_heads=cast(int, shape.kv_heads),
                max_position_embeddings=shape.context,
                rms_norm_eps=1e-5,
                tie_word_embeddings=True,
                **ids,
            )
        )
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=shape.vocab_size,
            n_positions=shape.context,
            n_embd=shape.width,
            n_layer=shape.layers,
            n_head=shape.heads,
            embd_pdrop=0.0,
            resid_pdrop=0.0,
            attn_pdrop=0.0,
            **ids,
        )
    )


def _tokenizer(vocab_size: int) -> Tokenizer:
    """A byte-level tokenizer; tokens after the bytes are numbers that no text encodes to, so every id has a text."""
    known = [END_OF_TEXT, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    numbers = [f"Ġ{i}" for i in range(len(known), vocab_size)]
    vocab = {token: i for i, token in enumerate([*known, *numbers])}
    backend = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocab, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([END_OF_TEXT])
    return Tokenizer(backend, 0)
