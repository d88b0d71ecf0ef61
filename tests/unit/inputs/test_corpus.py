"""Every form that people keep generated text in: read row by row, bad rows named, packed or not."""

from __future__ import annotations

import codecs
import gzip
import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
import zstandard
from pyarrow import parquet

from collapselab.errors import InputError
from collapselab.inputs import corpus_forms
from collapselab.inputs.corpus import Corpus
from collapselab.inputs.corpus_rows import Row

RECORDS = [{"step": 1, "completion": "one, two"}, {"step": 2, "completion": 'a "b"\n\u2028 ü 日本'}]
LINES = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in RECORDS)
TEXTS = [record["completion"] for record in RECORDS]


def csv_of(delimiter: str) -> bytes:
    rows = [f'{r["step"]}{delimiter}"{str(r["completion"]).replace(chr(34), chr(34) * 2)}"' for r in RECORDS]
    return "\n".join([f"step{delimiter}completion", *rows]).encode() + b"\n"


def parquet_bytes() -> bytes:
    table = pa.Table.from_pylist([r | {"image": b"\xff", "vector": [0.5]} for r in RECORDS])
    out = io.BytesIO()
    parquet.write_table(table, out)
    return out.getvalue()


def arrow_bytes(is_file: bool) -> bytes:
    table = pa.Table.from_pylist(RECORDS)
    out = pa.BufferOutputStream()
    with (pa.ipc.new_file if is_file else pa.ipc.new_stream)(out, table.schema) as writer:
        writer.write_table(table)
    return out.getvalue().to_pybytes()


FORMS: dict[str, bytes] = {
    "a.jsonl": LINES.encode(),
    "A.NDJSON": codecs.BOM_UTF8 + LINES.encode(),
    "utf16.jsonl": codecs.BOM_UTF16_LE + LINES.encode("utf-16-le"),
    "a.jsonl.gz": gzip.compress(LINES.encode()),
    "a.jsonl.zst": zstandard.compress(LINES.encode()),
    "two-frames.jsonl.zst": b"".join(zstandard.compress(line.encode()) for line in LINES.splitlines(keepends=True)),
    "lines.json": LINES.encode(),
    "array.json": json.dumps(RECORDS).encode(),
    "array-indented.json": json.dumps(RECORDS, indent=2).encode(),
    "array.jsonl": b" \n" + json.dumps(RECORDS, indent=1).encode(),
    "object.json": json.dumps({"version": 1, "data": RECORDS}, indent=1).encode(),
    "one-line-object.json": json.dumps({"version": 1, "data": RECORDS}).encode(),
    "nameless-array": json.dumps(RECORDS).encode(),
    "nameless-lines": LINES.encode(),
    "a.csv": csv_of(","),
    "a.csv.gz": gzip.compress(csv_of(",")),
    "a.tsv": csv_of("\t"),
    "nameless-table": csv_of(","),
    "table.txt": csv_of(","),
    "a.parquet": parquet_bytes(),
    "nameless-parquet": parquet_bytes(),
    "data-00000-of-00001.arrow": arrow_bytes(False),
    "file.arrow": arrow_bytes(True),
}


def rows_of(*specs: str) -> list[Row]:
    return list(Corpus.of(specs).rows())


