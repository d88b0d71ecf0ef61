"""The loop as an iterator of records, with a metric of your own.

python examples/custom_metric.py
"""

from collections import Counter
from collections.abc import Sequence

from collapselab import build, online_loop, override, presets


def hapax_share(token_ids: Sequence[int]) -> float | None:
    """Share of a sample's distinct tokens that occur once; `None` for an empty sample."""
    counts = Counter(token_ids)
    return sum(n == 1 for n in counts.values()) / len(counts) if counts else None


config = override(presets.demo(), {"model": "builtin:nano", "stop.max_steps": 5, "eval.full_every": 0})
for record in online_loop(build(config), metrics={"hapax_share": hapax_share}):
    print(record.step, f"{record.values['val_nll_nats']:.3f}", f"{record.values['hapax_share']:.3f}")
