"""`collapselab run`: one run with live progress, a verdict, the table of samples and the picture."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from tyro.conf import Positional

from collapselab.cli.faults import only_warned
from collapselab.cli.text import plain, print_json, stderr_console, stdout_console
from collapselab.cli.verdict import print_verdict
from collapselab.config import presets
from collapselab.config.overrides import override, settings
from collapselab.config.schema import RunConfig
from collapselab.errors import InputError


@dataclass(frozen=True)
class Options:
    """Runs one experiment: PRESET or FILE.toml, then any setting as --NAME VALUE."""

    preset: Positional[str]
    """paper, authors-code, demo, or a TOML file of settings"""
    out: Path | None = None
    """the run directory; by default runs/<run id>"""
    resume: bool = False
    """go on with an interrupted run"""
    fresh: bool = False
    """remove a former run in that directory first"""
    dry_run: bool = False
    """print the resolved configuration and stop"""
    data_dir: Path | None = None
    """where texts lie or are downloaded to (also COLLAPSELAB_DATA)"""
    json: bool = False
    """print summary.json instead of the verdict"""


def split_settings(arguments: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """(flags of the command, settings by dotted name): `--optim.lr 2e-5` and `--model=gpt2` are settings.

    Raises:
        InputError: a setting without a value.
    """
    known = {name for name, _ in settings()} | {"numerics"}
    flags: list[str] = []
    found: dict[str, str] = {}
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.removeprefix("--").partition("=")
        name = name.replace("-", "_")
        if not word.startswith("--") or ("." not in name and name not in known):
            flags.append(word)
            continue
        if not equals:
            if not rest or rest[0].startswith("--"):
                raise InputError(f"the setting --{name} needs a value", f"for example --{name} VALUE")
            value = rest.pop(0)
        found[name] = value
    return flags, found


def settings_help() -> str:
    """Every setting with its default and meaning."""
    rows = [(f"--{name}", _shown(field.get_default()), field.description or "") for name, field in settings()]
    rows.append(("--numerics", "none", "exact or fast: all three of numerics"))
    width = max(len(name) for name, _, _ in rows)
    lines = [f"  {name:<{width}}  {text} (default: {default})" for name, default, text in rows]
    return "\n".join(["settings of a run (the preset or file may set other defaults):", *lines, ""])


def _shown(value: object) -> str:
    return ",".join(map(str, cast(tuple[object, ...], value))) if isinstance(value, tuple) else str(value)


def run_command(options: Options, changes: dict[str, str]) -> None:
    """Runs one experiment; `collapselab run demo` shows a collapse within minutes."""
    config = override(presets.load(options.preset), changes)
    if options.dry_run:
        print_json({"run_id": config.run_id, "config": config.model_dump(mode="json")})
        return
    path, summary = _run(config, options, changes)
    # The run is complete: nothing that follows may make it look failed.
    with only_warned("the verdict is not shown"):
        if options.json:
            print_json(summary)
        else:
            print_verdict(path, summary, stdout_console())
    with only_warned("the picture is not drawn"):
        pictures = _draw(path)
        if not options.json:
            stdout_console().print(plain(f"picture: {', '.join(map(str, pictures))}"), soft_wrap=True)


def _run(config: RunConfig, options: Options, changes: dict[str, str]) -> tuple[Path, dict[str, object]]:
    console = stderr_console()
    console.print(plain(f"collapselab: {config.model}, learning rate {config.optim.lr:g}, loading …"), soft_wrap=True)
    # torch and transformers take seconds to import, so the command line answers wrong input first.
    from collapselab.cli.live import Progress
    from collapselab.runner import run

    with Progress(config, console) as progress:
        result = run(
            config,
            options.out,
            resume=options.resume,
            fresh=options.fresh,
            data_dir=options.data_dir,
            asked_for={"preset": options.preset, "settings": changes, "command": sys.argv[1:]},
            on_start=progress.start,
            on_record=progress.show,
        )
    return result.path, dict(result.summary)


def _draw(path: Path) -> tuple[Path, ...]:
    from collapselab.report.run_figure import loss_figure
    from collapselab.report.theme import save_figure
    from collapselab.rundir.frames import load_runs

    frames = load_runs(path)
    row = cast(dict[str, Any], frames.runs.iloc[0].to_dict())
    return save_figure(loss_figure(frames.steps, row), path, "loss")
