"""What befalls a process, its disk, its clock or its machine in the middle of a run; then the run is resumed.

    python tests/slow/process_faults.py ROW [--tries N]

carries out one row of the table and prints it as JSON. A try is held if the run ends by itself or with a message of
this package, and `--resume` then gives what a run without faults gives, bit for bit (`faults.contents`). Disks are
tmpfs, mounted as root.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from faults import contents, in_child, make_config
from sweep_faults import SWEEP_ROWS

RUN_BYTES = 4 * 1024 * 1024  # more than a run of builtin:nano with three checkpoints needs
NUM_INODES = 64
EXIT_TRACEBACK = 99  # stands for any exit code with a traceback


class Tried:
    """A run without faults, and what became of those with faults."""

    def __init__(self, folder: Path, tries: int) -> None:
        from collapselab.runner import run

        self.folder, self.tries, self.run, self.log = folder, tries, run, folder / "log"
        self.config, self.random = make_config("builtin:nano", "new run"), random.Random(0)
        begun = time.monotonic()
        assert self.child(folder / "whole") == 0, self.log.read_text()
        self.run_s = time.monotonic() - begun
        self.whole = contents(folder / "whole")
        self.failed: dict[str, str] = {}
        self.num_tried = 0

    def child(self, out: Path, before: Callable[[], object] = lambda: None) -> int:
        """The exit code of a process that begins or resumes the run: 0, 3 with a message, 1 with a traceback."""

        def act() -> None:
            before()
            self.run(self.config, out, resume=True)

        return in_child(act, self.log)

    def note(
        self, name: str, out: Path, code: int, allowed: tuple[int, ...] = (0, 3), refusal: str | None = None
    ) -> None:
        """Judges one try: how the disturbed run ended, and what resuming it gives; it may be refused in these words."""
        self.num_tried += 1
        if code not in allowed:
            self.failed[name] = f"ended with {code}: {self.log.read_text()[-500:]}"
            return
        code = self.child(out)
        if code == 3 and refusal is not None and refusal in self.log.read_text():
            return
        found = contents(out) if code == 0 else {}
        different = [key for key in self.whole if found.get(key) != self.whole[key]]
        if code or different:
            self.failed[name] = f"resumed: {code}, other {', '.join(different)}: {self.log.read_text()[-300:]}"

    def background(self, out: Path) -> int:
        """The id of a process that makes the run."""
        pid = os.fork()
        if pid == 0:
            os._exit(max(0, self.child(out)))
        return pid


def descendants(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(name) for name in children.read_text().split()] if children.exists() else []


def random_kills(tried: Tried) -> None:
    """SIGKILL at a random moment, again and again until the run is through."""
    number = kills = 0
    while kills < tried.tries:
        out, done = tried.folder / f"kills-{number}", False
        while not done and kills < tried.tries:
            pid = tried.background(out)
            time.sleep(tried.random.uniform(0, tried.run_s))
            for one in descendants(pid):
                os.kill(one, signal.SIGKILL)
                kills += 1
            done = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0 and (out / "summary.json").exists()
        tried.note(f"run {number}", out, 0)
        number += 1
    tried.num_tried = kills


def stopped(tried: Tried) -> None:
    """SIGSTOP for a second, then SIGCONT."""
    for number in range(tried.tries):
        out = tried.folder / f"stopped-{number}"
        pid = tried.background(out)
        time.sleep(tried.random.uniform(0, tried.run_s))
        for word, pause_s in ((signal.SIGSTOP, 1.0), (signal.SIGCONT, 0.0)):
            for one in descendants(pid):
                os.kill(one, word)
            time.sleep(pause_s)
        tried.note(f"stop {number}", out, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


@contextmanager
def mounted(folder: Path, options: str) -> Generator[Path]:
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def remount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", folder], check=True)


def full_disks(tried: Tried) -> None:
    """A disk of every size, up to one that is large enough; then it is enlarged."""
    for number in range(tried.tries):
        size = 4096 + number * RUN_BYTES // tried.tries
        with mounted(tried.folder / "disk", f"size={size}") as disk:
            code = tried.child(disk / "run")
            remount(disk, "size=64m")
            tried.note(f"{size} bytes", disk / "run", code)


def few_inodes(tried: Tried) -> None:
    """A disk that holds only so many files."""
    for number in range(tried.tries):
        count = 2 + number * NUM_INODES // tried.tries
        with mounted(tried.folder / "disk", f"size=64m,nr_inodes={count}") as disk:
            code = tried.child(disk / "run")
            remount(disk, "nr_inodes=10000")
            tried.note(f"{count} inodes", disk / "run", code)


def read_only(tried: Tried) -> None:
    """A disk that is read-only at the start of a new run, and of one that was killed; then it is writable."""
    for number in range(tried.tries):
        with mounted(tried.folder / "disk", "size=64m") as disk:
            if number % 2:
                pid = tried.background(disk / "run")
                time.sleep(tried.random.uniform(0, tried.run_s))
                for one in descendants(pid):
                    os.kill(one, signal.SIGKILL)
                os.waitpid(pid, 0)
            remount(disk, "ro")
            code = tried.child(disk / "run")
            remount(disk, "rw")
            tried.note(f"read-only {number}", disk / "run", code)


def small_files(tried: Tried) -> None:
    """A limit on the size of files (ulimit -f)."""
    for number in range(tried.tries):
        size, out = 512 + number * RUN_BYTES // 4 // tried.tries, tried.folder / f"files-{number}"

        def limit(size: int = size) -> None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

        tried.note(f"{size} bytes", out, tried.child(out, limit))


def removed(tried: Tried) -> None:
    """The run directory is removed in the middle: the run ends with a message, and can be made again."""
    for number in range(tried.tries):
        out = tried.folder / f"removed-{number}"
        pid = tried.background(out)
        time.sleep(tried.random.uniform(0, tried.run_s))
        shutil.rmtree(out, ignore_errors=True)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        shutil.rmtree(out, ignore_errors=True)
        tried.note(f"removed {number}", out, code)


def clock_jumps(tried: Tried) -> None:
    """The clock jumps by up to a day, in either direction, whenever it is read."""
    for number in range(tried.tries):
        out, read = tried.folder / f"clock-{number}", time.time
        jump = random.Random(number).uniform

        def jumping(read: Callable[[], float] = read, jump: Callable[[float, float], float] = jump) -> None:
            time.time = lambda: read() + jump(-86400, 86400)

        tried.note(f"clock {number}", out, tried.child(out, jumping))


def little_memory(tried: Tried) -> None:
    """A limit on the memory (ulimit -v) above what the process has; an abort in a library counts as a kill."""
    from collapselab.cli import guarded

    for number in range(tried.tries):
        out, mib = tried.folder / f"memory-{number}", 1 + number * 256 // tried.tries

        def limited(out: Path = out, mib: int = mib) -> None:
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            size = pages * resource.getpagesize() + mib * 2**20
            resource.setrlimit(resource.RLIMIT_AS, (size, size))
            os._exit(guarded(lambda: tried.run(tried.config, out, resume=True) and None, "collapselab run"))

        code = in_child(limited, tried.log)
        name = f"{mib} MiB"
        if "Traceback (most" in tried.log.read_text():
            code = EXIT_TRACEBACK
        # Without memory for a compiler a run begins with another engine, which it does not change by itself.
        refusal = "cannot continue with the engines it began with"
        tried.note(name, out, code, (0, 1, 3, -signal.SIGABRT), refusal)


def cold_caches(tried: Tried) -> None:
    """Runs that start at once without compiled kernels."""
    os.environ["XDG_CACHE_HOME"] = str(tried.folder / "cache")
    outs = [tried.folder / f"cold-{number}" for number in range(tried.tries)]
    pids = [tried.background(out) for out in outs]
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    for out, code in zip(outs, codes, strict=True):
        tried.note(out.name, out, code)


# row: (what is done, tries in the whole campaign)
ROWS: dict[str, tuple[Callable[[Tried], None], int]] = {
    "random kills": (random_kills, 1000),
    "stopped and continued": (stopped, 50),
    "disk of every size": (full_disks, 100),
    "few inodes": (few_inodes, 32),
    "read-only disk": (read_only, 10),
    "limited size of files": (small_files, 50),
    "directory removed": (removed, 30),
    "clock jumps": (clock_jumps, 20),
    "limited memory": (little_memory, 32),
    "cold kernels, starts at once": (cold_caches, 20),
    **SWEEP_ROWS,
}


def carry_out(row: str, tries: int | None = None) -> dict[str, Any]:
    """One row of the table, in a process of its own."""
    command = [sys.executable, Path(__file__), row, *([] if tries is None else ["--tries", str(tries)])]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("row", choices=ROWS)
    parser.add_argument("--tries", type=int)
    chosen = parser.parse_args()
    import torch

    import collapselab.runner  # noqa: F401  # pyright: ignore[reportUnusedImport]

    torch.set_num_threads(1)
    action, tries = ROWS[chosen.row]
    with tempfile.TemporaryDirectory() as folder:
        tried = Tried(Path(folder), chosen.tries or tries)
        action(tried)
    held = tried.num_tried - len(tried.failed)
    sys.stdout.write(json.dumps({"tried": tried.num_tried, "held": held, "failed": tried.failed}) + "\n")


if __name__ == "__main__":
    main()
