"""A model that is already loaded: trained as one from a folder is, copied, named by its weights, checked."""

from __future__ import annotations

import dataclasses
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer as Backend
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    BertConfig,
    BertForMaskedLM,
    GPT2ForSequenceClassification,
    GPT2ForTokenClassification,
    GPT2LMHeadModel,
    GPT2Model,
    PreTrainedTokenizerFast,
)

from collapselab import InputError, RunConfig, build, override, run
from collapselab.errors import Interrupted
from collapselab.inputs.tokenizers import BUILTIN, builtin_tokenizer
from collapselab.rundir.layout import read_json
from collapselab.step.learner import Learner
from collapselab.step.sources import MEASURES
from collapselab.testing import byte_tokenizer, tiny_model
from model_folders import tiny_gpt2, tiny_llama, write_folder
from run_files import newest_weights, stop_after, timeless


@pytest.fixture
def given(tiny_config: RunConfig) -> GPT2LMHeadModel:
    return AutoModelForCausalLM.from_pretrained(tiny_config.model)


def fast_tokenizer() -> PreTrainedTokenizerFast:
    backend = Backend.from_str(byte_tokenizer().backend.to_str())
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|endoftext|>")


@pytest.mark.parametrize("engine", ["auto", "plain"])
@pytest.mark.parametrize("numerics", ["exact", "fast"])
def test_an_object_gives_the_records_of_its_folder(
    tiny_config: RunConfig, given: GPT2LMHeadModel, tmp_path: Path, engine: str, numerics: str
) -> None:
    if (engine, numerics) == ("plain", "fast"):
        pytest.skip("the plain engine writes in float32")
    config = override(tiny_config, {"engine": engine, "numerics": numerics})
    named = run(config, tmp_path / "named")
    ours = run(config, tmp_path / "given", model=given, tokenizer=fast_tokenizer())
    for one, other in zip(timeless(ours.path), timeless(named.path), strict=True):
        # Weights that lie elsewhere in memory change the last bits of a sum (seen with `plain`).
        for name in (*MEASURES, "effective_vocabulary"):
            assert one.pop(name) == pytest.approx(other.pop(name), rel=1e-6, abs=1e-6)
        assert one == other
    engines = [read_json(path / "env.json")["engines"] for path in (ours.path, named.path)]
    assert engines[0] == engines[1]


def test_llama_with_its_tokenizer_gives_the_records_of_its_folder(tmp_path: Path, tiny_config: RunConfig) -> None:
    model = tiny_llama(max_position_embeddings=256, bos_token_id=0)
    config = override(tiny_config, {"model": str(write_folder(tmp_path / "llama", model)), "stop.max_steps": 1})
    named = run(config, tmp_path / "named")
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(BUILTIN / "tokenizer.json"))
    assert timeless(run(config, tmp_path / "given", model=model, tokenizer=tokenizer).path) == timeless(named.path)


def test_neither_the_model_nor_the_tokenizer_is_changed(
    tiny_config: RunConfig, given: GPT2LMHeadModel, tmp_path: Path
) -> None:
    tokenizer = fast_tokenizer()
    tokenizer.backend_tokenizer.enable_truncation(5)
    text = tokenizer.backend_tokenizer.to_str()
    before = {name: tensor.clone() for name, tensor in given.state_dict().items()}
    given.train().to(torch.bfloat16).to(torch.float32)
    before = {name: tensor.clone() for name, tensor in given.state_dict().items()}
    result = run(tiny_config, tmp_path / "run", model=given, tokenizer=tokenizer)
    assert given.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in given.state_dict().items())
    assert all(p.grad is None for p in given.parameters())
    assert tokenizer.backend_tokenizer.to_str() == text
    learnt = newest_weights(result.path)
    assert not torch.equal(learnt["transformer.wte.weight"], before["transformer.wte.weight"])


