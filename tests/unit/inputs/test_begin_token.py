"""The token with which samples, probes and `+eot` windows begin: the model's own, or the one named in a setting."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tokenizers
import torch
from test_tokenization import word_tokenizer
from tokenizers import decoders, normalizers, pre_tokenizers, processors

from collapselab.config.overrides import override
from collapselab.config.schema import RunConfig
from collapselab.errors import InputError
from collapselab.inputs.models import load_model
from collapselab.inputs.tokenizers import END_OF_TEXT, builtin_tokenizer, wrap_tokenizer
from collapselab.step.parts import build
from collapselab.step.sources import probe, training_sequences, training_text
from model_folders import tiny_llama

WORDS = ("<unk>", "<s>", "</s>", "a", "whale", "sea")


def special_words(*words: str) -> tokenizers.Tokenizer:
    backend = word_tokenizer(*words)
    backend.add_special_tokens([word for word in words if word.startswith("<")])
    return backend


@pytest.fixture(scope="module")
def llama_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama with `<s>` (1) and `</s>` (2) of its own."""
    folder = tmp_path_factory.mktemp("llama")
    torch.manual_seed(0)
    tiny_llama(vocab_size=6, max_position_embeddings=128, bos_token_id=1, eos_token_id=2).save_pretrained(folder)
    special_words(*WORDS).save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture
def config(llama_folder: Path, tmp_path: Path, tiny_config: RunConfig) -> RunConfig:
    (tmp_path / "text.txt").write_text("a whale a sea " * 60)
    changes = {"model": str(llama_folder), "data": (str(tmp_path / "text.txt"),), "eval.protocol": "windows[20,5]+eot"}
    return override(tiny_config, {**changes, "engine": "plain", "generate.max_new_tokens": 20})


def test_samples_probes_and_windows_begin_with_the_models_own_token(config: RunConfig) -> None:
    setup = build(override(config, {"collapse.source": "probe", "collapse.probe_tokens": 100}))
    tokenizer = setup.learner.tokenizer
    assert (tokenizer.begin_id, tokenizer.end_of_text_id, tokenizer.start_id) == (1, 2, 1)
    text = training_text(setup, 0)
    assert text.prompts == [[1]]
    assert training_sequences(setup, text)[0] == [1, *text.samples[0]]
    # What was written, and what is scored, is what the model says after <s>.
    ids_BT = torch.tensor([[1, *text.samples[0]]])
    seen: list[list[int]] = []
    forward = setup.learner.loaded.model.forward

    def watched(*args: object, **kwargs: torch.Tensor) -> object:
        seen.extend(row[:1] for row in kwargs["input_ids"].tolist())
        return forward(*args, **kwargs)

    setup.learner.loaded.model.forward = watched
    setup.learner.loaded.model(input_ids=ids_BT)
    setup.losses(0)
    probe(setup, 0)
    # One token at a time is read with a cache; every pass that begins a sequence begins with <s>.
    assert seen[: 1 + 5] == [[1]] * 6


def test_a_text_prompt_comes_after_it_once(config: RunConfig) -> None:
    for prompt in ("whale", "<s> whale"):
        assert training_text(build(override(config, {"generate.prompt": prompt})), 0).prompts == [[1, 4]]


def test_the_setting_names_another(config: RunConfig) -> None:
    setup = build(override(config, {"generate.begin_token": "</s>"}))
    assert training_text(setup, 0).prompts == [[2]]
    assert build(config).losses(0) != setup.losses(0)
    with pytest.raises(InputError, match="'<bos>' is not a token of the tokenizer") as caught:
        build(override(config, {"generate.begin_token": "<bos>"}))
    assert "'<s>'" in (caught.value.hint or "")


def test_encoding_again_keeps_it(config: RunConfig) -> None:
    setup = build(override(config, {"train.retokenise": True}))
    text = training_text(setup, 0)
    assert training_sequences(setup, text)[0][0] == 1


def test_what_the_tokenizer_puts_in_front_is_the_begin_token() -> None:
    backend = special_words("<unk>", "<bos>", END_OF_TEXT, "a")
    assert wrap_tokenizer(backend, None, "here", bos=1).begin_id is None
    backend.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 1)])
    assert wrap_tokenizer(backend, None, "here").begin_id == 1
    backend.post_processor = processors.TemplateProcessing(single="$A <bos>", special_tokens=[("<bos>", 1)])
    assert wrap_tokenizer(backend, None, "here").begin_id is None


def test_models_that_begin_and_end_with_one_token_have_none_of_their_own() -> None:
    assert builtin_tokenizer().begin_id is None
    assert wrap_tokenizer(special_words(*WORDS), 2, "here", bos=2).begin_id is None
    # SmolLM2: its bos begins a turn of a chat, and documents are parted by <|endoftext|>.
    smollm2 = wrap_tokenizer(special_words(END_OF_TEXT, "<|im_start|>", "<|im_end|>"), 2, "here", bos=1)
    assert (smollm2.begin_id, smollm2.start_id) == (None, 0)


def test_an_ordinary_token_is_no_begin_token() -> None:
    # LlamaConfig says bos 1 where nothing was said.
    assert wrap_tokenizer(special_words("<unk>", "whale", "</s>"), 2, "here", bos=1).begin_id is None


@pytest.mark.parametrize(("told", "begin_id"), [({"add_bos_token": False}, None), ({"bos_token": None}, None), ({}, 1)])
def test_a_tokenizer_that_says_it_adds_none_is_believed(
    llama_folder: Path, told: dict[str, object], begin_id: int | None
) -> None:
    path = llama_folder / "tokenizer_config.json"
    path.write_text(json.dumps(told))
    try:
        assert load_model(str(llama_folder)).tokenizer.begin_id == begin_id
    finally:
        path.unlink()


@pytest.mark.parametrize("eos", [[], -1, "2", 2.5, True, {}, [[]], ["2"]])
def test_an_end_token_that_is_no_id_is_refused(eos: object) -> None:
    with pytest.raises(InputError, match="eos_token_id must be a token id"):
        wrap_tokenizer(special_words(*WORDS), eos, "here")


def test_a_begin_token_spells_no_text_when_samples_are_encoded_again() -> None:
    # Llama's tokenizer puts a blank before every stretch of text and takes one off when it decodes; behind <s> there
    # are then two.
    backend = special_words("<unk>", "<s>", "</s>", "▁whale", "▁")
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    tokenizer = wrap_tokenizer(backend, 2, "here", bos=1)
    assert tokenizer.encode(tokenizer.decode([1, 3, 3])) == [1, 4, 3, 3]
    assert tokenizer.again([1, 3, 3]) == [1, 3, 3]


def test_a_special_token_in_a_sample_is_plain_text_when_encoded_again() -> None:
    """Only the start token in front stays; GPT-2's tokenizer does so too (`encode_ordinary`)."""
    tokenizer = builtin_tokenizer()
    end, words = tokenizer.end_of_text_id, tokenizer.encode("She said")
    spelt = tokenizer.again([end, *words, end])
    assert spelt[: 1 + len(words)] == [end, *words]
    assert end not in spelt[1:]
    assert tokenizer.decode(spelt) == "<|endoftext|>She said<|endoftext|>"
    assert tokenizer.encode("<|endoftext|>") == [end], "texts and prompts still know it"
