"""Runs made up for tests of the report: true files, written by the package itself, with an onset that is chosen."""

from __future__ import annotations

import math
import random
from pathlib import Path

from collapselab.collapse.course import CollapseState, advance
from collapselab.collapse.judging import recorded
from collapselab.collapse.rules import judge_sample, judge_step
from collapselab.collapse.summary import summarise
from collapselab.config.overrides import override
from collapselab.config.schema import RunConfig
from collapselab.inputs.models import model_names
from collapselab.loop import stop_reason
from collapselab.records import Record, Sample, Value
from collapselab.step.measure import sample_values
from fake_runs import write_run

VOCABULARY = 400
NUM_PARAMETERS = {info.name: info.num_parameters or 0 for info in model_names()}
LEARNING_RATES = (4e-5, 8e-5)
MODELS = ("nano", "micro")


def make_config(**changes: object) -> RunConfig:
    """A short run of a shipped model: 30 steps at most, 100 tokens each; double underscores stand for dots."""
    short: dict[str, object] = {"model": "builtin:micro", "data": ("austen", "moby-dick")}
    short |= {"stop.max_steps": 30, "generate.max_new_tokens": 100}
    return override(RunConfig(), short | {name.replace("__", "."): value for name, value in changes.items()})


def judged_run(
    path: Path, config: RunConfig, onset: float, *, finished: bool = True, with_samples: bool = True
) -> Path:
    """A run whose samples fill with loops around the step `onset`, judged and stopped by the package's own rules."""
    records = make_records(config, onset)
    if not finished:
        records = records[: max(1, len(records) // 2)]
    protocols = {"val": config.eval.protocol, "full": config.eval.full_protocol}
    summary = summarise(records, config, VOCABULARY, NUM_PARAMETERS[config.model], protocols) if finished else None
    kept = records if with_samples else [Record(record.step, record.values) for record in records]
    return write_run(path, config, kept, summary=summary, status="finished" if finished else "interrupted")


def make_records(config: RunConfig, onset: float) -> list[Record]:
    state, records = CollapseState(VOCABULARY), list[Record]()
    draw = random.Random(f"{config.run_id} {onset}")
    for step in range(config.stop.max_steps + 1):
        ids = make_sample(draw, config.generate.max_new_tokens, step, onset)
        values = make_values(draw, config, step, onset) | sample_values([ids], {})
        sample = Sample(ids, " ".join(f"w{token}" if token else "\n" for token in ids))
        own_nll = values["train_nll_nats"] if config.train.source == "own" else None
        assert own_nll is None or isinstance(own_nll, float)
        verdict = judge_step(
            [ids], [judge_sample(ids, config.collapse, None)], state.earlier_samples(config.collapse), own_nll,
            config.collapse,
        )  # fmt: skip
        values |= {"degenerate": verdict.degenerate, "reasons": list(verdict.reasons), "kind": verdict.kind}
        state = advance(state, recorded(Record(step, values, (sample,)), config.collapse), config.collapse)
        ended_by = stop_reason(state, config.stop)
        values |= {"degenerate_share": state.degenerate_share, "ended_by": ended_by}
        records.append(Record(step, values, (sample,)))
        if ended_by is not None:
            break
    return records


def make_sample(draw: random.Random, length: int, step: int, onset: float) -> tuple[int, ...]:
    """Random tokens, then a loop that takes more of the sample the nearer the step is to the onset."""
    share = 1 / (1 + math.exp(-8 * (step - onset) / max(onset, 1.0) - 1)) if math.isfinite(onset) else 0.0
    num_free = min(length, int(length * (1 - share) * draw.uniform(0.8, 1.2)))
    free = [min(int(draw.paretovariate(0.6)), VOCABULARY - 1) for _ in range(num_free)]
    body = [draw.randrange(VOCABULARY) for _ in range(draw.choice((2, 3, 5)))]
    return tuple((free + body * length)[:length])


def make_values(draw: random.Random, config: RunConfig, step: int, onset: float) -> dict[str, Value]:
    """Losses and norms as a run of this kind has them, with noise."""
    done = step / onset if math.isfinite(onset) else 0.0
    values: dict[str, Value] = {"step": step}
    if step % config.eval.every == 0:
        for i, text in enumerate(config.data):
            loss = 3.3 + 0.5 * i + 1.8 * min(done, 1.5) ** 2 + draw.gauss(0, 0.01)
            values |= {} if i else {"val_nll_nats": loss, "val_nll_se": 0.04}
            values |= {f"val_nll_nats[{text}]": loss, f"val_nll_se[{text}]": 0.04}
    calm = max(0.05, 1 - 0.9 * min(done, 1.1) ** 3)
    values |= {"relative_update_norm": config.optim.lr * 100}
    values |= {"train_nll_nats": calm * 2.7 + draw.gauss(0, 0.1) * calm, "entropy_nats": calm * 3.4}
    return values | {"grad_norm": 1.0 + done, "update_norm": config.optim.lr * 1500}


def write_sweep(folder: Path, num_seeds: int = 3) -> Path:
    """Runs over sizes, learning rates and seeds: larger and faster ones collapse sooner, the slowest may not."""
    for m, model in enumerate(MODELS):
        for lr in LEARNING_RATES:
            for seed in range(num_seeds):
                config = make_config(model=f"builtin:{model}", optim__lr=lr, seed=seed)
                onset = 1.25e-3 / lr / (1 + m) * (1 + 0.1 * seed)
                judged_run(folder / f"{model}-lr-{lr:g}-seed-{seed}", config, onset)
    return folder
