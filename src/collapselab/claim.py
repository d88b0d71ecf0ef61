"""Makes a directory a run's own, or refuses: nothing of another run, and nothing of the user's, is overwritten."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from typing import Any

from collapselab.config import RunConfig
from collapselab.errors import InputError
from collapselab.records import SCHEMA_VERSION, flatten
from collapselab.rundir import RunDir, disk_errors, read_json, write_json


def check_claim(rundir: RunDir, config: RunConfig, *, resume: bool, fresh: bool) -> None:
    """Refuses a directory that this run may not use.

    Raises:
        InputError: it holds another run, this run (without `resume` or `fresh`), or something else.
    """
    if resume and fresh:
        raise InputError("--resume and --fresh exclude each other", "--resume goes on, --fresh begins anew")
    if rundir.holds_a_run():
        if fresh:
            return
        _check_same_run(rundir, config)
        if not resume:
            raise InputError(
                f"{rundir.path} already holds this run",
                "--resume goes on with it (or shows it, if it is finished); --fresh removes it and begins anew",
            )
        return
    foreign = sorted(p.name for p in rundir.path.iterdir() if p.name != "lock" and p.suffix != ".tmp")
    if foreign:
        raise InputError(
            f"{rundir.path} is not empty and holds no run: {', '.join(foreign[:3])}",
            "choose a new directory with --out",
        )


def claim(
    rundir: RunDir, config: RunConfig, text_sha256: Mapping[str, str], asked_for: Mapping[str, object], *, fresh: bool
) -> None:
    """Writes config.json and user.json of a new run; of a run that goes on, checks that its texts are the same.

    Raises:
        InputError: a text has changed since the run began.
    """
    if rundir.holds_a_run() and not fresh:
        _check_same_texts(rundir, text_sha256)
        return
    if rundir.holds_a_run():
        _remove_run(rundir)
    identity = {"schema": SCHEMA_VERSION, "run_id": config.run_id, "config": config.model_dump(mode="json")}
    # config.json makes the directory a run, so it comes first: a run killed after it can be resumed.
    write_json(rundir.config, {**identity, "text_sha256": dict(text_sha256)})
    write_json(rundir.user, {"schema": SCHEMA_VERSION, "asked_for": dict(asked_for)})


def _check_same_run(rundir: RunDir, config: RunConfig) -> None:
    there = read_json(rundir.config)
    if there["run_id"] != config.run_id:
        raise InputError(
            f"{rundir.path} holds another configuration: {_difference(there['config'], config)}",
            "choose another directory with --out, repeat that run's settings, or --fresh to remove it",
        )


def _check_same_texts(rundir: RunDir, text_sha256: Mapping[str, str]) -> None:
    there = read_json(rundir.config).get("text_sha256", {})
    changed = [name for name, digest in text_sha256.items() if there.get(name, digest) != digest]
    if changed:
        raise InputError(
            f"the text {changed[0]!r} has changed since the run in {rundir.path} began",
            "bring the former text back, or begin anew in another directory with --out",
        )


def _difference(there: Mapping[str, Any], config: RunConfig) -> str:
    """The first settings in which two configurations differ."""
    old, new = dict(flatten(there)), dict(flatten(config.model_dump(mode="json")))
    names = [name for name in new if old.get(name) != new[name]]
    told = [f"{name} is {old.get(name)!r} there, {new[name]!r} here" for name in names[:3]]
    return "; ".join(told) or "another version"


def _remove_run(rundir: RunDir) -> None:
    """Removes the files of a run, and nothing else that may lie beside them."""
    with disk_errors(rundir.path):
        # Checkpoints without records, or records without a configuration, must not be left by a kill in between.
        if rundir.checkpoints.exists():
            shutil.rmtree(rundir.checkpoints)
        pictures = [rundir.path / "loss.svg", rundir.path / "loss.png"]
        for path in (rundir.steps, rundir.samples, rundir.summary, rundir.status, rundir.log, rundir.env, *pictures):
            path.unlink(missing_ok=True)
        rundir.user.unlink(missing_ok=True)
        rundir.config.unlink()
