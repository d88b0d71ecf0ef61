"""Summaries of an earlier version, judged again by the rules of this one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from collapselab.collapse.summary import course_values
from collapselab.config.schema import RunConfig
from collapselab.records import Record
from collapselab.rundir.layout import RunDir, read_json, read_lines


def up_to_date(rundir: RunDir, summary: dict[str, Any]) -> dict[str, Any]:
    """A summary, judged again if it comes from an earlier version, which counted a high perplexity as divergence.

    `lost_step` is then unknown, because the vocabulary size is (tools/judge_again.py takes it as an argument).
    """
    is_old = "lost_step" not in summary and summary.get("diverged_step") is not None
    return judged_again(rundir, summary, None) if is_old else summary


def judged_again(rundir: RunDir, summary: Mapping[str, Any], vocab_size: int | None) -> dict[str, Any]:
    """A summary with its fate and steps judged from the records; kinds stay, since packed runs lack samples."""
    config = RunConfig.model_validate(read_json(rundir.config)["config"])
    steps = [Record(line["step"], line) for line in read_lines(rundir.steps)]
    values = course_values(steps, config.collapse, vocab_size)
    return {**summary, **{name: value for name, value in values.items() if not name.startswith("kind_")}}
