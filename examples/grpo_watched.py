"""GRPO with a reward that can be gamed, watched by `CollapseMonitor`: it warns, gives a verdict and stops the training.

python examples/grpo_watched.py [--lr 1e-3] [--seed 0] [--steps 120] [--out outputs/grpo]

The reward asks for short words, and soon the model writes the same ones forever. At `--lr 1e-4` it learns slowly, and
is healthy after as many steps. `pip install collapselab trl`.
"""

import argparse
from pathlib import Path

from datasets import Dataset
from transformers import PreTrainedTokenizerFast, set_seed
from trl import GRPOConfig, GRPOTrainer

from collapselab import CollapseMonitor, load_model, load_text

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=1e-3)
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--steps", type=int, default=120)
parser.add_argument("--out", type=Path, default=Path("outputs/grpo"))
options = parser.parse_args()


def short_words(completions: list[str], **_: object) -> list[float]:
    """Minus the mean length of a word, in characters."""
    return [-len("".join(text.split())) / max(1, len(text.split())) for text in completions]


set_seed(options.seed)
loaded = load_model("builtin:pico")  # with a model of the hub: GRPOTrainer("name", ...), and no tokenizer
end = "<|endoftext|>"
tokenizer = PreTrainedTokenizerFast(tokenizer_object=loaded.tokenizer.backend, eos_token=end, pad_token=end)
sentences = load_text("austen").text.split(". ")[:64]
trainer = GRPOTrainer(
    model=loaded.model,
    processing_class=tokenizer,
    reward_funcs=[short_words],
    train_dataset=Dataset.from_dict({"prompt": [" ".join(sentence.split()[:6]) for sentence in sentences]}),
    args=GRPOConfig(
        str(options.out), seed=options.seed, max_steps=options.steps, learning_rate=options.lr,
        lr_scheduler_type="constant", per_device_train_batch_size=8, num_generations=4, max_completion_length=128,
        log_completions=True, num_completions_to_print=0, logging_steps=1, report_to="none", save_strategy="no",
        use_cpu=True, bf16=False, gradient_checkpointing=False, disable_tqdm=True,
    ),
)  # fmt: skip
monitor = CollapseMonitor.attach(trainer, on_verdict=("log", "stop"))
trainer.train()
print("ended at step", trainer.state.global_step)
for event in monitor.events:
    print(event.stage, event.name, "at step", event.step)
