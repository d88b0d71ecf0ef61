"""A safeguard of one's own: forget a share of what each update taught.

python examples/own_safeguard.py
"""

from torch import Tensor

from collapselab import build, online_loop, override, presets
from collapselab.collapse.course import CollapseState
from collapselab.safeguards import Safeguard
from collapselab.step.learner import Learner, TokenLosses


class HalfBack(Safeguard):
    """θ ← θ_t + (θ_{t+1} − θ_t) / 2 after each update."""

    def objective(self, step: int, learner: Learner, losses: TokenLosses, objective: Tensor) -> Tensor:
        self.before = learner.snapshot()
        return objective

    def after_step(self, step: int, learner: Learner, state: CollapseState) -> None:
        learner.assign({name: (p + self.before[name]) / 2 for name, p in learner.weights().items()})


config = override(presets.demo(), {"model": "builtin:pico", "stop.max_steps": 5, "eval.full_every": 0})
for record in online_loop(build(config), safeguards=[HalfBack()]):
    print(record.step, f"{record.values['path_length']:.5f}", f"{record.values['val_nll_nats']:.3f}")
