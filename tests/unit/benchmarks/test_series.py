"""A series of measurements, and the command that asks for one."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from made_results import CEILINGS, SMALL, result_by_hand, silent

from benchmarks import command, models, suite
from benchmarks.results import BenchResult, to_json
from benchmarks.workload import Arm, Workload, seconds_by_phase, update_sequence
from collapselab.errors import InputError
from collapselab.records import loads
from collapselab.testing import BYTE_VOCAB


@pytest.mark.parametrize("task", ["iteration", "decode", "evaluate", "update"])
def test_a_series_measures_every_variant(workload: Workload, task) -> None:
    notes: list[str] = []
    result = suite.bench(
        task,
        workload,
        n=2,
        variants=("fast", "authors", "transformers", "exact"),
        with_memory=False,
        note=notes.append,
        probe=lambda: CEILINGS,
    )
    assert list(result.variants) == ["authors", "transformers", "exact", "fast"]
    assert {len(v.seconds.values) for v in result.variants.values()} == {2}
    assert list(result.variants["fast"].ratio_vs) == ["authors", "transformers", "exact"]
    assert len(result.probes) == 2, "the warm-up's does not count"
    assert notes[-1] == "round 3 of 3 done"
    assert to_json(result)["ratio_vs_authors"] == result.variants["fast"].ratio_vs["authors"].median


def test_a_result_names_the_shape_and_not_the_folder(workload: Workload, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(models.SHAPES, "small-shape", SMALL["gpt2"])
    small = replace(workload, model="small-shape")
    result = suite.bench(
        "decode", small, n=1, variants=("exact",), with_memory=False, note=silent, probe=lambda: CEILINGS
    )
    assert "collapselab-bench" not in json.dumps(to_json(result))
    assert result.workload.model == result.model == "small-shape"


def test_each_way_keeps_its_own_number_of_threads(workload: Workload, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that sets the number when it builds a run would else set that of the baselines too."""
    seen = []

    def make(name: str, workload: Workload) -> Arm:
        if name == "exact":
            torch.set_num_threads(2)
        return Arm(lambda: seen.append(torch.get_num_threads()) or [], lambda: 0.0, lambda: 0.0, dict)

    monkeypatch.setattr(suite, "make_arm", make)
    free = replace(workload, threads=None)
    try:
        calls = [suite.timed_call(name, "decode", free) for name in ("exact", "authors")]
        for call in calls:
            call()
    finally:
        torch.set_num_threads(1)
    assert seen == [2, 1]


def test_wrong_names_and_too_little_memory_are_told(workload: Workload, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(model: str, *variants: str) -> None:
        work = replace(workload, model=model)
        suite.bench("iteration", work, n=1, variants=variants, with_memory=False, note=silent)

    with pytest.raises(InputError, match=r"unknown variant 'fats'(.|\n)*'fast'"):
        run("gpt2-shape", "fats")
    with pytest.raises(InputError, match="no variant"):
        run("gpt2-shape")
    with pytest.raises(InputError, match=r"unknown shape 'gpt-shape'(.|\n)*'gpt2-shape'"):
        run("gpt-shape", "exact")
    with pytest.raises(InputError, match="unknown model"):
        run("builtin:nan", "exact")
    monkeypatch.setattr(suite, "available_bytes", lambda: 3_000_000_000)
    with pytest.raises(InputError, match=r"2 variants of 124 M parameters need 4\.0 GB, 3\.0 GB are free"):
        run("gpt2-shape", "exact", "fast")


def test_values_that_are_no_seconds_are_not_phases() -> None:
    assert seconds_by_phase({"seconds_update": 0.5, "step": 3, "seconds_other": None}) == {"update": 0.5}


def test_the_training_sequence_begins_with_the_prompt(workload: Workload) -> None:
    sequence = update_sequence(workload, BYTE_VOCAB, 7)
    assert sequence[0] == 7
    assert len(sequence) == 31
    assert max(sequence) < BYTE_VOCAB


def test_the_command_passes_its_options_on(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    asked = []

    def measure(task, workload, **options) -> BenchResult:
        asked.append((task, workload, options["n"], options["variants"], options["with_memory"]))
        return result_by_hand()

    monkeypatch.setattr(suite, "bench", measure)
    command.bench("decode", model="builtin:nano", n=3, threads=2, variants="exact, fast", skip_memory=True, json=True)
    assert asked == [("decode", Workload("builtin:nano", threads=2), 3, ["exact", "fast"], False)]
    assert loads(capsys.readouterr().out)["ratio_vs_authors"] == 9.0
    command.bench()
    assert asked[1] == ("iteration", Workload("gpt2-shape"), 5, ["authors", "transformers", "exact", "fast"], True)
    assert "× faster than authors" in capsys.readouterr().out
    with pytest.raises(InputError, match="n must be at least 1, received 0"):
        command.bench(n=0)
