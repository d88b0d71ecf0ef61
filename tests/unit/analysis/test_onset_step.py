"""The onset of whole columns is that of the fold, step by step."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from collapselab.analysis.survival import onset_step
from collapselab.collapse.course import CollapseState, Observation, advance
from collapselab.collapse.rules import StepVerdict
from collapselab.config.schema import Collapse

# Stretches of one verdict, so that windows fill; a step of `None` was too short to judge.
STRETCHES = st.lists(st.tuples(st.sampled_from([True, False, None]), st.integers(1, 9)), max_size=12)


@given(STRETCHES, st.integers(1, 9), st.integers(1, 9), st.integers(0, 5))
@settings(max_examples=300, deadline=None)
def test_the_onset_of_columns_is_that_of_the_fold(
    stretches: list[tuple[bool | None, int]], window: int, patience: int, first: int
) -> None:
    verdicts = [verdict for verdict, length in stretches for _ in range(length)]
    thresholds, state = Collapse(window=window, patience=patience), CollapseState(None)
    for step, verdict in enumerate(verdicts, first):
        judged = StepVerdict(verdict, (), "loop" if verdict else None)
        state = advance(state, Observation(step, judged, ()), thresholds)
    steps = np.array([step for step, verdict in enumerate(verdicts, first) if verdict is not None], dtype=int)
    degenerate = np.array([verdict for verdict in verdicts if verdict is not None], dtype=bool)
    assert onset_step(steps, degenerate, window, patience) == state.onset_step
