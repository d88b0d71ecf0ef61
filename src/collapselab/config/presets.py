"""Named runs: each is a function that returns a complete configuration; the docstring says what to expect."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from collapselab.config.overrides import load_json, load_toml, override, validate
from collapselab.config.schema import Evaluation, Generation, Optimizer, RunConfig, Sampling, Stop, Training
from collapselab.errors import InputError, nearest


def paper() -> RunConfig:
    """Herel & Mikolov's Table 2 and text: 200 tokens at temperature 0.8, top-k 500, one AdamW step each.

    Command: `collapselab run paper --model gpt2 --data wikitext-2,ptb`.
    Expected: GPT-2 124M at learning rate 2e-5 reached its last, fully repetitive sample at step 133 (their Table 1).
    """
    return RunConfig(model="gpt2", data=("wikitext-2", "ptb"))


def paper_block100() -> RunConfig:
    """The paper, with `block_size 100` (Table 2) as in the authors' script: context and training window are 100 tokens.

    The paper's text describes training on the whole generated sequence, as in `paper`. Table 2's `max_iters 100` has no
    counterpart: in the script it is the number of updates per sample, set to 1 there (`train.steps_per_sequence`).

    Command: `collapselab run paper-block100 --model gpt2 --data wikitext-2,ptb`.
    """
    changes = {"generate.context": 100, "generate.context_mode": "crop", "train.window": 100}
    return override(paper(), changes)


def authors_code() -> RunConfig:
    """The settings of the authors' published script, where they differ from their Table 2.

    1024 tokens from a newline at temperature 1 in a context of 100, trained on one random block of 100 re-encoded
    tokens, 5000 steps, no stop rule, validation on 100 windows of Penn Treebank with 100 targets each, redrawn at
    each evaluation. The prompt is part of the loss, but a single token without context is never a target.
    One difference remains: the training loss that their script prints is a mean over 100 blocks of the sample; ours is
    the loss of the training block.

    Command: `collapselab run authors-code --model gpt2 --data ptb`.
    """
    return RunConfig(
        model="gpt2",
        data=("ptb",),
        sampling=Sampling(temperature=1.0, top_k=200),
        generate=Generation(prompt="\n", max_new_tokens=1024, context=100, context_mode="crop"),
        train=Training(window=100, prompt_in_loss=True, retokenise=True),
        optim=Optimizer(lr=4e-5),
        eval=Evaluation(protocol="windows[101,100]", redraw=True, full_every=0),
        stop=Stop(on_collapse=False, on_divergence=False, max_steps=5000),
    )


def demo() -> RunConfig:
    """The paper's loop on a model shipped with the package, past total collapse until one phrase is left.

    Command: `collapselab run demo`.
    Expected: onset after some 65 steps, total collapse some 30 steps later, and then one phrase; a minute on two cores.
    """
    return RunConfig(
        model="builtin:micro",
        data=("austen", "moby-dick"),
        optim=Optimizer(lr=1e-4),
        eval=Evaluation(protocol="windows[100,50]"),
        stop=Stop(after_collapse=20),
    )


PRESETS: dict[str, Callable[[], RunConfig]] = {
    "paper": paper,
    "paper-block100": paper_block100,
    "authors-code": authors_code,
    "demo": demo,
}


def load(name: str) -> RunConfig:
    """The configuration of a preset, of a TOML file (which may name a preset to start from), or of a run.

    A run is its directory, or its config.json.

    Raises:
        InputError: neither a preset nor a readable file.
    """
    if name in PRESETS:
        return PRESETS[name]()
    if name not in PRESETS and not name.endswith(".toml") and (Path(name) / "config.json").is_file():
        name = str(Path(name) / "config.json")
    if name.endswith(".json"):
        return validate(load_json(Path(name)))
    if not name.endswith(".toml"):
        raise InputError(
            f"unknown preset {name!r}", nearest(name, PRESETS) + "; or give a .toml file or a run directory"
        )
    changes = load_toml(Path(name))
    base = str(changes.pop("preset", "paper"))
    if base not in PRESETS:
        raise InputError(f"{name} starts from the unknown preset {base!r}", nearest(base, PRESETS))
    return override(PRESETS[base](), changes)
