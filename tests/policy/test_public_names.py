"""The public surface: a name is added or removed on purpose."""

from __future__ import annotations

import collapselab

PUBLIC = {
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
