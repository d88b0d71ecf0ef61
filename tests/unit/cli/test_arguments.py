"""What people type for an option, and which one the hint names; completion, version and help."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from collapselab.cli import main
from collapselab.config.overrides import override
from collapselab.config.presets import demo
from collapselab.errors import InputError

TRIED = {
    "--lr": "--optim.lr",
    "--learning_rate": "--optim.lr",
    "--learning-rate": "--optim.lr",
    "-lr": "--optim.lr",
    "--optim-lr": "--optim.lr",
    "--optimizer.lr": "--optim.lr",
    "--optim.lrr": "--optim.lr",
    "--max_new_tokens": "--generate.max_new_tokens",
    "--generate.max-new-token": "--generate.max_new_tokens",
    "--max_length": "--generate.max_new_tokens",
    "--n": "--generate.max_new_tokens",
    "--output_dir": "--out",
    "--output-dir": "--out",
    "--outdir": "--out",
    "--batch_size": "--generate.batch_size",
    "--bs": "--generate.batch_size",
    "--top-k": "--sampling.top_k",
    "--top_p": "--sampling.top_p",
    "--temp": "--sampling.temperature",
    "--temperature": "--sampling.temperature",
    "--steps": "--stop.max_steps",
    "--num_steps": "--stop.max_steps",
    "--max_steps": "--stop.max_steps",
    "--epochs": "--stop.max_steps",
    "--model_name_or_path": "--model",
    "--modle": "--model",
    "--dataset": "--data",
    "--seeds": "--seed",
    "--gpu": "--device",
    "--cuda": "--device",
    "--dryrun": "--dry_run",
    "--resum": "--resume",
    "--overwrite": "--fresh",
    "--generate": "--generate.max_new_tokens",
}


def message(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    captured = capsys.readouterr()
    assert (ended.value.code, captured.out) == (2, "")
    assert "│" not in captured.err, "one style of errors: no box"
    return captured.err


@pytest.mark.parametrize("word", TRIED)
def test_what_a_person_tries_gets_the_option_that_was_meant(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    said = message(capsys, "run", "demo", word, "1")
    assert repr(word) in said
    assert TRIED[word] in said.partition("hint: did you mean ")[2].replace("?", " ").split(), said


@pytest.mark.parametrize("command", [["run", "demo"], ["sweep", "learning-rates"]])
def test_a_setting_without_dashes(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert "did you mean --optim.lr 1e-4?" in message(capsys, *command, "lr=1e-4")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["train"], "did you mean 'run'?"),
        (["evaluate"], "did you mean 'eval'?"),
        (["plot"], "did you mean 'report'?"),
        (["colapse"], "known: audit, data, diagnose"),
        (["eval", "builtin:nano"], "Missing from collapselab eval: --model"),
        (["reproduce", "--tier", "builtn"], "invalid choice 'builtn'"),
        (["reproduce", "--seed", "3"], "did you mean --seeds"),
        (["report", "runs", "--output", "x"], "did you mean --out"),
        (["--tyro-write-completion", "fish", "-"], "one of bash, zsh, tcsh"),
        (["--tyro-write-completion"], "one of bash, zsh, tcsh"),
    ],
)
def test_other_mistakes(arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert expected in message(capsys, *arguments)


def test_a_file_and_python_get_the_same_hints() -> None:
    with pytest.raises(InputError, match=r"did you mean 'optim\.lr'"):
        override(demo(), {"optim.learning_rate": 1})
    with pytest.raises(InputError, match=r"did you mean 'sampling\.top_k'"):
        override(demo(), {"top_k": 1})


def test_completion_of_bash_knows_the_commands(tmp_path: Path) -> None:
    script = tmp_path / "completion.bash"
    with pytest.raises(SystemExit) as ended:
        main(["--tyro-write-completion", "bash", str(script)])
    assert ended.value.code == 0
    program = f"source {script}; complete -p collapselab; COMP_WORDS=(collapselab rep); COMP_CWORD=1; "
    program += 'f=$(complete -p collapselab | sed "s/.*-F \\([^ ]*\\).*/\\1/"); $f; echo "${COMPREPLY[@]}"'
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, check=True, timeout=30)
    assert {"report", "reproduce"} <= set(done.stdout.splitlines()[-1].split())


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    shown: dict[str, str] = {}
    for arguments in (["--version"], ["--help"], ["run", "--help"]):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 0
        shown[" ".join(arguments)] = capsys.readouterr().out
    assert shown["--version"].startswith("collapselab 0.")
    assert all(f" {name} " in shown["--help"] for name in ("run", "sweep", "eval", "diagnose", "report", "reproduce"))
    of_run = shown["run --help"]
    assert of_run.startswith("usage: collapselab run"), "usage first"
    places = [of_run.index(f" {section} options ") for section in ("sampling", "generate", "train", "optim", "eval")]
    assert places == sorted(places), "grouped by section"
    assert "{adamw,sgd}" in of_run
    assert "(default: 0.8)" in of_run
    assert of_run.count("\n  collapselab run ") == 2, "two examples"
    assert max(map(len, of_run.splitlines())) <= 80
