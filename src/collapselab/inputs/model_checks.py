"""Checks on a model: its files before a library reads them, and the model itself before it is used."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from collapselab.errors import InputError
from collapselab.inputs.gguf_header import GgufHeader
from collapselab.inputs.model_files import FOLDER_RULE, ModelFiles

_LAYERS = re.compile(r"layers?$|blocks?$|block_count$|depth$|attention_types$")
_COUNTS = re.compile(r"labels|expert")
MAX_COUNT = 10_000  # labels or experts; the libraries make an object for each before they look at the weights
SMALL_MODEL = 10_000_000  # weights
LEFTOVER_LAYERS = 100  # layer counts up to this are harmless, and may describe a part that the model lacks

# In a file, but not used to predict the next token: heads of reward models, and tables that are recomputed.
_HARMLESS = re.compile(
    r"^(v_head|value_head|score|classifier|summary)\."
    r"|rotary_emb\.(inv_freq|cos_cached|sin_cached)$"
    r"|\b(attn|attention|self_attn|self_attention)\.(masked_bias|bias)$"
    r"|position_ids$"
)

_CONTEXT_NAMES = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "n_ctx", "context_length")
PROBE_TOKENS = 16
# Relative to the largest logit; equal inputs in two rows of a batch differ by about 1e-7 of it.
LOOK_AHEAD_TOLERANCE = 1e-5


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file of a model folder.

    Raises:
        InputError: it cannot be read, or is not a JSON object.
    """
    if not path.is_file():  # reading a pipe would wait
        raise InputError(f"{path} is not a file", FOLDER_RULE)
    try:
        value: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is not a JSON object: {error}", FOLDER_RULE) from error
    if not isinstance(value, dict):
        raise InputError(f"{path} is not a JSON object but {type(value).__name__}", FOLDER_RULE)
    return cast(dict[str, Any], value)


def check_config(files: ModelFiles, config: Mapping[str, Any], sizes: Sizes) -> None:
    """Refuses a bad config.json before `transformers` acts on it.

    Raises:
        InputError: quantised weights, an adapter, weights under another name, or more layers than there are tensors.
    """
    _check_counts(files, _numbers(config), sizes.num_tensors)
    for part in _parts(config):
        window = part.get("sliding_window")
        if type(window) is int and window < 1 and part.get("use_sliding_window", True):
            raise InputError(f"{files}: sliding_window must be at least 1, received {window}", "check config.json")
        for name in ("quantization_config", "compression_config"):
            if part.get(name):
                method = part[name].get("quant_method", "unknown") if isinstance(part[name], dict) else part[name]
                raise InputError(
                    f"{files} is quantised ({method}): such weights cannot be trained; only float weights are read",
                    "use the model it was made from, or a GGUF file, which is dequantised",
                )
    if (files.folder / "adapter_config.json").exists():
        raise InputError(
            f"{files} has an adapter (adapter_config.json), which would be ignored",
            "merge it into the weights (merge_and_unload of peft), and save the whole model",
        )
    if "transformers_weights" in config:
        raise InputError(
            f"{files}: config.json names another file for the weights ({config['transformers_weights']!r})", FOLDER_RULE
        )


def check_header(files: ModelFiles, header: GgufHeader) -> None:
    """The same for a GGUF file.

    Raises:
        InputError: the header names more layers than there are tensors, or no number of layers.
    """
    if not any(name.endswith(".block_count") for name in header.entries):
        raise InputError(f"{files} does not say how many layers it has (block_count)", "is the file complete?")
    _check_counts(files, header.entries.items(), len(header.tensors))


def _check_counts(files: ModelFiles, numbers: Iterable[tuple[str, Any]], num_tensors: int) -> None:
    for name, value in numbers:
        if type(value) is not int:
            continue
        if _LAYERS.search(name) and value > max(num_tensors, LEFTOVER_LAYERS):
            raise InputError(
                f"{files} has {num_tensors} tensors, which is too few for {value:,} layers ({name})",
                "check its configuration",
            )
        if _COUNTS.search(name) and value > MAX_COUNT:
            raise InputError(f"{files}: {name} is {value:,}; the limit is {MAX_COUNT:,}", "check it for a typing error")


