"""Files of version 1 are read in the names of this version, also where a run of version 1 is resumed."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from collapselab import load_runs, run
from collapselab.config.overrides import override
from collapselab.config.schema import RunConfig
from collapselab.errors import InputError, Interrupted
from collapselab.records import dumps, loads
from collapselab.rundir.layout import RunDir, UnknownSchema, read_json, write_json
from collapselab.rundir.migration import migrated

OLD_NAMES = {"ended_by": "stop", "loss_fate": "loss_state"}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"schema": 1, "outcome": "collapsed", "state": "collapsed"}, {"ended_by": "collapse", "fate": "onset"}),
        ({"schema": 1, "outcome": "diverged", "state": "diverged"}, {"ended_by": "divergence", "fate": "diverged"}),
        ({"schema": 1, "outcome": "budget", "state": "lost"}, {"ended_by": "budget", "fate": "lost"}),
        ({"schema": 1, "status": "collapsed", "step": 3}, {"status": "finished", "step": 3}),
        ({"schema": 1, "status": "running"}, {"status": "running"}),
    ],
)
def test_words_of_version_1(old: dict[str, object], new: dict[str, object]) -> None:
    assert migrated(old) == new | {"schema": 2}
    assert migrated(migrated(old)) == migrated(old)


def test_a_line_is_known_by_its_names() -> None:
    assert migrated({"step": 1, "stop": "diverged", "loss_state": "lost"}) == {
        "step": 1,
        "ended_by": "divergence",
        "loss_fate": "lost",
    }
    own = {
        "step": 1,
        "ended_by": None,
        "stop": 0.5,
        "state": 2.0,
    }  # metrics of the user, in a new line
    assert migrated(own) == own


@pytest.mark.parametrize("schema", [0, 3, "2", None])
def test_an_unknown_version_is_refused_by_name(tmp_path: Path, schema: object) -> None:
    write_json(tmp_path / "summary.json", {"schema": schema})
    with pytest.raises(UnknownSchema, match=rf"summary\.json has schema {schema!r}, .* reads schemas 1 and 2"):
        read_json(tmp_path / "summary.json")


def make_old(rundir: RunDir) -> None:
    """An interrupted run as version 1 left it: old names in its lines, and checkpoints that noted those lines."""
    lines = [loads(line) for line in rundir.steps.read_text().splitlines()]
    old = [dumps({OLD_NAMES.get(k, k): v for k, v in line.items()}) + "\n" for line in lines]
    rundir.steps.write_text("".join(old))
    for file in [rundir.config, rundir.user, rundir.env, *rundir.checkpoints.glob("*/state.json")]:
        content = read_json(file) | {"schema": 1}
        if "records" in content:
            noted = "".join(old[: content["records"]["steps.jsonl"]["lines"]]).encode()
            content["records"]["steps.jsonl"]["sha256"] = hashlib.sha256(noted).hexdigest()
        write_json(file, content)


def test_a_run_begun_with_version_1_is_resumed(tmp_path: Path, tiny_config: RunConfig) -> None:
    config = override(tiny_config, {"stop.max_steps": 4})
    whole = run(config, tmp_path / "whole")
    out = tmp_path / "old"
    with pytest.raises(Interrupted):
        run(override(config, {"stop.max_seconds": 1e-9}), out)
    make_old(RunDir(out))
    assert '"stop": null' in RunDir(out).steps.read_text()
    found = run(config, out, resume=True)
    assert [name for name in ("ended_by", "fate", "onset_step") if found.summary[name] != whole.summary[name]] == []
    old, new = RunDir(out).read_records(), RunDir(whole.path).read_records()
    assert [without_times(record.values) for record in old] == [without_times(record.values) for record in new]
    assert '"stop": null' in RunDir(out).steps.read_text(), "lines of version 1 stay as they were written"
    steps = load_runs(out).steps
    assert steps["ended_by"].tolist()[-1] == "budget"
    assert not {"stop", "loss_state"} & set(steps.columns)


def without_times(values: object) -> dict[str, object]:
    assert isinstance(values, dict)
    return {name: value for name, value in values.items() if not name.startswith("seconds_")}


def test_a_word_nobody_knows_is_damage(tmp_path: Path, tiny_config: RunConfig) -> None:
    result = run(tiny_config, tmp_path / "run")
    write_json(RunDir(result.path).summary, {**read_json(RunDir(result.path).summary), "fate": "melted away"})
    with pytest.raises(InputError, match="no summary of a run"):
        load_runs(result.path)
