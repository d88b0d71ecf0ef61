"""What a person may have meant by a name that is none: other tools' names, missing sections, slips."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

# By what is meant: what other tools call it.
SYNONYMS = {
    "optim.lr": "learning_rate",
    "optim.clip": "max_grad_norm grad_clip",
    "optim.name": "optimizer",
    "stop.max_steps": "steps num_steps n_steps epochs iterations max_iters num_train_epochs",
    "generate.max_new_tokens": "max_tokens max_length length n",
    "generate.batch_size": "bs per_device_train_batch_size",
    "generate.context": "block_size",
    "sampling.temperature": "temp",
    "model": "model_name_or_path model_name",
    "data": "dataset text texts",
    "device": "gpu cuda",
    "seed": "random_seed seeds",
    "workers": "num_workers jobs",
    "out": "output_dir outdir output out_dir",
    "fresh": "overwrite force",
    "resume": "resume_from_checkpoint",
}


def meant(name: str, known: Iterable[str]) -> list[str]:
    """The names among `known`, dotted or not, that `name` may stand for; empty if there is none."""
    names, leaf = list(known), name.lower().replace("-", "_").rpartition(".")[2]
    synonym = next((full for full, words in SYNONYMS.items() if leaf in words.split()), None)
    if synonym in names:
        return [synonym]
    leaves = {full: full.rpartition(".")[2] for full in names}
    same = [full for full in names if leaf in (leaves[full], full.replace(".", "_"), full.rpartition(".")[0])]
    if same:
        return same
    close = difflib.get_close_matches(leaf, leaves.values(), n=1, cutoff=0.7)
    return [full for full in names if leaves[full] in close]
