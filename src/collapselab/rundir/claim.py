"""Claims a directory for a run, or refuses it: files of another run or of the user are never overwritten."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from collapselab.config.identity import flat_settings, identity
from collapselab.config.schema import RunConfig
from collapselab.errors import InputError
from collapselab.files import remove_folder, sync
from collapselab.records import SCHEMA_VERSION
from collapselab.rundir.layout import RunDir, disk_errors, read_json, write_json
from collapselab.rundir.lease import is_lease


def check_claim(rundir: RunDir, config: RunConfig, *, resume: bool, fresh: bool) -> None:
    """Refuses a directory that this run may not use; creates nothing in it.

    Raises:
        InputError: it holds another run, this run (without `resume` or `fresh`), or something else.
    """
    if resume and fresh:
        raise InputError("resume and fresh exclude each other", "`resume=True` continues, `fresh=True` starts over")
    if rundir.holds_a_run():
        if fresh:
            return
        _check_same_run(rundir, config)
        if not resume:
            raise InputError(
                f"{rundir.path} already holds this run",
                "`resume=True` continues it (or shows a finished one); `fresh=True` removes it and starts over",
            )
        return
    check_foreign(rundir)


def check_foreign(rundir: RunDir) -> None:
    """Refuses a directory without a run that has something in it.

    Raises:
        InputError: files of the user, or records whose configuration is missing.
    """
    try:
        names = {path.name for path in rundir.path.iterdir()} if rundir.path.exists() else set[str]()
    except OSError as error:
        raise InputError(
            f"{rundir.path} cannot be a run directory: {error.strerror}", "choose another directory with `out=…`"
        ) from None
    if "steps.jsonl" in names:
        raise InputError(
            f"{rundir.config} is missing or damaged, but the directory has records of a run",
            "restore it from a copy, or from a run of the same settings in another directory (`out=…`)",
        )
    foreign = sorted(name for name in names if name != "lock" and not is_lease(name) and not name.endswith(".tmp"))
    if foreign:
        raise InputError(
            f"{rundir.path} is not empty and holds no run: {', '.join(foreign[:3])}",
            "choose a new directory with `out=…`",
        )


def claim(
    rundir: RunDir, config: RunConfig, text_sha256: Mapping[str, str], asked_for: Mapping[str, object], *, fresh: bool
) -> None:
    """Writes config.json and user.json of a new run; for a resumed run, checks that its texts are the same.

    Raises:
        InputError: a text has changed since the run began.
    """
    asked = {"schema": SCHEMA_VERSION, "asked_for": dict(asked_for)}
    if rundir.holds_a_run() and not fresh:
        _check_same_texts(rundir, text_sha256)
        if not rundir.user.exists():  # killed between the two files
            write_json(rundir.user, asked)
        return
    if rundir.holds_a_run():
        _remove_run(rundir)
    settings = config.model_dump(mode="json")
    # config.json makes the directory a run, so it comes first: a run killed after it can be resumed.
    content = {"schema": SCHEMA_VERSION, "run_id": config.run_id, "config": settings, "text_sha256": dict(text_sha256)}
    write_json(rundir.config, content)
    write_json(rundir.user, asked)


def _check_same_run(rundir: RunDir, config: RunConfig) -> None:
    there = read_json(rundir.config)
    settings = cast(dict[str, Any], there["config"] if isinstance(there["config"], dict) else {})
    if identity(settings) != there["run_id"]:
        raise InputError(
            f"{rundir.config} is damaged: its settings do not belong to its run id {there['run_id']!r}",
            "restore it from a copy, or from a run of the same settings in another directory (`out=…`)",
        )
    if there["run_id"] != config.run_id:
        known = flat_settings(settings)
        lacking = [name for name in flat_settings(config.model_dump(mode="json")) if name not in known]
        if lacking:
            raise InputError(
                f"the run in {rundir.path} was begun by an earlier version, without {', '.join(lacking[:3])}",
                "finish it with that version (env.json names it), or start over in another directory with `out=…`",
            )
        raise InputError(
            f"{rundir.path} holds another configuration: {_difference(settings, config)}",
            "choose another directory with `out=…`, repeat that run's settings, or `fresh=True` to remove it",
        )


def _check_same_texts(rundir: RunDir, text_sha256: Mapping[str, str]) -> None:
    noted = read_json(rundir.config).get("text_sha256")
    there = cast(dict[str, object], noted) if isinstance(noted, dict) else {}
    changed = [name for name, digest in text_sha256.items() if there.get(name) != digest]
    if changed:
        raise InputError(
            f"the text {changed[0]!r} has changed since the run in {rundir.path} began",
            "restore the former text, or start over in another directory with `out=…`",
        )


def _difference(there: Mapping[str, Any], config: RunConfig) -> str:
    """The first settings in which two configurations differ."""
    old, new = flat_settings(there), flat_settings(config.model_dump(mode="json"))
    names = [name for name in new if old.get(name) != new[name]]
    differences = [f"{name} is {old.get(name)!r} there, {new[name]!r} here" for name in names[:3]]
    return "; ".join(differences) or "another version"


def _remove_run(rundir: RunDir) -> None:
    """Removes the files of a run, and nothing else in the directory."""
    with disk_errors(rundir.path):
        # A kill in between must not leave a result without records, or records without a configuration.
        for path in (rundir.status, rundir.summary):
            path.unlink(missing_ok=True)
        sync(rundir.path)
        remove_checkpoints(rundir.checkpoints)
        records = (rundir.steps, rundir.samples)
        damaged = [damaged_copy(path) for path in records]
        pictures = [rundir.path / "loss.svg", rundir.path / "loss.png"]
        for path in (*records, *damaged, rundir.log, rundir.env, *pictures, rundir.user):
            path.unlink(missing_ok=True)
        sync(rundir.path)
        rundir.config.unlink()


def remove_checkpoints(folder: Path) -> None:
    """Removes the folder of the checkpoints; a crash in between leaves older ones whole, or none."""
    if not folder.exists():
        return
    for path in sorted(folder.iterdir(), reverse=True):
        remove_folder(path)
    folder.rmdir()


def damaged_copy(path: Path) -> Path:
    """Where damaged records are kept once their run has resumed from before the damage."""
    return path.with_name(f"{path.name}.damaged")
