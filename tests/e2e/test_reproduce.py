"""A whole reproduction, small: sweeps, rates matched afterwards, verdicts, figures, tables, the page; and again."""

from __future__ import annotations

from pathlib import Path

import pytest

from collapselab import presets
from collapselab.cli import main
from collapselab.overrides import override
from collapselab.rundir import read_json
from collapselab.sweep import tiers
from collapselab.sweep.grid import Sweep
from collapselab.sweep.tiers import Tier

SMALL = {
    "generate.max_new_tokens": 16,
    "eval.protocol": "windows[20,2]",
    "eval.full_every": 0,
    "stop.max_steps": 11,
    "stop.on_divergence": False,
}


def tiny_tier(num_seeds: int | None, *, quick: bool) -> Tier:
    base = override(presets.demo(), SMALL)
    grid = {"optim.lr": (1e-4, 2e-4), "model": ("builtin:nano", "builtin:micro"), "seed": range(num_seeds or 2)}
    grid = {name: list(values) for name, values in grid.items()}
    return Tier({"own-text": Sweep(base, grid)}, sized=("builtin:micro", "builtin:nano"), sized_rates=(2e-4,))


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[object, str, str]:
    with pytest.raises(SystemExit) as caught:
        main(("reproduce", *arguments))
    return caught.value.code, *capsys.readouterr()


@pytest.fixture(autouse=True)
def small_builtin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(tiers.TIERS, "builtin", tiny_tier)


def test_one_command_makes_everything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "all"
    code, printed, told = call(capsys, "--quick", "--out", str(out))
    assert code == 0, told
    assert [line.split()[0] for line in printed.splitlines() if line.startswith("H")] == [
        "H1", "H2", "H3", "H4", "H4b", "H5", "H6",
    ]  # fmt: skip
    runs = sorted(path.parent.relative_to(out).as_posix() for path in out.glob("runs/*/*/summary.json"))
    assert len(runs) == 2 * 2 * 2 + 2
    (matched,) = {read_json(out / run / "config.json")["config"]["optim"]["lr"] for run in runs if "equal" in run}
    assert 2e-4 < matched < 3e-4, "nano's updates are smaller than micro's at an equal rate"
    for name in ("report.html", "figures/figure-2.svg", "figures/hypotheses.csv", "figures/runs.tex"):
        assert (out / name).stat().st_size > 0

    before = {path: path.stat().st_mtime_ns for path in out.glob("runs/**/steps.jsonl")}
    code, again, _ = call(capsys, "--quick", "--out", str(out))
    assert code == 0 and again == printed
    assert {path: path.stat().st_mtime_ns for path in out.glob("runs/**/steps.jsonl")} == before


def test_a_dry_run_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, printed, told = call(capsys, "--quick", "--seeds", "1", "--dry-run", "--out", str(tmp_path / "all"))
    assert code == 0
    assert printed.count("own-text/lr-") == 4
    assert "builtin:nano at rates that make their updates equally large" in told
    assert not (tmp_path / "all").exists()


def test_a_mistake_is_told_before_anything_starts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (("--seeds", "0"), ("--workers", "0"), ("--tier", "gpt-2"), ("--retries", "-1")):
        code, _, told = call(capsys, *arguments, "--out", str(tmp_path / "all"))
        assert code == 2 and "Traceback" not in told, told
    assert not (tmp_path / "all").exists()
