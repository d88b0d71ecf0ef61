"""Checks on a model before a number is computed: what each one refuses, and what it must accept."""

from __future__ import annotations

import json
import os
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from collapselab.cli import main
from collapselab.config.schema import Sampling
from collapselab.engine.decoding import generate
from collapselab.engine.plain import PlainEngine
from collapselab.errors import InputError
from collapselab.inputs.gguf_header import GgufHeader
from collapselab.inputs.model_checks import check_tensors
from collapselab.inputs.model_files import ModelFiles
from collapselab.inputs.models import (
    _reading,  # pyright: ignore[reportPrivateUsage]
    load_model,
)
from collapselab.randomness import rng
from model_folders import change_config, tiny_gpt2, tiny_llama, write_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "model", tiny_gpt2())


@pytest.mark.parametrize("size", [0, 7, 100, 2000])
def test_cut_off_weights_are_an_input_error(folder: Path, size: int) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(InputError, match="cannot read the model"):
        load_model(str(folder))


def test_weights_that_lack_a_tensor_are_refused(folder: Path) -> None:
    path = folder / "model.safetensors"
    state = {key: value for key, value in load_file(path).items() if "c_attn.weight" not in key}
    save_file(state, path, metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"lacks 1 tensors.*c_attn"):
        load_model(str(folder))


def test_weights_of_another_shape_are_refused(folder: Path) -> None:
    change_config(folder, n_embd=10)
    with pytest.raises(InputError, match=r"has shape \(.*, but its configuration says"):
        load_model(str(folder))


@pytest.mark.parametrize("content", ["", "[]", '{"model_type": "gpt2"', '{"model_type": "no-such-type"}', "{}"])
def test_a_broken_configuration_is_an_input_error(folder: Path, content: str) -> None:
    (folder / "config.json").write_text(content)
    with pytest.raises(InputError, match=r"config\.json|cannot read the model|causal"):
        load_model(str(folder))


@pytest.mark.parametrize(
    ("model_type", "saved_as"), [("bert", "BertForMaskedLM"), ("t5", "T5ForConditionalGeneration")]
)
def test_a_model_that_is_not_causal_is_refused(folder: Path, model_type: str, saved_as: str) -> None:
    (folder / "config.json").write_text(
        json.dumps({"model_type": model_type, "architectures": [saved_as], "eos_token_id": 1})
    )
    with pytest.raises(InputError, match=f"not a causal language model but {saved_as}"):
        load_model(str(folder))


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path) -> None:
    write_folder(tmp_path / "model", tiny_gpt2(vocab_size=100))
    with pytest.raises(InputError, match="tokenizer has 2048 tokens, the model only 100"):
        load_model(str(tmp_path / "model"))


def add_tensors(folder: Path, **more: torch.Tensor) -> None:
    path = folder / "model.safetensors"
    named = {name.replace("__", "."): value for name, value in more.items()}
    save_file({**load_file(path), **named}, path, metadata={"format": "pt"})


def test_a_tensor_that_the_model_does_not_use_is_refused(tmp_path: Path) -> None:
    # A Qwen written as a Llama: biases in the file, attention_bias missing in config.json (LlamaFactory 3721).
    folder = write_folder(tmp_path / "model", tiny_llama(attention_bias=True))
    assert load_model(str(folder)).model.config.attention_bias
    change_config(folder, attention_bias=False)
    with pytest.raises(InputError, match=r"has 4 tensors that its model does not use .*proj\.bias") as caught:
        load_model(str(folder))
    assert "attention_bias" in (caught.value.hint or "")


@pytest.mark.parametrize(
    "name",
    [
        "v_head__summary__weight",
        "transformer__h__0__attn__bias",
        "transformer__h__0__attn__masked_bias",
        "model__layers__0__self_attn__rotary_emb__inv_freq",
    ],
)
def test_a_tensor_without_effect_on_the_next_token_is_let_through(folder: Path, name: str) -> None:
    add_tensors(folder, **{name: torch.zeros(1, 8)})
    assert load_model(str(folder)).context_length == 16


@pytest.mark.parametrize(
    "name", ["transformer__h__0__attn__c_attn__qweight", "transformer__h__1__ln_1__weight", "mtp__x"]
)
def test_any_other_tensor_is_not(folder: Path, name: str) -> None:
    add_tensors(folder, **{name: torch.zeros(1, 8)})
    with pytest.raises(InputError, match="does not use"):
        load_model(str(folder))


