"""What nobody foresaw: one message with the task and the library's reason, or that the fault is ours."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from collapselab import cli
from collapselab.cli import SPIN_ROUNDS, main
from collapselab.cli.faults import explained, only_warned
from collapselab.errors import InputError, RunFailed, doing
from collapselab.inputs.model_files import ModelFiles
from collapselab.inputs.models import (
    _reading,  # pyright: ignore[reportPrivateUsage]
)


def raised(action: object, task: str | None = None) -> Exception:
    try:
        if task is None:
            action()  # pyright: ignore
        else:
            with doing("outer"), doing(task):
                action()  # pyright: ignore
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


def test_a_librarys_reason_comes_with_what_was_being_done() -> None:
    error = explained(raised(lambda: json.loads("[" * 100_000), "reading the model x"), "collapselab eval")
    assert error.message.startswith("reading the model x: RecursionError: maximum recursion depth")
    assert (error.exit_code, error.hint) == (1, "COLLAPSELAB_DEBUG=1 shows the traceback")


def test_without_a_note_the_command_is_named_and_lines_are_joined() -> None:
    def fails() -> None:
        raise ImportError("needs\n  autoawq")

    assert explained(raised(fails), "collapselab eval").message == "collapselab eval: ImportError: needs autoawq"


def test_a_fault_of_this_package_is_said_to_be_one() -> None:
    error = explained(raised(lambda: cli.parse(None)), "collapselab report")  # pyright: ignore
    assert "a fault in collapselab itself: TypeError" in error.message
    assert "collapselab/cli/__init__.py, line" in error.message
    assert "report it" in (error.hint or "")


def test_an_error_of_the_system_names_the_file(tmp_path: Path) -> None:
    error = explained(raised(lambda: (tmp_path / "no").read_text()), "collapselab eval")
    assert error.message == f"collapselab eval: No such file or directory: {tmp_path / 'no'}"
    assert explained(raised(lambda: bytearray(1 << 62)), "collapselab run").message == "collapselab run: out of memory"


def test_our_own_errors_pass_without_a_note() -> None:
    def refuses() -> None:
        raise InputError("no")

    assert not hasattr(raised(refuses, "reading"), "__notes__")


@pytest.mark.parametrize("debug", [False, True])
def test_the_net_catches_what_a_command_raises(
    debug: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken() -> None:
        with doing("reading the model \x1b]0;evil\x07"):
            raise ImportError("needs [/b] auto\u202egptq")

    monkeypatch.setitem(cli.COMMANDS, "models", broken)
    monkeypatch.setenv("COLLAPSELAB_DEBUG", "1") if debug else monkeypatch.delenv("COLLAPSELAB_DEBUG", raising=False)
    with pytest.raises(SystemExit) as ended:
        cli.main(["models"])
    stderr = capsys.readouterr().err
    assert ended.value.code == 1
    assert ("Traceback" in stderr) == debug
    assert "error: reading the model ⟨U+001B⟩]0;evil⟨U+0007⟩: ImportError: needs [/b] auto⟨U+202E⟩gptq" in stderr
    assert "\x1b]" not in stderr


def test_what_comes_after_the_results_only_warns(capsys: pytest.CaptureFixture[str]) -> None:
    with only_warned("the picture is not drawn"):
        raise KeyError("x")
    assert capsys.readouterr().err == "warning: the picture is not drawn: KeyError: 'x'\n"


@pytest.mark.parametrize(
    ("given", "spin"),
    [({}, SPIN_ROUNDS), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, None)],
    ids=["default", "a count", "a policy"],
)
def test_waiting_threads_soon_sleep_unless_the_user_says_otherwise(
    given: dict[str, str], spin: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit):
        main(["--version"])
    assert os.environ.get("GOMP_SPINCOUNT") == spin


SHORTAGES = {
    "python": MemoryError(),
    "system": OSError(12, "Cannot allocate memory"),
    "threads": RuntimeError("can't start new thread"),
}


@pytest.mark.parametrize("error", SHORTAGES.values(), ids=SHORTAGES)
def test_a_model_for_which_memory_is_short_is_not_called_broken(error: Exception) -> None:
    with pytest.raises(RunFailed, match="too little memory for the model"), _reading(ModelFiles(Path("m")), "model"):
        raise error
    assert explained(error, "collapselab eval").message == "collapselab eval: out of memory"
