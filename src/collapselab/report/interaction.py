"""Interactions of a figure on the page: zoom along the x axis, show and hide curves, logarithmic axes.

Charts are drawn without interactions; this module adds them to the Vega-Lite. Files stay plain, and one rule covers all
figures: curves with a colour in a legend can be hidden, panels with a numeric x axis can be zoomed. Altair's own
selections would have to be added to each layer of each figure, and removed again for files.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

FADED = 0.1  # opacity of hidden curves

Spec = dict[str, Any]


def interactive(vega_lite: Spec) -> Spec:
    """Adds the interactions to the specification, in place, and returns it.

    * Drag moves a panel along its x axis, the wheel with the shift key zooms (the wheel alone scrolls the page), a
      double click resets. Panels of one figure move together.
    * A click on a legend's entry shows that curve alone, with the shift key it adds to those shown; a click beside the
      entries shows all.
    * `usermeta.log_scales` lists JSON pointers to the scales that can be logarithmic: those of y axes with an explicit
      linear type. Replace each with `{"type": "log"}` for logarithmic axes.
    """
    panels = list(_panels(vega_lite))
    params: list[Spec] = []
    zoomed = [(next(filter(_is_zoomable, units)), units) for units in panels if any(map(_is_zoomable, units))]
    for unit in (unit for _, units in zoomed for unit in units):
        # Labels and the rules that lead to them are above their panel, where a selection bound to scales would clip
        # them; instead they are hidden if the axis does not reach their step.
        # Names of curves may reach beyond their panel too.
        is_above = "value" in unit["encoding"].get("y", {})
        is_name = unit["mark"]["type"] == "text" and "field" in unit["encoding"].get("x", {})
        unit["mark"]["clip"] = not (is_above or is_name)
        if is_above or is_name:
            unit["transform"] = [*unit.get("transform", []), {"filter": {"param": "zoom"}}]
    if zoomed:
        select = {"type": "interval", "encodings": ["x"], "zoom": "wheel![event.shiftKey]"}
        # A selection names the views it belongs to.
        views = [unit.setdefault("name", f"panel_{i}") for i, (unit, _) in enumerate(zoomed)]
        params.append({"name": "zoom", "select": select, "bind": "scales", "views": views})
    is_independent = vega_lite.get("resolve", {}).get("scale", {}).get("color") == "independent"
    for i, group in enumerate(panels if is_independent else [[unit for panel in panels for unit in panel]]):
        params += _toggle(i, [unit for unit in group if _legend_field(unit) is not None])
    vega_lite["params"] = [*vega_lite.get("params", []), *params]
    vega_lite["usermeta"] = {"log_scales": list(_linear_scales(vega_lite, ""))}
    return vega_lite


def without_invisible(node: Any) -> Any:
    """A specification without marks of opacity 0: they only carry tooltips, and would make a file larger."""
    if isinstance(node, list):
        return [without_invisible(part) for part in cast(list[Any], node) if not _is_invisible(part)]
    if isinstance(node, dict):
        return {key: part if key == "datasets" else without_invisible(part) for key, part in cast(Spec, node).items()}
    return node


def _panels(spec: Spec) -> Iterator[list[Spec]]:
    """The units of each part with axes of its own."""
    inner = [part for name in ("vconcat", "hconcat", "concat") for part in spec.get(name, [])]
    if not inner:
        yield list(_units(spec))
    for part in inner:
        yield from _panels(part)


def _units(panel: Spec) -> Iterator[Spec]:
    if "layer" not in panel:
        yield panel
    for part in panel.get("layer", []):
        yield from _units(part)


def _is_zoomable(unit: Spec) -> bool:
    x = unit.get("encoding", {}).get("x", {})
    axis = x.get("axis", {})  # one that labels its numbers by names counts cells
    return x.get("type") == "quantitative" and axis is not None and "labelExpr" not in axis


def _toggle(number: int, units: list[Spec]) -> list[Spec]:
    """A selection bound to the legend of these units, which fade if they are not selected."""
    if not units:
        return []
    fields = {_legend_field(unit) for unit in units}
    assert len(fields) == 1, f"curves of one legend are distinguished by one field, not {fields}"
    # Vega-Lite identifies legends by their field: two legends with the same field would switch together.
    name, field = f"shown_{number}", f"legend_{number}"
    for unit in units:
        source = _legend_field(unit)
        unit["transform"] = [*unit.get("transform", []), {"calculate": f"datum[{source!r}]", "as": field}]
        for channel in unit["encoding"].values():
            if "scale" in channel and channel.get("field") == source and channel.get("legend") is not None:
                channel["field"] = field
        # Faint if not selected; marks that only carry tooltips become too small to point at.
        channel, base, faded = "opacity", unit["mark"].get("opacity", 1), FADED
        if _is_invisible(unit):
            channel, base, faded = "size", unit["mark"]["size"], 0
        shown = {"condition": {"param": name, "value": base, "empty": True}, "value": base * faded}
        unit["encoding"].setdefault(channel, shown)
    view = units[0].setdefault("name", name + "_view")
    select = {"type": "point", "fields": [field], "toggle": "event.shiftKey"}
    return [{"name": name, "select": select, "bind": "legend", "views": [view]}]


def _legend_field(unit: Spec) -> str | None:
    color = unit.get("encoding", {}).get("color", {})
    return color.get("field") if color.get("type") in ("nominal", "ordinal") else None


def _is_invisible(node: Any) -> bool:
    mark: Any = cast(Spec, node).get("mark") if isinstance(node, dict) else None
    return isinstance(mark, dict) and cast(Spec, mark).get("opacity") == 0


def _linear_scales(node: Any, pointer: str) -> Iterator[str]:
    if isinstance(node, list):
        for i, item in enumerate(cast(list[object], node)):
            yield from _linear_scales(item, f"{pointer}/{i}")
    for name, part in cast(Spec, node).items() if isinstance(node, dict) else ():
        if name == "y" and isinstance(part, dict) and (cast(Spec, part).get("scale") or {}).get("type") == "linear":
            yield f"{pointer}/y/scale"
        elif name != "datasets":
            yield from _linear_scales(part, f"{pointer}/{name}")
