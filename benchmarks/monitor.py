"""What `CollapseMonitor` costs a training: one observation and one probe, as shares of a step."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

from benchmarks.measure import Spread, alternate, ratios, spread
from benchmarks.models import SHAPES, locate
from benchmarks.plain import arm
from benchmarks.workload import Workload
from collapselab.inputs.models import load_model
from collapselab.monitor.monitor import CollapseMonitor
from collapselab.monitor.probes import Probes, draw

MIN_STEP_S = 1.0  # the promise, less than 1 %, is about steps of a second and more


@dataclass(frozen=True)
class MonitorCosts:
    """CPU seconds of a step alone, of judging its completions, and of a probe; `ratio`: of a watched step to one alone.

    A step writes four sequences of 200 tokens and makes an update, again and again until `MIN_STEP_S` have passed.
    """

    model: str
    step_s: Spread
    observe_s: Spread
    probe_s: Spread
    ratio: Spread

    @property
    def observe_share(self) -> float:
        """The share of a step that judging every step takes."""
        return self.observe_s.median / self.step_s.median

    @property
    def probe_share(self) -> float:
        """The share of a step that probing takes, at the default number of steps between probes."""
        return self.probe_s.median / Probes().every / self.step_s.median


def monitor_costs(workload: Workload, n: int, on_round: Callable[[int], None] | None = None) -> MonitorCosts:
    """n pairs of steps, alone and watched, in alternating order; and n probes. The monitor writes its run directory."""
    with TemporaryDirectory(prefix="collapselab-bench-") as name:
        folder = Path(name)
        located = workload.model if workload.model not in SHAPES else locate(workload.model, folder, 0)
        plain = arm(replace(workload, model=located, batch_size=4))
        loaded = load_model(located)
        monitor = CollapseMonitor(folder / "run", tokenizer=loaded.tokenizer, on_warning=(), on_verdict=())
        observed: list[float] = []

        def step() -> None:
            begun = time.process_time()
            while time.process_time() - begun < MIN_STEP_S:
                written[:] = plain.decode()
                plain.update()

        def watched() -> None:
            step()
            begun = time.process_time()
            monitor.observe(len(observed), written, entropy_nats=3.0, groups=[0, 0, 1, 1], ended=[False] * 4)
            observed.append(time.process_time() - begun)

        def probe() -> None:
            draw(
                loaded.model,
                SimpleNamespace(bos_token_id=None, eos_token_id=loaded.tokenizer.end_of_text_id),
                Probes(),
                0,
            )

        written: list[Sequence[int]] = []
        tasks = {"alone": step, "watched": watched}
        found = alternate(tasks, n, clock=time.process_time, on_round=on_round)
        probes = alternate({"probe": probe}, n, clock=time.process_time)["probe"]
        monitor.finish()
    alone, beside = ([timed.seconds for timed in found[name]] for name in tasks)
    seconds = [timed.seconds for timed in probes]
    return MonitorCosts(workload.model, spread(alone), spread(observed[-n:]), spread(seconds), ratios(beside, alone))
