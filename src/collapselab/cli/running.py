"""`collapselab run`: one run with live progress, a verdict, the table of samples and the picture."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, cast

from tyro.conf import Positional, arg

from collapselab import ranks
from collapselab.cli.faults import only_warned
from collapselab.cli.text import plain, print_json, print_toml, stderr_console, stdout_console
from collapselab.cli.verdict import print_samples, print_verdict
from collapselab.config import presets
from collapselab.config.overrides import as_toml, override
from collapselab.config.schema import RunConfig
from collapselab.records import Record
from collapselab.sweep.resources import peak_memory
from collapselab.tracking import check_trackers, tracked


@dataclass(frozen=True)
class Options:
    """Runs one experiment: PRESET or FILE.toml, then any setting as --NAME VALUE."""

    preset: Annotated[Positional[str], arg(metavar="PRESET")]
    """paper, paper-block100, authors-code, demo; a TOML file; or a run to repeat (its directory or config.json)"""
    out: Path | None = None
    """the run directory; by default runs/<run id>"""
    resume: bool = False
    """continue an interrupted run"""
    fresh: bool = False
    """first remove an earlier run in that directory"""
    dry_run: bool = False
    """print all settings as a TOML file, and stop"""
    data_dir: Path | None = None
    """where texts are or are downloaded to (also COLLAPSELAB_DATA)"""
    track: str | None = None
    """trackers that get records and samples too, with commas: trackio, wandb, tensorboard"""
    json: bool = False
    """print summary.json instead of the verdict; of a dry run, the settings as JSON"""


def run_command(options: Options, changes: dict[str, str]) -> None:
    """Runs one experiment; `collapselab run demo` shows a collapse within minutes."""
    config = override(presets.load(options.preset), changes)
    check_trackers(_names(options.track))
    memory = peak_memory(config.model, ranks.launched())
    if options.dry_run:
        stderr_console().print(plain(f"collapselab: {memory}"), soft_wrap=True)
        if options.json:
            print_json({"run_id": config.run_id, "config": config.model_dump(mode="json")})
        else:
            print_toml(as_toml(config))
        return
    path, summary = _run(config, options, changes, memory)
    if ranks.is_follower():
        return
    # The run is complete: nothing that follows may make it look failed.
    with only_warned("the samples are not shown"):
        if options.json:
            print_json(summary)
        else:
            print_samples(path, summary, stdout_console())
    with only_warned("the picture is not drawn"):
        pictures = _draw(path)
        if not options.json:
            stdout_console().print(plain(f"picture: {', '.join(map(str, pictures))}"), soft_wrap=True)
    if not options.json:
        with only_warned("the verdict is not shown"):
            print_verdict(path, summary, stdout_console())


def _names(trackers: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in (trackers or "").split(",") if name.strip())


def _run(config: RunConfig, options: Options, changes: dict[str, str], memory: str) -> tuple[Path, dict[str, object]]:
    console = stderr_console()
    if not ranks.is_follower():
        words = f"collapselab: {config.model}, learning rate {config.optim.lr:g}; {memory}; loading …"
        console.print(plain(words), soft_wrap=not console.is_terminal)
    # torch and transformers take seconds to import, so the command line answers wrong input first.
    from collapselab.cli.live import Progress
    from collapselab.runner import run

    place = options.out or Path("runs") / config.run_id
    with tracked(_names(options.track), config, place) as send, Progress(config, console) as progress:

        def listener(record: Record) -> None:
            send(record)
            progress.show(record)

        result = run(
            config,
            options.out,
            resume=options.resume,
            fresh=options.fresh,
            data_dir=options.data_dir,
            asked_for={"preset": options.preset, "settings": changes, "command": sys.argv[1:]},
            on_start=progress.start,
            on_record=listener,
        )
    return result.path, dict(result.summary)


def _draw(path: Path) -> tuple[Path, ...]:
    from collapselab.report.run_figure import loss_figure
    from collapselab.report.theme import save_figure
    from collapselab.rundir.frames import load_runs

    frames = load_runs(path)
    row = cast(dict[str, Any], frames.runs.iloc[0].to_dict())
    return save_figure(loss_figure(frames.steps, row), path, "loss")
