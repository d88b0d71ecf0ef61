"""A model that is already loaded, as an object: checked like one in a folder, and copied, so that it stays as it is."""

from __future__ import annotations

import copy
import hashlib
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import tokenizers

from collapselab.errors import InputError
from collapselab.inputs.models import LoadedModel, begins_texts, check_device, checked_model
from collapselab.inputs.tokenizers import Tokenizer, wrap_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

PREFIX = "object:"  # of the name of such a model


def take_model(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase | tokenizers.Tokenizer | Tokenizer | None,
    *,
    device: str = "cpu",
    context: int | None = None,
    begin_token: str | None = None,
) -> LoadedModel:
    """A copy of a model in evaluation mode and float32, with its tokenizer; neither object is changed.

    Its name has a hash of everything that is data: weights, which of them are trained, configuration, tokenizer. Python
    code that was changed (a `forward`, a hook) is kept by the copy and is not in the hash.

    Raises:
        InputError: as `load_model`, or the objects are of another kind, quantised, or nothing in the model is trained.
    """
    from transformers import PreTrainedModel

    given: Any = model
    if not isinstance(given, PreTrainedModel):
        raise InputError(
            f"a model object is a causal language model of transformers, received {type(given).__name__}",
            "for a peft model, first merge the adapter (merge_and_unload)",
        )
    kind = type(given).__name__
    _check_weights(kind, given)
    check_device(device)
    try:
        copied: Any = cast(Any, copy.deepcopy(given)).to("cpu").float().eval()
        wrapped = _wrap(tokenizer, given.config, begin_token)
        loaded = checked_model(f"{PREFIX}{kind}-{_digest(copied, wrapped)}", copied, wrapped, context)
    except InputError:
        raise
    except Exception as error:  # the object may be anything that claims to be a model
        reason = " ".join(str(error).split()) or type(error).__name__
        hint = "check that it returns logits when called with input_ids"
        raise InputError(f"cannot use this {kind}: {reason}", hint) from error
    num_tokens = wrapped.backend.get_vocab_size(with_added_tokens=False)
    if loaded.vocab_size < num_tokens:
        raise InputError(
            f"{kind} predicts {loaded.vocab_size} values, the tokenizer has {num_tokens} tokens",
            "pass a causal language model with its own tokenizer",
        )
    copied.to(device)
    return replace(loaded, is_object=True)


def _check_weights(kind: str, model: Any) -> None:
    if getattr(model, "_hf_peft_config_loaded", False):
        raise InputError(f"{kind} has an adapter, which checkpoints do not save", "merge it into the weights")
    parameters = list(model.parameters())
    method = getattr(model, "quantization_method", None)
    if method is not None or not all(p.is_floating_point() for p in parameters):
        raise InputError(f"{kind} is quantised: such weights cannot be trained", "load it without quantisation")
    if any(tensor.is_meta for tensor in model.state_dict().values()):
        raise InputError(f"{kind} has weights without values (device meta)", "load it onto a device")
    if not any(p.requires_grad for p in parameters):
        raise InputError(f"no weight of {kind} is trained", "set requires_grad=True for the weights to train")


def _wrap(given: object, config: Any, begin_token: str | None) -> Tokenizer:
    backend = getattr(given, "backend_tokenizer", getattr(given, "backend", given))
    if not isinstance(backend, tokenizers.Tokenizer):
        raise InputError(
            f"a model object needs its tokenizer as a fast tokenizer, received {type(given).__name__}",
            "`tokenizer=AutoTokenizer.from_pretrained(…)`, or one of the library tokenizers",
        )
    copied = tokenizers.Tokenizer.from_str(backend.to_str())
    if isinstance(given, Tokenizer) and begin_token is None:
        return Tokenizer(copied, given.end_of_text_id, given.begin_id)
    text = config.get_text_config(decoder=True)
    told = {name: getattr(given, name) for name in ("add_bos_token", "bos_token") if hasattr(given, name)}
    bos = text.bos_token_id if begins_texts(told, text.model_type) else None
    return wrap_tokenizer(copied, text.eos_token_id, "the tokenizer given", bos=bos, begin_token=begin_token)


def _digest(model: Any, tokenizer: Tokenizer) -> str:
    """12 hexadecimal digits of the SHA-256 of a model's weights on the CPU, its configuration and its tokenizer."""
    import torch

    found = hashlib.sha256()
    config = {k: v for k, v in model.config.to_diff_dict().items() if k not in ("transformers_version", "dtype")}
    frozen = [name for name, p in model.named_parameters() if not p.requires_grad]
    begin = [tokenizer.end_of_text_id, tokenizer.begin_id]
    found.update(json.dumps([config, frozen, begin], sort_keys=True, default=str).encode())
    found.update(tokenizer.backend.to_str().encode())
    for name, tensor in cast(dict[str, torch.Tensor], model.state_dict()).items():
        found.update(f"{name}{tuple(tensor.shape)}".encode())
        found.update(memoryview(cast(Any, tensor.detach().contiguous().flatten().view(torch.uint8).numpy())))
    return found.hexdigest()[:12]
