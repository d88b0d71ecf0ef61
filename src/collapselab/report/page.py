"""The report: one HTML file that needs no network; generated text can never become markup or script."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import pandas as pd

from collapselab.analysis.survival import Frame
from collapselab.collapse.numbers import DERIVED, NUMBERS, PANELS, drawn_in, label
from collapselab.collapse.words import EVENTS, MARKED_EVENTS, ROLES, RULES
from collapselab.report import page_parts
from collapselab.report.definitions import definitions
from collapselab.report.describe import labels, outcome, story
from collapselab.report.drawing import DrawingError, Painter
from collapselab.report.entries import SECTIONS
from collapselab.report.explorer import ExplorerRun, explorer_runs
from collapselab.report.figures import FIGURES
from collapselab.report.html import policy, render, template_file
from collapselab.report.packing import packed, script_json
from collapselab.report.page_parts import Printed
from collapselab.report.selection import one_run
from collapselab.report.tables import TABLES
from collapselab.report.theme import specification
from collapselab.report.values import readable
from collapselab.report.writing import write_file, writing
from collapselab.rundir.frames import Runs
from collapselab.visible import visible

SCRIPTS = (
    "common.js", "sharing.js", "tables.js", "sample.js", "chart.js", "barcode.js", "explorer.js", "playing.js",
    "search.js", "figures.js", "downloads.js", "main.js",
)  # fmt: skip


def write_page(runs: Runs, out: Path, *, title: str = "Collapse of self-trained language models") -> Path:
    """Writes the report of one run or of many, finished or not, as one HTML file; returns its path.

    The page loads nothing: figures, samples and all code are inside. Its content security policy allows its own
    scripts, by their hashes, and no request. The data it holds of long runs are bounded (`explorer`).

    Raises:
        InputError: no regular file can be made there.
        RunFailed: the file cannot be written; an existing one is kept.
    """
    from markupsafe import Markup

    explored = list(explorer_runs(runs))
    figures = list(_figures(runs))
    script = "(() => {\n" + "".join(map(template_file, SCRIPTS)) + "})();\n"
    library, css = _library() if figures else "", template_file("page.css")
    if not library:  # without the library they could not be drawn
        figures = []
    html = render(
        "page.html.j2",
        {"css": css, "script": script, "library": library, "metadata": script_json(_metadata(runs, explored))},
        runs=[Markup(run.packed) for run in explored],
        policy=policy([script, library] if library else [script], css),
        title=title,
        version=version("collapselab"),
        lead=page_parts.lead(runs),
        summary=page_parts.summary(runs),
        thinned=_thinned(explored),
        overview=page_parts.overview(runs),
        damages=page_parts.damages(runs),
        hypotheses=page_parts.hypotheses(runs),
        sections=[
            (key, section, shown)
            for key, section in SECTIONS.items()
            if (shown := [figure for figure in figures if figure["section"] == key])
        ],
        tables=list(_tables(runs)),
        settings=page_parts.setting_parts(runs),
        names=cast(list[str], runs.runs["run"].tolist()),
        definitions=[(_definition_id(name), name, meaning) for name, meaning in definitions().items()],
    )
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        write_file(out, html)
    return out


def _library() -> str:
    """Vega, Vega-Lite and vega-embed as one script; empty, with a warning, if they are unavailable."""
    try:
        with Painter() as painter:
            library = painter.library()
    except DrawingError as error:
        logging.getLogger("collapselab").warning("the page has no figures: %s", error.message)
        return ""
    # In a script element these would end it or hide what follows.
    assert not re.search(r"</script|<!--", library, re.IGNORECASE), "the bundle cannot be part of a page"
    return library


def _metadata(runs: Runs, explored: Sequence[ExplorerRun]) -> dict[str, Any]:
    """The data of all runs that scripts need at once; the rest of a run is unpacked when it is chosen."""
    rows = cast(list[dict[str, Any]], runs.runs.to_dict("records"))
    columns = cast(list[str], runs.steps.columns.tolist())
    shown = one_run(runs)  # the run of the anatomy and the barcode
    return {
        "shown": next((i for i, row in enumerate(rows) if shown is not None and row["run"] == shown.row["run"]), 0),
        "events": {name: EVENTS[name].label for name in MARKED_EVENTS},
        "roles": ROLES,
        "rules": RULES,
        "charts": _charts(columns),
        "numbers": {
            name: {"label": number.label or name, "unit": number.unit, "id": _definition_id(name)}
            for name, number in (NUMBERS | DERIVED).items()
        },
        "runs": [
            {
                "name": visible(str(row["run"])),
                "label": label,
                "outcome": outcome(row),
                "story": story(row),
                "events": {name: int(row[name]) for name in MARKED_EVENTS if name in row and not pd.isna(row[name])},
                "last_step": run.last_step,
                "num_sampled_steps": run.num_sampled_steps,
                "num_steps_shown": run.num_steps_shown,
            }
            for row, label, run in zip(rows, labels(runs), explored, strict=True)
        ],
    }


def _charts(columns: Sequence[str]) -> list[dict[str, Any]]:
    """The explorer's charts: one per unit; at the start they show the curves of their first panel."""
    charts: dict[str, dict[str, Any]] = {}
    for panel, (_, unit) in PANELS.items():
        curves = [{"name": name, "label": label(name)} for name in drawn_in(panel, [*columns, *DERIVED])]
        if not curves:
            continue
        chart = charts.setdefault(unit, {"name": panel, "unit": unit, "curves": [], "hidden": []})
        chart["hidden"] += [curve["name"] for curve in curves if chart["name"] != panel]
        chart["curves"] += curves
    return list(charts.values())


def _thinned(explored: Sequence[ExplorerRun]) -> str:
    """A sentence on what was left out of the page; empty if nothing was."""
    shown_steps = sum(run.num_steps_shown for run in explored if run.num_sampled_steps)
    sampled, points, steps = (
        sum(getattr(run, n) for run in explored) for n in ("num_sampled_steps", "num_curve_points", "num_steps")
    )
    parts = [f"samples of {shown_steps:,} of {sampled:,} steps"] if shown_steps < sampled else []
    parts += [f"curves with {points:,} of {steps:,} points"] if points < steps else []
    if not parts:
        return ""
    kept = " and ".join(parts)
    return f"To keep the page small, it has {kept}; the first and last step and the events of each run are included."


def _definition_id(name: str) -> str:
    return "def-" + re.sub(r"\W+", "-", name.partition("[")[0])


def _figures(runs: Runs) -> Iterator[dict[str, str]]:
    """The figures for which these runs have data: titles, captions and packed Vega-Lite."""
    for key, figure in FIGURES.items():
        chart = figure.draw(runs)
        if chart is not None:
            words = {"key": key, "title": figure.title, "caption": figure.caption(runs), "section": figure.section}
            yield words | {"packed": packed(specification(chart))}


def _tables(runs: Runs) -> Iterator[Printed]:
    """The tables for which these runs have data, except the hypotheses, which are in the overview."""
    for key, table in TABLES.items():
        frame: Frame = None if key == "hypotheses" else table.build(runs)
        if frame is not None and len(frame):
            rows = frame.astype(object).map(readable).to_numpy().tolist()
            yield Printed(table.title, [str(name) for name in frame.columns], rows)
