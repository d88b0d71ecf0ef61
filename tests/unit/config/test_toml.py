"""`--dry-run` prints a file that `run` accepts; a run's directory and its config.json repeat it."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collapselab.config.overrides import as_toml, override
from collapselab.config.presets import PRESETS, demo, load
from collapselab.config.schema import RunConfig
from collapselab.records import dumps

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30).filter(
    lambda text: text.lower() not in ("none", "null")
)


def there_and_back(config: RunConfig, folder: Path) -> RunConfig:
    file = folder / "settings.toml"
    file.write_text(as_toml(config), encoding="utf-8")
    return load(str(file))


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_comes_back_from_its_toml(name: str, tmp_path: Path) -> None:
    config = PRESETS[name]()
    assert there_and_back(config, tmp_path) == config
    assert f"# run id {config.run_id}" in as_toml(config)


@settings(max_examples=60, deadline=None)
@given(
    TEXT,
    TEXT,
    st.lists(TEXT, min_size=1, max_size=3, unique=True),
    st.floats(1e-9, 1e3),
    st.one_of(st.none(), st.integers(1, 10**6)),
    st.booleans(),
)
def test_any_settings_come_back(
    prompt: str, model: str, data: list[str], lr: float, top_k: int | None, redraw: bool
) -> None:
    changes: dict[str, Any] = {"generate.prompt": prompt, "model": model, "data": tuple(data), "optim.lr": lr}
    config = override(demo(), changes | {"sampling.top_k": top_k, "eval.redraw": redraw})
    text = as_toml(config)
    tree = tomllib.loads(text)
    flat = {f"{section}.{key}": value for section in tree for key, value in _items(tree[section])}
    again = override(demo(), flat | {key: value for key, value in tree.items() if not isinstance(value, dict)})
    assert again == config
    assert all(character.isprintable() or character == "\n" for character in text), "it can be shown on a terminal"


def _items(value: object) -> list[tuple[str, object]]:
    return list(value.items()) if isinstance(value, dict) else []  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]


def test_a_run_is_repeated_from_its_directory_and_its_config(tmp_path: Path) -> None:
    config = override(demo(), {"seed": 7, "generate.prompt": 'He said: "no"\n'})
    (tmp_path / "config.json").write_text(dumps({"config": config.model_dump(mode="json")}), encoding="utf-8")
    assert load(str(tmp_path)) == load(str(tmp_path / "config.json")) == config
