"""SIGKILL at 20 random moments over a run of a shipped model: what is resumed equals what was never interrupted."""

from __future__ import annotations

import os
import random
import signal
import time
import traceback
from pathlib import Path

from collapselab.config import presets
from collapselab.config.overrides import override
from collapselab.config.schema import RunConfig
from collapselab.rundir.layout import read_lines
from collapselab.runner import run

NUM_KILLS = 20


def config() -> RunConfig:
    return override(
        presets.load("demo"),
        {
            "model": "builtin:nano",
            "optim.lr": 1e-4,
            "stop.max_steps": 24,
            "stop.on_collapse": False,
            "generate.max_new_tokens": 100,
            "eval.protocol": "windows[50,2]",
            "eval.full_every": 0,
            "checkpoint_every_s": 0.0,
            "threads": 1,
        },
    )


def child(out: Path) -> int:
    """A process that executes the run; forked, so that torch need not be imported again."""
    pid = os.fork()
    if pid == 0:
        try:
            run(config(), out, resume=True)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return pid


def timeless(path: Path) -> list[dict[str, object]]:
    lines = read_lines(path / "steps.jsonl")
    return [{k: v for k, v in line.items() if not k.startswith("seconds_")} for line in lines]


def newest_checkpoint(path: Path) -> tuple[bytes, bytes]:
    newest = sorted(p for p in (path / "checkpoint").iterdir() if p.name.isdigit())[-1]
    return (newest / "model.safetensors").read_bytes(), (newest / "optimizer.safetensors").read_bytes()


def test_killed_at_20_random_moments_and_resumed(tmp_path: Path) -> None:
    began = time.monotonic()
    whole = run(config(), tmp_path / "whole").path
    duration_s = time.monotonic() - began
    moments, out, kills = random.Random(20), tmp_path / "killed", 0
    while kills < NUM_KILLS:
        pid = child(out)
        # Long enough to load the model and take some steps, on a quick machine as on a slow one.
        time.sleep(moments.uniform(0.02, 0.12) * duration_s)
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        assert os.WIFSIGNALED(status), "the process failed, or finished the run, before it was killed"
        kills += 1
    run(config(), out, resume=True)
    assert timeless(out) == timeless(whole)
    assert (out / "samples.jsonl").read_bytes() == (whole / "samples.jsonl").read_bytes()
    assert newest_checkpoint(out) == newest_checkpoint(whole)
