"""Small models with random weights, written as folders, and changes to their files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedModel

from collapselab.inputs.tokenizers import BUILTIN


def tiny_gpt2(**changes: Any) -> GPT2LMHeadModel:
    sizes = {"vocab_size": 2048, "n_positions": 16, "n_embd": 8, "n_layer": 1, "n_head": 2, "eos_token_id": 0}
    return GPT2LMHeadModel(GPT2Config(**{**sizes, **changes}))


def tiny_llama(**changes: Any) -> LlamaForCausalLM:
    sizes = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    return LlamaForCausalLM(
        LlamaConfig(
            **{
                "vocab_size": 2100,
                "max_position_embeddings": 32,
                "tie_word_embeddings": False,
                "eos_token_id": 0,
                **sizes,
                **changes,
            }
        )
    )


def write_folder(folder: Path, model: PreTrainedModel) -> Path:
    model.save_pretrained(folder)
    shutil.copy(BUILTIN / "tokenizer.json", folder)
    return folder


def change_config(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))
