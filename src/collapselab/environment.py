"""The machine and the versions a run was made with (env.json)."""

from __future__ import annotations

import atexit
import os
import platform
import subprocess
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("collapselab", "torch", "transformers", "tokenizers", "safetensors", "numpy", "pandas", "gguf")


def environment(threads: int | None = None) -> dict[str, object]:
    """Versions, git state, processor, threads, command; `None` for what cannot be found out."""
    return {
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "git": _git_state(),
        "platform": platform.platform(),
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "threads": threads,
        "gpu": _gpu_name(),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
    }


def ensure_home() -> None:
    """Gives a process that has no home folder one while it lives; libraries fail without when they are imported.

    A user id without a name and HOME unset are common in containers.
    """
    try:
        Path.home()
    except RuntimeError:
        home = tempfile.TemporaryDirectory(prefix="collapselab-home-")
        atexit.register(home.cleanup)
        os.environ["HOME"] = home.name


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git_state() -> dict[str, object] | None:
    """Commit of this package's checkout, and whether it has changes; `None` outside a checkout."""
    here = Path(__file__).parent

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=here, capture_output=True, text=True, check=True, timeout=10)
        return done.stdout.strip()

    try:
        # An installed copy may lie inside somebody else's repository.
        if not (Path(git("rev-parse", "--show-toplevel")) / "src" / "collapselab").exists():
            return None
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain", "--untracked-files=no"))}
    except (OSError, subprocess.SubprocessError):
        return None


def _cpu_name() -> str | None:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or None
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else None


def _gpu_name() -> str | None:
    torch = sys.modules.get("torch")  # asked only where torch is loaded anyway
    return torch.cuda.get_device_name() if torch is not None and torch.cuda.is_available() else None
