"""The golden trajectories: five records of two runs, kept as JSON next to this file.

python tests/invariants/golden.py        # rewrites them, after a change that is meant to alter numbers
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import torch

from collapselab.config.overrides import override
from collapselab.config.schema import RunConfig
from collapselab.loop import online_loop
from collapselab.records import Record
from collapselab.step.parts import build
from collapselab.testing import save_folder, tiny_model

FOLDER = Path(__file__).parent / "golden"
TEXT = "It is a truth universally acknowledged, that a single man in possession of a good fortune must be in want. "

_COMMON: dict[str, object] = {
    "seed": 7,
    "threads": 1,
    "generate.max_new_tokens": 100,
    "eval.full_protocol": "disjoint[64]",
    "eval.full_every": 2,
    "stop.max_steps": 4,
}
# Two samples of unequal length and two updates on each batch exercise what one plain sample does not.
CASES: dict[str, dict[str, object]] = {
    "tiny-plain": {
        **_COMMON,
        "engine": "plain",
        "optim.lr": 1e-3,
        "eval.protocol": "windows[20,5]",
        "generate.batch_size": 2,
        "generate.prompt": "She said ",
        "generate.at_end_of_text": "stop",
        "train.steps_per_sequence": 2,
    },
    "nano-native": {
        **_COMMON,
        "engine": "native",
        "model": "builtin:nano",
        "data": ("austen",),
        "optim.lr": 1e-4,
        "eval.protocol": "windows[50,4]",
        "numerics.evaluate": "float32",  # processors multiply bfloat16 each in its own way
        "eval.full_every": 0,
    },
}


def trajectory(name: str, folder: Path) -> list[dict[str, object]]:
    """The records of a case as they are compared: every value except the times, and the ids of the samples."""
    changes = dict(CASES[name])
    if "model" not in changes:
        text = folder / "text.txt"
        text.write_text(TEXT * 20, encoding="utf-8")
        changes |= {"model": str(save_folder(tiny_model(1, layers=1), folder / "tiny")), "data": (str(text),)}
    threads = torch.get_num_threads()
    try:
        return [_kept(record) for record in online_loop(build(override(RunConfig(), changes)))]
    finally:
        torch.set_num_threads(threads)


def _kept(record: Record) -> dict[str, object]:
    # Losses of a text are recorded with and without its name, and the name of a file is its path.
    values = {k: v for k, v in record.values.items() if not k.startswith("seconds_") and "[" not in k}
    return {**values, "samples": [list(sample.token_ids) for sample in record.samples]}


def kept(name: str) -> list[dict[str, object]]:
    """What is kept of a case."""
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name in CASES:
        with tempfile.TemporaryDirectory() as folder:
            records = trajectory(name, Path(folder))
        lines = ",\n".join(json.dumps(record) for record in records)
        (FOLDER / f"{name}.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main()
