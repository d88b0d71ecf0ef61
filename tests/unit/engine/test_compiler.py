"""The kernels' library under faults of the compiler, of the cache folder, and of its content."""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from collapselab.engine import compiler
from collapselab.engine.choose import make_engines
from collapselab.engine.library import kernels, library
from collapselab.errors import InputError
from collapselab.testing import tiny_model

Script = Callable[..., Path]


@pytest.fixture(autouse=True)
def nothing_is_loaded() -> Iterator[None]:
    kernels.cache_clear()
    yield
    kernels.cache_clear()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The kernels, really compiled, in a separate cache folder."""
    folder = tmp_path_factory.mktemp("built")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        kernels.cache_clear()
        if library() is None:
            pytest.skip("no C compiler with OpenMP: the kernels cannot be built")
    (file,) = (folder / "collapselab").iterdir()
    return file


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "collapselab"


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, built: Path) -> Script:
    """Replaces the real compiler, which takes seconds, by a shell script; $out is the file it must write."""

    def make(body: str = f"cp '{built}' $out", arguments: str = "") -> Path:
        path = tmp_path / "compiler"
        find_out = 'while [ "$1" != -o ]; do shift; done; out=$2'
        path.write_text(f'#!/bin/sh\nall="$*"\n{find_out}\necho run >> {path}.log\n{body}\n')
        path.chmod(0o755)
        monkeypatch.setenv("CC", f"{path} {arguments}")
        return path

    return make


def num_runs(script: Path) -> int:
    log = Path(f"{script}.log")
    return len(log.read_text().splitlines()) if log.exists() else 0


def keep(cache: Path, built: Path) -> Path:
    cache.mkdir(mode=0o700, parents=True)
    return Path(shutil.copy(built, cache))


def test_kept_kernels_are_used_without_a_compiler(cache: Path, built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a compute node whose login node has the compiler."""
    monkeypatch.setenv("PATH", "/nowhere")
    assert library() is None
    assert kernels().why_off.startswith(
        "there is no C compiler (cc, gcc, clang), and no kernels for this processor in "
    )
    kernels.cache_clear()
    shutil.copy(built, cache)
    assert library() is not None


def test_the_compiler_is_split_into_words_and_runs_once(cache: Path, script: Script, built: Path) -> None:
    made = script(f'case "$all" in "-pthread -DX=a b -O3 "*) cp {built} $out;; *) exit 1; esac', "-pthread '-DX=a b'")
    for _ in range(2):
        kernels.cache_clear()
        assert library() is not None, kernels().why_off
    assert num_runs(made) == 1
    assert [p.name for p in cache.iterdir()] == [built.name]
    assert [oct(p.stat().st_mode & 0o777) for p in (cache, *cache.iterdir())] == ["0o700", "0o700"]


def test_of_threads_that_ask_at_once_one_compiles(cache: Path, script: Script, built: Path) -> None:
    made = script(f"sleep 0.5; cp '{built}' $out")
    with ThreadPoolExecutor(4) as pool:
        assert None not in [future.result() for future in [pool.submit(library) for _ in range(4)]]
    assert num_runs(made) == 1


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (
            "echo some note >&2; echo 'x.c:1: error: no \033[31momp.h' >&2; exit 3",
            "failed (exit status 3): x.c:1: error: no  [31momp.h",
        ),
        ("kill -9 $$", "failed (killed by signal 9): no message"),
        ("true", "cannot be loaded: OSError: "),
        ("head -c 20000 {built} > $out", "cannot be loaded: "),
        ("cp {other} $out", "cannot be loaded: AttributeError: "),
    ],
    ids=["fails", "is killed", "writes nothing", "writes half", "writes another library"],
)
def test_a_compiler_that_fails_is_named_with_the_reason(
    body: str, why: str, cache: Path, script: Script, built: Path, caplog: pytest.LogCaptureFixture
) -> None:
    import _ctypes

    made = script(body.format(built=built, other=_ctypes.__file__))
    assert library() is None
    assert library() is None
    assert f"'{made}'" in kernels().why_off and why in kernels().why_off
    (told,) = [r for r in caplog.records if r.levelno >= logging.WARNING]
    assert told.getMessage() == f"the C kernels are off; torch computes instead (slower): {kernels().why_off}"
    assert not list(cache.iterdir()), "nothing of a failed build is kept"
    model = tiny_model(0).model
    names = [e.name for e in make_engines(model, "auto", write="float32", score="bfloat16")]
    assert names == ["static", "static"]
    assert make_engines(model, "auto", write="float32", score="float32")[1].name == "plain"
    with pytest.raises(InputError) as error:
        make_engines(model, "native", write="float32", score="float32")
    assert kernels().why_off in error.value.message


