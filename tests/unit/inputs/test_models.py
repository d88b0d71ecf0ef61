"""Models by name: shipped, folder, GGUF; and what is loaded is what was saved."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import GPT2Config, GPT2LMHeadModel

from collapselab.errors import InputError
from collapselab.inputs.model_files import BUILTIN_NAMES, SMOLLM2, SMOLLM2_WHEEL
from collapselab.inputs.models import load_model, load_tokenizer, model_names
from collapselab.inputs.tokenizers import BUILTIN
from model_folders import change_config, tiny_gpt2, tiny_llama, write_folder

SHARED = Path(__file__).parents[4] / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the shared texts (../shared/data) are not here")
FOUND = [name for name in BUILTIN_NAMES if (BUILTIN / name.removeprefix("builtin:") / "model.safetensors").is_file()]
SMOLLM2_MISSING = [package for package in (SMOLLM2_WHEEL, "gguf", "accelerate") if find_spec(package) is None]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "model", tiny_gpt2())


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The URLs requested; nothing can be reached."""
    asked: list[object] = []

    def refuse(*address: object, **_: object) -> None:
        asked.append(address)
        raise OSError("no network in this test")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    return asked


def test_all_three_models_are_shipped() -> None:
    assert tuple(FOUND) == BUILTIN_NAMES


@pytest.mark.parametrize("name", FOUND)
def test_a_shipped_model_is_its_file_in_float32(
    name: str, connections: list[object], capfd: pytest.CaptureFixture[str]
) -> None:
    loaded = load_model(name)
    assert (loaded.name, loaded.context_length, loaded.vocab_size) == (name, 256, 2048)
    assert (loaded.tokenizer.end_of_text_id, loaded.tokenizer.vocab_size) == (0, 2048)
    info = next(info for info in model_names() if info.name == name)
    assert info.num_parameters == loaded.num_parameters
    assert not loaded.model.training
    assert loaded.model.config._attn_implementation == "sdpa"
    assert all(p.dtype == torch.float32 and p.requires_grad for p in loaded.model.parameters())
    assert loaded.model.get_output_embeddings().weight is loaded.model.get_input_embeddings().weight
    state = loaded.model.state_dict()
    saved = load_file(BUILTIN / name.removeprefix("builtin:") / "model.safetensors")
    assert set(state) - set(saved) == {"lm_head.weight"}
    assert all(torch.equal(state[key], saved[key].float()) for key in saved)
    assert connections == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("make", "context_length"), [(tiny_gpt2, 16), (tiny_llama, 32)])
def test_a_folder_is_loaded_as_it_was_saved(
    make: Any, context_length: int, tmp_path: Path, connections: list[object], capfd: pytest.CaptureFixture[str]
) -> None:
    model = make()
    write_folder(tmp_path / "model", model)
    capfd.readouterr()
    loaded = load_model(str(tmp_path / "model"))
    assert capfd.readouterr() == ("", "")
    assert (loaded.context_length, loaded.vocab_size) == (context_length, model.config.vocab_size)
    assert loaded.num_parameters == sum(p.numel() for p in model.parameters())
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), loaded.model.parameters(), strict=True))
    assert load_tokenizer(str(tmp_path / "model")).encode("whale") == loaded.tokenizer.encode("whale")
    assert connections == []


def test_half_precision_weights_become_float32(folder: Path) -> None:
    half = {key: value.half() for key, value in load_file(folder / "model.safetensors").items()}
    save_file(half, folder / "model.safetensors", metadata={"format": "pt"})
    change_config(folder, dtype="float16")
    assert {p.dtype for p in load_model(str(folder)).model.parameters()} == {torch.float32}


def test_the_eos_of_the_configuration_stands_in_for_the_end_of_text_token(folder: Path) -> None:
    tokenizer_file = folder / "tokenizer.json"
    tokenizer_file.write_text(tokenizer_file.read_text().replace("<|endoftext|>", "</s>"))
    change_config(folder, eos_token_id=[5, 6])
    assert load_tokenizer(str(folder)).end_of_text_id == 5
    change_config(folder, eos_token_id=None)
    with pytest.raises(InputError, match="needs an end-of-text token"):
        load_model(str(folder))


@needs_shared
def test_a_folder_with_gpt2s_two_tokenizer_files_gives_its_token_count(tmp_path: Path) -> None:
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(SHARED / "gpt2-bpe" / name, tmp_path)
    GPT2Config().save_pretrained(tmp_path)
    tokenizer = load_tokenizer(str(tmp_path))
    assert (tokenizer.end_of_text_id, tokenizer.vocab_size) == (50256, 50257)
    assert len(tokenizer.encode((SHARED / "ptb" / "valid.txt").read_bytes().decode())) == 92_830


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is here")
def test_a_missing_gpu_is_an_input_error() -> None:
    with pytest.raises(InputError, match="needs a GPU"):
        load_model("builtin:nano", device="cuda")


def test_listing_models_and_texts_imports_neither_torch_nor_transformers() -> None:
    code = (
        "import sys\n"
        "from collapselab.inputs import models as m, texts as d, tokenizers as t\n"
        "m.model_names(); d.text_names(); d.load_text('austen'); t.builtin_tokenizer().encode('whale')\n"
        "print(*({'torch', 'transformers', 'requests'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == ""


def test_the_listing_names_every_model_once() -> None:
    names = [info.name for info in model_names()]
    assert names == [*BUILTIN_NAMES, SMOLLM2, "gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl"]
    sizes = {info.name: info.num_parameters for info in model_names()}
    with torch.device("meta"):
        gpt2 = GPT2LMHeadModel(GPT2Config())
    assert sizes["gpt2"] == gpt2.num_parameters()


@pytest.mark.skipif(bool(SMOLLM2_MISSING), reason=f"not installed: {', '.join(SMOLLM2_MISSING)}")
def test_smollm2_from_its_wheel(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    loaded = load_model(SMOLLM2)
    assert capfd.readouterr() == ("", "")
    assert (loaded.context_length, loaded.vocab_size, loaded.num_parameters) == (8192, 49152, 134_515_008)
    assert loaded.tokenizer.end_of_text_id == 0
    assert loaded.tokenizer.decode([0]) == "<|endoftext|>"
    if SHARED.is_dir():
        text = (SHARED / "wikitext-2" / "valid.txt").read_bytes().decode()
        assert len(loaded.tokenizer.encode(text)) == 273_868
    loaded.model.save_pretrained(tmp_path)
    loaded.tokenizer.backend.save(str(tmp_path / "tokenizer.json"))
    again = load_model(str(tmp_path))
    ids_BT = torch.tensor([loaded.tokenizer.encode("The capital of France is")])
    with torch.no_grad():
        logits_BTV = loaded.model(ids_BT).logits
        assert torch.equal(logits_BTV, again.model(ids_BT).logits)
    assert loaded.tokenizer.decode([int(logits_BTV[0, -1].argmax())]) == " Paris"
