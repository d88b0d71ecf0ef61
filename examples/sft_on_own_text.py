"""TRL's SFTTrainer on what the model itself writes, watched by `CollapseMonitor`; or on a novel, which stays healthy.

python examples/sft_on_own_text.py [own|austen|FILE] [--lr 5e-4] [--seed 0] [--steps 80] [--out outputs/sft]

Each text is sampled when the trainer asks for it, at temperature 0.8, from the model as it is by then.
"""

import argparse
from collections.abc import Iterator

import torch
from datasets import IterableDataset
from transformers import PreTrainedTokenizerFast, set_seed
from trl import SFTConfig, SFTTrainer

from collapselab import CollapseMonitor, load_model, load_text
from collapselab.monitor.probes import Probes

parser = argparse.ArgumentParser()
parser.add_argument("source", nargs="?", default="own")
parser.add_argument("--lr", type=float, default=5e-4)
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--steps", type=int, default=80)
parser.add_argument("--out", default="outputs/sft")
options = parser.parse_args()

set_seed(options.seed)
loaded = load_model("builtin:pico")  # with a model of the hub: SFTTrainer("name", ...), and no tokenizer
backend, end = loaded.tokenizer.backend, "<|endoftext|>"
tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=end, pad_token=end)


def own_texts() -> Iterator[dict[str, list[int]]]:
    start = {"input_ids": torch.zeros(4, 1, dtype=torch.long), "attention_mask": torch.ones(4, 1)}
    while True:
        ids = loaded.model.generate(**start, do_sample=True, temperature=0.8, min_new_tokens=200, max_new_tokens=200)
        yield from ({"input_ids": row} for row in ids[:, 1:].tolist())


def novel() -> Iterator[dict[str, list[int]]]:
    ids = loaded.tokenizer.encode(load_text(options.source).text)  # a named text, or a file
    yield from ({"input_ids": ids[i : i + 200]} for i in torch.randint(len(ids) - 200, (10_000,)).tolist())


monitor = CollapseMonitor(probes=Probes(every=2, samples=2), on_verdict=("log", "stop"))
trainer = SFTTrainer(
    loaded.model,
    processing_class=tokenizer,
    train_dataset=IterableDataset.from_generator(own_texts if options.source == "own" else novel),
    callbacks=[monitor],
    args=SFTConfig(
        options.out, seed=options.seed, max_steps=options.steps, learning_rate=options.lr, max_length=200,
        lr_scheduler_type="constant", per_device_train_batch_size=4, logging_steps=1, report_to="none",
        save_strategy="no", use_cpu=True, bf16=False, gradient_checkpointing=False, disable_tqdm=True,
    ),
)  # fmt: skip
trainer.train()
print("ended at step", trainer.state.global_step)
for event in monitor.events:
    print(event.stage, event.name, "at step", event.step)
