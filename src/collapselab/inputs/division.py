"""Which models `torchrun` can divide over several processes, and how `transformers` is asked to."""

from __future__ import annotations

from typing import Any

from collapselab import ranks
from collapselab.errors import InputError
from collapselab.inputs.model_files import ModelFiles


def division(files: ModelFiles, config: Any) -> dict[str, Any]:
    """What `transformers` needs to know to give each rank its part of the weights.

    Raises:
        InputError: it has no plan for this family, or the heads cannot be divided.
    """
    from transformers.distributed.configuration_utils import DistributedConfig

    text, num_ranks = config.get_text_config(decoder=True), ranks.size()
    hint = "start the run without torchrun"
    if not text.base_model_tp_plan or files.gguf_file is not None:
        why = "GGUF files are read whole" if files.gguf_file else f"transformers has no plan for {config.model_type}"
        raise InputError(f"{files} cannot be divided over {num_ranks} processes: {why}", hint)
    for name in ("num_attention_heads", "num_key_value_heads"):
        count = getattr(text, name, None) or num_ranks
        if count % num_ranks:
            raise InputError(f"{files} cannot be divided over {num_ranks} processes: {name} is {count}", hint)
    return {"distributed_config": DistributedConfig(tp_size=num_ranks)}