TEXT_SIZES: dict[str, Any] = {"vocab_size": 2048, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 1}
LAYERS = {"num_hidden_layers": 1, "num_attention_heads": 2, "hidden_size": 16, "intermediate_size": 16}


@pytest.mark.parametrize("family", ["Bert", "Roberta"])
def test_a_model_that_sees_the_token_it_predicts_is_refused(tmp_path: Path, family: str) -> None:
    make = transformers.BertLMHeadModel if family == "Bert" else transformers.RobertaForCausalLM
    config = make.config_class(**TEXT_SIZES, **LAYERS, max_position_embeddings=34, is_decoder=True)
    folder = write_folder(tmp_path / "model", make(config))
    assert load_model(str(folder)).context_length == 34
    change_config(folder, is_decoder=False)
    with pytest.raises(InputError, match="looks ahead"):
        load_model(str(folder))


def recurrent(name: str) -> PreTrainedModel:
    sizes = {**TEXT_SIZES, "hidden_size": 16}
    match name:
        case "bloom":
            return transformers.BloomForCausalLM(transformers.BloomConfig(**sizes, n_layer=1, n_head=2))
        case "mamba":
            config = transformers.MambaConfig(**sizes, num_hidden_layers=1, state_size=4)
            return transformers.MambaForCausalLM(config)
        case _:
            config = transformers.RecurrentGemmaConfig(
                **{**TEXT_SIZES, **LAYERS, "num_hidden_layers": 2},
                lru_width=16,
                attention_window_size=32,
                block_types=["recurrent", "attention"],
            )
            return transformers.RecurrentGemmaForCausalLM(config)


@pytest.mark.parametrize("name", ["bloom", "mamba", "recurrent_gemma"])
def test_where_a_model_names_no_context_the_setting_does(tmp_path: Path, name: str) -> None:
    folder = str(write_folder(tmp_path / "model", recurrent(name)))
    with pytest.raises(InputError, match="does not give a context length") as caught:
        load_model(folder)
    assert "context=N" in (caught.value.hint or "")
    loaded = load_model(folder, context=24)
    assert loaded.context_length == 24
    engine = PlainEngine(loaded.model)
    noise = [rng(0, "sample", 0, i) for i in range(2)]
    written = generate(
        engine, [[0, 5], [7, 2]], Sampling(), noise, vocab_size=loaded.vocab_size, max_new_tokens=10, context=24
    )
    # Token by token, the model must see everything it wrote before: the same losses as in one pass over everything.
    rows_BT = torch.tensor([[0, 5, *written.token_ids[0]], [7, 2, *written.token_ids[1]]])
    assert engine.score(rows_BT, 2).mean(1).tolist() == pytest.approx(
        [fmean(d.nll_nats for d in draws) for draws in written.draws], abs=1e-5
    )


def test_a_family_keeps_its_context_under_its_own_name(tmp_path: Path) -> None:
    mpt = transformers.MptConfig(vocab_size=2048, d_model=16, n_layers=1, n_heads=2, max_seq_len=48)
    assert load_model(str(write_folder(tmp_path / "mpt", transformers.MptForCausalLM(mpt)))).context_length == 48
    bloom = write_folder(tmp_path / "bloom", recurrent("bloom"))
    change_config(bloom, seq_length=40)
    assert load_model(str(bloom)).context_length == 40


def test_the_context_of_a_part_for_text_counts(tmp_path: Path) -> None:
    text = {**TEXT_SIZES, **LAYERS, "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 40}
    vision = {**LAYERS, "image_size": 28, "patch_size": 14}
    config = transformers.Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4)
    folder = write_folder(tmp_path / "model", transformers.Gemma3ForConditionalGeneration(config))
    assert load_model(str(folder)).context_length == 40


def test_a_token_without_an_embedding_is_named_wherever_it_occurs(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "model", tiny_gpt2(vocab_size=2048))
    tokenizer_file = folder / "tokenizer.json"
    content = json.loads(tokenizer_file.read_text())
    content["added_tokens"].append({**content["added_tokens"][0], "id": 2048, "content": "[PAD]"})
    tokenizer_file.write_text(json.dumps(content))
    tokenizer = load_model(str(folder)).tokenizer
    assert tokenizer.encode("whale")
    with pytest.raises(
        InputError, match=r"none for the token '\[PAD\]' \(id 2048\) at character 6, in 'whale \[PAD\]s'"
    ):
        tokenizer.encode("whale [PAD]s")
    with pytest.raises(InputError, match=r"\(id 2048\)"):
        tokenizer.prompt("[PAD]")
    with pytest.raises(InputError, match=r"\(id 2048\) at position 1"):
        tokenizer.check_ids([0, 2048])


