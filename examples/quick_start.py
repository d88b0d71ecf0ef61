"""A short self-training run from Python, and what it leaves behind.

python examples/quick_start.py [FOLDER]
"""

import sys
from pathlib import Path

from collapselab import load_runs, run

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/quick-start")

# Any preset, with some settings changed; `collapselab run --help` lists them all.
result = run("demo", folder, model="builtin:nano", max_steps=10, full_every=0, fresh=True)
print("ended by:", result.summary["ended_by"], "at step", result.summary["last_step"])

# Tidy pandas frames of runs, steps and samples; the same call reads a folder of many runs.
frames = load_runs(folder)
print(frames.steps[["step", "train_nll_nats", "val_nll_nats", "seq_rep_4", "degenerate"]].to_string(index=False))
print(frames.samples["text"].iloc[-1])