def test_a_run_goes_on_with_the_same_weights_only(
    tiny_config: RunConfig, given: GPT2LMHeadModel, tmp_path: Path
) -> None:
    tokenizer = fast_tokenizer()
    whole = run(tiny_config, tmp_path / "whole", model=given, tokenizer=tokenizer)
    name = read_json(whole.path / "config.json")["config"]["model"]
    assert name.startswith("object:GPT2LMHeadModel-")
    with pytest.raises(Interrupted):
        run(tiny_config, tmp_path / "run", model=given, tokenizer=tokenizer, on_record=stop_after(1))
    other = AutoModelForCausalLM.from_pretrained(tiny_config.model)
    with torch.no_grad():
        other.transformer.h[0].mlp.c_fc.bias[3] += 1e-6
    epsilon = AutoModelForCausalLM.from_pretrained(tiny_config.model, layer_norm_epsilon=1e-6)
    frozen = AutoModelForCausalLM.from_pretrained(tiny_config.model)
    frozen.transformer.wpe.weight.requires_grad_(False)
    for changed in (other, epsilon, frozen):
        with pytest.raises(InputError, match="holds another configuration: model is 'object:"):
            run(tiny_config, tmp_path / "run", model=changed, tokenizer=tokenizer, resume=True)
    with pytest.raises(InputError, match="holds another configuration: model is 'object:"):
        run(tiny_config, tmp_path / "run", resume=True)
    same = AutoModelForCausalLM.from_pretrained(tiny_config.model)
    again = run(tiny_config, tmp_path / "run", model=same, tokenizer=fast_tokenizer(), resume=True)
    assert timeless(again.path) == timeless(whole.path)
    with pytest.raises(InputError, match=r"was passed as a Python object.*\n.*`model=…`"):
        run(whole.path / "config.json", tmp_path / "new")


def test_frozen_weights_stay(tiny_config: RunConfig, given: GPT2LMHeadModel, tmp_path: Path) -> None:
    given.transformer.h[0].attn.c_attn.weight.requires_grad_(False)
    for numerics in ("exact", "fast"):
        config = override(tiny_config, {"numerics": numerics})
        learnt = newest_weights(run(config, tmp_path / numerics, model=given, tokenizer=fast_tokenizer()).path)
        changed = {name for name, p in given.named_parameters() if not torch.equal(learnt[name], p)}
        assert changed == {name for name, _ in given.named_parameters()} - {"transformer.h.0.attn.c_attn.weight"}


def relu(model: Any) -> None:
    model.transformer.h[0].mlp.act = nn.ReLU()


def hook(model: Any) -> None:
    model.transformer.h[0].register_forward_hook(lambda module, inputs, output: output * 0.5)


def forward(model: Any) -> None:
    def twice(self: Any, hidden: torch.Tensor) -> torch.Tensor:
        return 2 * nn.functional.linear(hidden, self.weight)

    model.lm_head.forward = types.MethodType(twice, model.lm_head)


@pytest.mark.parametrize("change", [relu, hook, forward])
def test_changed_code_is_run_and_no_fast_path_passes_it_by(
    tiny_config: RunConfig, given: GPT2LMHeadModel, tmp_path: Path, change: Any
) -> None:
    with torch.no_grad():
        for p in given.parameters():
            p *= 3  # a change is seen in the logits
    change(given)
    result = run(tiny_config, tmp_path / "auto", max_steps=0, model=given, tokenizer=fast_tokenizer())
    assert read_json(result.path / "env.json")["engines"]["write"] == "plain"
    plainly = run(tiny_config, tmp_path / "plain", engine="plain", max_steps=0, model=given, tokenizer=fast_tokenizer())
    ours, theirs = (timeless(path)[0] for path in (result.path, plainly.path))  # later the update's last bits differ
    assert ours == theirs
    with pytest.raises(InputError, match="engine static runs only"):
        run(tiny_config, tmp_path / "static", engine="static", model=given, tokenizer=fast_tokenizer())


