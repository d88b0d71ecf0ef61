"""Every file of a killed and of a finished run, damaged in every way, then resumed.

    python tests/slow/damaged_files.py killed|finished [--only DAMAGE] [--model builtin:nano]

A damage is held if the resumed run is like one that was never damaged, or if it is refused with a message; not if it
hangs, shows a traceback, or gives something else. Of a finished run, checkpoints are not read and so not damaged here.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from faults import contents, in_child, make_config

HANG_S = 60
LEASE_S = 4.0  # a damaged lease may look like another machine's, which is waited for


def flipped(data: bytes, position: float) -> bytes:
    changed = bytearray(data)
    changed[int(position * (len(data) - 1))] ^= 4
    return bytes(changed)


def without_line(data: bytes, position: float) -> bytes:
    lines = data.splitlines(keepends=True)
    del lines[int(position * len(lines))]
    return b"".join(lines)


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def rewritten(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(change(path.read_bytes()))


DAMAGES: dict[str, Callable[[Path], object]] = {
    "missing": Path.unlink,
    "empty": rewritten(lambda data: b""),
    "cut in half": rewritten(lambda data: data[: len(data) // 2]),
    "NUL block": rewritten(lambda data: data[: len(data) // 3] + bytes(64) + data[len(data) // 3 + 64 :]),
    "bit flip at 0.1": rewritten(lambda data: flipped(data, 0.1)),
    "bit flip at 0.37": rewritten(lambda data: flipped(data, 0.37)),
    "bit flip at 0.62": rewritten(lambda data: flipped(data, 0.62)),
    "bit flip at 0.93": rewritten(lambda data: flipped(data, 0.93)),
    "{}": rewritten(lambda data: b"{}\n"),
    "[1, 2]": rewritten(lambda data: b"[1, 2]\n"),
    "null": rewritten(lambda data: b"null\n"),
    "100,000 brackets": rewritten(lambda data: b"[" * 100_000 + b"\n"),
    "integer of 5,000 digits": rewritten(lambda data: b'{"step": ' + b"9" * 5000 + b"}\n"),
    "not UTF-8": rewritten(lambda data: data[:20] + b"\xff\xfe" + data[20:]),
    "first line lost": rewritten(lambda data: without_line(data, 0)),
    "middle line lost": rewritten(lambda data: without_line(data, 0.5)),
    "foreign line": rewritten(lambda data: b'{"a": 1}\n' + data),
    "first line twice": rewritten(lambda data: data.splitlines(keepends=True)[0] + data),
    "FIFO": fifo,
    "folder": folder,
}
NOT_FOR_TENSORS = ("first line", "middle line", "foreign line")  # they have no lines


def damaged_files(run: Path, state: str) -> Iterator[str]:
    yield from (name for name in sorted(p.name for p in run.iterdir()) if (run / name).is_file())
    if state == "killed":
        yield from (str(p.relative_to(run)) for p in sorted(run.glob("checkpoint/*/*")))


class Damages:
    """One intact run, and damaged copies of it."""

    def __init__(self, state: str, model: str, place: Path) -> None:
        from collapselab.config.overrides import override
        from collapselab.rundir import lease
        from collapselab.runner import run

        lease.LEASE_S = LEASE_S
        self.place, self.run, self.config = place, run, make_config(model, "new run")
        self.begun, self.log = place / "begun", place / "log"
        assert in_child(lambda: run(self.config, place / "whole"), self.log) == 0, self.log.read_text()
        self.expected = contents(place / "whole")
        if state == "finished":
            self.begun = place / "whole"
        else:
            killed = in_child(lambda: run(self.config, self.begun, on_record=self._killed), self.log)
            assert killed == -signal.SIGKILL, self.log.read_text()
        self.foreign = place / "foreign"
        other = override(self.config, {"seed": 5})
        assert in_child(lambda: run(other, self.foreign), self.log) == 0, self.log.read_text()

    @staticmethod
    def _killed(record: Any) -> None:
        if record.step == 2:
            os.kill(os.getpid(), signal.SIGKILL)

    def damaged(self, name: str, damage: str) -> str | None:
        """What went wrong; None: nothing."""
        out = self.place / "damaged"
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(self.begun, out)
        if damage == "foreign":
            shutil.copyfile(self.foreign / name, out / name)
        else:
            DAMAGES[damage](out / name)

        def resumed() -> None:
            signal.alarm(HANG_S)
            self.run(self.config, out, resume=True)

        code = in_child(resumed, self.log)
        if code == 3:  # an error of this package
            return None
        if code:
            return f"{'hangs' if code == -signal.SIGALRM else code}: {self.log.read_text()[-600:]}"
        found = contents(out)
        different = {key for key in self.expected if found[key] != self.expected[key]}
        # What nothing depends on is not made again: what the run was asked for, where it ran, its log.
        allowed = {"user.json": {"files"}, "env.json": {"files"}, "log.txt": {"files"}}.get(name, set())
        if damage == "folder" and name == "status.json":
            allowed = {"status"}  # cannot be replaced; the complete run says so
        return f"other {', '.join(different - allowed)}" if different - allowed else None


def carry_out(state: str) -> dict[str, Any]:
    """All damages, in a process of its own: tried, held, and what went wrong."""
    done = subprocess.run([sys.executable, __file__, state], stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def all_of(state: str, model: str, only: str | None) -> dict[str, Any]:
    tried, failed = 0, dict[str, str]()
    with tempfile.TemporaryDirectory() as place:
        damages = Damages(state, model, Path(place))
        for name in damaged_files(damages.begun, state):
            for damage in [*DAMAGES, "foreign"] if only is None else [only]:
                if name.endswith(".safetensors") and damage.startswith(NOT_FOR_TENSORS):
                    continue
                is_empty = not (damages.begun / name).stat().st_size
                if (is_empty and ("line" in damage or "flip" in damage)) or (
                    damage == "foreign" and not (damages.foreign / name).exists()
                ):
                    continue
                tried += 1
                what = damages.damaged(name, damage)
                if what is not None:
                    failed[f"{name}: {damage}"] = what
    return {"tried": tried, "held": tried - len(failed), "failed": failed}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("state", choices=("killed", "finished"))
    parser.add_argument("--only", choices=(*DAMAGES, "foreign"))
    parser.add_argument("--model", default="builtin:nano")
    chosen = parser.parse_args()
    import torch

    import collapselab.runner  # noqa: F401

    torch.set_num_threads(1)
    sys.stdout.write(json.dumps(all_of(chosen.state, chosen.model, chosen.only)) + "\n")


if __name__ == "__main__":
    main()
