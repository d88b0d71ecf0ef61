"""What the live page reads: evenly spread lines, and rows that follow runs which grow, stop, break and vanish."""

from __future__ import annotations

import itertools
import json
import shutil
import time
from pathlib import Path

import pytest

from collapselab.config.overrides import override
from collapselab.config.presets import demo
from collapselab.records import Record
from collapselab.report.explorer import MAX_SAMPLE_CHARS
from collapselab.rundir.layout import RunDir, read_lines
from collapselab.rundir.line_files import some_lines
from collapselab.serve import watching
from collapselab.serve.details import curves, samples
from collapselab.serve.watching import Row, Watch
from fake_runs import plain_record, write_run
from report_runs import HOSTILE, readable_run


@pytest.fixture(autouse=True)
def always_searching(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "DISCOVER_S", 0)


def shown(watch: Watch, version: int = 0) -> dict[str, Row]:
    return {row["name"]: row for row in watch.since(version)["rows"]}


@pytest.mark.parametrize("num_lines", [1, 2, 3, 10, 1000])
@pytest.mark.parametrize("at_most", [1, 2, 7, 40])
def test_some_lines_are_lines_of_the_file_with_the_last(tmp_path: Path, num_lines: int, at_most: int) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"step": i, "text": "é" * (i % 50)}) + "\n" for i in range(num_lines)))
    found, every = some_lines(path, at_most), read_lines(path)
    steps = [line["step"] for line in found]
    assert all(line == every[line["step"]] for line in found)
    assert steps == sorted(set(steps))
    assert steps[-1] == num_lines - 1
    assert len(found) <= at_most
    assert at_most == 1 or steps[0] == 0
    if at_most == 40 and num_lines == 1000:
        assert max(b - a for a, b in itertools.pairwise(steps)) < 40


def test_unfinished_and_broken_lines_are_no_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    for text, steps in (("", []), ('{"step": 1', []), ('{"step": 1}\n{"st', [1]), ('x\n{"step": 2}\n[3]\n', [2])):
        path.write_text(text)
        assert [line["step"] for line in some_lines(path, 10)] == steps, text
    path.write_text(json.dumps({"step": 0, "text": "x" * 200_000}) + "\n" + json.dumps({"step": 1}) + "\n")
    assert [line["step"] for line in some_lines(path, 10)] == [0, 1], "a line longer than what is read at once"
    with pytest.raises(OSError):
        some_lines(tmp_path, 10)


def test_a_row_says_how_a_run_is(tmp_path: Path) -> None:
    readable_run(tmp_path / "a", onset=6, settings={"seed": 3})
    readable_run(tmp_path / "deep" / "b", onset=None, is_finished=False)
    watch = Watch(tmp_path)
    assert watch.refresh()
    rows = shown(watch)
    assert set(rows) == {"a", "deep/b"}
    a, b = rows["a"], rows["deep/b"]
    assert (a["status"], a["fate"], a["onset_step"], a["step"], a["seed"]) == ("finished", "total collapse", 6, 11, 3)
    assert (b["status"], b["fate"], b["onset_step"]) == ("running", None, None)
    assert a["train_nll_nats"] == 0.2
    assert a["sparks"]["seq_rep_4"] == [0.05] * 6 + [0.9] * 6
    assert a["id"] != b["id"]


def test_only_what_changed_is_told(tmp_path: Path) -> None:
    config = demo()
    for name, seed in (("a", 1), ("b", 2)):
        write_run(tmp_path / name, override(config, {"seed": seed}))
    watch = Watch(tmp_path)
    assert watch.refresh()
    assert not watch.refresh()
    before = watch.version
    with (tmp_path / "a" / "steps.jsonl").open("a") as steps:
        steps.write('{"step": 3, "train_nll_nats": 1.5}\n{"step": 4, "train')
    assert watch.refresh()
    assert {name: row["step"] for name, row in shown(watch, before).items()} == {"a": 3}, "the last line is unfinished"
    number = shown(watch)["b"]["id"]
    assert watch.find(number) is not None
    shutil.rmtree(tmp_path / "b")
    before = watch.version
    assert watch.refresh()
    assert watch.since(before) == {"version": before + 1, "rows": [], "removed": [number]}
    assert watch.find(number) is None
    assert set(shown(watch)) == {"a"}
    write_run(tmp_path / "b", override(config, {"seed": 2}))
    assert watch.refresh()
    assert shown(watch)["b"]["id"] == number, "the same name has the same number"


