"""The public surface: a name is added or removed on purpose."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest
import yaml

import collapselab

PUBLIC = {
    "CollapseMonitor",
    "InputError",
    "RunConfig",
    "Runs",
    "__version__",
    "load_model",
    "load_runs",
    "build",
    "figure",
    "load_text",
    "override",
    "online_loop",
    "presets",
    "run",
}


def test_the_public_names_are_these() -> None:
    assert set(collapselab.__all__) == PUBLIC


def test_every_public_name_can_be_had() -> None:
    assert [name for name in PUBLIC if not hasattr(collapselab, name)] == []


def test_dir_lists_the_public_names() -> None:
    assert set(dir(collapselab)) >= PUBLIC


@pytest.mark.parametrize("name", sorted(PUBLIC - {"__version__", "presets"}))
def test_every_public_name_says_what_it_is_and_what_it_raises(name: str) -> None:
    value = getattr(collapselab, name)
    assert value.__doc__
    if inspect.isfunction(value) and name != "online_loop":
        assert "Raises:" in value.__doc__


def test_the_citation_names_this_version_and_the_paper() -> None:
    citation = yaml.safe_load((Path(__file__).parents[2] / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= citation.keys(), "what the format demands"
    assert (citation["cff-version"], citation["version"]) == ("1.2.0", collapselab.__version__)
    (paper,) = citation["references"]
    assert re.fullmatch(r"arXiv:2404\.02305", paper["identifiers"][0]["value"])
