"""From a description to a list of runs: what is combined, in which order, under which names, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collapselab.config import presets
from collapselab.config.schema import RunConfig
from collapselab.errors import InputError
from collapselab.sweep.grid import MAX_NAME_LENGTH, PlannedRun, Sweep, expand, rebase
from collapselab.sweep.presets import SWEEPS, load

BASE = RunConfig()


def planned(tmp_path: Path, text: str) -> tuple[PlannedRun, ...]:
    file = tmp_path / "sweep.toml"
    file.write_text(text, encoding="utf-8")
    return expand(load(str(file)))


def names(sweep: Sweep) -> list[str]:
    return [run.name for run in expand(sweep)]


def test_grid_zip_and_list_are_multiplied_in_order(tmp_path: Path) -> None:
    runs = planned(
        tmp_path,
        """
        preset = "demo"
        generate.max_new_tokens = 100
        [sweep.grid]
        optim.lr = [2e-5, 1]
        [sweep.zip]
        model = ["builtin:nano", "builtin:mini"]
        seed = [1, 2]
        [[sweep.list]]
        train.source = "real"
        train.real-text = "moby-dick"
        [[sweep.list]]
        """,
    )
    assert [run.name for run in runs] == [
        "lr-2e-05-model-builtin-nano-seed-1-source-real-real_text-moby-dick",
        "lr-2e-05-model-builtin-nano-seed-1",
        "lr-2e-05-model-builtin-mini-seed-2-source-real-real_text-moby-dick",
        "lr-2e-05-model-builtin-mini-seed-2",
        "lr-1.0-model-builtin-nano-seed-1-source-real-real_text-moby-dick",
        "lr-1.0-model-builtin-nano-seed-1",
        "lr-1.0-model-builtin-mini-seed-2-source-real-real_text-moby-dick",
        "lr-1.0-model-builtin-mini-seed-2",
    ]
    first, last = runs[0], runs[-1]
    assert dict(first.changes) == {
        "optim.lr": 2e-5,
        "model": "builtin:nano",
        "seed": 1,
        "train.source": "real",
        "train.real_text": "moby-dick",
    }
    assert (first.config.train.source, first.config.collapse.source) == ("real", "probe")
    assert (last.config.optim.lr, last.config.model, last.config.seed) == (1.0, "builtin:mini", 2)
    assert last.config.train.source == "own"
    assert {run.config.generate.max_new_tokens for run in runs} == {100}, "the base settings hold for all"


def test_a_run_is_the_base_with_its_changes() -> None:
    base = presets.demo()
    (run,) = expand(Sweep(base, grid={"seed": [7]}))
    assert run == PlannedRun("seed-7", base.model_copy(update={"seed": 7}), {"seed": 7})


def test_a_file_begins_from_the_paper_and_settings_may_be_quoted_or_nested(tmp_path: Path) -> None:
    runs = planned(
        tmp_path, '[sweep.grid]\n"optim.lr" = [1e-4]\nsampling.top_k = ["none", 50]\ndata = [["ptb"], "a,b"]\n'
    )
    assert {run.config.model for run in runs} == {"gpt2"}
    assert [(run.config.sampling.top_k, run.config.data) for run in runs] == [
        (None, ("ptb",)),
        (None, ("a", "b")),
        (50, ("ptb",)),
        (50, ("a", "b")),
    ]
    assert [run.name for run in runs][1:3] == ["lr-0.0001-top_k-none-data-a+b", "lr-0.0001-top_k-50-data-ptb"]


@pytest.mark.parametrize(
    ("axis", "expected"),
    [
        ({"collapse.source": ["probe"], "train.source": ["shuffled"]}, "collapse-source-probe-train-source-shuffled"),
        ({"sampling.greedy": [True]}, "greedy-true"),
        ({"numerics": ["exact"]}, "numerics-exact"),
        ({"model": ["/models/a b/SmolLM2-135M/"]}, "model-SmolLM2-135M"),
        ({"generate.prompt": ["\n"]}, "prompt-blank"),
        ({"generate.prompt": ["../../x: <y>"]}, "prompt-x-y"),
        ({"generate.prompt": [".."]}, "prompt-blank"),
        ({"optim.betas": [(0.9, 0.99)]}, "betas-0.9+0.99"),
    ],
)
def test_names_are_short_and_safe(axis: dict[str, list[object]], expected: str) -> None:
    assert names(Sweep(BASE, grid=axis)) == [expected]


def test_a_sweep_may_set_the_numerics_in_one_word() -> None:
    exact, fast = expand(Sweep(BASE, grid={"numerics": ["exact", "fast"]}))
    assert (exact.config.numerics.write, fast.config.numerics.write) == ("float32", "bfloat16")
    assert exact.changes == {"numerics": "exact"}


def test_equal_and_overlong_names_get_the_runs_id() -> None:
    runs = expand(Sweep(BASE, grid={"model": ["a/x", "b/X", "c/y"]}))
    ids = [run.config.run_id for run in runs]
    assert [run.name for run in runs] == [f"model-x-{ids[0]}", f"model-X-{ids[1]}", "model-y"]
    (run,) = expand(Sweep(BASE, grid={"generate.prompt": ["é" + "a" * 200]}))
    assert run.name == "prompt-" + "a" * 80 + "-" + run.config.run_id
    assert len(run.name) == MAX_NAME_LENGTH


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text(max_size=130), min_size=1, max_size=6, unique=True))
def test_names_are_unique_and_safe_whatever_the_values(prompts: list[str]) -> None:
    found = names(Sweep(BASE, grid={"generate.prompt": prompts}))
    assert len({name.lower() for name in found}) == len(prompts)
    assert all(re.fullmatch(r"[A-Za-z0-9_][\w.+-]{,99}", name, re.ASCII) for name in found)


def test_a_list_may_hold_the_base_itself() -> None:
    assert names(Sweep(BASE, listed=[{}, {"seed": 3}])) == ["base", "seed-3"]


@pytest.mark.parametrize(
    "sweep",
    [
        Sweep(BASE, grid={"optim.lr": [1e-5, "0.00001"]}),
        Sweep(BASE, listed=[{}, {"seed": 0}]),
        Sweep(BASE, grid={"threads": [1, 2]}),
    ],
)
def test_two_equal_runs_are_refused(sweep: Sweep) -> None:
    with pytest.raises(InputError, match="two runs of the sweep are the same") as caught:
        expand(sweep)
    assert "threads" in (caught.value.hint or "")


REFUSED = {
    "unknown setting": ("[sweep.grid]\noptim.lrr = [1]", "unknown setting 'optim.lrr'", "did you mean 'optim.lr'?"),
    "unknown in list": ("[[sweep.list]]\nsede = 1", "unknown setting 'sede'", "did you mean 'seed'?"),
    "unknown in base": ("modle = 1\n[sweep.grid]\nseed = [1]", "unknown setting 'modle'", "did you mean 'model'?"),
    "unknown preset": ('preset = "papr"\n[sweep.grid]\nseed = [1]', "unknown preset 'papr'", "did you mean 'paper'?"),
    "unknown part": ("[sweep.gird]\nseed = [1]", "unknown part of a sweep 'sweep.gird.seed'", "did you mean 'grid'?"),
    "empty axis": ("[sweep.grid]\nseed = []", "sweep.grid: seed has no value", "at least one"),
    "empty zip": ("[sweep.zip]\nseed = []", "sweep.zip: seed has no value", "at least one"),
    "empty list": ("[sweep]\nlist = []", "sweep.list must be a list of tables", "[[sweep.list]]"),
    "no axis": ("seed = 1", "the file has no sweep", "[sweep.grid]"),
    "empty grid": ("[sweep.grid]", "the file has no sweep", "[sweep.grid]"),
    "grid is a value": ("[sweep]\ngrid = 3", "sweep.grid must be a table, received 3", "[sweep.grid]"),
    "axis is a value": ("[sweep.grid]\nseed = 3", "sweep.grid: seed must be a list, received 3", "seed = [3]"),
    "axis is a text": ('[sweep.grid]\ndata = "ptb"', "data must be a list, received 'ptb'", "data = ['ptb']"),
    "list is a table": ("[sweep.list]\nseed = 3", "sweep.list must be a list of tables", "[[sweep.list]]"),
    "list of values": ("[sweep]\nlist = [3]", "sweep.list must hold tables, received 3", "[[sweep.list]]"),
    "unequal zip": ("[sweep.zip]\nseed = [1, 2]\noptim.lr = [1]", "seed has 2, optim.lr has 1", "sweep.grid"),
    "two parts": ("[sweep.grid]\nseed = [1]\n[sweep.zip]\nseed = [2]", "seed is in two parts", "one"),
    "grid and list": ("[sweep.grid]\nseed = [1]\n[[sweep.list]]\nseed = 2", "seed is in two parts", "one"),
    "broken rule": ("[sweep.grid]\nseed = [-1]", "seed: Input should be greater than or equal to 0", "seed"),
    "not TOML": ("[sweep", "cannot read the settings file", "TOML"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_makes_no_sense_is_refused(case: str, tmp_path: Path) -> None:
    text, message, hint = REFUSED[case]
    with pytest.raises(InputError) as caught:
        planned(tmp_path, text)
    assert message in caught.value.message
    assert hint in (caught.value.hint or "")


def test_base_settings_can_be_changed_but_not_those_that_vary() -> None:
    sweep = Sweep(BASE, grid={"optim.lr": [1e-5]}, listed=[{"seed": 1}])
    (run,) = expand(rebase(sweep, {"model": "builtin:nano", "stop.max-steps": "5"}))
    assert (run.config.model, run.config.stop.max_steps, run.config.optim.lr) == ("builtin:nano", 5, 1e-5)
    for name in ("optim.lr", "seed"):
        with pytest.raises(InputError, match=f"--{name} is set for each run by the sweep"):
            rebase(sweep, {name: "1"})


def test_the_file_in_the_docs_has_the_runs_that_they_say(tmp_path: Path) -> None:
    page = (Path(__file__).parents[3] / "docs" / "sweeps.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    assert len(planned(tmp_path, block)) == 36
    assert all(f"| `{name}` |" in page for name in SWEEPS)


def test_the_named_sweeps() -> None:
    rates = expand(load("learning-rates"))
    assert [run.config.optim.lr for run in rates[::3]] == [5e-6, 1e-5, 2e-5, 4e-5, 8e-5]
    assert rates[0].name == "lr-5e-06-seed-0"
    assert [run.config.model for run in expand(load("sizes"))[::3]] == ["gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl"]
    for name, sweep in SWEEPS.items():
        assert f"collapselab sweep {name}" in (sweep.__doc__ or "")


def test_an_unknown_sweep_is_refused_with_the_nearest() -> None:
    with pytest.raises(InputError, match="unknown sweep 'size'") as caught:
        load("size")
    assert caught.value.hint == "did you mean 'sizes'?; or give a .toml file"
