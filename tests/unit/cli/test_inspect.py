"""`eval` on the command line: files of every kind, names with commas and markup, the precision used."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from collapselab.cli import main
from collapselab.config.base import join_with_commas, split_at_commas
from collapselab.config.overrides import override
from collapselab.config.schema import RunConfig
from collapselab.testing import BYTE_VOCAB, byte_tokenizer

PROSE = "It is a truth universally acknowledged, that a single man must be in want of a wife. " * 6


def output_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    written = capsys.readouterr()
    assert caught.value.code == 0, written.err
    return written.out


@pytest.fixture(scope="module")
def neox_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of a family that only the plain engine serves."""
    folder = tmp_path_factory.mktemp("neox")
    config = GPTNeoXConfig(
        vocab_size=BYTE_VOCAB,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=128,
        bos_token_id=0,
        eos_token_id=0,
    )
    GPTNeoXForCausalLM(config).save_pretrained(folder)
    byte_tokenizer().backend.save(str(folder / "tokenizer.json"))
    return folder


def test_eval_says_the_precision_it_used(
    neox_folder: Path, tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.txt").write_text(PROSE)
    for folder, used in ((neox_folder, "float32"), (tiny_folder, "bfloat16")):
        command = ("eval", "--model", str(folder), "--data", str(tmp_path / "a.txt"), "--precision", "bfloat16")
        assert json.loads(output_of(capsys, *command, "--json"))["precision"] == used
        assert f", {used}\n" in output_of(capsys, *command).replace("\n\n", "\n")


def test_eval_reads_names_with_commas_and_markup(
    tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a,b [").mkdir()
    names = ["a,b [/x] \x1b[31m.txt", "c.ndjson"]
    Path(names[0]).write_text(PROSE)
    Path(names[1]).write_text(json.dumps({"text": PROSE}))
    command = ("eval", "--model", str(tiny_folder), "--data", join_with_commas(names), "--protocol", "disjoint[64]")
    rows = json.loads(output_of(capsys, *command, "--json"))["texts"]
    assert list(rows) == names
    assert rows[names[0]]["nll_nats"] == rows[names[1]]["nll_nats"]
    table = output_of(capsys, *command)
    assert "[/x]" in table
    assert "\x1b[31m" not in table


def test_a_comma_in_a_path_can_be_given_everywhere() -> None:
    assert split_at_commas(r" a\,b.txt , ptb,") == ("a,b.txt", "ptb")
    assert split_at_commas(join_with_commas(["a,b", "c"])) == ("a,b", "c")
    expected = ("a,b.txt", "ptb")
    assert override(RunConfig(), {"data": r"a\,b.txt,ptb"}).data == expected  # the command line
    assert override(RunConfig(), {"data": ["a,b.txt", "ptb"]}).data == expected  # TOML
    assert RunConfig(data=expected).data == expected
