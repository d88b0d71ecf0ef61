"""Runs with a fault at each of their file operations: forked from this process, which has torch imported.

    python tests/slow/faults.py SCENARIO FAULT [--every N] [--model builtin:nano]

carries out one row of the table and prints it as JSON. A point is held if `--resume` after the fault gives what a run
without faults gives, bit for bit: records without times, samples, summary, newest weights and optimiser state.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from collapselab.rundir.lease import is_lease

HERE = Path(__file__).parent
MODES = {"count": 1, "kill": 2, "tear": 3, "enospc": 4, "eio": 5, "full": 6}
# fault: (mode of the shim, how what is left of a power cut is rebuilt)
FAULTS: dict[str, tuple[str, str | None]] = {
    "kill": ("kill", None),
    "torn write": ("tear", None),
    "ENOSPC once": ("enospc", None),
    "EIO once": ("eio", None),
    "full disk": ("full", None),
    "power cut, names kept": ("kill", "bytes"),
    "power cut, names lost": ("kill", "names"),
}
# Which operations of the run are of interest: all, those of the removal and some more, those of the end.
SCENARIOS = {
    "new run": slice(None),
    "fresh over a finished run": slice(100),
    "end without checkpoints": slice(-50, None),
}


def compile_shim(folder: Path) -> Path:
    target = folder / "shim.so"
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", target, HERE / "shim.c", "-ldl"], check=True)
    return target


def carry_out(scenario: str, fault: str, shim: Path, *options: str) -> dict[str, Any]:
    """One row of the table, in a process with the shim: tried, held, and what went wrong at which operation."""
    command = [sys.executable, HERE / "faults.py", scenario, fault, *options]
    environment = {**os.environ, "LD_PRELOAD": str(shim), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def make_config(model: str, scenario: str) -> Any:
    from collapselab.config import presets
    from collapselab.config.overrides import override

    changes = {
        "model": model,
        "optim.lr": 1e-4,
        "stop.max_steps": 4,
        "stop.on_collapse": False,
        "generate.max_new_tokens": 100,
        "eval.protocol": "windows[50,2]",
        "eval.full_every": 0,
        "checkpoint_every_s": 0.0,
        "threads": 1,
        "keep_checkpoints": scenario != "end without checkpoints",
    }
    return override(presets.load("demo"), changes)


def contents(out: Path) -> dict[str, object]:
    """Everything of a finished run that a fault may not change."""
    timeless = [
        {k: v for k, v in json.loads(line).items() if not k.startswith("seconds_")}
        for line in (out / "steps.jsonl").read_text().splitlines()
    ]
    summary = json.loads((out / "summary.json").read_text())
    for name in ("seconds", "records", "checksum"):
        summary.pop(name, None)
    newest = sorted(out.glob("checkpoint/[0-9]*"))[-1:]
    tensors = [
        (folder.name, (folder / f"{name}.safetensors").read_bytes())
        for folder in newest
        for name in ("model", "optimizer")
    ]
    files = {path.name for path in out.iterdir() if not is_lease(path.name)} - {"lock", "loss.svg", "loss.png"}
    status = json.loads((out / "status.json").read_text())["status"] if (out / "status.json").is_file() else None
    return {
        "steps": timeless,
        "samples": (out / "samples.jsonl").read_bytes(),
        "summary": summary,
        "tensors": tensors,
        "files": files - {name for name in files if name.endswith((".tmp", ".damaged"))},
        "status": status,
    }


def in_child(action: Callable[[], object], log: Path) -> int:
    """The exit code of a forked process that executes the action; negative: the signal that ended it."""
    from collapselab.errors import CollapselabError

    pid = os.fork()
    if pid == 0:
        code = 0
        try:
            handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(handle, 1)
            os.dup2(handle, 2)
            action()
        except CollapselabError as error:
            os.write(2, str(error).encode())
            code = 3
        except BaseException:
            traceback.print_exc()
            code = 1
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def names_and_bytes(shadow: Path, out: Path) -> None:
    """Notes that all there is now is on the disk."""
    for path in [out, *out.rglob("*")] if out.exists() else []:
        number = path.stat().st_ino
        if path.is_dir():
            lines = [f"{p.stat().st_ino} {int(p.is_dir())} {p.name}\n" for p in path.iterdir()]
            (shadow / f"names-{number}").write_text("".join(lines))
        else:
            shutil.copyfile(path, shadow / f"bytes-{number}")


def after_power_cut(out: Path, shadow: Path, target: Path, how: str) -> None:
    """What is left: of each file its bytes when it was last synced. `names`: of each folder its names then, too."""

    def entries(folder: Path | None, number: int) -> Iterator[tuple[int, bool, str]]:
        if how == "bytes":
            assert folder is not None
            yield from ((p.stat().st_ino, p.is_dir(), p.name) for p in folder.iterdir())
            return
        noted = shadow / f"names-{number}"
        for line in noted.read_text().splitlines() if noted.exists() else []:
            inode, is_folder, name = line.split(" ", 2)
            yield int(inode), is_folder == "1", name

    def rebuild(folder: Path | None, number: int, target: Path) -> None:
        target.mkdir()
        for inode, is_folder, name in entries(folder, number):
            if is_folder:
                rebuild(folder / name if folder else None, inode, target / name)
            else:
                kept = shadow / f"bytes-{inode}"
                (target / name).write_bytes(kept.read_bytes() if kept.exists() else b"")

    if out.exists():
        rebuild(out, out.stat().st_ino, target)


class Campaign:
    """One scenario and one fault, at each operation of a run."""

    def __init__(self, scenario: str, fault: str, model: str, folder: Path) -> None:
        from collapselab.runner import run

        self.scenario, self.folder, self.run = scenario, folder, run
        self.mode, self.rebuilt = FAULTS[fault]
        self.config = make_config(model, scenario)
        self.arm = ctypes.CDLL(None).fault_arm
        self.count = ctypes.CDLL(None).fault_count
        self.count.restype = ctypes.c_long
        self.whole = folder / "whole"
        assert in_child(lambda: run(self.config, self.whole), folder / "log") == 0, (folder / "log").read_text()
        self.expected = contents(self.whole)

    def begin(self, name: str) -> tuple[Path, Path]:
        out, shadow = self.folder / name, self.folder / f"{name}-shadow"
        for path in (out, shadow):
            shutil.rmtree(path, ignore_errors=True)
        shadow.mkdir()
        if self.scenario.startswith("fresh"):
            shutil.copytree(self.whole, out)
            names_and_bytes(shadow, out)
        return out, shadow

    def faulty(self, out: Path, shadow: Path, mode: str, number: int) -> None:
        noted = str(shadow) if self.rebuilt else ""
        self.arm(os.fsencode(out), os.fsencode(noted), MODES[mode], ctypes.c_long(number))
        self.run(self.config, out, fresh=self.scenario.startswith("fresh"))

    def num_operations(self) -> int:
        out, shadow = self.begin("counted")

        def counted() -> None:
            self.faulty(out, shadow, "count", 0)
            (self.folder / "count").write_text(str(self.count()))

        assert in_child(counted, self.folder / "log") == 0, (self.folder / "log").read_text()
        return int((self.folder / "count").read_text())

    def point(self, number: int) -> str | None:
        """What went wrong with a fault at this operation; None: nothing."""
        out, shadow = self.begin("faulty")
        log = self.folder / "log"
        code = in_child(lambda: self.faulty(out, shadow, self.mode, number), log)
        if code not in (0, 3, -signal.SIGKILL):  # 3: an error of this package, with a message
            return f"the run ended with {code}: {log.read_text()[-600:]}"
        if self.rebuilt:
            left = self.folder / "left"
            shutil.rmtree(left, ignore_errors=True)
            after_power_cut(out, shadow, left, self.rebuilt)
            out = left
        code = in_child(lambda: self.run(self.config, out, resume=True), log)
        if code:
            return f"the resumed run ended with {code}: {log.read_text()[-600:]}"
        found = contents(out)
        different = [name for name in self.expected if found[name] != self.expected[name]]
        return f"other {', '.join(different)}: {found['files']}" if different else None


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("scenario", choices=SCENARIOS)
    parser.add_argument("fault", choices=FAULTS)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--model", default="builtin:nano")
    chosen = parser.parse_args()
    import torch

    import collapselab.runner  # noqa: F401

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        campaign = Campaign(chosen.scenario, chosen.fault, chosen.model, Path(folder))
        points = range(campaign.num_operations())[SCENARIOS[chosen.scenario]][:: chosen.every]
        found = {number: campaign.point(number) for number in points}
    failed = {number: what for number, what in found.items() if what is not None}
    result = {"tried": len(found), "held": len(found) - len(failed), "failed": failed}
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
