"""Presets hold the values of the paper's Table 2 and of its authors' script, each checked by itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from collapselab.config.overrides import settings
from collapselab.config.presets import PRESETS, authors_code, demo, load, paper, paper_block100
from collapselab.config.schema import RunConfig
from collapselab.errors import InputError

TABLE: dict[str, tuple[object, object]] = {
    # setting: (paper, authors-code)
    "model": ("gpt2", "gpt2"),
    "data": (("wikitext-2", "ptb"), ("ptb",)),
    "sampling.temperature": (0.8, 1.0),
    "sampling.top_k": (500, 200),
    "sampling.top_p": (None, None),
    "sampling.min_p": (None, None),
    "sampling.greedy": (False, False),
    "generate.prompt": ("", "\n"),
    "generate.max_new_tokens": (200, 1024),
    "generate.batch_size": (1, 1),
    "generate.context": (None, 100),
    "generate.context_mode": ("cache", "crop"),
    "generate.at_end_of_text": ("continue", "continue"),
    "train.source": ("own", "own"),
    "train.window": (None, 100),
    "train.prompt_in_loss": (False, True),
    "train.retokenise": (False, True),
    "train.steps_per_sequence": (1, 1),
    "optim.name": ("adamw", "adamw"),
    "optim.lr": (2e-5, 4e-5),
    "optim.betas": ((0.9, 0.95), (0.9, 0.95)),
    "optim.eps": (1e-8, 1e-8),
    "optim.weight_decay": (0.1, 0.1),
    "optim.clip": (1.0, 1.0),
    "optim.reset_each_step": (False, False),
    "eval.protocol": ("windows[100,100]", "windows[101,100]"),
    "eval.redraw": (False, True),
    "collapse.source": ("stream", "stream"),
    "stop.on_collapse": (True, False),
    "stop.max_steps": (1000, 5000),
}


def value(config: RunConfig, name: str) -> object:
    found: object = config
    for part in name.split("."):
        found = getattr(found, part)
    return found


@pytest.mark.parametrize("name", TABLE)
def test_the_paper_and_the_authors_code(name: str) -> None:
    assert (value(paper(), name), value(authors_code(), name)) == TABLE[name]


def test_the_block_of_table_2_is_context_and_training_window() -> None:
    differing = {
        n: value(paper_block100(), n) for n, _ in settings() if value(paper_block100(), n) != value(paper(), n)
    }
    assert differing == {"generate.context": 100, "generate.context_mode": "crop", "train.window": 100}


def test_the_table_names_settings_only() -> None:
    assert set(TABLE) <= {name for name, _ in settings()}


def test_the_demo_is_the_papers_loop_on_a_shipped_model() -> None:
    differing = {name for name, _ in settings() if value(demo(), name) != value(paper(), name)}
    assert differing <= {"model", "data", "optim.lr", "eval.protocol", "stop.after_collapse"}
    assert demo().model.startswith("builtin:")


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_says_its_command(name: str) -> None:
    assert f"collapselab run {name}" in (PRESETS[name].__doc__ or "")
    assert load(name) == PRESETS[name]()


def test_a_file_begins_from_a_preset(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('preset = "authors-code"\nseed = 3\n[optim]\nlr = 1e-4\n')
    config = load(str(path))
    assert (config.seed, config.optim.lr, config.sampling.top_k) == (3, 1e-4, 200)


def test_a_file_without_a_preset_begins_from_the_paper(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("seed = 3\n")
    assert load(str(path)) == paper().model_copy(update={"seed": 3})


@pytest.mark.parametrize(
    ("name", "content", "message", "hint"),
    [
        ("papr", None, "unknown preset 'papr'", "did you mean 'paper'?; or give a .toml file"),
        ("absent.toml", None, "cannot read the settings file", "give a TOML file"),
        ("bad.toml", "seed = = 3", "cannot read the settings file", "give a TOML file"),
        ("bad.toml", 'preset = "dem"', "unknown preset 'dem'", "did you mean 'demo'?"),
        ("bad.toml", "[optim]\nlrr = 1", "unknown setting 'optim.lrr'", "did you mean 'optim.lr'?"),
    ],
)
def test_what_cannot_be_loaded_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: str | None, message: str, hint: str
) -> None:
    monkeypatch.chdir(tmp_path)
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(InputError) as caught:
        load(name)
    assert message in caught.value.message
    assert hint in (caught.value.hint or "")
