"""Fair timing: alternating runs, ratios of pairs, peak memory; the probe of the machine."""

from __future__ import annotations

import math
import operator

import numpy as np
import pytest

from benchmarks.measure import Timed, alternate, peak_rss_bytes, ratios, spread
from benchmarks.probe import machine, make_probe


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_runs_alternate_and_warm_up_runs_do_not_count() -> None:
    clock, order, rounds = Clock(), [], []

    def task(name: str, seconds: float):
        def run() -> int:
            order.append(name)
            clock.now += seconds + len(order)
            return len(order)

        return run

    found = alternate({"a": task("a", 10.0), "b": task("b", 20.0)}, 2, warmups=1, clock=clock, on_round=rounds.append)
    assert order == ["a", "b", "b", "a", "a", "b"]
    assert found == {"a": [Timed(14.0, 4), Timed(15.0, 5)], "b": [Timed(23.0, 3), Timed(26.0, 6)]}
    assert rounds == [1, 2, 3]


def test_spread_by_hand() -> None:
    found = spread([4.0, 1.0, 3.0, 2.0, 9.0])
    assert (found.median, found.least, found.greatest) == (3.0, 1.0, 9.0)
    assert (found.lower_quartile, found.upper_quartile) == (2.0, 4.0)
    assert found.coverage == 0.9375
    assert found.values == (4.0, 1.0, 3.0, 2.0, 9.0), "in the order of measurement"
    assert spread([2.0]).coverage == 0.0


def test_the_extremes_hold_the_median_as_often_as_stated() -> None:
    """5 draws of a skewed distribution with median ln 2, 4,000 times: the share is within 5 standard errors."""
    draws = np.random.default_rng(1).exponential(size=(4_000, 5))
    held = np.mean((draws.min(1) < math.log(2)) & (draws.max(1) > math.log(2)))
    assert held == pytest.approx(spread([0.0] * 5).coverage, abs=5 * math.sqrt(0.9375 * 0.0625 / 4_000))


def test_ratios_are_of_pairs() -> None:
    found = ratios([10.0, 30.0, 20.0], [5.0, 10.0, 2.0])
    assert found.values == (2.0, 3.0, 10.0)
    assert found.median == 3.0, "not the ratio of the medians, which is 4"


def test_peak_memory_is_that_of_the_child_alone() -> None:
    here = b"x" * 600_000_000
    peak = peak_rss_bytes(operator.mul, b"x", 200_000_000)
    assert len(here) == 600_000_000
    assert 200_000_000 < peak < 500_000_000


def test_rates_are_amounts_over_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a second a kernel: 4 kB twice a second, and the operations of the largest product."""
    ticks = iter(range(10_000))
    found = make_probe(2, 4096, clock=lambda: next(ticks) / 2)()
    assert found.read_bytes_per_s == 2 * 4096
    assert found.float32_flops_per_s == found.bfloat16_flops_per_s == 2 * 2 * 2048**3
    assert {len(rate.values) for rate in found.rates.values()} == {2}
    assert [name for name in found.rates if name.startswith("read")] == ["read sum", "read dot", "read matrix-vector"]
    assert "bfloat16 1024x768x3072" in found.rates


def test_the_machine_has_a_fingerprint_of_its_hardware() -> None:
    found = machine()
    assert found["fingerprint"] == machine()["fingerprint"]
    assert set(found) >= {"cpu", "cores", "threads", "memory_bytes", "caches", "instruction_sets", "packages", "git"}
