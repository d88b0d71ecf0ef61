"""The one table of metrics: it binds each name to its function, and nothing is known of nothing."""

from __future__ import annotations

import inspect
import random

import pytest

from collapselab import metrics
from collapselab.metrics import METRICS, NEEDS, Window, diversity, lexical, reference, that_need
from collapselab.metrics import window_metrics as measured
from collapselab.metrics.reference import BINS, Reference

DRAW = random.Random(0)
SAMPLES = [[min(int(DRAW.paretovariate(0.8)), 49) for _ in range(120)] for _ in range(4)]
TEXT = Reference.of([min(int(DRAW.paretovariate(0.7)), 49) for _ in range(900)], 50)
START = [SAMPLES[0][:60], [48, 49] * 20]
WINDOW = Window(SAMPLES, TEXT, START)


def test_the_table_binds_each_function_with_its_arguments():
    expected = {
        "unigram_entropy_nats": diversity.token_entropy_nats(SAMPLES),
        "bigram_entropy_nats": diversity.ngram_entropy_nats(SAMPLES, 2),
        "self_bleu": diversity.self_bleu(SAMPLES),
        "unique_sequences": 1.0,
        "mattr_50": lexical.mattr(SAMPLES),
        "mtld": lexical.mtld(SAMPLES),
        "zipf_least_squares": lexical.zipf_least_squares(SAMPLES),
        "zipf_likelihood": lexical.zipf_likelihood(SAMPLES),
        "heaps_exponent": lexical.heaps_exponent(SAMPLES),
        "vocabulary_coverage": reference.vocabulary_coverage(SAMPLES, TEXT),
        "lost_types": reference.lost_types(SAMPLES, START),
        "missing_mass": reference.missing_mass(SAMPLES),
    }
    for n in (1, 2, 3, 4):
        expected[f"distinct_{n}_pooled"] = diversity.distinct_pooled(SAMPLES, n)
        expected[f"distinct_{n}_per_sample"] = diversity.distinct_per_sample(SAMPLES, n)
    expected |= {f"novelty_{n}": reference.novelty(SAMPLES, TEXT, n) for n in (4, 5, 6, 7, 8)}
    expected |= {f"mass_rank_{name}": reference.mass_ratio(SAMPLES, TEXT, name) for name in BINS}
    assert measured(WINDOW) == expected
    known = [value for value in expected.values() if value is not None]
    assert len(set(known)) == len(known), "a name that is bound to another's function would show"


@pytest.mark.parametrize("name", that_need("window"))
@pytest.mark.parametrize("samples", [[], [[]], [[], []]])
def test_nothing_is_known_without_tokens(name: str, samples: list[list[int]]):
    function = METRICS[name].function
    assert function is not None
    assert function(Window(samples, TEXT, START)) is None


def test_one_distinct_token_is_a_defined_extreme():
    values = measured(Window([[7] * 50, [7] * 50], TEXT, [[7]]))
    assert values["unigram_entropy_nats"] == values["bigram_entropy_nats"] == values["missing_mass"] == 0
    assert values["self_bleu"] == pytest.approx(1)
    assert (values["distinct_4_pooled"], values["mattr_50"], values["mtld"]) == (1 / 94, 1 / 50, 2)
    assert (values["zipf_least_squares"], values["heaps_exponent"], values["lost_types"]) == (None, 0, 0)


def test_every_metric_belongs_to_a_group_that_says_where_it_comes_from():
    assert {metric.needs for metric in METRICS.values()} == set(NEEDS)
    for name, metric in METRICS.items():
        assert (metric.function is None) == (NEEDS[metric.needs].code is not None), name
        assert metric.number.unit, name
        assert metric.number.meaning, name
        assert metric.number.label is not None, f"{name}: the page would show its raw name"


@pytest.mark.parametrize("module", [diversity, lexical, reference])
def test_every_function_says_when_it_is_undefined_or_whose_it_is(module: object):
    functions = [f for name, f in inspect.getmembers(module, inspect.isfunction) if f.__module__ == module.__name__]
    public = [f for f in functions if not f.__name__.startswith("_")]
    assert len(public) >= 5
    assert [f.__name__ for f in public if not f.__doc__] == []
    of_metrics = [f for f in public if "None" in str(inspect.signature(f).return_annotation)]
    assert [f.__name__ for f in of_metrics if "ndefined" not in f.__doc__ and "ngram_entropy" not in f.__doc__] == []


def test_the_public_names_exist():
    assert [name for name in metrics.__all__ if not hasattr(metrics, name)] == []
