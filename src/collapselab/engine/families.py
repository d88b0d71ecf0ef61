"""The weights of a decoder-only transformer as the engines read them: the very tensors of the `transformers` module."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import torch
from torch import Tensor
from transformers import GPT2LMHeadModel, LlamaForCausalLM, PreTrainedModel

MAX_POSITIONS = 2**20  # of rotary tables: about 500 MB with heads of 64


@dataclass(frozen=True)
class Linear:
    """y = x W + b; `weight` is (in, out) if `is_in_out` (GPT-2's Conv1D), else (out, in)."""

    weight: Tensor
    bias: Tensor | None
    is_in_out: bool

    @property
    def num_in(self) -> int:
        return self.weight.shape[0 if self.is_in_out else 1]

    @property
    def num_out(self) -> int:
        return self.weight.shape[1 if self.is_in_out else 0]


@dataclass(frozen=True)
class Norm:
    """Layer norm, or root-mean-square norm if there is no bias."""

    weight: Tensor
    bias: Tensor | None


@dataclass(frozen=True)
class Layer:
    """Attention and feed-forward part of one layer.

    `qkv`: one matrix for queries, keys and values (GPT-2) or three (Llama). `up`: one, with GELU by tanh (GPT-2), or
    gate and up, with SiLU (Llama).
    """

    norm_1: Norm
    qkv: tuple[Linear, ...]
    out: Linear
    norm_2: Norm
    up: tuple[Linear, ...]
    down: Linear


@dataclass(frozen=True)
class Decoder:
    """A whole model. Positions are learned, `positions` (T, width), or rotary, `cosines` and `sines` (T, head_dim)."""

    embedding: Tensor
    positions: Tensor | None
    cosines: Tensor | None
    sines: Tensor | None
    layers: tuple[Layer, ...]
    final_norm: Norm
    head: Linear
    num_heads: int
    num_kv_heads: int
    head_dim: int
    eps: float

    @property
    def width(self) -> int:
        return self.embedding.shape[1]

    @property
    def num_positions(self) -> int:
        table = self.cosines if self.positions is None else self.positions
        assert table is not None
        return table.shape[0]

    @cached_property
    def linears(self) -> list[Linear]:
        """All matrices, in the order they are used."""
        of_layers = [linear for layer in self.layers for linear in (*layer.qkv, layer.out, *layer.up, layer.down)]
        return [*of_layers, self.head]


def read_decoder(model: PreTrainedModel) -> Decoder | None:
    """The weights of a model of the GPT-2 or Llama family in float32; `None` for any other."""
    if any(p.dtype != torch.float32 or not p.is_contiguous() for p in model.parameters()):
        return None
    if type(model) is GPT2LMHeadModel:
        return _gpt2(cast(Any, model))
    if type(model) is LlamaForCausalLM:
        return _llama(cast(Any, model))
    return None


def _gpt2(model: Any) -> Decoder | None:
    config, body = model.config, model.transformer
    is_usual = (
        config.activation_function in ("gelu_new", "gelu_pytorch_tanh")
        and config.scale_attn_weights
        and not config.scale_attn_by_inverse_layer_idx
    )
    if not is_usual:
        return None
    layers = tuple(
        Layer(
            norm_1=_norm(block.ln_1),
            qkv=(_conv1d(block.attn.c_attn),),
            out=_conv1d(block.attn.c_proj),
            norm_2=_norm(block.ln_2),
            up=(_conv1d(block.mlp.c_fc),),
            down=_conv1d(block.mlp.c_proj),
        )
        for block in body.h
    )
    return Decoder(
        embedding=body.wte.weight.detach(),
        positions=body.wpe.weight.detach(),
        cosines=None,
        sines=None,
        layers=layers,
        final_norm=_norm(body.ln_f),
        head=_linear(model.lm_head),
        num_heads=config.n_head,
        num_kv_heads=config.n_head,
        head_dim=config.n_embd // config.n_head,
        eps=config.layer_norm_epsilon,
    )


def _llama(model: Any) -> Decoder | None:
    config, body = model.config, model.model
    # Other kinds of rotary scaling depend on the length of the text.
    if config.hidden_act != "silu" or config.rope_parameters["rope_type"] not in ("default", "linear", "llama3"):
        return None
    if config.max_position_embeddings > MAX_POSITIONS:
        return None
    layers = tuple(
        Layer(
            norm_1=_norm(block.input_layernorm),
            qkv=tuple(_linear(getattr(block.self_attn, f"{name}_proj")) for name in "qkv"),
            out=_linear(block.self_attn.o_proj),
            norm_2=_norm(block.post_attention_layernorm),
            up=(_linear(block.mlp.gate_proj), _linear(block.mlp.up_proj)),
            down=_linear(block.mlp.down_proj),
        )
        for block in body.layers
    )
    places = torch.arange(config.max_position_embeddings, device=model.device)[None]
    cosines, sines = body.rotary_emb(body.embed_tokens.weight, places)
    return Decoder(
        embedding=body.embed_tokens.weight.detach(),
        positions=None,
        cosines=cosines[0].contiguous(),
        sines=sines[0].contiguous(),
        layers=layers,
        final_norm=_norm(body.norm),
        head=_linear(model.lm_head),
        num_heads=config.num_attention_heads,
        num_kv_heads=config.num_key_value_heads,
        head_dim=layers[0].qkv[0].num_out // config.num_attention_heads,
        eps=config.rms_norm_eps,
    )


def _norm(module: Any) -> Norm:
    bias = getattr(module, "bias", None)
    return Norm(module.weight.detach(), None if bias is None else bias.detach())


def _conv1d(module: Any) -> Linear:
    return Linear(module.weight.detach(), module.bias.detach(), is_in_out=True)


def _linear(module: Any) -> Linear:
    return Linear(module.weight.detach(), None if module.bias is None else module.bias.detach(), is_in_out=False)
