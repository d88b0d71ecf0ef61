"""The monitor in the real trainers of transformers and TRL: it sees what is written, and changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast, Trainer, TrainingArguments
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer, SFTConfig, SFTTrainer

from collapselab import CollapseMonitor, load_runs
from collapselab.inputs.tokenizers import BUILTIN
from collapselab.monitor.probes import Probes, draw

# Warnings of these libraries about their own settings are not ours to mend.
pytestmark = pytest.mark.filterwarnings("ignore")
PROBES = Probes(every=2, samples=2, tokens=100)
PROMPTS = ["It was", "The captain", "My dear", "There was"]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    end = "<|endoftext|>"
    return PreTrainedTokenizerFast(tokenizer_file=str(BUILTIN / "tokenizer.json"), eos_token=end, pad_token=end)


def model(tokenizer: PreTrainedTokenizerFast) -> Any:
    """One that draws random numbers while it is trained."""
    config = GPT2Config(
        vocab_size=len(tokenizer), n_positions=256, n_embd=32, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0,
        embd_pdrop=0.1, resid_pdrop=0.1, attn_pdrop=0.1,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return GPT2LMHeadModel(config)


def arguments(kind: Any, out: Path, **changes: Any) -> Any:
    settings: dict[str, Any] = {
        "output_dir": str(out), "max_steps": 4, "per_device_train_batch_size": 4, "learning_rate": 1e-3, "seed": 3,
        "logging_steps": 1, "report_to": "none", "use_cpu": True, "bf16": False, "save_strategy": "no",
        "disable_tqdm": True,
    }  # fmt: skip
    return kind(**settings | changes)


def plain_trainer(tokenizer: Any, out: Path, callbacks: list[Any], **changes: Any) -> Trainer:
    ids = torch.randint(1, 2000, (32, 24), generator=torch.Generator().manual_seed(0)).tolist()
    data = Dataset.from_dict({"input_ids": ids, "labels": ids})
    own = arguments(TrainingArguments, out, **changes)
    return Trainer(model(tokenizer), own, train_dataset=data, processing_class=tokenizer, callbacks=callbacks)


def weights(trainer: Any) -> Iterator[torch.Tensor]:
    return (parameter.detach() for parameter in trainer.model.parameters())


def are_equal(one: Any, other: Any) -> bool:
    return all(torch.equal(a, b) for a, b in zip(weights(one), weights(other), strict=True))


def test_a_trainer_learns_the_same_with_a_monitor_that_probes_it(tokenizer: Any, tmp_path: Path) -> None:
    alone = plain_trainer(tokenizer, tmp_path / "alone", [])
    alone.train()
    monitor = CollapseMonitor(probes=PROBES)
    watched = plain_trainer(tokenizer, tmp_path / "watched", [monitor])  # a Trainer sets the seed when it is made
    watched.train()
    assert are_equal(watched, alone), "probes disturb the training"
    assert monitor.state.step == 4
    runs = load_runs(tmp_path / "watched" / "collapse")
    assert runs.runs.iloc[0]["status"] == "finished"
    assert runs.steps["step"].tolist() == [0, 1, 2, 3, 4], "one each until the alarms are ready"
    assert (runs.samples.groupby("step").size() == 2).all()
    assert runs.steps["entropy_nats"].between(6.5, 7.7).all(), "of a model that knows nothing: ln 2048"
    assert runs.steps["loss"].notna().sum() == 3, "of the steps before, from the Trainer's logs"


def test_a_probe_leaves_modes_gradients_and_generators_as_they_were(tokenizer: Any) -> None:
    probed = model(tokenizer).train()
    probed.transformer.wte.eval()
    modes = [module.training for module in probed.modules()]
    state = torch.get_rng_state()
    first = draw(probed, tokenizer, PROBES, 7)
    assert torch.equal(torch.get_rng_state(), state)
    assert [module.training for module in probed.modules()] == modes
    assert all(parameter.grad is None for parameter in probed.parameters())
    assert draw(probed, tokenizer, PROBES, 7).token_ids == first.token_ids
    assert draw(probed, tokenizer, PROBES, 8).token_ids != first.token_ids
    assert [len(ids) for ids in first.token_ids] == [100, 100]


def test_the_numbers_of_a_probe_are_those_of_one_forward_pass(tokenizer: Any) -> None:
    probed = model(tokenizer).eval()
    probe = draw(probed, tokenizer, Probes(samples=3, tokens=100, prompts=("It was", "The")), 0)
    assert probe.groups == [0, 0, 1]
    nlls: list[float] = []
    for ids, prompt in zip(probe.token_ids, ("It was", "It was", "The"), strict=True):
        start = tokenizer(prompt)["input_ids"]
        with torch.no_grad():
            log_p = torch.log_softmax(probed(torch.tensor([[*start, *ids]])).logits[0].float(), -1)
        nlls.append(-log_p[len(start) - 1 : -1].gather(1, torch.tensor(ids)[:, None]).mean().item())
    assert probe.nll_nats == pytest.approx(sum(nlls) / 3, abs=1e-4)


def test_a_resumed_trainer_continues_the_monitors_records(tokenizer: Any, tmp_path: Path) -> None:
    settings = {"save_strategy": "steps", "save_steps": 2, "max_steps": 6}
    plain_trainer(tokenizer, tmp_path, [CollapseMonitor(probes=PROBES)], **settings).train()
    whole = load_runs(tmp_path / "collapse")
    monitor = CollapseMonitor(probes=PROBES)
    resumed = plain_trainer(tokenizer, tmp_path, [monitor], **settings)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    parts = load_runs(tmp_path / "collapse")
    names = ["step", "seq_rep_4", "train_nll_nats", "entropy_nats", "degenerate"]
    assert parts.steps[names].equals(whole.steps[names])
    assert parts.samples["token_ids"].tolist() == whole.samples["token_ids"].tolist()


def test_a_loss_that_is_not_finite_stops_the_training_and_the_healthy_checkpoint_is_kept(
    tokenizer: Any, tmp_path: Path
) -> None:
    class Explode(CollapseMonitor):
        def on_step_begin(self, args: Any, state: Any, control: Any, **known: Any) -> None:
            if state.global_step == 3:
                with torch.no_grad():
                    known["model"].transformer.wte.weight.fill_(torch.nan)

    monitor = Explode(probes=None, on_verdict=("stop", "keep"))
    settings = {"save_strategy": "steps", "save_steps": 2, "save_total_limit": 1, "max_steps": 20}
    trainer = plain_trainer(tokenizer, tmp_path, [monitor], **settings, logging_nan_inf_filter=False)
    trainer.train()
    assert [event.name for event in monitor.events] == ["divergence"]
    assert trainer.state.global_step < 8
    kept = tmp_path / "last-healthy"
    assert (kept / "trainer_state.json").read_text().count('"global_step": 2') == 1
    assert load_runs(tmp_path / "collapse").runs.iloc[0]["fate"] == "diverged"


def reward(completion_ids: Any, **_: Any) -> list[float]:
    return [ids[0] % 7 / 7 for ids in completion_ids]


def online_trainer(kind: Any, tokenizer: Any, out: Path, functions: list[Any], callbacks: list[Any]) -> Any:
    trainer, config = kind
    own = arguments(config, out, num_generations=2, max_completion_length=24, max_steps=2, beta=0.0)
    data = Dataset.from_dict({"prompt": PROMPTS * 4})
    return trainer(
        model=model(tokenizer),
        args=own,
        train_dataset=data,
        processing_class=tokenizer,
        reward_funcs=functions,
        callbacks=callbacks,
    )


@pytest.mark.parametrize("kind", [(GRPOTrainer, GRPOConfig), (RLOOTrainer, RLOOConfig)], ids=["grpo", "rloo"])
def test_as_a_reward_function_it_changes_no_reward(kind: Any, tokenizer: Any, tmp_path: Path) -> None:
    alone = online_trainer(kind, tokenizer, tmp_path / "alone", [reward], [])
    alone.train()
    monitor = CollapseMonitor()
    watched = online_trainer(kind, tokenizer, tmp_path / "watched", [reward, monitor], [monitor])
    watched.train()
    attached = online_trainer(kind, tokenizer, tmp_path / "attached", [reward], [])
    other = CollapseMonitor.attach(attached)
    attached.train()
    assert are_equal(alone, watched)
    assert are_equal(alone, attached)
    rewards = [[log["reward"] for log in t.state.log_history if "reward" in log] for t in (alone, watched, attached)]
    assert rewards[0] == rewards[1] == rewards[2]
    recorded = load_runs(tmp_path / "watched" / "collapse").steps["reward"].dropna().tolist()
    assert recorded == rewards[0][:-1], "of the step before, from the Trainer's logs"
    seen, also = (load_runs(tmp_path / name / "collapse").samples for name in ("watched", "attached"))
    assert seen.groupby("step").size().to_dict() == {0: 4, 1: 4}, "every completion, none drawn besides"
    assert seen["token_ids"].tolist() == also["token_ids"].tolist()
    assert monitor.state.step == other.state.step == 1
    assert "collapse/warning" in {name for log in watched.state.log_history for name in log}


@pytest.mark.parametrize(("name", "is_taken"), [("reward", False), ("loss", True)])
def test_a_reward_that_is_not_finite_takes_the_place_of_no_completions(name: str, is_taken: bool) -> None:
    monitor = CollapseMonitor()
    state = SimpleNamespace(global_step=1)
    monitor(["p"], [[1, 2, 3]], trainer_state=SimpleNamespace(global_step=0))
    monitor.on_step_end(None, state, SimpleNamespace())
    monitor.on_log(None, state, None, logs={name: float("nan")})
    assert monitor.state.step == int(is_taken), "an observation of step 1 would hide the completions of step 1"


def test_sft_of_trl_takes_it_as_a_callback(tokenizer: Any, tmp_path: Path) -> None:
    own = arguments(SFTConfig, tmp_path, max_steps=2, max_length=64)
    data = Dataset.from_dict({"text": [" ".join(PROMPTS) * 4] * 8})
    monitor = CollapseMonitor(probes=PROBES)
    SFTTrainer(model(tokenizer), args=own, train_dataset=data, processing_class=tokenizer, callbacks=[monitor]).train()  # pyright: ignore[reportArgumentType]
    assert monitor.state.step == 2
    assert {"loss", "grad_norm"} <= set(load_runs(tmp_path / "collapse").steps)
