"""Which models and settings a run on several processes refuses; that it equals one process is in tests/e2e."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import GPT2Config, LlamaConfig, PreTrainedConfig

from collapselab import ranks
from collapselab.config.overrides import override
from collapselab.config.schema import RunConfig
from collapselab.errors import InputError
from collapselab.inputs.division import division
from collapselab.inputs.model_files import ModelFiles
from collapselab.step.shards import check_divisible


def llama_config(num_heads: int = 6, num_key_value_heads: int = 2) -> LlamaConfig:
    return LlamaConfig(hidden_size=48, num_attention_heads=num_heads, num_key_value_heads=num_key_value_heads)


@pytest.fixture
def two_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "test")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr(ranks, "_begun", True)


def test_a_llama_is_divided_by_the_number_of_processes(two_ranks: None) -> None:
    assert ranks.launched() == ranks.size() == 2 and ranks.is_follower()
    assert division(ModelFiles(Path("model")), llama_config())["distributed_config"].tp_size == 2


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (GPT2Config(), "transformers has no plan for gpt2"),
        (llama_config(3, 3), "num_attention_heads is 3"),
        (llama_config(6, 1), "num_key_value_heads is 1"),
    ],
)
def test_what_cannot_be_divided_is_refused(two_ranks: None, config: PreTrainedConfig, words: str) -> None:
    with pytest.raises(InputError, match=f"cannot be divided over 2 processes: {words}") as caught:
        division(ModelFiles(Path("model")), config)
    assert caught.value.hint == "start the run without torchrun"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"engine": "static"}, "engine static"),
        ({"numerics": "fast"}, "numerics.write bfloat16"),
        ({"optim.lora_rank": 2}, "optim.lora_rank"),
        ({"safeguards": "entropy-bonus"}, "safeguards"),
        ({"metrics.first_model": True}, "metrics.first_model"),
    ],
)
def test_what_needs_the_whole_model_is_refused(changes: dict[str, object], words: str) -> None:
    check_divisible(RunConfig(), has_own_objects=False)
    with pytest.raises(InputError, match=f"does not support {words}"):
        check_divisible(override(RunConfig(), changes), has_own_objects=False)


@pytest.mark.parametrize(
    ("device", "words"),
    [("cpu", "torchrun puts models on cuda here"), ("cuda", "this machine has 1, received process 2")],
)
def test_a_process_has_a_device_of_its_own(monkeypatch: pytest.MonkeyPatch, device: str, words: str) -> None:
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available=False: torch.device("cuda"))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 1)
    monkeypatch.setenv("LOCAL_RANK", "1")
    with pytest.raises(InputError, match=words):
        ranks.begin(device)


def test_without_torchrun_nothing_is_divided(monkeypatch: pytest.MonkeyPatch) -> None:
    """WORLD_SIZE alone says nothing: clusters set it too."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    assert ranks.launched() == ranks.size() == 1 and not ranks.is_follower()
    with ranks.leading("cpu"):
        assert ranks.size() == 1
