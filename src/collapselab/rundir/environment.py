"""The machine, the versions and the engines a run was made with (env.json), and whether they are still the same."""

from __future__ import annotations

import atexit
import logging
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, cast

from collapselab.config.schema import RunConfig
from collapselab.errors import InputError
from collapselab.records import SCHEMA_VERSION
from collapselab.rundir.layout import UnknownSchema, read_json, write_json
from collapselab.rundir.machine import cpu_name

log = logging.getLogger(__name__)

PACKAGES = ("collapselab", "torch", "transformers", "tokenizers", "safetensors", "numpy", "pandas", "gguf")
NUMERICAL = ("collapselab", "torch", "transformers", "tokenizers", "numpy")  # those that affect the numbers of a run


def environment(threads: int | None = None) -> dict[str, object]:
    """Versions, git state, processor, threads, command; `None` for what is unknown."""
    return {
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "git": _git_state(),
        "platform": platform.platform(),
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "threads": threads,
        "gpu": _gpu_name(),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
    }


def keep_engine(env: Path, config: RunConfig) -> RunConfig:
    """The configuration with the engine that the run of this env.json asked for, unless it names one itself."""
    asked_for = _part(_known(env), "engines").get("asked_for")
    is_kept = config.engine == "auto" and asked_for in ("native", "static", "plain")
    return config.model_copy(update={"engine": asked_for}) if is_kept else config


def record_environment(
    env: Path,
    engines: Mapping[str, str | None],
    threads: int,
    *,
    is_named: bool,
    check: Callable[[], None] = lambda: None,
) -> None:
    """Writes env.json: this beginning of the run, and the earlier ones under `earlier`, oldest first.

    `check` is called right before, and may refuse (`Lease.check`).

    Raises:
        InputError: the run used other engines so far, and the user did not name one (`is_named`).
    """
    former = _known(env)
    changed = _changes(_part(former, "engines"), engines, ("write", "evaluate", "update"))
    if changed and not is_named:
        off = engines["kernels_off"]
        raise InputError(
            f"the run in {env.parent} cannot continue with the engines it began with: {changed}"
            + (f"; the kernels in C are off: {off}" if off else ""),
            f"restore them, or continue with another engine: `engine={engines['write']!r}`",
        )
    now: dict[str, Any] = {
        "schema": SCHEMA_VERSION,
        "began": time.strftime("%Y-%m-%d %H:%M:%S"),
        **environment(threads),
        "engines": dict(engines),
    }
    if former:
        versions = _changes(_part(former, "packages"), now["packages"], NUMERICAL)
        machine = _changes(former, now, ("cpu", "gpu", "threads"))
        if differences := ", ".join(filter(None, (changed, versions, machine))):
            log.warning("from this step the numbers may differ from those of an uninterrupted run: %s", differences)
        now["earlier"] = [*former.pop("earlier", []), former]
    write_json(env, now, check)


def _known(env: Path) -> dict[str, Any]:
    """The content of env.json; empty if it is missing or cannot be read."""
    if not env.exists():
        return {}
    try:
        return read_json(env)
    except UnknownSchema:
        raise
    except InputError as error:
        log.warning("%s; the engines and versions used before are unknown", error.message)
        return {}


def _part(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    part = values.get(name)
    return cast(dict[str, Any], part) if isinstance(part, dict) else {}


def _changes(old: Mapping[str, Any], new: Mapping[str, Any], names: Sequence[str]) -> str:
    """`name old → new` for each recorded value that has changed."""
    return ", ".join(f"{name} {old[name]} → {new[name]}" for name in names if name in old and old[name] != new[name])


def ensure_home() -> None:
    """Gives a process without a home folder a temporary one; some libraries cannot be imported without it.

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
        # An installed copy may be inside somebody else's repository.
        if not (Path(git("rev-parse", "--show-toplevel")) / "src" / "collapselab").exists():
            return None
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain", "--untracked-files=no"))}
    except (OSError, subprocess.SubprocessError):
        return None


def _gpu_name() -> str | None:
    torch = sys.modules.get("torch")  # read only if torch is loaded already
    return torch.cuda.get_device_name() if torch is not None and torch.cuda.is_available() else None
