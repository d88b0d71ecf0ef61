"""The values of a record that come from several samples."""

from __future__ import annotations

import pytest

from collapselab.metrics import repetition_metrics
from collapselab.step.measure import sample_values
from random_text import random_ids


@pytest.mark.parametrize("place", [0, 1, 2])
def test_the_loop_is_that_of_the_sample_with_the_longest(place: int) -> None:
    """A loop of 7 over 140 tokens, one of 3 over 60, and a sample without a loop."""
    longest = [*random_ids(0, 60), *list(range(5000, 5007)) * 20]
    others = [[*random_ids(1, 140), *list(range(6000, 6003)) * 20], list(random_ids(2, 200))]
    samples = [*others[:place], longest, *others[place:]]
    values, alone = sample_values(samples, {}), repetition_metrics(longest)
    loops = [name for name in values if name.startswith("loop_")]
    assert {"loop_period", "loop_span", "loop_copies", "loop_at_end", "loop_span_strict"} == set(loops)
    assert {name: values[name] for name in loops} == {name: alone[name] for name in loops}
    assert (values["loop_period"], values["loop_span"]) == (7, 140)
    assert values["num_tokens"] == 200
    means = [repetition_metrics(ids)["seq_rep_4"] for ids in samples]
    assert values["seq_rep_4"] == pytest.approx(sum(float(m or 0.0) for m in means) / 3, abs=1e-12)
