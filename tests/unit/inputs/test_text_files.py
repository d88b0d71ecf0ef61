"""Text files by name, packing, encoding and records; refusals name the cause, and nothing hangs."""

from __future__ import annotations

import bz2
import codecs
import gzip
import json
import os
import zipfile
from pathlib import Path

import pytest

from collapselab.errors import InputError
from collapselab.inputs import text_files
from collapselab.inputs.text_files import Passage, read_passages, read_text, split_field
from collapselab.inputs.texts import load_text

PROSE = "Größe, naïve, 日本, 😀.\r\n\u2028 end \n"
LINE = json.dumps({"text": PROSE})


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize(
    "content",
    [
        PROSE.encode(),
        codecs.BOM_UTF8 + PROSE.encode(),
        codecs.BOM_UTF16_LE + PROSE.encode("utf-16-le"),
        codecs.BOM_UTF16_BE + PROSE.encode("utf-16-be"),
        codecs.BOM_UTF32_LE + PROSE.encode("utf-32-le"),
        gzip.compress(PROSE.encode()),
        gzip.compress(codecs.BOM_UTF8 + PROSE.encode()[:9]) + gzip.compress(PROSE.encode()[9:]),
    ],
    ids=["utf-8", "utf-8 mark", "utf-16-le", "utf-16-be", "utf-32", "gzip", "gzip in two parts with a mark"],
)
def test_a_text_is_read_in_every_packing(content: bytes, tmp_path: Path) -> None:
    assert read_passages(written(tmp_path / "own.txt", content)) == [Passage(PROSE)]


@pytest.mark.parametrize("name", ["a.jsonl", "A.JSONL", "a.ndjson", "a.NdJson", "a.json", "a.jsonl.gz", "A.JSON.GZ"])
@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8])
def test_records_are_never_prose(name: str, mark: bytes, tmp_path: Path) -> None:
    content = mark + f"{LINE}\n\n{LINE}\n".encode()
    path = written(tmp_path / name, gzip.compress(content) if name.lower().endswith(".gz") else content)
    assert read_passages(path) == [Passage(PROSE, "line 1", "text"), Passage(PROSE, "line 3", "text")]
    assert load_text(str(path)).text == f"{PROSE}\n\n{PROSE}"


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_an_array_and_an_object_over_several_lines_are_records(name: str, tmp_path: Path) -> None:
    records = [{"text": "one"}, {"text": "two"}]
    path = written(tmp_path / name, "\n" + json.dumps(records, indent=2))
    assert read_passages(path) == [Passage("one", "item 1", "text"), Passage("two", "item 2", "text")]
    written(path, json.dumps(records[0], indent=2))
    assert read_passages(path) == [Passage("one", "object 1", "text")]
    written(path, '["one", "two"]')
    assert [passage.content for passage in read_passages(path)] == ["one", "two"]


ANSWER = {"role": "assistant", "content": "yes"}


