"""What a sweep takes of the machine, how long it will take, and what is shown of it."""

from __future__ import annotations

import fcntl
import io
import os
import re
from pathlib import Path

import pytest
from rich.console import Console
from test_sweep_local import NANO, ONE_EACH, summary, tasks_for

from collapselab.cli.overview import Overview, duration
from collapselab.config.overrides import override
from collapselab.config.schema import RunConfig
from collapselab.rundir import machine
from collapselab.rundir.progress import Glance, glance, holder
from collapselab.sweep.estimate import estimate, expected_last_step
from collapselab.sweep.resources import Share, num_parameters, share
from collapselab.sweep.schedule import Task
from fake_runs import write_run


@pytest.mark.parametrize(
    ("models", "settings", "num_workers", "expected"),
    [
        (["builtin:nano"] * 20, {}, None, Share(8, 1)),
        (["builtin:nano"] * 3, {}, None, Share(3, 1)),
        (["builtin:nano"] * 20, {"threads": 2}, None, Share(4, 2)),
        (["builtin:nano"] * 20, {"threads": 16}, None, Share(1, 16)),
        (["builtin:nano"] * 20, {}, 3, Share(3, 1)),
        # 124,439,808 parameters of 16 bytes are 1.854 GiB; with 1 GiB more, 9 GiB hold three.
        (["gpt2"] * 20, {}, None, Share(3, 2)),
        (["builtin:nano", "gpt2"] * 10, {}, None, Share(3, 2)),
        (["gpt2-xl"] * 20, {}, None, Share(1, 8)),
        (["gpt2"] * 20, {}, 5, Share(5, 1)),
        (["gpt2"] * 20, {}, 99, Share(20, 1)),
        (["gpt2"] * 2, {}, 99, Share(2, 4)),
        (["owner/unknown"] * 20, {}, None, Share(1, 8)),
        (["owner/unknown"] * 20, {}, 4, Share(4, 2)),
    ],
)
def test_workers_and_threads(
    models: list[str], settings: dict[str, object], num_workers: int | None, expected: Share
) -> None:
    configs = [override(RunConfig(), {"model": model, "seed": i, **settings}) for i, model in enumerate(models)]
    assert share(configs, num_workers, num_cores=8, memory_gib=9.0) == expected


def test_unknown_memory_allows_one_large_model() -> None:
    assert share([RunConfig(model="gpt2")] * 4, None, num_cores=8, memory_gib=None) == Share(1, 8)
    assert share([NANO] * 4, None, num_cores=8, memory_gib=None) == Share(4, 1)


def test_the_size_of_a_model_in_a_folder_is_read_from_its_header(tiny_folder: Path, tmp_path: Path) -> None:
    # One layer of width 32 over 257 tokens and 256 positions, GPT-2's 12 d² + 13 d a layer and 2 d at the end.
    assert num_parameters(str(tiny_folder)) == 257 * 32 + 256 * 32 + 12 * 32**2 + 13 * 32 + 2 * 32
    assert num_parameters("gpt2") == 124_439_808
    assert num_parameters("owner/unknown") is None
    assert num_parameters(str(tmp_path)) is None
    (tmp_path / "model.safetensors").write_bytes(b"not one")
    assert num_parameters(str(tmp_path)) is None


def test_this_machine_has_cores_and_memory() -> None:
    assert 1 <= machine.num_cores() <= (os.cpu_count() or 1)
    assert 0 < machine.available_bytes() < machine.memory_bytes() < 1e14
    assert machine.cpu_features().strip()