def test_an_embedding_that_is_changed_is_not_looked_up_in_bfloat16(
    tiny_config: RunConfig, given: GPT2LMHeadModel, tmp_path: Path
) -> None:
    given.transformer.wte.register_forward_hook(lambda module, inputs, output: output * 4)
    numerics = {"numerics.update": "bfloat16"}
    with pytest.raises(InputError, match="update bfloat16 does not support GPT2LMHeadModel"):
        run(tiny_config, tmp_path / "run", model=given, tokenizer=fast_tokenizer(), **numerics)


def quantised(model: Any) -> None:
    model.quantization_method = "bitsandbytes"


def meta(model: Any) -> None:
    model.to("meta")


def all_frozen(model: Any) -> None:
    model.requires_grad_(False)


def tiny_bert() -> BertForMaskedLM:
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    return BertForMaskedLM(BertConfig(vocab_size=257, eos_token_id=0, **sizes))


@pytest.mark.parametrize(
    ("make", "change", "rule"),
    [
        (lambda: nn.Linear(2, 2), None, "received Linear"),
        (lambda: tiny_gpt2(vocab_size=257), quantised, "is quantised"),
        (lambda: tiny_gpt2(vocab_size=257), meta, "weights without values"),
        (lambda: tiny_gpt2(vocab_size=257), all_frozen, "no weight of GPT2LMHeadModel is trained"),
        (lambda: GPT2Model(tiny_gpt2(vocab_size=257).config), None, "cannot use this GPT2Model"),
        (lambda: GPT2ForSequenceClassification(tiny_gpt2(vocab_size=257, pad_token_id=0).config), None, "GPT2ForSeq"),
        (lambda: GPT2ForTokenClassification(tiny_gpt2(vocab_size=257).config), None, "predicts 2 values"),
        (tiny_bert, None, "looks ahead"),
        (lambda: tiny_gpt2(vocab_size=100), None, "the tokenizer has 257 tokens"),
    ],
)
def test_what_is_no_causal_language_model_is_refused(
    tiny_config: RunConfig, tmp_path: Path, make: Any, change: Any, rule: str
) -> None:
    model = make()
    if change is not None:
        change(model)
    with pytest.raises(InputError, match=rule):
        run(tiny_config, tmp_path / "run", model=model, tokenizer=byte_tokenizer().backend)
    assert not (tmp_path / "run").exists()


def test_a_model_needs_its_tokenizer(tiny_config: RunConfig, given: GPT2LMHeadModel, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"needs its tokenizer.*received NoneType\n.*`tokenizer="):
        run(tiny_config, tmp_path / "run", model=given)


def test_a_part_that_does_not_fit_the_others_is_refused(tiny_config: RunConfig, given: GPT2LMHeadModel) -> None:
    parts = build(tiny_config, model=given, tokenizer=fast_tokenizer())
    assert parts.learner.name == parts.config.model != tiny_config.model
    same = dataclasses.replace(parts, learner=Learner(parts.learner.loaded, parts.config))
    assert same.losses(0) == parts.losses(0)
    other = dataclasses.replace(tiny_model(2, layers=1), tokenizer=parts.tokenizer)
    with pytest.raises(InputError, match="the configuration names the model"):
        dataclasses.replace(parts, learner=Learner(other, parts.config))
    renamed = dataclasses.replace(other, name=parts.config.model)
    right = dataclasses.replace(parts, learner=Learner(renamed, parts.config))
    assert right.losses(0) != parts.losses(0), "the new learner is evaluated"
    with pytest.raises(InputError, match="another configuration"):
        dataclasses.replace(parts, learner=Learner(renamed, override(parts.config, {"optim.lr": 1.0})))
    foreign = dataclasses.replace(renamed, tokenizer=builtin_tokenizer())
    with pytest.raises(InputError, match="another tokenizer"):
        dataclasses.replace(parts, learner=Learner(foreign, parts.config))
    short = dataclasses.replace(renamed, model=tiny_model(2, context=40).model, context_length=40)
    with pytest.raises(InputError, match="needs 64 positions"):
        dataclasses.replace(parts, learner=Learner(short, parts.config))
