"""MAUVE, Vendi score and Fréchet distance: values that are known, reference libraries, and refusals with the reason."""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from vendi_score import vendi

from collapselab.errors import InputError
from collapselab.metrics.distributions import ON_DEMAND, Rows, frechet_distance, mauve, vendi_score
from collapselab.step.embeddings import embed
from collapselab.testing import tiny_model

DRAW = np.random.default_rng(0)
NORMAL, OTHER = DRAW.normal(size=(1200, 6)), DRAW.normal(size=(1200, 6)) * [1, 2, 1, 1, 0.5, 1] + [1, 0, 0, 0, 0, 0]
PAIRS: dict[str, Callable[[Rows, Rows], float]] = {"mauve": mauve, "frechet_distance": frechet_distance}


def test_vendi_score_by_hand() -> None:
    assert vendi_score(np.eye(100)) == pytest.approx(100)
    assert vendi_score(np.ones((150, 3)) * np.arange(1, 151)[:, None]) == pytest.approx(1), "lengths do not matter"
    two = np.repeat(np.eye(2), [75, 25], axis=0)
    assert vendi_score(two) == pytest.approx(math.exp(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25))))


@pytest.mark.parametrize("rows", [NORMAL[:150], NORMAL[:150] @ DRAW.normal(size=(6, 200))])
def test_vendi_score_is_that_of_its_authors(rows: Rows) -> None:
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    with warnings.catch_warnings():  # it uses a name of scipy that is going away
        warnings.simplefilter("ignore")
        expected = vendi.score_K(unit @ unit.T)
    assert vendi_score(rows) == pytest.approx(expected)


def test_frechet_distance_by_its_definition() -> None:
    s, h = (np.cov(rows, rowvar=False) for rows in (NORMAL, OTHER))
    difference = NORMAL.mean(0) - OTHER.mean(0)
    expected = difference @ difference + np.trace(s + h - 2 * np.real(sqrtm(s @ h)))
    assert frechet_distance(NORMAL, OTHER) == pytest.approx(expected)
    assert frechet_distance(NORMAL, NORMAL + 3) == pytest.approx(6 * 9), "a shift costs its square"
    assert frechet_distance(NORMAL, NORMAL) == pytest.approx(0, abs=1e-9)


def test_mauve_is_high_for_one_distribution_and_low_for_two() -> None:
    same, far = mauve(NORMAL[:1000], NORMAL[200:]), mauve(NORMAL, NORMAL + 20)
    assert same > 0.9
    assert far < 0.05


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize(("first", "second"), [(999, 1200), (1200, 999)])
def test_too_few_samples_are_refused_with_the_reason(name: str, first: int, second: int) -> None:
    with pytest.raises(InputError, match="at least 1,000 samples, received 999") as refused:
        PAIRS[name](NORMAL[:first], OTHER[:second])
    assert ON_DEMAND[name].why in refused.value.message


def test_what_else_is_refused() -> None:
    with pytest.raises(InputError, match="at least 100 samples, received 99: it cannot exceed"):
        vendi_score(NORMAL[:99])
    with pytest.raises(InputError, match="a row of zeros"):
        vendi_score(np.zeros((100, 3)))
    with pytest.raises(InputError, match="more samples than the 1100 dimensions, received 1050"):
        frechet_distance(np.ones((1050, 1100)), np.ones((1200, 1100)))
    for function in PAIRS.values():
        with pytest.raises(InputError, match=r"of one width, received \[6, 5\]"):
            function(NORMAL, OTHER[:, :5])
        with pytest.raises(InputError, match=r"received the shape \(1200,\)"):
            function(NORMAL[:, 0], OTHER)


def test_without_the_extra_the_pip_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mauve", None)
    with pytest.raises(InputError, match="mauve is not installed") as refused:
        mauve(NORMAL, OTHER)
    assert refused.value.hint == "pip install 'collapselab[mauve]'"


def test_an_embedding_is_the_mean_of_the_last_states() -> None:
    loaded = tiny_model(0, context=8)
    rows = embed(loaded, [[1, 2, 3], [4], list(range(12))])
    with torch.no_grad():
        states = loaded.model.transformer(torch.tensor([[1, 2, 3]])).last_hidden_state[0]
    assert rows.shape == (3, 32)
    np.testing.assert_allclose(rows[0], states.mean(0), atol=1e-6)
    np.testing.assert_array_equal(rows[2], embed(loaded, [list(range(8))])[0], "cut to the context")
    for samples in ([], [[1], []]):
        with pytest.raises(InputError, match="at least one token"):
            embed(loaded, samples)
