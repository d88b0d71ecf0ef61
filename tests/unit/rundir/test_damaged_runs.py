"""One damaged run among others: it is told, never drawn in silence, and the others are read, reported and planned."""

from __future__ import annotations

import hashlib
import itertools
import json
import signal
import warnings
from collections.abc import Generator
from pathlib import Path
from shutil import copytree, rmtree

import pytest

from collapselab import cli
from collapselab.errors import EXIT_DONE, EXIT_FAILED, InputError
from collapselab.report.page import write_page
from collapselab.rundir import frames
from collapselab.rundir.frames import RUN_COLUMNS, Runs, load_runs, read_runs
from collapselab.rundir.layout import read_json, write_json
from collapselab.sweep import presets
from collapselab.sweep.grid import expand
from damage import DAMAGES, RUN_FILES
from synthetic_runs import judged_run

SWEEP = """
model = "builtin:nano"
data = ["austen", "moby-dick"]
stop.max_steps = 20
generate.max_new_tokens = 100
optim.lr = 8e-5
[sweep.grid]
seed = [0, 1]
"""
# What can be done without: the status is a heartbeat, versions are shown only, and nothing reads what was asked for.
NOT_NEEDED = ("user.json", "env.json", "status.json")
# Without a summary a run is one that was killed before its end.
MISSING_SUMMARY = ("summary.json", "missing")
# What is quick: of each file the commonest damages.
FAST = {
    *itertools.product(RUN_FILES, ("missing", "empty_object", "fifo")),
    *itertools.product(("config.json", "summary.json", "steps.jsonl"), DAMAGES),
}
EVERY = [
    pytest.param(file, name, marks=[] if (file, name) in FAST else pytest.mark.slow)
    for file, name in itertools.product(RUN_FILES, DAMAGES)
]


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep's file and its folder `runs`, both runs of which are finished."""
    folder = tmp_path_factory.mktemp("two")
    (folder / "sweep.toml").write_text(SWEEP)
    for planned in expand(presets.load(str(folder / "sweep.toml"))):
        path = judged_run(folder / "runs" / planned.name, planned.config, 8)
        began = {"began": f"2026-11-2{planned.config.seed} 10:00:00", "earlier": [{"python": "3.11.6"}]}
        write_json(path / "env.json", {"schema": 1, "python": "3.11.7", "cpu": "a processor", **began})
        extents = {name: extent(path / name) for name in ("steps.jsonl", "samples.jsonl")}
        write_json(path / "summary.json", {**read_json(path / "summary.json"), "records": extents})
    return folder


def extent(path: Path) -> dict[str, object]:
    content = path.read_bytes()
    return {"lines": content.count(b"\n"), "sha256": hashlib.sha256(content).hexdigest()}


@pytest.fixture
def damaged(two_runs: Path, tmp_path: Path) -> Generator[Path]:
    """A copy of them; whoever waits for a FIFO is woken by an error."""

    def give_up(number: int, frame: object) -> None:
        raise AssertionError("it waits for ever")

    former = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(60)
    copytree(two_runs, tmp_path / "copy")
    yield tmp_path / "copy"
    signal.alarm(0)
    signal.signal(signal.SIGALRM, former)


def frames_of(runs: Runs, name: str) -> list[list[object]]:
    """The rows of one run, without what status.json and env.json say."""
    frames = (runs.runs[[name for name in RUN_COLUMNS if name != "status"]], runs.steps)
    return [frame[frame["run"] == name].astype(str).to_numpy().tolist() for frame in frames]


@pytest.mark.parametrize(("file", "damage"), EVERY)
def test_a_damaged_run_is_told_and_the_other_one_is_read(two_runs: Path, damaged: Path, file: str, damage: str) -> None:
    whole = read_runs(two_runs / "runs")
    assert whole.damages == ()
    DAMAGES[damage](damaged / "runs" / "seed-0" / file)
    found = read_runs(damaged / "runs")
    assert frames_of(found, "seed-1") == frames_of(whole, "seed-1")
    if file in NOT_NEEDED:
        assert frames_of(found, "seed-0") == frames_of(whole, "seed-0")
        assert all(one.run == "seed-0" and file in one.message and not one.is_left_out for one in found.damages)
    elif (file, damage) == MISSING_SUMMARY:
        assert found.runs.set_index("run")["ended_by"].isna().tolist() == [True, False]
    else:
        assert found.runs["run"].tolist() == ["seed-1"]
        (told,) = found.damages
        assert (told.run, told.is_left_out) == ("seed-0", True)
        assert f"seed-0/{file}" in told.message


