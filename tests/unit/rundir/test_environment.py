"""What env.json keeps of each beginning of a run, and that an engine never changes without a word."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from collapselab.config.overrides import override
from collapselab.config.schema import RunConfig
from collapselab.engine.library import kernels
from collapselab.errors import InputError, Interrupted
from collapselab.records import Record
from collapselab.rundir.environment import record_environment
from collapselab.rundir.layout import read_json
from collapselab.rundir.lease import is_lease
from collapselab.runner import run

ENGINES = {"asked_for": "auto", "write": "native", "evaluate": "native", "update": "native", "kernels_off": None}
TORCH = ENGINES | {"write": "static", "evaluate": "static", "update": "torch", "kernels_off": "there is no C compiler"}


@pytest.fixture
def without_kernels(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """From here on nothing can be compiled."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        patch.setenv("CC", "false")
        yield
    kernels.cache_clear()


def interrupted(config: RunConfig, out: Path, **settings: object) -> None:
    """A run that was stopped after step 1."""

    def stop(record: Record) -> None:
        if record.step == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted):
        run(override(config, settings), out, on_record=stop)


def files(out: Path) -> dict[str, bytes]:
    """The content of its files, except of the lease, which each look at the directory renews."""
    return {p.name: p.read_bytes() for p in out.iterdir() if p.is_file() and not is_lease(p.name)}


def engines_of(out: Path) -> dict[str, str | None]:
    return read_json(out / "env.json")["engines"]


@pytest.mark.parametrize("engine", ["static", "plain", "native"])
def test_a_resumed_run_keeps_the_engine_that_was_asked_for(
    engine: str, tiny_config: RunConfig, tmp_path: Path, native: None
) -> None:
    """Though the engine is no part of a run's identity, and `auto` would choose another."""
    interrupted(tiny_config, tmp_path / "out", engine=engine)
    run(tiny_config, tmp_path / "out", resume=True)
    env = read_json(tmp_path / "out" / "env.json")
    assert env["engines"] == env["earlier"][0]["engines"]
    assert env["engines"]["asked_for"] == engine
    assert env["engines"]["write"] == engine


def test_engines_that_are_gone_are_named_and_the_run_is_left_as_it_is(
    tiny_config: RunConfig, tmp_path: Path, native: None, without_kernels: None, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("CC")
        kernels.cache_clear()
        interrupted(tiny_config, out)
    assert engines_of(out) == ENGINES
    before = files(out)
    kernels.cache_clear()
    (tmp_path / "cache").rename(tmp_path / "kept")
    with pytest.raises(InputError) as error:
        run(tiny_config, out, resume=True)
    changed = "write native → static, evaluate native → static, update native → torch"
    assert changed in error.value.message
    assert "the C compiler 'false' failed (exit status 1)" in error.value.message
    assert "engine='static'" in error.value.hint
    assert files(out) == before

    caplog.clear()
    run(override(tiny_config, {"engine": "static"}), out, resume=True)
    assert engines_of(out)["write"] == "static"
    (told,) = caplog.messages
    assert told == f"from this step the numbers may differ from those of an uninterrupted run: {changed}"
    assert [e["engines"] for e in read_json(out / "env.json")["earlier"]] == [ENGINES]


def test_every_beginning_is_kept_and_what_changed_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    env = tmp_path / "env.json"
    for _ in range(3):
        record_environment(env, ENGINES, 2, is_named=False)
    assert not caplog.records
    found = read_json(env)
    assert len(found["earlier"]) == 2
    assert all(e.keys() == found.keys() - {"earlier"} for e in found["earlier"])
    changed = found | {"packages": found["packages"] | {"torch": "1.0", "gguf": "0.0"}, "cpu": "abacus"}
    env.write_text(json.dumps(changed))
    record_environment(env, ENGINES, 1, is_named=False)
    (told,) = caplog.messages
    assert f"torch 1.0 → {found['packages']['torch']}, cpu abacus → {found['cpu']}, threads 2 → 1" in told
    assert "gguf" not in told
    assert [e["cpu"] for e in read_json(env)["earlier"]] == [found["cpu"]] * 2 + ["abacus"]


def test_an_env_of_before_engines_were_kept_is_taken(tmp_path: Path) -> None:
    env = tmp_path / "env.json"
    for former in ({}, {"engines": None}, {"engines": {"write": "native"}, "packages": []}):
        env.write_text(json.dumps(former))
        record_environment(env, ENGINES, 1, is_named=False)
    with pytest.raises(InputError, match="write native → static"):
        record_environment(env, TORCH, 1, is_named=False)
    record_environment(env, TORCH, 1, is_named=True)
