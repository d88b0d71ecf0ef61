"""`CollapseMonitor`: watches what a model writes while it is trained, in any loop. Without torch."""

from __future__ import annotations

import time
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, cast

from collapselab.collapse.course import CollapseState, Observation, advance
from collapselab.collapse.judging import are_finite, verdict_values
from collapselab.collapse.rules import SAMPLE_KINDS, SampleVerdict, judge_sample, judge_step, unspaced
from collapselab.collapse.start import Start
from collapselab.collapse.warning import ALARMS, Alarm, Warnings
from collapselab.collapse.words import EndedBy
from collapselab.config.schema import Collapse
from collapselab.errors import InputError
from collapselab.monitor.actions import Action, act, checked
from collapselab.monitor.completions import cached, difference, metrics_of, nested, spread
from collapselab.monitor.directory import MonitorDir
from collapselab.monitor.trainer import Probes, TrainerEvents
from collapselab.monitor.troubles import Event, Troubles, course_events, overlap_across, overlap_within, warning_event
from collapselab.records import Record, Sample, Value
from collapselab.step.measure import mean_values

Ids = Sequence[int]
MIN_SIGNAL_TOKENS = 20  # a sample of fewer says nothing about repetition
_FROZEN_PART = 1 / 4
_PROBES = Probes()


