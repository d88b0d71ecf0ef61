"""The kernels' shared library: compiled once for this processor, kept in the user's cache, verified before loading."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import logging
import os
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from collapselab.rundir.machine import cpu_features

log = logging.getLogger(__name__)

SOURCES = Path(__file__).parent / "kernels"
# No -ffast-math: it would make every library of the process flush denormal numbers, and lose NaN.
FLAGS = (
    *("-O3", "-march=native", "-fopenmp", "-std=gnu11", "-shared", "-fPIC"),
    *("-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros"),
)
PATIENCE_S, LIMIT_S = 5, 120  # until a message says why we wait; until the compiler is stopped


class NoKernels(Exception):
    """The reason why there are no kernels, in one line."""


class _BuildFailed(Exception):
    """The compiler failed, or its output cannot be loaded; in another folder it may succeed."""


def load_library(functions: Sequence[str]) -> ctypes.CDLL:
    """The compiled kernels, which have these functions.

    They are kept in `$XDG_CACHE_HOME/collapselab` (`~/.cache/collapselab`), under a name with a digest of the content.
    If that folder is missing, full, not executable, or open to other users, they are compiled into a private
    temporary folder for this process alone.

    Raises:
        NoKernels: they cannot be compiled or loaded.
    """
    try:
        return _load_from(_cache_folder(), functions)
    except (OSError, _BuildFailed) as error:
        why_not_kept = _reason(error)
    try:
        with tempfile.TemporaryDirectory(prefix="collapselab-", ignore_cleanup_errors=True) as private:
            loaded = _load_from(Path(private), functions)  # once loaded, the file is no longer needed
    except (OSError, _BuildFailed) as error:
        raise NoKernels(_reason(error)) from error
    log.warning("the C kernels are compiled for this run only, since they cannot be kept: %s", why_not_kept)
    return loaded


def _load_from(folder: Path, functions: Sequence[str]) -> ctypes.CDLL:
    name = f"native-{_identity()}"
    return ctypes.CDLL(str(_intact(folder, name) or _build(folder, name, functions)))


def _identity() -> str:
    """A hash of what decides the machine code, except the compiler: a machine without one may use kept kernels."""
    # What -march=native looks at: a cache folder may be shared by machines that differ.
    files = sorted(SOURCES.iterdir())
    identity = [*FLAGS, cpu_features(), *(f.read_text(encoding="utf-8") for f in files)]
    return hashlib.sha256("\0".join(identity).encode()).hexdigest()[:16]


def _cache_folder() -> Path:
    """The folder where the kernels are kept.

    Raises:
        OSError: there is none, or others could have put code there.
    """
    named = os.environ.get("XDG_CACHE_HOME", "")
    try:
        parent = Path(named) if os.path.isabs(named) else Path.home() / ".cache"
    except RuntimeError:  # HOME is unset, and the user has no entry in the table of users
        raise OSError("there is no home folder (HOME)") from None
    folder = parent / "collapselab"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    # In a folder with the sticky bit, such as /tmp, others cannot rename what is ours.
    _check_owner(parent, 0 if parent.stat().st_mode & stat.S_ISVTX else stat.S_IWOTH)
    _check_owner(folder, stat.S_IWGRP | stat.S_IWOTH)
    if os.statvfs(folder).f_flag & getattr(os, "ST_NOEXEC", 0):
        raise PermissionError(f"{folder} is mounted noexec")
    return folder


def _check_owner(path: Path, forbidden: int) -> None:
    found = path.stat()
    if found.st_uid not in (0, os.geteuid()):
        raise PermissionError(f"{path} belongs to another user")
    if found.st_mode & forbidden:
        raise PermissionError(f"other users may write to {path}")


def _intact(folder: Path, name: str) -> Path | None:
    """A library of this name that nobody else may change and whose content matches the digest in its name."""
    for path in sorted(folder.glob(f"{name}-*.so")):
        try:
            _check_owner(path, stat.S_IWGRP | stat.S_IWOTH)
            if stat.S_ISREG(path.lstat().st_mode) and path.stem.endswith(_digest(path)):
                return path
        except OSError:
            continue
    return None


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:32]


def _build(folder: Path, name: str, functions: Sequence[str]) -> Path:
    # Built and tried out in a separate folder first: several runs may begin at once, and a compiler may silently leave
    # half a file.
    with tempfile.TemporaryDirectory(prefix="build-", dir=folder, ignore_cleanup_errors=True) as temporary:
        built = Path(temporary) / "native.so"
        compiler = _compiler(folder)
        sources = [str(f) for f in sorted(SOURCES.glob("*.c"))]
        _compile(compiler, [*FLAGS, "-o", str(built), *sources, "-lm"], Path(temporary))
        _try_out(built, functions, shlex.join(compiler))
        built.chmod(0o700)
        _fsync(built)
        target = folder / f"{name}-{_digest(built)}.so"
        built.replace(target)
        _fsync(folder)
    return target


def _compiler(folder: Path) -> list[str]:
    """The command in CC, split as a shell does, or the first compiler found."""
    named = os.environ.get("CC", "")
    try:
        words = shlex.split(named)
    except ValueError as error:
        raise NoKernels(f"CC={named!r} cannot be split into words: {error}") from None
    found = words or [c for c in ("cc", "gcc", "clang") if shutil.which(c)][:1]
    if not found:
        raise NoKernels(f"there is no C compiler (cc, gcc, clang), and no kernels for this processor in {folder}")
    return found


def _compile(compiler: Sequence[str], arguments: Sequence[str], temporary: Path) -> None:
    called = shlex.join(compiler)
    try:
        process = subprocess.Popen(
            [*compiler, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env=os.environ | {"TMPDIR": str(temporary), "LC_ALL": "C"},
            start_new_session=True,
        )
    except OSError as error:
        raise NoKernels(f"the C compiler {called!r} cannot be run: {error.strerror}") from error
    with process:
        try:
            try:
                _, said = process.communicate(timeout=PATIENCE_S)
            except subprocess.TimeoutExpired:
                log.info("compiling the C kernels with %r, once per machine …", called)
                _, said = process.communicate(timeout=LIMIT_S - PATIENCE_S)
        except subprocess.TimeoutExpired:
            raise NoKernels(f"the C compiler {called!r} did not finish within {LIMIT_S} s") from None
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
    if process.returncode:
        lines = said.splitlines()
        telling = next((line for line in lines if "error" in line), lines[0] if lines else "no message")
        raise _BuildFailed(f"the C compiler {called!r} failed ({_ending(process.returncode)}): {telling.strip()}")


def _try_out(library: Path, functions: Sequence[str], called: str) -> None:
    """Loads the library in a separate process: half a file would end this one with a bus error."""
    program = "import ctypes, sys; c = ctypes.CDLL(sys.argv[1]); [getattr(c, name) for name in sys.argv[2:]]"
    command = [sys.executable, "-I", "-c", program, str(library), *functions]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        raise NoKernels(f"the library made by the C compiler {called!r} does not finish loading") from None
    if done.returncode:
        why = done.stderr.strip().splitlines()[-1:] or [_ending(done.returncode)]
        raise _BuildFailed(f"the library made by the C compiler {called!r} cannot be loaded: {why[0]}")


def _ending(status: int) -> str:
    return f"killed by signal {-status}" if status < 0 else f"exit status {status}"


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _reason(error: Exception) -> str:
    """The error in one line of printable characters: it may quote a compiler."""
    text = str(error)
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.strerror}: {error.filename}"
    return "".join(c if c.isprintable() else " " for c in text)[:300]