@pytest.mark.parametrize(
    ("record", "field"),
    [
        ({"prompt": "p", "completion": "yes"}, "completion"),
        ({"text": None, "response": "yes"}, "response"),
        ({"instruction": "p", "input": "i", "output": "yes"}, "output"),
        ({"generated_text": "yes"}, "generated_text"),
        ({"question": "p", "answer": "yes"}, "answer"),
        ({"messages": [{"role": "user", "content": "p"}, ANSWER, {"role": "user", "content": "thanks"}]}, "messages"),
        ({"messages": [ANSWER, {"role": "assistant", "content": None, "tool_calls": []}]}, "messages"),
        (
            {"messages": [{"role": "assistant", "content": [{"type": "text", "text": "yes"}, {"type": "x"}]}]},
            "messages",
        ),
        ({"conversations": [{"from": "gpt", "value": "hello"}, {"from": "gpt", "value": "yes"}]}, "conversations"),
        ({"prompt": [{"role": "user", "content": "p"}], "completion": [ANSWER]}, "completion"),
    ],
)
def test_the_field_with_the_models_words_is_found(record: object, field: str, tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", json.dumps(record))
    assert read_passages(path) == [Passage("yes", "line 1", field)]


@pytest.mark.parametrize("field", ["choices.0.message.content", "a.b", "deep.er"])
def test_a_field_by_name_may_lie_deeper(field: str, tmp_path: Path) -> None:
    record = {"text": "no", "choices": [{"message": {"content": "yes"}}], "a.b": "yes", "deep": {"er": "yes"}}
    path = written(tmp_path / "a.b:c.jsonl", json.dumps(record))
    assert split_field(f"{path}:{field}") == (path, field)
    assert read_passages(path, field) == [Passage("yes", "line 1", field)]


def test_a_file_whose_whole_name_it_is_goes_first(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl:text", "prose")
    assert split_field(str(path)) == (path, None)
    assert read_passages(path) == [Passage("prose")]


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ('{"text": ', r"line 2 is not JSON: .* \(column 10\)"),
        ("1", r"line 2 is no object with a text, received 1"),
        ("{}", r"line 2 has no generated text in a known field \(its fields: none\)"),
        ('{"txt": "a", "step": 1}', r"line 2 has no generated text .*fields: txt, step"),
        ('{"text": 3}', r"line 2 has no generated text .*fields: text"),
        ('{"messages": [{"role": "user", "content": "p"}]}', "line 2 has no generated text"),
        ('{"token_ids": [1, 2]}', "line 2 has no generated text"),
        ('{"text": "half \\ud83d a pair"}', r"line 2 holds half a surrogate pair, '\\ud83d' at character 5"),
        ("[" * 100_000, "line 2 is nested too deeply"),
        ('{"text": ' + "[" * 100_000, "line 2 is nested too deeply"),
        ('{"text": "a", "id": ' + "9" * 5000 + "}", "line 2 cannot be read: .*4300"),
    ],
    ids=lambda value: value[:20],
)
def test_a_broken_record_is_named_by_its_line(line: str, rule: str, tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", f'{{"text": "fine"}}\n{line}\n')
    with pytest.raises(InputError, match=rule) as caught:
        read_passages(path)
    assert caught.value.hint
    assert len(caught.value.message) < 400 + len(str(path))


@pytest.mark.parametrize("content", ["[" * 100_000, '{"a":' * 100_000, '[{"text": "a"}, {"text":', "[1] [2]"])
def test_a_broken_array_is_named(content: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nested too deeply|not JSON"):
        read_passages(written(tmp_path / "a.json", content))


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (b"", "is empty"),
        (b" \n\t", "is empty"),
        (codecs.BOM_UTF8, "is empty"),
        (b"abc\xff", "is not UTF-8: invalid start byte at byte 3"),
        (codecs.BOM_UTF16_LE + b"a", "is not UTF-16: truncated data"),
        ("plain".encode("utf-16-le"), "is not UTF-8: character 1 is NUL"),
        (gzip.compress(PROSE.encode())[:-9], "is a broken gzip file"),
        (b"\x1f\x8b" + b"x" * 20, "is a broken gzip file"),
        (bz2.compress(PROSE.encode()), "is a bzip2 file"),
        (b"PAR1\x15\x04\x15\xff", "is a Parquet file"),
    ],
)
def test_what_is_no_text_is_named(content: bytes, rule: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rule) as caught:
        read_passages(written(tmp_path / "own.txt", content))
    assert caught.value.hint


def test_a_zip_file_is_named(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "own.txt", "w") as archive:
        archive.writestr("a", "\xff\xfe")
    with pytest.raises(InputError, match="is a ZIP file"):
        read_text(tmp_path / "own.txt")


def test_a_gzip_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_files, "MAX_TEXT_BYTES", 100_000)
    with pytest.raises(InputError, match="100,000 bytes at most, received more, once unpacked"):
        read_text(written(tmp_path / "own.txt", gzip.compress(b" " * 2_000_000)))
    with pytest.raises(InputError, match="100,000 bytes at most, received 2,000,000 bytes"):
        read_text(written(tmp_path / "own.txt", b" " * 2_000_000))


def test_what_is_no_file_is_named_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.txt")
    for path, rule in (
        (tmp_path, "is a folder"),
        (tmp_path / "pipe.txt", "is a pipe or a device"),
        (Path("/dev/zero"), "is a pipe or a device"),
        (tmp_path / "nowhere.txt", "there is no file"),
        (tmp_path / "pipe.txt" / "x", "cannot read .*Not a directory"),
        (tmp_path / ("n" * 300), "cannot read .*File name too long"),
        (tmp_path / "a\0b", "cannot read .*null"),
        (tmp_path / os.fsdecode(b"caf\xe9.txt"), r"file name .*caf.*\.txt is not UTF-8"),
    ):
        with pytest.raises(InputError, match=rule) as caught:
            read_text(path)
        assert caught.value.hint
        str(caught.value).encode()


def test_plain_text_has_no_fields(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is plain text and has no field 'body'"):
        read_passages(written(tmp_path / "own.txt", PROSE), "body")


@pytest.mark.parametrize(
    ("content", "texts"),
    [
        ('{"answer": "one"}\n{"answer": "two"}\n', ["one", "two"]),
        ('\n [{"text": "one"}, {"text": "two"}]', ["one", "two"]),
        ('[\n {"text": "one"},\n {"text": "two"}\n]\n', ["one", "two"]),
        ("{Sic} begins the prose\n", ["{Sic} begins the prose\n"]),
        ("[Exit Hamlet]\n", ["[Exit Hamlet]\n"]),
        ("12\n", ["12\n"]),
    ],
)
def test_what_has_no_name_is_told_by_its_first_line(content: str, texts: list[str], tmp_path: Path) -> None:
    (tmp_path / "samples").write_text(content, encoding="utf-8")
    assert [passage.content for passage in read_passages(tmp_path / "samples")] == texts


def test_standard_input_is_no_text_to_evaluate_on() -> None:
    with pytest.raises(InputError, match="unknown text '-'"):
        load_text("-")
