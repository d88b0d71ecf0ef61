"""Folders of completions as TRL, verl and prime-rl write them, while they grow."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from collapselab import InputError, cli, load_runs
from collapselab.inputs.tokenizers import builtin_tokenizer
from collapselab.monitor.watch import follow, read_rollouts, step_files
from random_text import random_ids

TOKENIZER = builtin_tokenizer()
LOOP = "and so it went on, "


def text(step: int, i: int, looping: bool = False) -> str:
    return LOOP * 60 if looping else TOKENIZER.decode(list(random_ids(1000 * step + i, 200, 2000)))


def rows(step: int, completion: str, prompt: str, looping: bool) -> list[dict[str, Any]]:
    names = ("reward", "step")
    return [{prompt: f"p{i // 2}", completion: text(step, i, looping), names[0]: 0.5, names[1]: step} for i in range(4)]


def write_trl(folder: Path, step: int, looping: bool = False) -> None:
    (folder / "completions").mkdir(parents=True, exist_ok=True)
    table = pd.DataFrame(rows(step, "completion", "prompt", looping))
    table.to_parquet(folder / "completions" / f"completions_{step:05d}.parquet")


def write_verl(folder: Path, step: int, looping: bool = False) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({**row, "score": row.pop("reward")}) for row in rows(step, "output", "input", looping)]
    (folder / f"{step}.jsonl").write_text("\n".join(lines) + "\n")


def write_prime(folder: Path, step: int, looping: bool = False) -> None:
    (folder / "rollouts" / f"step_{step}").mkdir(parents=True, exist_ok=True)
    made = rows(step, "completion", "prompt", looping)
    for row in made:
        row["completion"] = [{"role": "assistant", "content": row["completion"]}]
    lines = [json.dumps(row) for row in made]
    (folder / "rollouts" / f"step_{step}" / "train_rollouts.jsonl").write_text("\n".join(lines) + "\n")


WRITERS = {"trl": write_trl, "verl": write_verl, "prime-rl": write_prime}


def ended(*arguments: str) -> int:
    with pytest.raises(SystemExit) as found:
        cli.main(["watch", *arguments])
    assert isinstance(found.value.code, int)
    return found.value.code


@pytest.mark.parametrize("name", WRITERS)
def test_each_form_is_found_and_read(name: str, tmp_path: Path) -> None:
    for step in (2, 10):
        WRITERS[name](tmp_path, step)
    assert [step for step, _ in step_files(tmp_path)] == [2, 10]
    rollouts = read_rollouts(*step_files(tmp_path)[1])
    assert (rollouts.step, rollouts.reward, len(rollouts.texts)) == (10, 0.5, 4)
    assert rollouts.texts[3] == text(10, 3)
    assert rollouts.prompts == ('"p0"', '"p0"', '"p1"', '"p1"')


@pytest.mark.parametrize("name", WRITERS)
def test_a_collapse_ends_with_exit_code_1(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for step in range(22):
        WRITERS[name](tmp_path / "out", step, looping=step >= 8)
    assert ended(str(tmp_path / "out"), "--once", "--out", str(tmp_path / "run")) == 1
    shown = capsys.readouterr().err
    assert "error: collapse at step 8" in shown
    assert load_runs(tmp_path / "run").runs.iloc[0]["onset_step"] == 8
    assert ended(str(tmp_path / "out"), "--once", "--until", "never", "--json") == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {"collapse", "early-warning"} <= {event["name"] for event in events}
    assert ended(str(tmp_path / "out"), "--once", "--until", "warning") == 1


def test_trls_rewards_are_named_after_their_functions(tmp_path: Path) -> None:
    made = [
        {"step": 3, "prompt": "p", "completion": "c", "short": 0.5, "polite": x, "advantage": 9.0} for x in (1.0, None)
    ]
    pd.DataFrame(made).to_parquet(tmp_path / "completions_00003.parquet")
    assert read_rollouts(*step_files(tmp_path)[0]).reward == 1.0, "1.5 and 0.5: a function may leave a row out"


def test_a_healthy_folder_ends_with_exit_code_0(tmp_path: Path) -> None:
    for step in range(15):
        write_verl(tmp_path, step)
    assert ended(str(tmp_path), "--once") == 0


def test_a_folder_is_followed_while_it_grows_and_half_a_file_waits(tmp_path: Path) -> None:
    write_verl(tmp_path, 0)
    seen: list[int] = []
    whole = json.dumps({"output": text(1, 0)}) + "\n"
    waits = 0

    def grow(_: float) -> None:
        nonlocal waits
        waits += 1
        if waits == 1:
            (tmp_path / "1.jsonl").write_text(whole[:50])
        elif waits == 3:
            assert seen == [0], "half a file is not read"
            (tmp_path / "1.jsonl").write_text(whole)
            write_trl(tmp_path, 2)
        elif waits > 8:
            raise AssertionError("nothing more comes")

    for rollouts in follow(tmp_path, idle_s=60, sleep=grow):
        seen.append(rollouts.step)
        if rollouts.step == 1:
            break
    assert seen == [0, 1]


def test_a_damaged_file_is_passed_over_once_a_later_one_exists(tmp_path: Path) -> None:
    write_verl(tmp_path, 0)
    (tmp_path / "1.jsonl").write_text('{"output": "cut')
    write_verl(tmp_path, 2)
    assert [rollouts.step for rollouts in follow(tmp_path, once=True)] == [0, 2]


def test_mistakes_are_told_without_a_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(str(tmp_path / "none")) == 2
    assert ended(str(tmp_path), "--once") == 2
    (tmp_path / "1.jsonl").write_text('{"question": "a"}\n')
    assert ended(str(tmp_path), "--once") == 2
    assert "its fields are question" in capsys.readouterr().err
    with pytest.raises(InputError, match="no such folder"):
        next(follow(tmp_path / "none"))