@pytest.mark.parametrize(("file", "damage"), EVERY)
def test_a_sweep_with_a_damaged_run_is_planned(
    damaged: Path, file: str, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    DAMAGES[damage](damaged / "runs" / "seed-0" / file)
    with pytest.raises(SystemExit) as ended:
        cli.main(["sweep", str(damaged / "sweep.toml"), "--out", str(damaged / "runs"), "--dry-run"])
    out, err = capsys.readouterr()
    rows = {line.split()[0]: line for line in out.splitlines() if line.startswith("seed-")}
    assert "at step" in rows["seed-1"]
    assert "damaged" not in rows["seed-1"]
    assert "Traceback" not in err
    if file == "config.json":
        assert ended.value.code == EXIT_FAILED
        assert "damaged" in rows["seed-0"]
        assert "1 of 2 runs left alone: seed-0: " in err
        assert f"seed-0/{file}" in err
        return
    assert ended.value.code == EXIT_DONE
    if file in NOT_NEEDED:
        assert "at step" in rows["seed-0"], "it is finished"
    elif (file, damage) == MISSING_SUMMARY:
        assert "begun, step" in rows["seed-0"]
    else:
        assert "damaged:" in rows["seed-0"]
        assert "1 of 2 runs damaged: a sweep goes on from before the damage" in out


@pytest.mark.slow
@pytest.mark.parametrize(("file", "damage"), list(itertools.product(RUN_FILES, DAMAGES)))
def test_a_report_with_a_damaged_run_is_written(
    damaged: Path, file: str, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    DAMAGES[damage](damaged / "runs" / "seed-0" / file)
    check_report(damaged, file, damage, capsys)


def test_the_report_says_which_run_is_left_out(damaged: Path, capsys: pytest.CaptureFixture[str]) -> None:
    DAMAGES["nul_block"](damaged / "runs" / "seed-0" / "steps.jsonl")
    check_report(damaged, "steps.jsonl", "nul_block", capsys)


def check_report(damaged: Path, file: str, damage: str, capsys: pytest.CaptureFixture[str]) -> None:
    page = damaged / "report.html"
    with pytest.raises(SystemExit) as ended:
        cli.main(["report", str(damaged / "runs"), "-o", str(page)])
    err = capsys.readouterr().err
    html = page.read_text(encoding="utf-8")
    assert '"name":"seed-1"' in html
    assert "Traceback" not in err
    is_left_out = file not in NOT_NEEDED and (file, damage) != MISSING_SUMMARY
    assert ended.value.code == (EXIT_FAILED if is_left_out else EXIT_DONE)
    assert ('"name":"seed-0"' in html) != is_left_out
    if is_left_out:
        assert err.startswith("left out: ")
        assert f"seed-0/{file}" in err.splitlines()[0]
        assert err.strip().splitlines()[-2].startswith("error: 1 of 2 runs left out")
        assert "the run is left out</li>" in html


def test_if_no_run_is_left_it_is_an_error(damaged: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("seed-0", "seed-1"):
        DAMAGES["truncate"](damaged / "runs" / name / "steps.jsonl")
    with pytest.raises(InputError, match=r"seed-0/steps\.jsonl.* \(and 1 further run"):
        load_runs(damaged / "runs")
    with pytest.raises(SystemExit) as ended:
        cli.main(["report", str(damaged / "runs" / "seed-0"), str(damaged / "runs" / "seed-1"), "-o", "never.html"])
    assert ended.value.code == 2
    assert not Path("never.html").exists()


def test_in_python_a_damaged_run_is_warned_of(damaged: Path) -> None:
    DAMAGES["missing"](damaged / "runs" / "seed-0" / "config.json")
    with pytest.warns(UserWarning, match=r"seed-0/config\.json.*: the run is left out"):
        assert load_runs(damaged / "runs").num_left_out == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_runs(damaged / "runs" / "seed-1")


# --- files that are whole, and do not belong together; without checksums, as packed records and older runs have none


def change(path: Path, **values: object) -> None:
    write_json(path, read_json(path) | values)


@pytest.fixture
def packed(damaged: Path) -> Path:
    for name in ("seed-0", "seed-1"):
        path = damaged / "runs" / name / "summary.json"
        write_json(path, {key: value for key, value in read_json(path).items() if key != "records"})
    return damaged


@pytest.mark.parametrize("damage", ["truncate_at_a_line", "empty", "missing"])
def test_packed_records_need_not_have_all_samples(packed: Path, damage: str) -> None:
    DAMAGES[damage](packed / "runs" / "seed-0" / "samples.jsonl")
    found = read_runs(packed / "runs")
    assert (len(found.runs), found.damages) == (2, ())


@pytest.mark.parametrize("damage", sorted(DAMAGES.keys() - {"flip_in_a_name"}))
def test_packed_records_need_all_steps(packed: Path, damage: str) -> None:
    DAMAGES[damage](packed / "runs" / "seed-0" / "steps.jsonl")
    assert [one.run for one in read_runs(packed / "runs").damages] == ["seed-0"]


def test_packed_records_end_at_the_step_of_their_summary(packed: Path) -> None:
    steps = packed / "runs" / "seed-0" / "steps.jsonl"
    *lines, last = steps.read_text().splitlines()
    last = json.dumps(json.loads(last) | {"step": 999})
    steps.write_text("\n".join([*lines, last]) + "\n")
    (told,) = read_runs(packed / "runs").damages
    assert "steps.jsonl: ends at step 999, summary.json says" in told.message


def test_a_changed_setting_is_not_that_of_the_run_id(damaged: Path) -> None:
    path = damaged / "runs" / "seed-0" / "config.json"
    change(path, config=json.loads(json.dumps(read_json(path)["config"]).replace("8e-05", "9e-05")))
    (told,) = read_runs(damaged / "runs").damages
    assert "its settings are not those of run" in told.message


def test_how_a_run_was_carried_out_is_not_part_of_its_id(damaged: Path) -> None:
    path = damaged / "runs" / "seed-0" / "config.json"
    content = read_json(path)
    content["config"] |= {"threads": 7, "keep_checkpoints": False}
    content["config"]["stop"]["max_seconds"] = 3.0
    write_json(path, content)
    assert read_runs(damaged / "runs").damages == ()


@pytest.mark.parametrize("file", ["steps.jsonl", "summary.json"])
def test_a_file_of_another_run_is_found_out(packed: Path, file: str) -> None:
    (packed / "runs" / "seed-0" / file).write_bytes((packed / "runs" / "seed-1" / file).read_bytes())
    (told,) = read_runs(packed / "runs").damages
    assert told.run == "seed-0"
    assert file in told.message


def test_a_newer_schema_is_not_guessed_at(damaged: Path) -> None:
    change(damaged / "runs" / "seed-0" / "config.json", schema=3)
    (told,) = read_runs(damaged / "runs").damages
    assert "has schema 3" in told.message


def test_steps_out_of_order_are_found_out(packed: Path) -> None:
    steps = packed / "runs" / "seed-0" / "steps.jsonl"
    lines = steps.read_text().splitlines(keepends=True)
    steps.write_text("".join([lines[0], lines[2], lines[1], *lines[3:]]))
    (told,) = read_runs(packed / "runs").damages
    assert told.message.endswith("steps.jsonl, line 3: step 1 follows step 2")


@pytest.mark.parametrize("name", ["train_nll_nats", "val_nll_nats[austen]", "num_tokens", "seconds_update"])
@pytest.mark.parametrize("value", ["x", {}, [1]])
def test_a_word_in_the_place_of_a_number_is_found_out(packed: Path, name: str, value: object) -> None:
    steps = packed / "runs" / "seed-0" / "steps.jsonl"
    lines = steps.read_text().splitlines()
    lines[3] = json.dumps(json.loads(lines[3]) | {name: value})
    steps.write_text("\n".join(lines) + "\n")
    (told,) = read_runs(packed / "runs").damages
    assert told.message.endswith("line 4: is no record of a step")


def test_the_versions_of_a_run_stand_on_its_page(damaged: Path) -> None:
    page = write_page(load_runs(damaged / "runs"), damaged / "report.html").read_text(encoding="utf-8")
    part = page[page.index("Versions and machines") : page.index('id="definitions"')]
    assert "<dt>python</dt><dd>3.11.7</dd>" in part
    assert "<dt>cpu</dt><dd>a processor</dd>" in part
    assert "Not recorded" not in part
    assert "began" not in part
    assert "3.11.6" not in part, "only the versions that the run ended with"


def test_a_folder_in_which_runs_come_and_go_is_read(damaged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that vanishes while it is read is no damage, and half a copy is one."""
    copytree(damaged / "runs" / "seed-0", damaged / "runs" / "half")
    DAMAGES["truncate"](damaged / "runs" / "half" / "steps.jsonl")
    read_run = frames.read_run

    def vanishing(rundir: frames.RunDir) -> object:
        rmtree(rundir.path) if rundir.path.name == "seed-0" else None
        return read_run(rundir)

    monkeypatch.setattr(frames, "read_run", vanishing)
    runs = read_runs(damaged / "runs")
    assert runs.runs["run"].tolist() == ["seed-1"]
    assert [one.run for one in runs.damages] == ["half"]