def test_a_glance_at_each_stage_of_a_run(tmp_path: Path) -> None:
    assert glance(tmp_path / "absent") == Glance()
    write_run(tmp_path / "a", NANO, 3)
    with (tmp_path / "a" / "steps.jsonl").open("a") as handle:
        handle.write('{"step": 3, "degener')
    assert glance(tmp_path / "a") == Glance("running", 2, 0.25, 0.5)
    write_run(tmp_path / "b", NANO, 900)
    lines = (tmp_path / "b" / "steps.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "b" / "steps.jsonl").write_text(lines[0] + lines[1].replace("0.3", "9999") + "".join(lines[2:]))
    assert glance(tmp_path / "b") == Glance("running", 899, 0.25, pytest.approx(0.5)), "read from its end only"
    write_run(tmp_path / "c", NANO, 4, summary=summary("collapse", 4))
    seen = glance(tmp_path / "c")
    assert (seen.is_finished, seen.step, seen.degenerate_share, seen.seconds_per_step) == (True, 3, 1.0, 0.5)
    write_run(tmp_path / "d", NANO, status="running", summary=summary("collapse"))
    assert glance(tmp_path / "d").is_finished, "the summary has the last word, as for the run itself"


def test_who_holds_a_run_directory(tmp_path: Path) -> None:
    assert holder(tmp_path) is None
    with (tmp_path / "lock").open("a") as lock:
        assert holder(tmp_path) is None
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert holder(tmp_path) == "another process"
    (tmp_path / "lock").unlink()
    with (tmp_path / "steps.jsonl").open("a") as steps:
        assert holder(tmp_path) is None
        fcntl.flock(steps, fcntl.LOCK_EX)
        assert holder(tmp_path) == "another process", "somebody removed its lock"
    os.mkfifo(tmp_path / "lock")
    assert holder(tmp_path) is None, "a pipe is not waited for"


def test_the_estimate_takes_timings_of_runs_with_the_same_work() -> None:
    finished = Glance("finished", 4, 1.0, 2.0, {"last_step": 4})
    runs = [(NANO, finished), (override(NANO, {"seed": 1}), Glance("interrupted", 2, 0.0, 4.0)), (NANO, Glance())]
    result = estimate(runs, Share(2, 1))
    # Steps 0 to 9: the second has 7 left at its own 4 s, the third 10 at the mean of 2 and 4.
    assert result.runs_s == (0.0, 28.0, 30.0)
    assert result.most_s == 30.0, "side by side"
    assert result.likely_s == 15.0, "to step 4: 2 steps of 4 s, and 5 of 3 s"
    assert result.basis == ("builtin:nano: measured in 2 runs here with the same work per step",)
    assert not result.is_guess
    assert estimate(runs, ONE_EACH).most_s == 58.0, "one after the other"
    longer = override(NANO, {"generate.max_new_tokens": 100})
    exact = override(NANO, {"numerics.evaluate": "float32"})
    for other in (longer, exact):
        assert estimate([(NANO, finished), (other, Glance())], ONE_EACH).is_guess, "other work a step"


def test_a_few_runs_of_unknown_end_are_expected_to_go_to_their_last_step() -> None:
    usual, warm = override(NANO, {"optim.lr": 1e-4, "stop.max_steps": 999}), {"sampling.temperature": 1.0}
    known, unknown = (usual, Glance("interrupted", 9, 0.0, 1.0)), (override(usual, warm), Glance())
    one = estimate([known, unknown], ONE_EACH)
    assert one.likely_runs_s == (107.0, None), "nano collapses totally at step 116 or so at this rate"
    assert (one.likely_s, one.most_s) == (1107.0, 1990.0)
    assert estimate([known, unknown, unknown], ONE_EACH).likely_s is None, "of most of them nothing is known"
    control = override(usual, {"train.source": "real", "train.real_text": "austen"})
    assert expected_last_step(control, 500) == 999, "it is not expected to collapse"


def test_the_estimate_of_a_model_without_timings_is_a_guess_that_says_so() -> None:
    config = override(RunConfig(), {"model": "gpt2", "stop.max_steps": 0, "data": "austen", "generate.batch_size": 2})
    result = estimate([(config, Glance())], ONE_EACH)
    parameters = 124_439_808
    arithmetic_s = parameters * (2 * 10_000 + 6 * 400) / 100e9
    assert result.most_s == pytest.approx(400 * (2e-4 + 4 * parameters / 10e9) + arithmetic_s)
    assert (result.is_guess, result.likely_s) == (True, None)
    assert "124,439,808 parameters and 400 tokens written, 400 trained on, 10,000 evaluated" in result.basis[0]
    probes = estimate([(override(config, {"collapse.source": "probe"}), Glance())], ONE_EACH)
    assert "720 tokens written, 400 trained on" in probes.basis[0], "16 probes of 200 tokens, every 10 steps"


@pytest.mark.parametrize(
    ("settings", "why"), [({"model": "a/b"}, "its size is not known"), ({"eval.protocol": "disjoint[64]"}, "disjoint")]
)
def test_the_estimate_may_be_unknown(settings: dict[str, object], why: str) -> None:
    result = estimate([(NANO, Glance()), (override(NANO, settings), Glance())], ONE_EACH)
    assert (result.most_s, result.likely_s, result.runs_s[1]) == (None, None, None)
    assert result.runs_s[0] is not None
    assert "unknown" in result.basis[1] and why in result.basis[1]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "1 s"), (89, "89 s"), (90, "2 min"), (5400, "1.5 h"), (200_000, "2.3 days")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def shown(tasks: list[Task], *, terminal: bool, height: int = 25) -> str:
    """What the overview prints while the tasks go through their states."""
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=terminal, width=120, height=height, color_system=None)
    with Overview(tasks, ONE_EACH, console) as overview:
        tasks[0].state, tasks[0].num_attempts = "running", 1
        overview.tick()
        write_run(tasks[0].path, tasks[0].run.config, 3, summary=summary("collapse", 3))
        tasks[0].state = "done"
        tasks[1].state, tasks[1].num_attempts = "running", 2
        write_run(tasks[1].path, tasks[1].run.config, 4)
        tasks[2].state, tasks[2].message = "failed", "no [red]memory[/]\x1b[2J"
        overview.tick()
    return stream.getvalue()


