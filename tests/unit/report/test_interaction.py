"""What a reader can do with a figure on the page, and what files do without."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import vl_convert

from collapselab.report.figures import FIGURES
from collapselab.report.interaction import interactive, without_invisible
from collapselab.report.theme import save_figure
from collapselab.rundir.frames import Runs
from figure_specs import Spec, drawn, parts


def test_panels_zoom_together_and_legends_switch_their_own_curves(sweep: Runs) -> None:
    vega_lite = drawn("figure-2", sweep)
    zoom, shown = vega_lite["params"]
    assert zoom["bind"] == "scales"
    assert len(zoom["views"]) == 4, "two texts by two models"
    assert (shown["bind"], shown["select"]["fields"]) == ("legend", ["legend_0"])
    names = {part["name"] for part in parts(vega_lite) if "mark" in part and "name" in part}
    assert set(zoom["views"]) | set(shown["views"]) <= names
    vega_lite = drawn("anatomy", sweep)
    fields = [param["select"]["fields"] for param in vega_lite["params"][1:]]
    assert fields == [["legend_0"], ["legend_1"], ["legend_2"]], "three legends, switched one by one"


def test_zoomed_marks_stay_inside_their_panel_but_words_above_it_are_kept(sweep: Runs) -> None:
    units = [part for part in parts(drawn("anatomy", sweep)) if isinstance(part.get("mark"), dict)]
    words = [unit for unit in units if unit["mark"]["type"] == "text"]
    assert len(words) == 3, "early warning, onset and total collapse"
    assert not any(unit["mark"].get("clip") for unit in words)
    assert all(unit["mark"].get("clip") for unit in units if unit["mark"]["type"] == "line")


def test_what_is_switched_off_fades_and_its_tooltips_with_it(sweep: Runs) -> None:
    units = [part for part in parts(drawn("figure-2", sweep)) if "mark" in part and "color" in part.get("encoding", {})]
    assert len(units) == 4 * 5
    for unit in units:
        is_invisible = unit["mark"].get("opacity") == 0
        channel = unit["encoding"]["size" if is_invisible else "opacity"]
        assert channel["condition"]["param"] == "shown_0"
        assert channel["value"] == (0 if is_invisible else pytest.approx(0.1 * channel["condition"]["value"]))
        assert unit["transform"][-1] == {"calculate": "datum['curve']", "as": "legend_0"}


def at_pointer(node: Any, pointer: str) -> Any:
    for part in pointer.strip("/").split("/"):
        node = node[int(part)] if isinstance(node, list) else node[part]
    return node


@pytest.mark.parametrize("key", ["figure-2", "anatomy"])
def test_losses_can_be_drawn_on_logarithmic_axes(key: str, sweep: Runs) -> None:
    vega_lite = drawn(key, sweep)
    pointers = vega_lite["usermeta"]["log_scales"]
    assert pointers
    for pointer in pointers:
        assert at_pointer(vega_lite, pointer)["type"] == "linear"
        above, _, name = pointer.rpartition("/")
        at_pointer(vega_lite, above)[name] = {"type": "log"}
    scales = vl_convert.vegalite_to_vega(vega_lite)
    assert sum(part.get("type") == "log" for part in parts(scales)) >= 1


def test_files_have_neither_selections_nor_marks_for_tooltips(sweep: Runs, tmp_path: Path) -> None:
    spec = {
        "layer": [{"mark": {"type": "point", "opacity": 0}}, {"mark": {"type": "line"}}],
        "datasets": {"a": [{"x": 1}]},
    }
    assert without_invisible(spec) == {"layer": [{"mark": {"type": "line"}}], "datasets": {"a": [{"x": 1}]}}
    chart = FIGURES["figure-2"].draw(sweep)
    assert chart is not None
    (svg,) = save_figure(chart, tmp_path, "a", ("svg",))
    assert svg.read_text(encoding="utf-8").count('aria-roledescription="point"') == 2 * len(sweep.runs)
    assert "params" not in chart.to_dict()


def test_a_legend_of_two_fields_is_an_error_of_ours() -> None:
    def line(field: str) -> Spec:
        return {"mark": {"type": "line"}, "encoding": {"color": {"field": field, "type": "nominal"}}}

    with pytest.raises(AssertionError, match="distinguished by one field"):
        interactive({"layer": [line("a"), line("b")]})