class CollapseMonitor(TrainerEvents):
    """Watches a training for collapse: warns when a signal leaves its baseline, and says when the text is degenerate.

    `observe` serves any loop; the same object is a callback for transformers' and TRL's trainers, and a reward function
    for GRPO and RLOO that changes no reward (`attach` does what a trainer needs). It judges at most `max_samples`
    samples per step, each by its last `window` tokens: loops run to the end, and the rules are calibrated on 200.

    Args:
        out: the run directory it writes; none: nothing is written, unless a Trainer names its output directory.
        tokenizer: decodes token ids; none: rules that need the text are skipped. A Trainer's own is used.
        name: of the model, in the records.
        on_warning: what to do at an early warning: "log", "alert", "stop", "keep", functions of an `Event`.
        on_verdict: the same when collapse, divergence or another trouble is certain.
        thresholds: the rules of collapse; none: the defaults.
        alarms: those of the early warning.
        max_samples: samples judged per step.
        window: tokens judged of each.
        probes: what is sampled from the model in a Trainer that shows no completions; none: nothing.

    Raises:
        InputError: an action or a number cannot be used.
    """

    def __init__(
        self,
        out: Path | str | None = None,
        *,
        tokenizer: Any = None,
        name: str = "training",
        on_warning: Action | Sequence[Action] = "log",
        on_verdict: Action | Sequence[Action] = "log",
        thresholds: Collapse | None = None,
        alarms: Sequence[Alarm] = ALARMS,
        max_samples: int = 4,
        window: int = 200,
        probes: Probes | None = _PROBES,
    ) -> None:
        if max_samples < 1 or window < 100:
            raise InputError(
                f"a monitor judges at least 1 sample and 100 tokens of it, received {max_samples} and {window}"
            )
        super().__init__(probes)
        self.out, self.name, self.lr = None if out is None else Path(out), name, None
        self.on_warning, self.on_verdict = checked(on_warning), checked(on_verdict)
        self.thresholds = (thresholds or Collapse()).model_copy(update={"source": "stream"})
        self.max_samples, self.window = max_samples, window
        self.should_stop = False
        self.events: list[Event] = []
        self.latest: Mapping[str, Value] = {}
        self._alarms = tuple(alarms)
        self._directory: MonitorDir | None = None
        self._has_begun = False
        self._use(tokenizer)
        self._forget()

    def _forget(self) -> None:
        """The state before the first step."""
        self.state, self.warnings, self.troubles = CollapseState(None), Warnings.of(self._alarms), Troubles()
        self._start_samples: list[tuple[int, ...]] = []
        self._start_values: dict[str, Value] = {}

    def _use(self, tokenizer: Any) -> None:
        self._tokenizer, self._decode = tokenizer, None if tokenizer is None else cached(tokenizer.decode)

    @property
    def is_healthy(self) -> bool:
        """No warning, no trouble, and no degenerate step in the window."""
        has_trouble = any(seen.step is not None for seen in self.troubles.seen.values())
        share = self.state.degenerate_share or 0.0
        return self.warnings.since is None and not has_trouble and not share and self.state.diverged_step is None

    def observe(
        self,
        step: int,
        token_ids: Sequence[Ids] | Ids,
        logprobs: Sequence[Sequence[float]] | Sequence[float] | None = None,
        entropy_nats: float | None = None,
        *,
        sampler_logprobs: Sequence[Sequence[float]] | Sequence[float] | None = None,
        groups: Sequence[Hashable] | None = None,
        ended: Sequence[bool] | None = None,
        values: Mapping[str, Value] | None = None,
    ) -> list[Event]:
        """Takes in what the model wrote at a step, and returns the events that this brings.

        Args:
            step: of the training; each is greater than the one before. The first after a resume may repeat the last
                steps: records from it on are replaced.
            token_ids: of one completion or several, without prompt and padding; an empty list: only `values` are known.
            logprobs: of these tokens, by the model that is trained.
            entropy_nats: mean entropy of the distributions that the tokens were drawn from.
            sampler_logprobs: of these tokens, by the engine that wrote them.
            groups: what the completions answer, one prompt or its number for each.
            ended: whether each completion has an end token.
            values: further numbers of the step, by name (`loss`, `grad_norm`, …); kept in the records.

        Raises:
            InputError: the step is not greater than the last, or the lists differ in length.
        """
        begun = time.perf_counter()
        samples = [list(ids) for ids in nested(token_ids)]
        self._begin(step)
        if self.state.step is not None and step <= self.state.step:
            raise InputError(f"step {step} follows step {self.state.step}", "observe each step once, in order")
        for name, given in {"groups": groups, "ended": ended}.items():
            if given is not None and len(given) != len(samples):
                raise InputError(f"{name} has {len(given)} items for {len(samples)} completions")
        known: dict[str, Value] = {"step": step, **dict(values or {})}
        own, theirs = (None if given is None else nested(given) for given in (logprobs, sampler_logprobs))
        if own is not None and any(own):
            known["train_nll_nats"] = -fmean(x for row in own for x in row)
            if theirs is not None:
                known["sampler_difference_nats"] = difference(own, theirs)
        if entropy_nats is not None:
            known["entropy_nats"] = float(entropy_nats)
        if ended is not None and len(ended):
            known["unended_share"] = 1 - sum(map(bool, ended)) / len(ended)
        chosen = spread([i for i, ids in enumerate(samples) if len(ids) >= MIN_SIGNAL_TOKENS], self.max_samples)
        judged = [tuple(samples[i][-self.window :]) for i in chosen]
        metrics = metrics_of(judged)
        if judged:
            known |= mean_values([{"num_tokens": len(ids), **row} for ids, row in zip(judged, metrics, strict=True)])
        if groups is not None and judged:
            of_judged = [groups[i] for i in chosen]
            known |= {
                "overlap_within": overlap_within(judged, of_judged),
                "overlap_across": overlap_across(judged, of_judged),
            }
        return self._take(known, judged, metrics, begun)

    def _observe(self, step: int, token_ids: Any, **known: Any) -> None:
        self.observe(step, token_ids, **known)

    def _take(
        self,
        values: dict[str, Value],
        judged: Sequence[tuple[int, ...]],
        metrics: Sequence[Mapping[str, Value]],
        begun: float,
    ) -> list[Event]:
        former, was_warned, had = self.state, self.warnings.since, self.troubles
        seen = self._advance(values, judged, metrics)
        verdict = verdict_values(seen.verdict)
        values |= {**verdict, "degenerate_share": self.state.degenerate_share, "loss_fate": self.state.loss_fate}
        values["warning"] = [watch.alarm.signal for watch in self.warnings.on]
        values["ended_by"] = None
        events = course_events(former, self.state, self.warnings.since) + self.troubles.news(had, values)
        if self.warnings.since is not None and was_warned is None and former.onset_step is None:
            events.append(warning_event(self.warnings))
        values["seconds_measure"] = time.perf_counter() - begun
        self.latest = values
        if self._directory is not None:
            texts = ["" if self._decode is None else self._decode(list(ids)) for ids in judged]
            pairs = zip(judged, texts, strict=True)
            samples = tuple(Sample(ids, text) for ids, text in pairs)
            self._directory.append(Record(seen.step, values, samples))
        for event in events:
            self._do(event)
        return events

    def _do(self, event: Event) -> None:
        self.events.append(event)
        actions = self.on_warning if event.stage == "warning" else self.on_verdict
        self.should_stop = self.should_stop or "stop" in actions
        act(actions, event)

    def _advance(
        self,
        values: Mapping[str, Value],
        judged: Sequence[tuple[int, ...]],
        metrics: Sequence[Mapping[str, Value]],
    ) -> Observation:
        """Brings all that is known up to a step with these values; replaying the records repeats it exactly."""
        step = cast(int, values["step"])
        record = Record(step, values)
        start = self._start_of(values, judged)
        is_finite = are_finite(values) and are_finite({"train_nll_nats": values.get("loss")})
        seen = Observation(step, None, tuple(judged), is_finite=is_finite, start=start)
        if judged and is_finite and self.state.diverged_step is None:
            begin = start or self.state.start
            rules = begin.thresholds if begin is not None else self.thresholds
            verdicts = [self._judge(ids, row, rules) for ids, row in zip(judged, metrics, strict=True)]
            verdict = judge_step(
                judged,
                verdicts,
                self.state.earlier_samples(self.thresholds),
                record.number("train_nll_nats"),
                rules,
                entropy_nats=record.number("entropy_nats"),
                start=begin,
            )
            seen = Observation(step, verdict, tuple(judged), is_finite=is_finite, start=start)
        self.state = advance(self.state, seen, self.thresholds)
        self.warnings = self.warnings.see(step, values)
        # Loops resemble each other: samples that are degenerate by themselves say nothing of templates.
        is_loop = seen.verdict is not None and seen.verdict.kind in SAMPLE_KINDS
        self.troubles = self.troubles.see(step, {**values, "overlap_across": None} if is_loop else values)
        return seen

    def _judge(self, ids: Ids, metrics: Mapping[str, Value], rules: Collapse) -> SampleVerdict:
        if self._decode is None:
            return judge_sample(ids, rules, None, metrics)
        decode = self._decode
        num_visible = sum(bool(decode([token]).strip()) for token in ids)
        return judge_sample(ids, rules, num_visible, metrics, decode(list(ids)), unspaced(ids, decode))

    def _start_of(self, values: Mapping[str, Value], judged: Sequence[tuple[int, ...]]) -> Start | None:
        """The run's own start, once enough samples have been seen to compare with; `None` before and after."""
        if self.state.start is not None or not judged:
            return None
        if not self._start_samples:
            self._start_values = dict(values)
        self._start_samples += judged
        if len(self._start_samples) < self.thresholds.start_samples:
            return None
        start = Start.of(self._start_samples, self._start_values, self.thresholds)
        if start.nll_nats is None:
            return start
        # Instruct models are certain of most tokens when they are well: what is frozen is measured from their start.
        bound = min(self.thresholds.frozen_nll_nats, _FROZEN_PART * start.nll_nats)
        return Start(start.thresholds.model_copy(update={"frozen_nll_nats": bound}), start.nll_nats, start.samples)

    def _begin(self, step: int) -> None:
        """Before the first step: claims the directory, and takes in what it holds of the steps before."""
        if self._has_begun:
            return
        self._has_begun = True
        if self.out is None:
            return
        self._forget()
        self._directory = MonitorDir(self.out, self.name, self.lr, self.thresholds)
        for record in self._directory.keep_before(step):
            judged = [sample.token_ids for sample in record.samples]
            self._advance(record.values, judged, metrics_of(judged))

    def finish(self, ended_by: EndedBy = "budget") -> None:
        """Writes summary.json, and lets the run directory go; observing again continues it."""
        if self._directory is not None:
            told = [f"{event.name} at step {event.step}" for event in self.events]
            self._directory.finish(self.state, self._alarms, ended_by, {"events": told})
            self._directory, self._has_begun = None, False
