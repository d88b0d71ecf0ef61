"""Texts by name and path: the right bytes, errors that say what to do."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

import pytest

from collapselab.errors import InputError
from collapselab.inputs.texts import data_folder, load_text, text_names
from collapselab.inputs.tokenizers import BUILTIN

SHARED = Path(__file__).parents[4] / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the shared texts (../shared/data) are not here")


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize(("name", "num_chars"), [("austen", 247_559), ("moby-dick", 119_112)])
def test_shipped_texts_are_their_files(name: str, num_chars: int, tmp_path: Path) -> None:
    text = load_text(name, tmp_path)
    content = (BUILTIN / "texts" / f"{name}.txt").read_bytes()
    assert (text.id, text.split, text.licence, len(text.text)) == (name, "valid", "public domain", num_chars)
    assert (text.text.encode(), text.sha256) == (content, sha256(content))
    assert load_text(f"{name}:valid", tmp_path) == text
    assert list(tmp_path.iterdir()) == []


@needs_shared
@pytest.mark.parametrize("name", ["wikitext-2", "wikitext-2:test", "ptb", "ptb:test"])
def test_texts_in_the_data_folder_are_used_as_they_are(name: str) -> None:
    text = load_text(name, SHARED)
    path = SHARED / text.id / f"{text.split}.txt"
    assert text.split == (name.partition(":")[2] or "valid")
    assert text.text.encode() == path.read_bytes()
    assert "<unk>" in text.text
    assert ("LDC" in (text.licence or "")) == (text.id == "ptb")


def test_every_named_text_is_complete() -> None:
    assert [info.id for info in text_names()] == ["austen", "moby-dick", "wikitext-2", "wikitext-2-raw", "ptb"]
    for info in text_names():
        assert all((info.form, info.licence, info.source))
        assert all(len(digest) == 64 and int(digest, 16) for digest in info.sha256.values())
        assert info.is_shipped or info.splits == ("train", "valid", "test")
        for mirror in info.mirrors:
            assert mirror.url.startswith("https://")
            assert "{split}" in (mirror.member or mirror.url)
            assert (mirror.member is None) == (mirror.zip_sha256 is None)


def test_the_data_folder_is_the_argument_then_the_environment_then_the_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("COLLAPSELAB_DATA", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert data_folder().name == "collapselab"
    assert Path.home() in data_folder().parents
    monkeypatch.setenv("COLLAPSELAB_DATA", str(tmp_path))
    assert data_folder() == tmp_path
    assert data_folder(tmp_path / "other") == tmp_path / "other"


def test_a_changed_file_in_the_data_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ptb").mkdir()
    (tmp_path / "ptb" / "valid.txt").write_text("not the treebank")
    with pytest.raises(InputError, match="is not ptb:valid: its sha256 is") as caught:
        load_text("ptb", tmp_path)
    assert "delete it" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("spec", "rule", "hint"),
    [
        ("wikitext", "unknown text 'wikitext'", "wikitext-2"),
        ("asuten", "unknown text 'asuten'", "austen"),
        ("wikitext-2:tests", "wikitext-2 has no split 'tests'", "train, valid, test"),
        ("austen:test", "austen has no split 'test'", "it has valid"),
        ("nowhere.txt", "there is no file nowhere.txt", "plain text in UTF-8"),
        ("nowhere/text", "there is no file nowhere/text", "plain text in UTF-8"),
        ("nowhere.jsonl:body", "there is no file nowhere.jsonl", "JSON lines"),
        ("~nobody-of-that-name/x.txt", "there is no file ~nobody-of-that-name/x.txt", "plain text in UTF-8"),
        ("n" * 300, "unknown text 'nnn", "known"),
    ],
)
def test_what_is_not_there_is_named(spec: str, rule: str, hint: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rule) as caught:
        load_text(spec, tmp_path)
    assert hint in (caught.value.hint or "")


def test_a_file_of_ones_own_is_read_byte_for_byte(tmp_path: Path) -> None:
    path = tmp_path / "own.txt"
    path.write_bytes("Größe\r\n\u2028 end \n".encode())
    text = load_text(str(path))
    assert (text.id, text.text, text.split, text.licence) == (str(path), "Größe\r\n\u2028 end \n", None, None)
    assert text.sha256 == sha256(path.read_bytes())


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (b"abc\xff", "is not UTF-8: invalid start byte at byte 3"),
        (b"", "is empty"),
        (b" \n\t", "is empty"),
    ],
)
def test_a_file_that_is_no_text_is_refused(content: bytes, rule: str, tmp_path: Path) -> None:
    path = tmp_path / "own.txt"
    path.write_bytes(content)
    with pytest.raises(InputError, match=rule):
        load_text(str(path))


def test_a_folder_is_no_text(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a folder"):
        load_text(str(tmp_path))


def test_records_are_joined_like_paragraphs(tmp_path: Path) -> None:
    path = tmp_path / "own.jsonl"
    # JSON allows a bare line separator (U+2028) within a string; only a newline ends a line.
    path.write_text('{"text": "one\u2028", "body": "1"}\n\n{"text": "two", "body": "2"}\n')
    text = load_text(str(path))
    assert (text.text, text.form) == ("one\u2028\n\ntwo", "JSON, field 'text'")
    assert load_text(f"{path}:body").text == "1\n\n2"


def test_records_without_a_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "own.jsonl"
    path.write_text('{"text": ""}\n{"text": " "}\n')
    with pytest.raises(InputError, match="is empty"):
        load_text(str(path))
    path.write_text('{"token_ids": [1, 2]}\n')
    with pytest.raises(InputError, match="no generated text in a known field"):
        load_text(str(path))
    with pytest.raises(InputError, match="no text or token ids at"):
        load_text(f"{path}:token_ids")


@pytest.mark.parametrize("name", ["wikitext-2:train", "wikitext-2-raw:test", "ptb"])
def test_without_a_network_the_error_comes_at_once(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # A proxy that does not exist simulates a missing network on machines that have one.
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    start = time.monotonic()
    with pytest.raises(InputError, match="cannot download") as caught:
        load_text(name, tmp_path)
    assert time.monotonic() - start < 5
    text_id, _, split = name.partition(":")
    assert str(tmp_path / text_id / f"{split or 'valid'}.txt") in (caught.value.hint or "")
