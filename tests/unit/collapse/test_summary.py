"""What summary.json says of gradients and of how samples begin."""

from __future__ import annotations

from collapselab.collapse.summary import clipped_share, samples_begin
from collapselab.records import Record, Sample


def records(*norms: float | None) -> list[Record]:
    return [Record(step, {"grad_norm": norm}) for step, norm in enumerate(norms)]


def test_the_share_of_clipped_gradients_by_hand() -> None:
    assert clipped_share(records(0.5, 1.0, 1.5, 7.0, None), 1.0) == 0.5, "a norm at the bound is not clipped"
    assert clipped_share(records(0.5, 7.0), None) == 0.0, "without a bound nothing is clipped"
    assert clipped_share(records(None), 1.0) is None


def test_what_samples_begin_with() -> None:
    texts = [" - one", " - two", "\n\nThe end", "The", "", " -"]
    made = [Record(i, {}, (Sample((1,), text), Sample((2,), "probe", "probe"))) for i, text in enumerate(texts)]
    assert samples_begin(made) == {" -": 3 / 6, "\n\nThe": 1 / 6, "The": 1 / 6}
    assert samples_begin([Record(0, {}, (Sample((), ""),))]) == {"": 1.0}
    assert samples_begin([]) == {}
