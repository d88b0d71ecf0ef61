"""How safeguards are written: in TOML, as text, and what is said of mistakes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collapselab.cli import main
from collapselab.config.identity import identity
from collapselab.config.overrides import as_toml, override
from collapselab.config.presets import load
from collapselab.config.safeguards import KINDS, SafeguardSettings, by_id, parse, shown
from collapselab.config.schema import RunConfig
from collapselab.errors import InputError

ALL = [kind.model_validate(values) for kind in KINDS for values in ({}, *kind.grid, kind.off)]


@given(st.lists(st.sampled_from(ALL), max_size=4))
def test_text_and_toml_come_back(safeguards: list[SafeguardSettings]) -> None:
    text = shown(safeguards)
    config = override(RunConfig(), {"safeguards": text, "train.real_text": "moby-dick"})
    assert list(config.safeguards) == safeguards
    file = Path("settings.toml")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("collapselab.config.overrides.read_regular", lambda _: as_toml(config).encode())
        assert load(str(file)) == config
    assert identity(json.loads(json.dumps(config.model_dump(mode="json")))) == config.run_id


def test_a_run_without_safeguards_has_the_id_it_had_before() -> None:
    values = RunConfig().model_dump(mode="json")
    assert values.pop("safeguards") == []
    assert identity(values) == RunConfig().run_id
    assert override(RunConfig(), {"safeguards": "truncated-ce"}).run_id != RunConfig().run_id


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("kl-ancor", "unknown safeguard, received 'kl-ancor'", "did you mean 'kl-anchor'?"),
        ("kl-anchor(bet=1)", "safeguard kl-anchor has no setting 'bet'", "did you mean 'beta'?"),
        ("kl-anchor(beta=-1)", "beta: Input should be greater than or equal to 0, received '-1'", "beta: β"),
        ("kl-anchor(beta)", "values are written name=value, received 'beta'", "collapselab safeguards"),
        ("kl-anchor[", "safeguards are written kl-anchor(beta=0.5), real-mix", "collapselab safeguards"),
        ("real-mix", "safeguard real-mix needs train.real_text", ""),
        ("filter(keep=5)", "keep must be at most draws", ""),
        ("verify(judge=model)", "judge 'model' and a model's name go together", ""),
    ],
)
def test_mistakes_are_explained(text: str, message: str, hint: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        override(RunConfig(), {"safeguards": text})
    assert hint in (caught.value.hint or "")


def test_real_text_is_asked_for_only_where_it_is_read() -> None:
    for text in ("kl-anchor", "real-mix(rho=0)", "weight-anchor(importance=equal)", "replay"):
        override(RunConfig(), {"safeguards": text})
    for text in ("kl-anchor(contexts=real)", "weight-anchor", "replay(real_seed=1)", "trust-stop"):
        with pytest.raises(InputError, match=r"needs train\.real_text"):
            override(RunConfig(), {"safeguards": text})


def test_every_setting_of_a_safeguard_is_described() -> None:
    described = {
        (name, field): info.description for name, kind in by_id().items() for field, info in kind.model_fields.items()
    }
    assert [place for place, text in described.items() if not text and place[1] != "id"] == []
    assert all(kind.source and (kind.__doc__ or "").strip() for kind in KINDS)


def test_they_are_listed_with_formula_and_source(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["safeguards", "--json"])
    rows = json.loads(capsys.readouterr().out)["safeguards"]
    assert ended.value.code == 0
    assert {*by_id(), "pure-sampling", "lora"} <= {row["id"] for row in rows}
    assert all(row["formula"] and row["source"] for row in rows)
    with pytest.raises(SystemExit):
        main(["safeguards"])
    assert "beta=0.1, direction=now-start" in capsys.readouterr().out
    assert parse("none") == parse("") == []