def _numbers(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """(name, value) of everything in nested objects and lists; items of a list have the list's name."""
    if isinstance(value, Mapping):
        for key, part in cast(Mapping[str, Any], value).items():
            yield from _numbers(part, key)
    elif isinstance(value, list):
        for part in cast(list[Any], value):
            yield from _numbers(part, name)
    else:
        yield name, value


def _parts(config: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """A configuration and those inside it."""
    yield config
    for value in config.values():
        if isinstance(value, dict):
            yield from _parts(cast(dict[str, Any], value))


@dataclass(frozen=True)
class Sizes:
    """The number of weight tensors, and of the numbers in them."""

    num_tensors: int
    num_elements: int


def weight_sizes(folder: Path) -> Sizes:
    """The sizes of the safetensors files of a folder, after a check of the files named in an index.

    Raises:
        InputError: an index names anything except a safetensors file in its own folder.
    """
    from safetensors import safe_open

    for index in sorted(folder.glob("*.safetensors.index.json")):
        _check_index(index)
    counts: list[int] = []
    for path in sorted(folder.glob("*.safetensors")):
        if path.is_file():
            with cast(Any, safe_open)(str(path), framework="numpy") as tensors:
                counts += [math.prod(tensors.get_slice(name).get_shape()) for name in tensors.keys()]  # noqa: SIM118
    return Sizes(len(counts), sum(counts))


def _check_index(index: Path) -> None:
    named: Any = read_json(index).get("weight_map")
    if not isinstance(named, dict):
        raise InputError(f"{index} has no weight_map", FOLDER_RULE)
    for name in dict.fromkeys(cast(dict[str, Any], named).values()):
        if not isinstance(name, str) or Path(name).name != name or not name.endswith(".safetensors"):
            raise InputError(
                f"{index} names {name!r}; only safetensors files in its own folder are opened",
                "get the weights as safetensors",
            )
        if not (index.parent / name).is_file():
            raise InputError(f"{index} names {name}, but there is no such file", "get the weights again")


def check_own_code(files: ModelFiles, config: Mapping[str, Any]) -> None:
    """Refuses a model that needs its own Python code.

    Raises:
        InputError: it has such code, and a type that `transformers` does not know.
    """
    from transformers import CONFIG_MAPPING

    if "auto_map" in config and config.get("model_type") not in cast(Any, CONFIG_MAPPING):
        raise InputError(
            f"{files} needs Python code of its own (auto_map in config.json), which is never run",
            f"use a model of a type that transformers knows; this one has {config.get('model_type')!r}",
        )


def check_size(files: ModelFiles, config: Any, sizes: Sizes) -> None:
    """Refuses a configuration with far more weights than the files hold, before memory is allocated for them.

    Raises:
        InputError: the configuration cannot belong to the files.
    """
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model: Any = cast(Any, AutoModelForCausalLM).from_config(config, trust_remote_code=False)
    described = sum(p.numel() for p in model.parameters())
    if described > 2 * sizes.num_elements + SMALL_MODEL:  # a small difference is reported tensor by tensor
        raise InputError(
            f"{files}: its configuration describes a model with {described:,} weights, but the files hold "
            f"{sizes.num_elements:,}",
            "get config.json and the weights from one source",
        )


def check_causal(files: ModelFiles, config: Any) -> None:
    """Refuses a model that was saved as anything other than a causal language model.

    Raises:
        InputError: its class does not predict the next token.
    """
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    causal_classes = cast(dict[str, str], MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
    # BERT can be loaded as a causal model too; only the saved class shows how the weights were trained.
    saved_as: list[str] = config.architectures or [causal_classes.get(config.model_type) or config.model_type]
    if set(causal_classes.values()).isdisjoint(saved_as):
        raise InputError(f"{files} is not a causal language model but {saved_as[0]}", "it must predict the next token")


def check_tensors(files: ModelFiles, info: Mapping[str, Any], header: GgufHeader | None, model: Any) -> None:
    """Refuses weights that lack a tensor of the model, or have one that it does not use.

    Raises:
        InputError: the results would not be those of this model.
    """
    if wrong := sorted(info["mismatched_keys"]):
        name, there, expected = wrong[0]
        raise InputError(
            f"{files}: {name} has shape {tuple(there)}, but its configuration says {tuple(expected)}",
            "get config.json and the weights from one source",
        )
    if missing := sorted(info["missing_keys"]):  # transformers would use random numbers instead
        raise InputError(
            f"{files} lacks {len(missing)} tensors of its model ({missing[0]}, …)", "get the weights again"
        )
    if unused := sorted(key for key in info["unexpected_keys"] if not _HARMLESS.search(key)):
        raise InputError(
            f"{files} has {len(unused)} tensors that its model does not use ({unused[0]}, …): "
            f"config.json describes a different model",
            "check whether config.json lacks a setting, such as attention_bias, or the weights are quantised",
        )
    if header is not None:  # the GGUF reader silently drops what it does not know
        used = sum({t.data_ptr(): t.numel() for t in model.state_dict().values()}.values())
        if header.num_elements > used:
            raise InputError(
                f"{files} has {header.num_elements:,} weights, but its model uses only {used:,} of them: "
                f"the file holds more than a {type(model).__name__}",
                "use the model it was made from, as safetensors",
            )


def context_length(config: Any) -> int | None:
    """How many positions a model has, under the name used by its family; `None` if it does not say.

    (Recurrent models have no such limit, and Bloom's positions are distances.)
    """
    text = config.get_text_config(decoder=True)  # for a model of text and images, the text part
    for name in _CONTEXT_NAMES:
        value: object = getattr(text, name, None)
        if type(value) is int and value >= 2:
            return value
    return None


def check_look_ahead(name: str, model: Any, num_rows: int, positions: int) -> int:
    """The number of logits per position, from one small forward pass that also checks that the model is causal.

    Two rows differ only in their second half, so their logits must agree in the first.

    Raises:
        InputError: they do not, so positions see the tokens after them.
    """
    import torch

    length = min(PROBE_TOKENS, positions)
    cut = length // 2
    first_T = torch.arange(length) % num_rows
    second_T = torch.cat([first_T[:cut], (first_T[cut:] + 1) % num_rows])
    with torch.no_grad():
        logits_BTV = model(input_ids=torch.stack([first_T, second_T]), use_cache=False).logits.float()
    early_BTV = logits_BTV[:, :cut]
    if (early_BTV[0] - early_BTV[1]).abs().max() > LOOK_AHEAD_TOLERANCE * early_BTV.abs().max():
        raise InputError(
            f"{name} looks ahead: its predictions change with the tokens that come after them",
            "use a causal model; for BERT and similar models, config.json must say is_decoder: true",
        )
    return logits_BTV.shape[-1]