@pytest.mark.parametrize(
    ("named", "why"),
    [
        ("/nowhere/cc -O2", "the C compiler '/nowhere/cc -O2' cannot be run: No such file or directory"),
        ("gcc 'x", 'CC="gcc \'x" cannot be split into words: No closing quotation'),
    ],
)
def test_a_compiler_that_is_no_command(named: str, why: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", named)
    assert library() is None
    assert kernels().why_off == why


def is_running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_a_hanging_compiler_is_told_and_ended(
    cache: Path, script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(compiler, "PATIENCE_S", 0.3)
    monkeypatch.setattr(compiler, "LIMIT_S", 1.0)
    caplog.set_level(logging.INFO)
    made = script(f"sleep 60 & echo $! > {tmp_path}/child; wait")
    assert library() is None
    assert kernels().why_off == f"the C compiler '{made}' did not finish within 1.0 s"
    assert num_runs(made) == 1, "it is not tried in another folder"
    assert caplog.messages[0].startswith("compiling the C kernels with ")
    child = int((tmp_path / "child").read_text())
    for _ in range(100):
        if not is_running(child):
            return
        time.sleep(0.05)
    pytest.fail("what the compiler started goes on")


@pytest.mark.parametrize("damage", ["cut", "empty", "flipped", "foreign", "old", "fifo", "writable by others"])
def test_a_damaged_library_is_compiled_anew(damage: str, cache: Path, script: Script, built: Path) -> None:
    import _ctypes

    kept, made = keep(cache, built), script()
    content = bytearray(kept.read_bytes())
    if damage == "cut":
        kept.write_bytes(content[:30_000])
    elif damage == "empty":
        kept.write_bytes(b"")
    elif damage == "flipped":
        content[40_000] ^= 1
        kept.write_bytes(content)
    elif damage == "foreign":
        shutil.copy(_ctypes.__file__, kept)
    elif damage == "old":  # of other sources
        kept.rename(cache / f"native-{'0' * 16}-{built.stem[-32:]}.so")
    elif damage == "fifo":
        kept.unlink()
        os.mkfifo(kept)
    else:
        kept.chmod(0o666)
    assert library() is not None, kernels().why_off
    assert num_runs(made) == 1
    kernels.cache_clear()
    assert library() is not None
    assert num_runs(made) == 1, "what was made then is whole"


@pytest.mark.parametrize("planted", ["folder of another user", "folder open to others", "parent open to others"])
def test_a_folder_that_others_may_change_is_not_trusted(
    planted: str, cache: Path, script: Script, built: Path, tmp_path: Path, monkeypatch, caplog
) -> None:
    """The library there is intact and would otherwise be used. A private one is compiled instead, and removed."""
    monkeypatch.setattr(compiler.tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    kept, made = keep(cache, built), script()
    if planted == "folder of another user":
        monkeypatch.setattr(compiler.os, "geteuid", lambda: 12345)
        if os.getuid() == 0:
            os.chown(cache, 54321, -1)
    else:
        (cache if planted.startswith("folder") else cache.parent).chmod(0o777)
    assert library() is not None, kernels().why_off
    assert num_runs(made) == 1
    (told,) = caplog.records
    assert told.getMessage().startswith("the C kernels are compiled for this run only, since they cannot be kept: ")
    assert ("belongs to another user" if "another" in planted else "other users may write to") in told.getMessage()
    assert list(cache.iterdir()) == [kept]
    assert not list((tmp_path / "temporary").iterdir())


def no_home() -> Path:
    raise RuntimeError("Could not determine home directory.")


@pytest.mark.parametrize("fault", ["no folder", "no home", "noexec", "full"])
def test_without_a_usable_cache_the_kernels_serve_one_process(
    fault: str, cache: Path, script: Script, built: Path, tmp_path: Path, monkeypatch, caplog
) -> None:
    script()
    if fault == "no folder":
        cache.parent.write_text("a file")
    elif fault == "no home":  # a relative XDG_CACHE_HOME does not count, by its specification
        monkeypatch.setenv("XDG_CACHE_HOME", "cache")
        monkeypatch.setattr(compiler.Path, "home", no_home)
    elif fault == "noexec":
        monkeypatch.setattr(compiler.os, "statvfs", lambda _: os.statvfs_result((0,) * 8 + (os.ST_NOEXEC, 0)))
    else:
        script(f"case $out in {cache}*) echo 'error: No space left on device' >&2; exit 1;; esac; cp {built} $out")
    assert library() is not None, kernels().why_off
    (told,) = caplog.records
    why = {"no folder": "Not a directory", "no home": "there is no home folder", "noexec": "noexec", "full": "No space"}
    assert why[fault] in told.getMessage()
    assert not (tmp_path / "collapselab").exists()
    monkeypatch.setattr(compiler.tempfile, "tempdir", str(tmp_path / "nowhere"))
    kernels.cache_clear()
    assert library() is None, "and nowhere else either"
    assert "No such file or directory" in kernels().why_off


def test_many_cold_starts_at_once(cache: Path, script: Script, built: Path) -> None:
    """Each compiles for itself; one intact library remains."""
    script(f"head -c 30000 '{built}' > $out; sleep 0.2; cp '{built}' $out")
    with ThreadPoolExecutor(20) as pool:
        loaded = list(pool.map(lambda _: compiler.load_library(["prepare_tiles"]), range(20)))
    assert all(one.prepare_tiles() for one in loaded)
    assert [p.name for p in cache.iterdir()] == [built.name]