@pytest.mark.parametrize("method", ["gptq", "awq", "bitsandbytes", "compressed-tensors", "fp8", "of a new kind"])
def test_quantised_weights_are_refused_by_name(folder: Path, method: str) -> None:
    change_config(folder, quantization_config={"quant_method": method, "bits": 4})
    with pytest.raises(InputError, match=f"is quantised \\({method}\\)"):
        load_model(str(folder))


@pytest.mark.parametrize("wanted", ["flash_attention_2", "kernels-community/flash-attn", "no such thing", 5])
@pytest.mark.parametrize("name", ["attn_implementation", "_attn_implementation"])
def test_attention_is_torchs_whatever_the_configuration_wants(folder: Path, name: str, wanted: object) -> None:
    change_config(folder, **{name: wanted})
    assert load_model(str(folder)).model.config._attn_implementation == "sdpa"


def test_an_adapter_is_not_left_out(folder: Path) -> None:
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "owner/other", "peft_type": "LORA"}')
    with pytest.raises(InputError, match="has an adapter"):
        load_model(str(folder))


@pytest.mark.parametrize(
    "change",
    [
        {"n_layer": 10**6},
        {"num_labels": 10**9},
        {"vocab_size": 10**9},
        {"n_embd": 10**6},
        {"text_config": {"num_hidden_layers": 10**7}},
        {"model_type": "gpt_neo", "attention_types": [[["global"], 10**9]]},
    ],
)
def test_sizes_that_cannot_fit_take_no_memory(folder: Path, change: dict[str, object]) -> None:
    change_config(folder, **change)
    with pytest.raises(InputError, match=r"is too few for|the limit is|the files hold"):
        load_model(str(folder))


@pytest.mark.parametrize("value", ["x", [], {}, -1, 1.5])
@pytest.mark.parametrize(
    "name", ["n_layer", "n_head", "n_positions", "vocab_size", "layer_norm_epsilon", "architectures"]
)
def test_a_wrong_type_in_the_configuration_is_an_input_error(folder: Path, name: str, value: object) -> None:
    change_config(folder, **{name: value})
    try:
        load_model(str(folder))
    except InputError:
        return
    assert (name, value) in [("architectures", []), ("architectures", {}), ("layer_norm_epsilon", 1.5)]


def test_a_window_of_no_tokens_is_refused(folder: Path) -> None:
    change_config(folder, sliding_window=0)
    with pytest.raises(InputError, match="sliding_window"):
        load_model(str(folder))


def test_a_gguf_file_that_holds_more_than_its_model_uses_is_refused(tmp_path: Path) -> None:
    model, files = tiny_gpt2(), ModelFiles(tmp_path, "x.gguf")
    info = dict.fromkeys(("mismatched_keys", "missing_keys", "unexpected_keys"), ())
    num_used = sum(p.numel() for p in model.parameters())  # embedding and head are one tensor
    check_tensors(files, info, GgufHeader({}, {"all": (num_used,)}), model)
    with pytest.raises(InputError, match="the file holds more than a"):
        check_tensors(files, info, GgufHeader({}, {"all": (num_used,), "more": (1,)}), model)


def test_transformers_is_quiet_while_it_reads_and_as_before_after_that(folder: Path) -> None:
    logging = transformers.utils.logging
    former = logging.get_verbosity()
    logging.set_verbosity_info()
    try:
        with _reading(ModelFiles(folder), "model"):
            assert logging.get_verbosity() == logging.ERROR
        assert logging.get_verbosity() == logging.INFO
    finally:
        logging.set_verbosity(former)


def test_advice_of_transformers_stays_off_the_display(monkeypatch: pytest.MonkeyPatch) -> None:
    # Where pad = eos, its forward pass recommends a mask; the library reads this variable when it is imported.
    monkeypatch.delenv("TRANSFORMERS_VERBOSITY", raising=False)
    with pytest.raises(SystemExit):
        main(["models"])
    assert os.environ["TRANSFORMERS_VERBOSITY"] == "error"