def test_a_run_without_news_is_silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_run(tmp_path / "a", demo())
    watch = Watch(tmp_path)
    watch.refresh()
    assert shown(watch)["a"]["status"] == "running"
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + watching.SILENT_S + 1)
    assert watch.refresh()
    assert shown(watch)["a"]["status"] == "silent"
    assert not watch.refresh()


def test_slow_steps_are_no_silence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Record(0, {**plain_record(0).values, "seconds_update": 60.0}, plain_record(0).samples)
    write_run(tmp_path / "a", demo(), [slow])
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + watching.SILENT_S + 1)
    watch = Watch(tmp_path)
    watch.refresh()
    assert shown(watch)["a"]["status"] == "running"


@pytest.mark.parametrize("name", ["config.json", "summary.json"])
@pytest.mark.parametrize("content", ["", "{", "[]", '{"run_id": 1, "config": {}}', '{"schema": 99}', "\x00\ud800"])
def test_a_damaged_run_is_shown_as_one(tmp_path: Path, name: str, content: str) -> None:
    path = readable_run(tmp_path / "a", onset=6)
    (path / name).write_bytes(content.encode(errors="surrogatepass"))
    watch = Watch(tmp_path)
    watch.refresh()
    assert shown(watch)["a"]["damage"]


def test_values_that_are_no_numbers_are_unknown(tmp_path: Path) -> None:
    path = write_run(tmp_path / "a", demo())
    line = {"step": "x", "train_nll_nats": "NaN", "seq_rep_4": [1], "loss_fate": {}, "val_nll_nats": True}
    (path / "steps.jsonl").write_text(json.dumps(line) + "\n")
    watch = Watch(tmp_path)
    watch.refresh()
    row = shown(watch)["a"]
    assert [row[name] for name in watching.LAST] == [None] * 5
    assert row["fate"] is None
    json.dumps(watch.since(0), allow_nan=False)
    json.dumps(curves(RunDir(path)), allow_nan=False)


def test_details_of_a_run(tmp_path: Path) -> None:
    path = readable_run(tmp_path / "a", onset=None, num_steps=len(HOSTILE), texts=HOSTILE)
    drawn = curves(RunDir(path))
    assert drawn["steps"] == list(range(len(HOSTILE)))
    assert drawn["values"]["seq_rep_4"] == [0.05] * len(HOSTILE)
    assert "val_nll_nats[austen]" in drawn["values"]
    assert not any(name.startswith("seconds") for name in drawn["values"])
    for step, text in enumerate(HOSTILE):
        (sample,) = samples(RunDir(path), step)
        assert (sample["text"], sample.get("cut", 0)) == (text[:MAX_SAMPLE_CHARS], max(0, len(text) - MAX_SAMPLE_CHARS))
    assert samples(RunDir(path), 99) == []


def test_the_tokens_of_a_sample_are_those_of_the_report(tmp_path: Path) -> None:
    path = tmp_path
    whole = {"step": 0, "role": "train", "text": "a😀b", "token_ids": [7, 8, 7], "token_ends": [1, 2, 3]}
    torn = {**whole, "step": 1, "token_ends": [1, 9, "x"]}
    odd = {"step": 2, "role": 5, "token_ids": "ids", "token_ends": [1]}
    (path / "samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in (whole, torn, odd)))
    assert samples(RunDir(path), 0)[0]["tokens"] == [1, 2, 1], "lengths as in JavaScript"
    assert samples(RunDir(path), 1) == [{"role": "train", "text": "a😀b"}]
    assert samples(RunDir(path), 2) == [{"role": "5", "text": "None"}]
