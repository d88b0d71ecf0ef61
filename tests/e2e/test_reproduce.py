"""A whole reproduction, small: sweeps, rates matched afterwards, verdicts, figures, tables, the page; and again."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import pytest

from collapselab.cli import main, reproducing
from collapselab.config import presets
from collapselab.config.overrides import override
from collapselab.rundir.layout import read_json
from collapselab.sweep import tiers
from collapselab.sweep.grid import Sweep
from collapselab.sweep.schedule import Task
from collapselab.sweep.tiers import Tier

CLAIMS = ["H1", "H2", "H3", "H3b", "H4", "H4b", "H5", "H6", "H6b"]
SMALL: dict[str, object] = {
    "generate.max_new_tokens": 16,
    "eval.protocol": "windows[20,2]",
    "eval.full_every": 0,
    "stop.max_steps": 11,
    "stop.on_divergence": False,
}


def tiny_tier(num_seeds: int | None, *, quick: bool) -> Tier:
    grid = {"optim.lr": (1e-4, 2e-4), "model": ("builtin:nano", "builtin:micro"), "seed": tuple(range(num_seeds or 2))}
    base = override(presets.demo(), SMALL)
    return Tier({"own-text": Sweep(base, grid)}, sized=("builtin:micro", "builtin:nano"), sized_rates=(2e-4,))


def broken_tier(num_seeds: int | None, *, quick: bool) -> Tier:
    """Two runs of micro, and one of a folder that holds no model."""
    base = override(presets.demo(), SMALL)
    good = Sweep(base, {"optim.lr": (1e-4, 2e-4), "seed": (0,)})
    bad = Sweep(base, {"model": ("/no/such/model",), "seed": (0,)})
    sized = ("builtin:micro", "builtin:nano")
    return Tier({"own-text": good, "bad": bad}, sized=sized, sized_rates=(2e-4,))


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[object, str, str]:
    with pytest.raises(SystemExit) as caught:
        main(("reproduce", *arguments))
    return caught.value.code, *capsys.readouterr()


@pytest.fixture(autouse=True)
def small_builtin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(tiers.TIERS, "builtin", tiny_tier)
    monkeypatch.setenv("COLUMNS", "200")


def test_one_command_makes_everything_and_more_seeds_are_added(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "all"
    code, printed, told = call(capsys, "--seeds", "1", "--out", str(out))
    assert code == 0, told
    assert [line.split()[0] for line in printed.splitlines() if line.startswith("H")] == CLAIMS
    first = {path: path.stat().st_mtime_ns for path in out.glob("runs/*/*/steps.jsonl")}
    assert len(first) == 2 * 2 + 1
    for name in ("report.html", "figures/figure-2.svg", "figures/hypotheses.csv", "figures/runs.tex"):
        assert (out / name).stat().st_size > 0

    code, printed, told = call(capsys, "--out", str(out))
    assert code == 0, told
    now = {path: path.stat().st_mtime_ns for path in out.glob("runs/*/*/steps.jsonl")}
    assert len(now) == 2 * len(first), "two seeds"
    assert first.items() <= now.items(), "finished runs are kept"
    matched = {read_json(path)["config"]["optim"]["lr"] for path in out.glob("runs/equal-updates/*/config.json")}
    assert len(matched) == 1, "a further seed does not move the rate"
    assert 2e-4 < matched.pop() < 3e-4, "nano's updates are smaller than micro's at an equal rate"
    code, again, _ = call(capsys, "--out", str(out))
    assert code == 0
    assert again == printed
    assert {path: path.stat().st_mtime_ns for path in out.glob("runs/*/*/steps.jsonl")} == now

    # Runs of a further seed are there, but were not asked for.
    call(capsys, "--seeds", "1", "--out", str(out))
    listed = csv.DictReader((out / "figures" / "runs.csv").read_text().splitlines())
    assert {row["seed"] for row in listed} == {"0"}


def test_a_failed_run_is_told_and_the_others_are_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "all"
    monkeypatch.setitem(tiers.TIERS, "builtin", broken_tier)
    code, printed, told = call(capsys, "--seeds", "1", "--retries", "0", "--out", str(out))
    assert code == 1
    assert "1 of 3 runs failed" in told
    assert "equal-updates is left out: no own-text run of builtin:nano" in told
    assert "H1" in printed
    assert (out / "report.html").exists()


def test_where_nothing_can_run_the_cause_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SMALL, "train.source", "real")
    monkeypatch.setitem(SMALL, "train.real_text", "/no/such/text")
    code, _, told = call(capsys, "--seeds", "1", "--retries", "0", "--out", str(tmp_path / "all"))
    assert code == 1
    assert "4 of 4 runs failed" in told
    assert "/no/such/text" in told


def test_a_stop_in_the_first_sweeps_ends_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def stopped(tasks: Sequence[Task], *_: object) -> bool:
        asked.append(len(tasks))
        for task in tasks:
            task.state = "done"
        return True

    monkeypatch.setattr(reproducing, "carry_out_shown", stopped)
    code, _, _ = call(capsys, "--seeds", "1", "--out", str(tmp_path / "all"))
    assert code == 75
    assert asked == [4]


def test_a_dry_run_lists_everything_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, printed, _ = call(capsys, "--seeds", "1", "--dry-run", "--out", str(tmp_path / "all"))
    assert code == 0
    assert printed.count("own-text/lr-") == 4
    assert printed.count("equal-updates/about-seed-0-model-builtin-nano") == 1
    assert "5 runs" in printed
    assert not (tmp_path / "all").exists()


def test_a_mistake_is_told_before_anything_starts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (("--seeds", "0"), ("--workers", "0"), ("--tier", "gpt-2"), ("--retries", "-1")):
        code, _, told = call(capsys, *arguments, "--out", str(tmp_path / "all"))
        assert code == 2, told
        assert "Traceback" not in told
    assert not (tmp_path / "all").exists()
    for wrong in ("file", "folder/report.html/x"):
        (tmp_path / wrong).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / wrong).touch()
    for out, rule in {"file": "is not a folder", "folder": "is a folder"}.items():
        code, _, told = call(capsys, "--dry-run", "--out", str(tmp_path / out))
        assert code == 2
        assert rule in told
