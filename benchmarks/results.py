"""The measurements as data: seconds, paired ratios, shares of the ceilings, and their JSON. Without torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from benchmarks.costs import (
    DTYPES,
    Ceilings,
    Dtype,
    Rates,
    Size,
    decode_bytes,
    evaluate_flops,
    floors,
    rates_for,
    typical,
)
from benchmarks.measure import Spread, Timed, ratios, spread
from benchmarks.workload import PHASE_OF, Task, Workload

SCHEMA_VERSION = 1
VARIANTS = ("authors", "transformers", "exact", "fast")
# The variant of each headline number in the JSON: decoding in float32, everything else in fast numerics.
HEADLINE = {
    "ratio_vs_authors": "fast",
    "ratio_vs_transformers": "fast",
    "decode_bandwidth_share": "exact",
    "evaluate_peak_share": "fast",
    "tokens_per_s": "fast",
    "seconds_by_phase": "fast",
    "peak_rss_bytes": "fast",
}


@dataclass(frozen=True)
class VariantResult:
    """The figures of one variant; `None` if the task has no such figure.

    `ratio_vs`: how many times faster than each variant before it. `decode_bandwidth_share`: the bytes that writing must
    read, divided by its time and the bandwidth measured in the same round; `evaluate_peak_share`: the same for the
    operations of evaluation and the matrix peak of the variant's numerics.
    """

    seconds: Spread
    seconds_by_phase: dict[str, Spread]
    ratio_vs: dict[str, Spread]
    tokens_per_s: Spread | None
    decode_bandwidth_share: Spread | None
    evaluate_peak_share: Spread | None
    peak_rss_bytes: int | None


@dataclass(frozen=True)
class BenchResult:
    """One series: the work, the machine, the date and the results.

    `ceilings`: the best rate of each round. `probes`: the same with every kernel. `floor_s`: by numerics and phase.
    """

    task: Task
    model: str
    n: int
    date: str
    workload: Workload
    size: Size
    machine: Mapping[str, object]
    ceilings: Mapping[str, Spread]
    probes: Sequence[Ceilings]
    floor_s: Mapping[Dtype, Mapping[str, float]]
    variants: Mapping[str, VariantResult]


def variant_results(
    task: Task,
    workload: Workload,
    size: Size,
    runs: Mapping[str, Sequence[Timed[dict[str, float]]]],
    ceilings: Sequence[Ceilings],
    peaks: Mapping[str, int],
) -> dict[str, VariantResult]:
    """The figures of each variant from its runs, one per round, and the ceilings of the same rounds."""
    found: dict[str, VariantResult] = {}
    for name, timed in runs.items():
        seconds = [run.seconds for run in timed]
        phases = _phases(task, timed)
        rates = [rates_for(dtype_of(name), c) for c in ceilings]
        found[name] = VariantResult(
            seconds=spread(seconds),
            seconds_by_phase={phase: spread(values) for phase, values in phases.items()},
            ratio_vs={other: ratios([r.seconds for r in runs[other]], seconds) for other in found},
            tokens_per_s=_tokens_per_s(workload, phases.get("generate")),
            decode_bandwidth_share=_bandwidth_share(size, workload, phases.get("generate"), rates),
            evaluate_peak_share=_peak_share(size, workload, phases.get("evaluate"), rates, evaluations(task, name)),
            peak_rss_bytes=peaks.get(name),
        )
    return found


def dtype_of(variant: str) -> Dtype:
    """The numerics whose ceilings apply to a variant."""
    return "bfloat16" if variant == "fast" else "float32"


def evaluations(task: Task, variant: str) -> int:
    """The evaluations of a variant in one run of a task: the authors' script evaluates on two texts per update."""
    return 2 if variant == "authors" and task == "iteration" else 1


def median_ceilings(ceilings: Sequence[Ceilings]) -> dict[str, Spread]:
    """Each ceiling over the rounds, by name."""
    names = ("read_bytes_per_s", "float32_flops_per_s", "bfloat16_flops_per_s")
    return {name: spread([float(getattr(c, name)) for c in ceilings]) for name in names}


def median_floors(
    task: Task, size: Size, workload: Workload, ceilings: Sequence[Ceilings]
) -> dict[Dtype, dict[str, float]]:
    """The minimum seconds of each phase of the task, by numerics, at the median ceilings."""
    phases = list(PHASE_OF.values()) if task == "iteration" else [PHASE_OF[task]]
    found: dict[Dtype, dict[str, float]] = {}
    for dtype in DTYPES:
        all_floors = floors(size, workload, rates_for(dtype, typical(ceilings)))
        found[dtype] = {phase: all_floors[phase] for phase in phases}
    return found


def to_json(result: BenchResult) -> dict[str, object]:
    """All measurements with raw values; the numbers at the top are those of `headline`."""
    return {
        "schema_version": SCHEMA_VERSION,
        **headline(result.variants),
        "headline": HEADLINE,
        **asdict(result),
    }


def headline(variants: Mapping[str, VariantResult]) -> dict[str, object]:
    """The headline numbers: medians of the variants named in `HEADLINE`; `None` if not measured."""
    found: dict[str, object] = {}
    for name, variant in HEADLINE.items():
        result = variants.get(variant)
        if result is None:
            found[name] = None
        elif name.startswith("ratio_vs_"):
            found[name] = _median(result.ratio_vs.get(name.removeprefix("ratio_vs_")))
        elif name == "seconds_by_phase":
            found[name] = {phase: s.median for phase, s in result.seconds_by_phase.items()}
        else:
            value = getattr(result, name)
            found[name] = _median(value) if isinstance(value, Spread) else value
    return found


def _median(value: Spread | None) -> float | None:
    return None if value is None else value.median


def _phases(task: Task, timed: Sequence[Timed[dict[str, float]]]) -> dict[str, list[float]]:
    if task != "iteration":
        return {PHASE_OF[task]: [run.seconds for run in timed]}
    return {phase: [run.value[phase] for run in timed] for phase in timed[0].value}


def _tokens_per_s(workload: Workload, seconds: Sequence[float] | None) -> Spread | None:
    tokens = workload.max_new_tokens * workload.batch_size
    return None if seconds is None else spread([tokens / s for s in seconds])


def _bandwidth_share(
    size: Size, workload: Workload, seconds: Sequence[float] | None, rates: Sequence[Rates]
) -> Spread | None:
    if seconds is None:
        return None
    pairs = zip(seconds, rates, strict=True)
    return spread([decode_bytes(size, workload, r.bytes_per_weight) / s / r.read_bytes_per_s for s, r in pairs])


def _peak_share(
    size: Size, workload: Workload, seconds: Sequence[float] | None, rates: Sequence[Rates], times: int
) -> Spread | None:
    if seconds is None:
        return None
    flops = times * evaluate_flops(size, workload)
    return spread([flops / s / r.flops_per_s for s, r in zip(seconds, rates, strict=True)])
