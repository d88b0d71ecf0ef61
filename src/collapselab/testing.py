"""Small models and a byte tokenizer with exactly known answers, for tests of this package and of what builds on it."""

from __future__ import annotations

from pathlib import Path

import tokenizers
import torch
from tokenizers import decoders, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel

from collapselab.inputs.models import LoadedModel
from collapselab.inputs.tokenizers import END_OF_TEXT, Tokenizer

BYTE_VOCAB = 257  # 256 bytes and the end-of-text token


def byte_tokenizer() -> Tokenizer:
    """One token a byte, in the order of GPT-2's byte alphabet; the end-of-text token is id 0."""
    alphabet = [END_OF_TEXT, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    backend = tokenizers.Tokenizer(
        tokenizers.models.BPE(vocab={character: i for i, character in enumerate(alphabet)}, merges=[])
    )
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([END_OF_TEXT])
    return Tokenizer(backend, 0)


def tiny_model(seed: int, *, context: int = 256, width: int = 32, layers: int = 2) -> LoadedModel:
    """A GPT-2 with random weights over the bytes."""
    config = GPT2Config(
        vocab_size=BYTE_VOCAB,
        n_positions=context,
        n_embd=width,
        n_layer=layers,
        n_head=2,
        embd_pdrop=0.0,
        resid_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=0,
        eos_token_id=0,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = GPT2LMHeadModel(config).eval()
    num_parameters = sum(p.numel() for p in model.parameters())
    return LoadedModel("tiny", model, byte_tokenizer(), context, BYTE_VOCAB, num_parameters)


def uniform_model(*, context: int = 256) -> LoadedModel:
    """A model that gives every token the same probability: its loss on any text is ln 257."""
    loaded = tiny_model(0, context=context)
    with torch.no_grad():
        for parameter in loaded.model.parameters():
            parameter.zero_()
    return loaded


def save_folder(loaded: LoadedModel, folder: Path) -> Path:
    """Writes a model folder that `--model` reads; returns it."""
    loaded.model.save_pretrained(folder)
    loaded.tokenizer.backend.save(str(folder / "tokenizer.json"))
    return folder
