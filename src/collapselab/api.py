"""The Python counterpart of the command line: `run` a configuration, and show a `figure` of runs."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from collapselab.cli.live import Progress
from collapselab.cli.text import stderr_console
from collapselab.config import presets
from collapselab.config.names import full_names
from collapselab.config.overrides import override
from collapselab.config.schema import RunConfig
from collapselab.errors import InputError, nearest
from collapselab.records import Record, flatten
from collapselab.rundir.frames import Runs, load_runs
from collapselab.runner import RunResult
from collapselab.runner import run as run_configuration
from collapselab.safeguards import Safeguard
from collapselab.step.measure import Metric
from collapselab.tracking import tracked

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def run(
    what: RunConfig | str | Path,
    out: Path | str | None = None,
    *,
    model: str | PreTrainedModel | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    resume: bool = False,
    fresh: bool = False,
    progress: bool = True,
    data_dir: Path | None = None,
    metrics: Mapping[str, Metric] | None = None,
    safeguards: Sequence[Safeguard] = (),
    on_record: Callable[[Record], None] | None = None,
    track: Sequence[str] = (),
    **changes: object,
) -> RunResult:
    """A finished run, and its directory: `run("demo", lr=1e-4)`.

    Args:
        what: a preset's name, a configuration, or a TOML or JSON file of settings.
        out: the run's directory; by default `runs/<run id>`.
        model: the name of a model, or one that is loaded: a causal language model of transformers. The run trains a
            copy, and the object stays unchanged; the trained weights are in the checkpoints. The recorded name of an
            object includes a hash of its weights, so a run resumes only with the model it began with.
        tokenizer: the tokenizer of a loaded model.
        resume: continue an interrupted run, bit for bit; start a new run if there is none.
        fresh: first remove an existing run in that directory.
        progress: show each step, in a terminal or a notebook; elsewhere nothing is shown.
        data_dir: the folder of texts, also for downloads.
        metrics: further metrics on the ids of each sample, by name; they appear in steps.jsonl.
        safeguards: what acts on text, objective and weights (`safeguards.Safeguard`), in this order.
        on_record: called with each record after it was written.
        track: trackers that get records and samples too: trackio, wandb, tensorboard.
        changes: settings by name (`lr=1e-4`); by full name if several sections have it (`**{"train.window": 64}`).

    Raises:
        InputError: an unknown or ambiguous setting, a configuration that cannot work, or a directory that holds another
            run or is in use.
        Interrupted: Ctrl-C, SIGTERM, SIGHUP or the wall time; a checkpoint was written.
        RunFailed: for example, the disk is full or the directory was removed.
    """
    named = full_names(changes | ({"model": model} if isinstance(model, str) else {}))
    config = override(what if isinstance(what, RunConfig) else presets.load(str(what)), named)
    values = dict(flatten(config.model_dump(mode="json")))
    preset = None if isinstance(what, RunConfig) else str(what)
    shown = Progress(config, stderr_console()) if progress and _is_watched() else None

    place = Path(out) if out is not None else Path("runs") / config.run_id

    def listener(record: Record) -> None:
        send(record)
        if shown is not None:
            shown.show(record)
        if on_record is not None:
            on_record(record)

    with tracked(track, config, place) as send, shown or nullcontext():
        return run_configuration(
            config,
            out,
            resume=resume,
            fresh=fresh,
            data_dir=data_dir,
            model=None if isinstance(model, str) else model,
            tokenizer=tokenizer,
            metrics=metrics,
            safeguards=safeguards,
            asked_for={"preset": preset, "settings": {name: values.get(name, named[name]) for name in named}},
            on_start=None if shown is None else shown.start,
            on_record=listener,
        )


def _is_watched() -> bool:
    """Whether standard error is visible: on a terminal, or in a notebook."""
    ipython = sys.modules.get("IPython")
    is_notebook = ipython is not None and cast(Any, ipython).get_ipython() is not None
    return is_notebook or bool(sys.stderr and sys.stderr.isatty())


@dataclass(frozen=True, repr=False)
class Figure:
    """A figure as SVG, which a notebook shows without a network; `caption` describes it in words."""

    name: str
    svg: str
    caption: str

    def __repr__(self) -> str:
        return f"Figure({self.name!r}: {self.caption})"

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        return {"image/svg+xml": self.svg, "text/plain": repr(self)}


def figure(runs: Runs | Path | str, name: str = "loss") -> Figure:
    """A figure of runs: `loss` of a single run, or one of the report's (docs/figures.md).

    Args:
        runs: frames, or the folder of one or more runs.
        name: figure-1 to figure-4, survival-by-learning-rate, survival-by-size, arms, anatomy, barcode, sampler-map,
            barcodes, onset-by-rate, onset-law, figure-3-sharpening, safeguard-survival, safeguard-costs, recovery,
            left-open, dose, or loss.

    Raises:
        InputError: no such figure or folder, or these runs lack what it needs.
        DrawingError: the figure could not be drawn.
    """
    from collapselab.report.figures import FIGURES
    from collapselab.report.run_figure import loss_figure
    from collapselab.report.theme import save_figure

    frames = runs if isinstance(runs, Runs) else load_runs(runs)
    if name == "loss":
        if len(frames.runs) != 1:
            raise InputError(
                f"the figure 'loss' shows one run, received {len(frames.runs)}", "'figure-2' shows several"
            )
        row = cast(dict[str, Any], frames.runs.iloc[0].to_dict())
        chart, caption = loss_figure(frames.steps, row), f"losses and repetition of {row['run']} against step"
    elif name in FIGURES:
        chart, caption = FIGURES[name].draw(frames), FIGURES[name].caption(frames)
    else:
        raise InputError(f"unknown figure {name!r}", nearest(name, ["loss", *FIGURES]))
    if chart is None:
        raise InputError(f"{name} cannot be drawn: {caption.removeprefix('Not drawn: ')}", "see docs/figures.md")
    with tempfile.TemporaryDirectory() as folder:
        (path,) = save_figure(chart, Path(folder), "figure", ("svg",))
        return Figure(name, path.read_text(encoding="utf-8"), caption)
