"""Writes results/precision: what bfloat16 evaluation changes, on pretrained weights and on weights late in a run.

python tools/precision.py MODEL=TEXT,TEXT …   (a model: a name, or a run's checkpoint folder)
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pandas as pd
import torch

from collapselab.config.protocols import parse_protocol
from collapselab.engine.choose import make_engines
from collapselab.inputs.encoded_text import encode_text
from collapselab.inputs.models import load_model
from collapselab.inputs.texts import load_text
from collapselab.randomness import rng
from collapselab.step.evaluate import evaluate_texts, plan

PROTOCOL = "windows[100,100]"
# Engine, precision, and whether autocast rounds the weights to the nearest bfloat16.
WAYS = {
    "float32": ("plain", "float32", False),
    "nearest": ("plain", "float32", True),
    "native": ("native", "bfloat16", False),
    "static": ("static", "bfloat16", False),
}
RESULTS = Path(__file__).parents[1] / "results" / "precision"


def measure(model_name: str, texts: list[str]) -> list[dict[str, object]]:
    """The losses of one model on each text, computed in every way."""
    loaded = load_model(model_name)
    protocol, end_of_text_id = parse_protocol(PROTOCOL), loaded.tokenizer.end_of_text_id
    encoded = {name: encode_text(loaded.tokenizer, load_text(name).text) for name in texts}
    plans = {name: plan(protocol, text, rng(0, "evaluation", 0)) for name, text in encoded.items()}
    rows: dict[str, dict[str, object]] = {name: {"model": model_name, "text": name} for name in texts}
    for way, (engine, precision, is_autocast) in WAYS.items():
        _, scorer = make_engines(loaded.model, engine, write="float32", score=precision)
        begun = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=is_autocast):
            losses = evaluate_texts(scorer, plans, end_of_text_id)
        seconds = time.perf_counter() - begun
        for name in texts:
            exact = losses[name].nll_nats if way == "float32" else rows[name]["float32"]
            value = losses[name].nll_nats
            rows[name] |= {way: value} if way == "float32" else {f"{way}_difference": value - exact}
            rows[name][f"{way}_seconds"] = seconds
    return list(rows.values())


def main() -> None:
    """Measures the models named on the command line."""
    table = pd.DataFrame([row for pair in sys.argv[1:] for row in measure(*_parts(pair))])
    RESULTS.mkdir(parents=True, exist_ok=True)
    table.to_csv(RESULTS / "table.csv", index=False, float_format="%.6g")
    print(table.to_string())


def _parts(pair: str) -> tuple[str, list[str]]:
    model, _, texts = pair.partition("=")
    return model, texts.split(",")


if __name__ == "__main__":
    main()
