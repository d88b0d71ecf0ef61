"""Damages of a run's files, for tests: each one is done to one file of one run directory."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

RUN_FILES = ("config.json", "user.json", "env.json", "status.json", "summary.json", "steps.jsonl", "samples.jsonl")


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def truncate_at_a_line(path: Path) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[: len(lines) // 2]))


def nul_block(path: Path) -> None:
    content = path.read_bytes()
    middle = len(content) // 2
    path.write_bytes(content[:middle] + bytes(64) + content[middle + 64 :])


def flip_in_a_name(path: Path) -> None:
    """The lowest bit of the first letter of the first name."""
    content = bytearray(path.read_bytes())
    content[content.index(b'"') + 1] ^= 1
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def empty_object(path: Path) -> None:
    path.write_bytes(b"{}\n")


def no_object(path: Path) -> None:
    path.write_bytes(b"[1, null]\n")


def foreign(path: Path) -> None:
    path.write_bytes(b'{"model_type": "gpt2", "step": "x", "status": 7, "run_id": 3, "config": []}\n')


def missing(path: Path) -> None:
    path.unlink()


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def deep(path: Path) -> None:
    path.write_bytes(b"[" * 100_000 + b"\n")


def no_utf8(path: Path) -> None:
    path.write_bytes(b'{"a": "\xff\xfe"}\n')


DAMAGES: dict[str, Callable[[Path], None]] = {
    one.__name__: one
    for one in (
        truncate,
        truncate_at_a_line,
        nul_block,
        flip_in_a_name,
        empty,
        empty_object,
        no_object,
        foreign,
        missing,
        fifo,
        folder,
        deep,
        no_utf8,
    )
}
