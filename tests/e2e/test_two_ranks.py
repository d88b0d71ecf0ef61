"""A model divided over two processes by torchrun (gloo): the run is that of one process, and either continues it."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch.distributed as dist
from safetensors.torch import load_file  # pyright: ignore[reportUnknownVariableType]

from collapselab.rundir.layout import read_lines
from collapselab.testing import save_folder
from engines import llama
from sweep_runs import begins, call_main, held, hooked, wait_for

TIMEOUT_S = 400.0  # each process imports torch anew
SETTINGS = """
preset = "demo"
engine = "plain"
data = "austen"
optim.lr = 1e-3
checkpoint_every_s = 0.0
generate.max_new_tokens = 20
eval.protocol = "windows[20,2]"
eval.full_every = 0
stop.max_steps = 7
stop.on_divergence = false
threads = 1
"""
pytestmark = pytest.mark.skipif(
    not dist.is_available() or not dist.is_gloo_available(), reason="this PyTorch has no gloo"
)


def divided(folder: Path, *options: str) -> subprocess.Popen[str]:
    """`collapselab run` on two processes, with the hook of `sweep_runs`."""
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    command = (*torchrun, "-m", "collapselab", "run", *options)
    return subprocess.Popen(
        command, cwd=folder, env=hooked(folder), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def assert_same_run(path: Path, whole: Path) -> None:
    """Equal but for the last bits of sums: texts exactly, numbers to 1e-5, and the last checkpoint's tensors."""
    assert (path / "samples.jsonl").read_bytes() == (whole / "samples.jsonl").read_bytes()
    for record, expected in zip(read_lines(path / "steps.jsonl"), read_lines(whole / "steps.jsonl"), strict=True):
        timeless = {name: value for name, value in expected.items() if not name.startswith("seconds_")}
        numbers = {name: value for name, value in timeless.items() if isinstance(value, float)}
        assert {name: record[name] for name in numbers} == pytest.approx(numbers, rel=1e-5, abs=1e-6)
        assert {name: record[name] for name in timeless if name not in numbers} == {
            name: value for name, value in timeless.items() if name not in numbers
        }
    newest = max(whole.glob("checkpoint/*"))
    for name in ("model.safetensors", "optimizer.safetensors"):
        tensors, others = (load_file(run / "checkpoint" / newest.name / name) for run in (path, whole))
        assert tensors.keys() == others.keys()
        for key, value in tensors.items():
            assert value.shape == others[key].shape and (value - others[key]).abs().max() < 1e-5, key


def test_two_processes_make_the_run_of_one_and_either_continues_it(tmp_path: Path) -> None:
    save_folder(llama(context=256), tmp_path / "llama")
    settings = tmp_path / "run.toml"
    settings.write_text(f'model = "{tmp_path / "llama"}"\n{SETTINGS}', encoding="utf-8")
    begun, whole, alone = (tmp_path / name for name in ("begun", "whole", "alone"))
    assert call_main("run", str(settings), "--out", str(whole)) == 0

    (hold := tmp_path / "hold-begun").touch()
    process = divided(tmp_path, str(settings), "--out", str(begun))
    wait_for(lambda: held(begun), process, TIMEOUT_S)
    process.send_signal(signal.SIGTERM)  # torchrun sends it to both
    wait_for(hold.with_name("hold-begun.signalled").exists, process, TIMEOUT_S)
    hold.unlink()
    shown, _ = process.communicate(timeout=TIMEOUT_S)
    assert "interrupted after step 5" in shown, shown
    shutil.copytree(begun, alone)

    assert call_main("run", str(settings), "--out", str(alone), "--resume") == 0
    assert_same_run(alone, whole)
    process = divided(tmp_path, str(settings), "--out", str(begun), "--resume")
    shown, _ = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0, shown
    assert shown.count("run directory:") == 1, "rank 0 alone shows the run"
    assert_same_run(begun, whole)
    assert begins(begun) == begins(alone) == [0, 6]

    process = divided(tmp_path, str(settings), "--seed", "1", "--out", str(begun))  # the directory has another run
    shown, _ = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 1 and "holds another configuration" in shown, shown
    assert "forcefully" not in shown, "rank 1 waits for rank 0, and ends with it"
