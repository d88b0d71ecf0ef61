"""The header of a GGUF file: exact values, and every cut, length and type that does not fit the file."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from collapselab.errors import InputError
from collapselab.inputs.gguf_header import GgufHeader, read_gguf_header
from collapselab.inputs.model_checks import check_header
from collapselab.inputs.model_files import ModelFiles


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def gguf(*, layers: int = 1, num_entries: int = 4, num_tensors: int = 1, version: int = 3, kind: int = 4) -> bytes:
    entries = (
        text("general.architecture") + struct.pack("<I", 8) + text("llama"),
        text("llama.block_count") + struct.pack("<II", kind, layers),
        text("tokens") + struct.pack("<IIQ", 9, 8, 2) + text("a") + text("b"),
        text("scores") + struct.pack("<IIQ2f", 9, 6, 2, 0.5, 1.5),
    )
    tensor = text("token_embd.weight") + struct.pack("<IQQIQ", 2, 3, 5, 0, 0)
    head = b"GGUF" + struct.pack("<IQQ", version, num_tensors, num_entries)
    return head + b"".join(entries) + tensor


def written(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "m.gguf"
    path.write_bytes(content)
    return path


def test_entries_and_shapes_by_hand(tmp_path: Path) -> None:
    header = read_gguf_header(written(tmp_path, gguf()))
    assert header.entries == {"general.architecture": "llama", "llama.block_count": 1}
    assert header.tensors == {"token_embd.weight": (3, 5)}
    assert header.num_elements == 15


def test_every_cut_is_refused(tmp_path: Path) -> None:
    whole = gguf()
    for length in range(len(whole)):
        with pytest.raises(InputError):
            read_gguf_header(written(tmp_path, whole[:length]))


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (gguf(num_entries=2**60), "cut off"),
        (gguf(num_tensors=2**60), "cut off"),
        (gguf(version=1), "version 1"),
        (gguf(kind=99), "unknown type 99"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text("a") + struct.pack("<IIQ", 9, 8, 2**40), "cut off"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text("a") + struct.pack("<II", 9, 9) * 50, "unknown type 9"),
        (b"GGML" + bytes(100), "does not begin with GGUF"),
        (b"", "cannot read"),
    ],
)
def test_what_cannot_be_true_is_refused(tmp_path: Path, content: bytes, rule: str) -> None:
    with pytest.raises(InputError, match=rule):
        read_gguf_header(written(tmp_path, content))


def test_more_layers_than_tensors_are_refused(tmp_path: Path) -> None:
    header = read_gguf_header(written(tmp_path, gguf(layers=10**6)))
    with pytest.raises(InputError, match="too few for 1,000,000 layers"):
        check_header(ModelFiles(tmp_path, "m.gguf"), header)


def test_a_file_must_say_how_many_layers_it_has(tmp_path: Path) -> None:
    header = GgufHeader({"general.architecture": "llama"}, {"token_embd.weight": (4, 4)})
    with pytest.raises(InputError, match="how many layers"):  # else a default, 32, is worked on for half a minute
        check_header(ModelFiles(tmp_path, "m.gguf"), header)