def test_without_a_terminal_each_change_is_a_line(tmp_path: Path) -> None:
    assert shown(tasks_for(tmp_path), terminal=False).splitlines() == [
        "seed-0: begins",
        "seed-0: total collapse at step 2, onset at step 1",
        "seed-1: attempt 2, step 3, 25 % of the last samples degenerate",
        "seed-2: failed (no [red]memory[/]⟨U+001B⟩[2J)",
    ]


def test_without_a_terminal_the_total_is_told_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("collapselab.cli.overview.LINES_EVERY_S", 0.0)
    lines = shown(tasks_for(tmp_path), terminal=False).splitlines()
    # The first run ended at step 2. The second has outlived that, and is expected to go on from step 3 for a quarter
    # more; the third has 3 steps of 0.5 s to come.
    assert lines[-1] == "1 of 3 done, 1 running, 1 failed; about 2 s left"


def test_a_guessed_time_is_told_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("collapselab.cli.overview.LINES_EVERY_S", 0.0)
    tasks, stream = tasks_for(tmp_path), io.StringIO()
    with Overview(tasks, ONE_EACH, Console(file=stream, width=120)) as overview:
        tasks[0].state, tasks[0].num_attempts = "queued", 1
        overview.tick()
    first, total = stream.getvalue().splitlines()
    assert first == "seed-0: queued"
    assert re.fullmatch(r"0 of 3 done, 1 queued, 2 waiting; some \d+ s left", total), total


def test_at_the_end_no_time_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("collapselab.cli.overview.LINES_EVERY_S", 0.0)
    tasks, stream = tasks_for(tmp_path, 1), io.StringIO()
    with Overview(tasks, ONE_EACH, Console(file=stream, width=120)) as overview:
        write_run(tasks[0].path, tasks[0].run.config, 3, summary=summary("collapse", 3))
        tasks[0].state, tasks[0].num_attempts = "done", 1
        overview.tick()
    assert stream.getvalue().splitlines()[-1] == "1 of 1 done"


def test_the_total_has_the_runs_that_go_on_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("collapselab.cli.overview.LINES_EVERY_S", 0.0)
    tasks, stream = tasks_for(tmp_path), io.StringIO()
    for task in tasks[:2]:
        write_run(task.path, task.run.config, 4)
    with Overview(tasks, Share(2, 1), Console(file=stream, width=120)) as overview:
        tasks[2].state = "running"
        overview.tick()
    # 10 steps of 0.5 s on one worker; 6 and 6 on the other.
    assert stream.getvalue().splitlines()[-1] == "0 of 3 done, 1 running, 2 waiting; about 6 s left"


def test_on_a_terminal_the_table_has_a_bar_and_a_time_for_each_run(tmp_path: Path) -> None:
    last = shown(tasks_for(tmp_path), terminal=True).split("so far")[-1].splitlines()
    rows = {line.split()[0]: line for line in last if line.startswith("seed-")}
    assert list(rows) == ["seed-1", "seed-2", "seed-0"], "what goes on comes first"
    assert "━" in rows["seed-1"] and "3/9" in rows["seed-1"] and "about 1 s" in rows["seed-1"]
    assert "no [red]memory[/]⟨U+001B⟩[2J" in rows["seed-2"], "markup and escapes in a message are text"
    assert "2/9" in rows["seed-0"] and "total collapse, onset 1" in rows["seed-0"]
    assert "1 of 3 done" in "".join(last)


def test_a_table_higher_than_the_terminal_is_cut(tmp_path: Path) -> None:
    text = shown(tasks_for(tmp_path, 30), terminal=True, height=14)
    assert "… and 20 more" in text
    assert "seed-29" not in text
