"""What Python has in place of the command line: settings by name, files, progress, reprs, figures, hints."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import collapselab
from collapselab import InputError, RunConfig, load_runs, run
from collapselab.cli import main
from collapselab.config.names import as_flags, full_names
from collapselab.config.overrides import settings
from collapselab.rundir.layout import read_json
from run_files import timeless


def test_settings_are_changed_by_name(tiny_config: RunConfig, tmp_path: Path) -> None:
    result = run(tiny_config, tmp_path / "run", lr=5e-4, temperature=0.5, **{"train.window": 40, "stop.max_steps": 1})
    config = read_json(result.path / "config.json")["config"]
    assert (config["optim"]["lr"], config["sampling"]["temperature"]) == (5e-4, 0.5)
    assert (config["train"]["window"], config["collapse"]["window"]) == (40, 8)
    assert result.summary["last_step"] == 1
    asked = read_json(result.path / "user.json")["asked_for"]
    assert asked["settings"] == {"optim.lr": 5e-4, "sampling.temperature": 0.5, "train.window": 40, "stop.max_steps": 1}


def test_every_setting_has_a_name_that_reaches_it() -> None:
    names = [name for name, _ in settings()]
    leaves = [name.rpartition(".")[2] for name in names]
    short = [
        leaf if leaves.count(leaf) == 1 or leaf == name else name for leaf, name in zip(leaves, names, strict=True)
    ]
    assert list(full_names(dict.fromkeys(short))) == names
    assert len(set(short) - set(names)) > 30


@pytest.mark.parametrize(
    ("changes", "message", "hint"),
    [
        ({"learning_rate": 1}, "unknown setting 'learning_rate'", "did you mean 'lr'?"),
        ({"temprature": 1}, "unknown setting 'temprature'", "did you mean 'temperature'?"),
        ({"window": 1}, "'window' is the name of several settings", '`**{"train.window": …}` or `**{"collapse.window"'),
        ({"lr": -1}, "optim.lr: Input should be greater than 0, received -1", "learning rate"),
    ],
)
def test_a_wrong_name_says_what_to_write(
    tiny_config: RunConfig, tmp_path: Path, changes: dict[str, object], message: str, hint: str
) -> None:
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        run(tiny_config, tmp_path / "run", **changes)
    assert hint in (caught.value.hint or "")
    assert "--" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_run_from_a_preset_a_file_or_a_former_run(tiny_config: RunConfig, tmp_path: Path) -> None:
    first = run(tiny_config, tmp_path / "first")
    again = run(first.path / "config.json", tmp_path / "again")
    assert timeless(again.path) == timeless(first.path)
    (tmp_path / "one.toml").write_text(f'preset = "demo"\nmodel = "{tiny_config.model}"\n')
    small = {
        "data": tiny_config.data,
        "max_steps": 0,
        "max_new_tokens": 100,
        "full_every": 0,
        "protocol": "windows[20,5]",
    }
    changed = run(tmp_path / "one.toml", tmp_path / "toml", lr=0.25, **small)
    assert read_json(changed.path / "config.json")["config"]["optim"]["lr"] == 0.25
    named = run("demo", tmp_path / "demo", model=tiny_config.model, **small)
    assert read_json(named.path / "config.json")["config"]["optim"]["lr"] == 1e-4
    for wrong, rule in (("demoo", "unknown preset"), (tmp_path / "none.json", "cannot read the settings file")):
        with pytest.raises(InputError, match=rule):
            run(wrong, tmp_path / "wrong")
    (tmp_path / "list.json").write_text("[1]")
    with pytest.raises(InputError, match="no JSON object"):
        run(tmp_path / "list.json", tmp_path / "wrong")


def test_hints_speak_python_here_and_flags_on_the_command_line(
    tiny_config: RunConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tiny_config, tmp_path / "run")
    with pytest.raises(InputError, match=r"`resume=True` continues .*`fresh=True` removes"):
        run(tiny_config, tmp_path / "run")
    with pytest.raises(SystemExit):
        main(["run", str(tmp_path / "run" / "config.json"), "--out", str(tmp_path / "run")])
    assert re.search(r"hint: --resume continues .*; --fresh removes", capsys.readouterr().err)


def test_a_hint_becomes_flags() -> None:
    hint = "`out=…`, `fresh=True`, `context_mode='crop'`, `**{\"train.window\": n}`, `model='a b'`, `x=1`, `lr`"
    flags = "--out, --fresh, --generate.context_mode crop, --train.window n, --model 'a b', `x=1`, `lr`"
    assert as_flags(hint) == flags


def test_no_hint_of_a_run_speaks_the_command_line() -> None:
    """Hints are written for Python; the sweep and the command line itself have none but flags."""
    package = Path(collapselab.__file__).parent
    rooms = ("config", "inputs", "engine", "step", "rundir", "safeguards", "collapse")
    sources = [
        package / "runner.py",
        package / "loop.py",
        *(p for room in rooms for p in (package / room).rglob("*.py")),
    ]
    told = [
        f"{path.name}: {line.strip()}"
        for path in sources
        if not path.name.startswith("corpus") and "audit" not in path.parts  # what audit alone needs
        for line in re.sub(r'""".*?"""', "", path.read_text(encoding="utf-8"), flags=re.DOTALL).splitlines()
        if re.search(r"(?<![\w-])--[a-z]{2}", line)
    ]
    others = (
        "pip install --no-deps",
        "hf download",
        "collapselab eval",
        "lists every setting",
        "python tools/",
        '"rev-parse',
        'f"--{name}',
        '"nvidia-smi", ',
    )
    assert [line for line in told if not any(other in line for other in others)] == []


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("where", ["terminal", "notebook", "elsewhere", "unwanted"])
def test_progress_is_shown_where_somebody_sees_it(
    tiny_config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    stream = Terminal() if where in ("terminal", "unwanted") else io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "dumb")
    if where == "notebook":
        monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: object()))
    steps: list[int] = []
    wanted = where != "unwanted"
    run(tiny_config, tmp_path / "run", progress=wanted, on_record=lambda record: steps.append(record.step))
    assert ("parameters" in stream.getvalue()) == (where in ("terminal", "notebook"))
    assert steps == [0, 1, 2, 3]


def test_reprs_are_short_and_say_what_one_looks_for(tiny_config: RunConfig, tmp_path: Path) -> None:
    assert repr(RunConfig()) == "RunConfig()"
    config = collapselab.override(RunConfig(), {"optim.lr": 1e-4, "seed": 3})
    assert repr(config) == "RunConfig(seed=3, optim=Optimizer(lr=0.0001))"
    html = collapselab.override(config, {"generate.prompt": "<b>"})._repr_html_()
    assert "<td>optim.lr</td><td>0.0001</td>" in html
    assert "&lt;b&gt;" in html
    result = run(tiny_config, tmp_path / "<run>")
    assert repr(result) == f"RunResult({str(result.path)!r}: ended_by budget, last_step 3)"
    assert "&lt;run&gt;" in result._repr_html_()
    runs = load_runs(result.path)
    assert repr(runs) == "Runs(1 run, 4 steps, 12 samples)"
    assert "&lt;run&gt;" in runs._repr_html_()
    parts = collapselab.build(tiny_config)
    size = parts.learner.loaded.num_parameters
    assert repr(parts.learner) == f"Learner({tiny_config.model!r}, {size:,} parameters)"
    assert repr(parts).startswith(f"Parts({parts.learner!r}, ")
    assert len(repr(parts)) < 400


def test_a_figure_shows_itself_without_a_network(tiny_config: RunConfig, tmp_path: Path) -> None:
    result = run(tiny_config, tmp_path / "run")
    shown = collapselab.figure(result.path)._repr_mimebundle_()
    assert shown["image/svg+xml"].lstrip().startswith("<svg")
    assert "<script" not in shown["image/svg+xml"]
    assert len(shown["text/plain"]) < 300
    runs = load_runs(result.path)
    assert "<svg" in collapselab.figure(runs, "figure-2").svg
    with pytest.raises(InputError, match=r"unknown figure 'figure-22'\nhint: did you mean 'figure-2'"):
        collapselab.figure(runs, "figure-22")
    with pytest.raises(InputError, match="figure-3 cannot be drawn: no two models"):
        collapselab.figure(runs, "figure-3")
    run(tiny_config, tmp_path / "other", seed=2)
    with pytest.raises(InputError, match="shows one run, received 2"):
        collapselab.figure(tmp_path)
