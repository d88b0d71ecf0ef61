"""`audit` on the command line: the sentence, lines of JSON, the gate, sorted rows, references, pages."""

from __future__ import annotations

import io
import json
import os
import re
import sys
from pathlib import Path

import pytest

from collapselab.cli import main

LOOPS = "Answer: the sum of the first n numbers is n. "


def healthy(seed: int, num_words: int = 400) -> str:
    return "".join(chr(0x4E00 + (seed * 977 + k * k) % 5000) for k in range(num_words))


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    rows = [{"step": i, "completion": LOOPS * 30 if i >= 30 else healthy(i), "prompt": "no"} for i in range(40)]
    path = tmp_path / "a [b].jsonl"
    path.write_text("\n".join(map(json.dumps, [*rows, {"broken": 1}])), encoding="utf-8")
    return path


def called(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    written = capsys.readouterr()
    assert isinstance(caught.value.code, int)
    return caught.value.code, written.out, written.err


def test_of_many_groups_healthy_neighbours_are_shown_as_one(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = called(capsys, "audit", str(corpus), "--by", "step")
    groups = [re.split(r"\s{2,}", line)[:3] for line in out[out.index("\ngroup ") :].splitlines()[2:13]]
    assert groups == [["0 … 29", "30", "0"], *([str(step), "1", "1"] for step in range(30, 40))]
    assert re.search(r"0 … 29 +30 +0 +0 % +\[0, 12\] ", out)
    assert re.search(r"\n30 +1 +1 +100 % +\[3, 100\] +1 loop", out)


def test_the_sentence_comes_first_and_a_loop_is_shown_once(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = called(capsys, "audit", str(corpus))
    first = out.splitlines()[0]
    assert code == 0
    assert "10 of 40 texts, 25 % [13, 41] degenerate: 10 loop; 10 begin with 'Answer: the sum of the first'" in first
    assert first.endswith("onset at row 31")
    assert "× 30" in out
    assert "sum of the first n numbers is n. Answer: the sum" not in out, "the loop stands there once"
    assert re.search(r"human text .* prose, .* code, .* tables", out)
    assert "completion 40" in out
    assert "\n\n1 row could not be judged:\n" in out
    assert "line 41 has no generated text" in out
    assert "22 % are exact copies of an earlier one, one stands there 10 times" in out
    assert "tenth of the rows: 0, 0, 0, 0, 0, 0, 0, 50, 100, 100 %" in out
    assert not re.search(r"\d%", out), "one format of numbers: 33 %"


def test_json_is_a_line_per_text_and_a_total(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = called(capsys, "diagnose", str(corpus), "--json", "--by", "step")
    *samples, total = map(json.loads, out.splitlines())
    assert (code, len(samples), total["num_degenerate"], total["onset_row"], total["num_bad"]) == (0, 40, 10, 31, 1)
    assert samples[30]["kind"] == "loop"
    assert samples[30]["metrics"]["seq_rep_4"] > 0.9
    assert samples[30]["by"] == "30"
    assert total["interval"][0] < 0.25 < total["interval"][1]


@pytest.mark.parametrize("form", [":choices.0.text", "field"])
def test_a_field_is_named_in_two_ways(form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"text": healthy(1), "choices": [{"text": "ha" * 300}]}))
    given = (str(path), "--field", "choices[0].text") if form == "field" else (str(path) + form,)
    _, out, _ = called(capsys, "audit", *given, "--json")
    assert json.loads(out.splitlines()[-1])["num_degenerate"] == 1


@pytest.mark.parametrize(("share", "expected"), [("0.25", 0), ("0.2", 1), ("1.5", 2)])
def test_the_gate(share: str, expected: int, corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = called(capsys, "audit", str(corpus), "--max-share", share, "--by", "step")
    if expected == 0:  # 25 % is not more than 25 %, but the file ends less diverse than it began
        assert (code, "as a whole is degenerate (low diversity)" in err) == (1, True)
    else:
        assert code == expected
        assert {1: "25 % of the texts (10 of 40) are degenerate, more than 20 %", 2: "from 0 to 1"}[expected] in err


def test_the_gate_fails_where_nothing_can_be_judged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "Yes."}')
    code, out, err = called(capsys, "audit", str(tmp_path / "a.jsonl"), "--max-share", "0.5")
    assert (code, "the share is unknown" in err) == (1, True)
    assert "none of 1 texts has the 20 tokens needed" in out
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps({"text": healthy(i)}) for i in range(9)))
    assert called(capsys, "audit", str(tmp_path / "a.jsonl"), "--max-share", "0")[0] == 0


def test_rows_are_sorted_into_two_files(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keep, drop = tmp_path / "keep.jsonl", tmp_path / "drop.jsonl"
    _, _, err = called(capsys, "audit", str(corpus), "--keep", str(keep), "--drop", str(drop))
    assert f"30 rows kept in {keep}, 10 dropped to {drop}, 1 that could not be judged in neither" in err
    kept, dropped = ([json.loads(line) for line in path.read_text().splitlines()] for path in (keep, drop))
    assert [row["step"] for row in kept] == list(range(30))
    assert [row["step"] for row in dropped] == list(range(30, 40))
    assert kept[3] == {"step": 3, "completion": healthy(3), "prompt": "no"}
    code, _, err = called(capsys, "audit", str(corpus), "--keep", str(corpus))
    assert (code, "is one of the files to be read" in err) == (2, True)
    keep.write_text("as it was")
    assert called(capsys, "audit", str(corpus), "--keep", str(keep), "--strict")[0] == 2
    assert keep.read_text() == "as it was", "a failed audit replaces nothing"
    assert not list(tmp_path.glob("*.part"))


def test_a_row_with_one_degenerate_answer_is_dropped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, drop = tmp_path / "a.jsonl", tmp_path / "d.jsonl"
    rows = [{"id": i, "responses": [healthy(i), LOOPS * 30 if i == 1 else healthy(i + 9)]} for i in range(3)]
    path.write_text("\n".join(map(json.dumps, rows)))
    called(capsys, "audit", str(path), "--drop", str(drop))
    assert [json.loads(line)["id"] for line in drop.read_text().splitlines()] == [1]


def test_a_reference_gives_a_difference_with_an_interval(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    human = tmp_path / "human.jsonl"
    human.write_text("\n".join(json.dumps({"text": healthy(i + 100)}) for i in range(40)))
    _, out, _ = called(capsys, "audit", str(corpus), "--reference", str(human))
    found = re.search(r"reference: 0 of 40; difference \+25\.0 percentage points \[\+(\S+), \+(\S+)\]", out, re.I)
    assert found is not None, out
    assert float(found[1]) < 25 < float(found[2])


def test_standard_input(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    reader, writer = os.pipe()
    os.write(writer, (json.dumps({"response": LOOPS * 30}) + "\n").encode())
    os.close(writer)
    with os.fdopen(reader) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        code, out, _ = called(capsys, "audit", "-")
    assert (code, out.startswith("standard input: 1 of 1 texts")) == (0, True)
    assert isinstance(sys.stdout, io.TextIOBase)


def test_nothing_to_read_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = called(capsys, "audit")
    assert (code, "hint:" in err) == (2, True)


def test_a_file_without_rows_is_no_matter_of_fields(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.jsonl").write_text("\n")
    code, _, err = called(capsys, "audit", str(tmp_path / "a.jsonl"))
    assert (code, "there is no row to judge" in err, "--field" in err) == (2, True, False)