def written(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    return str(path)


@pytest.mark.parametrize("name", FORMS)
def test_every_form_gives_the_same_rows(name: str, tmp_path: Path) -> None:
    rows = rows_of(written(tmp_path / name, FORMS[name]))
    assert [row.record["completion"] for row in rows] == TEXTS
    assert [int(row.record["step"]) for row in rows] == [1, 2]
    assert not any(row.is_prose or row.error for row in rows)
    assert "image" not in rows[0].record, "bytes are left out"
    assert "vector" not in rows[0].record, "vectors are left out"


@pytest.mark.parametrize("block", [1, 7, 64])
def test_an_array_is_read_in_pieces_of_any_size(block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    items = [{"text": "x" * n, "n": [n, {"a": "]"}]} for n in (0, 1, 50, 300)] + ["a string, [", 12, [1, 2]]
    path = written(tmp_path / "a.json", json.dumps(items, indent=1).encode())
    monkeypatch.setattr(corpus_forms, "BLOCK_CHARACTERS", block)
    assert [row.record for row in rows_of(path)] == items


@pytest.mark.parametrize(
    ("name", "content", "place", "reason"),
    [
        ("a.jsonl", '{"text": "a"}\n{"text":\n{"text": "b"}\n', "line 2", "is not JSON: Expecting value (column 9)"),
        ("a.jsonl", '{"text": "a"}\n\n' + "[" * 100_000 + '\n{"text": "b"}', "line 3", "nested too deeply"),
        ("a.jsonl", '{"text": "a"}\n{"n": ' + "9" * 5000 + '}\n{"text": "b"}', "line 2", "cannot be read"),
        ("a.csv", "text,n\na,1\nb\nb,2\n", "row 2", "has 1 cells for 2 columns"),
    ],
)
def test_a_bad_row_is_named_and_the_others_are_read(
    name: str, content: str, place: str, reason: str, tmp_path: Path
) -> None:
    rows = rows_of(written(tmp_path / name, content.encode()))
    (bad,) = [row for row in rows if row.error]
    assert bad.place == place
    assert reason in (bad.error or "")
    assert [row.record["text"] for row in rows if not row.error] == ["a", "b"]


def test_a_line_that_is_no_utf_8_is_a_bad_row(tmp_path: Path) -> None:
    rows = rows_of(written(tmp_path / "a.jsonl", b'{"text": "a"}\n{"text": "\xff"}\n'))
    assert [row.error is None for row in rows] == [True, False]
    assert "is not UTF-8" in (rows[1].error or "")


@pytest.mark.parametrize("end", ['[{"text": "a"}, {"text":', '[{"text": "a"}, x]', '[{"text": "a"},', '[{"text": "a"}'])
def test_a_broken_array_says_what_was_not_read(end: str, tmp_path: Path) -> None:
    rows = rows_of(written(tmp_path / "a.json", end.encode()))
    assert [row.record for row in rows if not row.error] == [{"text": "a"}]
    assert rows[-1].place == "item 2"
    assert "was not read" in (rows[-1].error or "") or "cut off" in (rows[-1].error or "")


@pytest.mark.parametrize("block", [16, 1 << 18])
def test_prose_is_read_in_stretches(block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prose = "It was a day,\nand then it was a night. " * 30
    monkeypatch.setattr(corpus_forms, "BLOCK_CHARACTERS", block)
    rows = rows_of(written(tmp_path / "a.txt", prose.encode()))
    assert all(row.is_prose for row in rows)
    assert "".join(row.record for row in rows) == prose


@pytest.mark.parametrize("content", ["{Sic} begins the prose\n", "[Exit Hamlet]\n", "12\n", "Yes, text, and more\n"])
def test_prose_that_begins_like_data_is_prose(content: str, tmp_path: Path) -> None:
    (row,) = rows_of(written(tmp_path / "samples", content.encode()))
    assert (row.is_prose, row.record) == (True, content)


def test_a_folder_is_all_its_files(tmp_path: Path) -> None:
    (tmp_path / "set" / "train").mkdir(parents=True)
    (tmp_path / "set" / ".git").mkdir()
    for name, content in {
        "set/dataset_dict.json": b'{"splits": ["train"]}',
        "set/train/data-00000-of-00001.arrow": arrow_bytes(False),
        "set/train/state.json": b'{"text": "no"}',
        "set/train/dataset_info.json": b'{"text": "no"}',
        "set/train/cache-1.arrow": b"no",
        "set/.git/a.txt": b"no",
        "set/README.md": b"no",
        "set/picture.png": b"no",
        "set/z.jsonl": LINES.encode(),
    }.items():
        (tmp_path / name).write_bytes(content)
    rows = rows_of(str(tmp_path / "set"))
    assert [row.file for row in rows] == ["data-00000-of-00001.arrow"] * 2 + ["z.jsonl"] * 2
    assert rows[3].full_place == "z.jsonl, line 2"


def test_a_file_of_a_folder_that_cannot_be_read_is_a_bad_row(tmp_path: Path) -> None:
    written(tmp_path / "a.parquet", b"PAR1 broken")
    written(tmp_path / "b.jsonl", LINES.encode())
    rows = rows_of(str(tmp_path))
    assert [row.error is None for row in rows] == [False, True, True]
    with pytest.raises(InputError, match="cannot be read as Parquet"):
        rows_of(str(tmp_path / "a.parquet"))


@pytest.mark.parametrize(
    ("name", "content", "rule"),
    [
        ("a.jsonl.gz", gzip.compress(LINES.encode())[:-9], "is damaged"),
        ("a.jsonl.zst", zstandard.compress(LINES.encode())[:-9], "is damaged: its last .* is cut off"),
        ("a.jsonl.zst", zstandard.compress(LINES.encode())[:20] + b"\xff" * 99, "is damaged"),
        ("a.txt", b"abc\xff", "is not UTF-8"),
        ("a.txt", b"ab\0c", "holds NUL"),
        ("a.txt", b" \n", "is empty"),
        ("a.txt", b"PK\x03\x04abc", "is a ZIP archive"),
        ("a.xlsx", b"PK\x03\x04abc", "is a ZIP archive"),
        ("a.arrow", b"ARROW1 broken", "cannot be read as Arrow"),
    ],
)
def test_what_cannot_be_read_is_named(name: str, content: bytes, rule: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rule) as caught:
        rows_of(written(tmp_path / name, content))
    assert caught.value.hint


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for path, rule in (
        (tmp_path / "none.txt", "there is no file"),
        (tmp_path / "empty", "has no file of text"),
        (tmp_path / "a\0b", "cannot read"),
        (tmp_path / os.fsdecode(b"caf\xe9.txt"), "is not UTF-8"),
    ):
        with pytest.raises(InputError, match=rule):
            Corpus.of([str(path)])


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstandard.compress])
def test_a_pipe_is_read_until_its_writer_ends(pack: Callable[[bytes], bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.write(writer, pack(LINES.encode()))
    os.close(writer)
    with os.fdopen(reader) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        corpus = Corpus.of(["-"])
        assert [row.record for row in corpus.rows()] == RECORDS
    assert corpus.total_bytes is None


def test_progress_is_bytes_read(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", LINES.encode() * 100_000)
    corpus = Corpus.of([path])
    rows = corpus.rows()
    assert corpus.total_bytes == len(LINES.encode()) * 100_000
    for _ in range(100_000):
        next(rows)
    assert corpus.done_bytes == pytest.approx(corpus.total_bytes / 2, rel=0.2)
    assert len(list(rows)) == 100_000
    assert corpus.done_bytes == corpus.total_bytes
