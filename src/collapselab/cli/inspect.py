"""The commands that look at things: eval, models, data, presets, metrics, safeguards."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, NamedTuple

from rich.text import Text

from collapselab.cli.text import plain, print_json, stdout_console, table
from collapselab.errors import InputError, doing


def evaluate(
    model: str,
    data: str,
    protocol: str = "disjoint[context]",
    precision: Literal["float32", "bfloat16"] = "float32",
    device: Literal["cpu", "cuda"] = "cpu",
    context: int | None = None,
    begin_token: str | None = None,
    data_dir: Path | None = None,
    json: bool = False,
) -> None:
    """Measures the loss of a model on texts, by a named protocol.

    Args:
        model: builtin:NAME, smollm2-135m, a hub id, a folder or a GGUF file
        data: texts, with commas ("\\," is a comma within a path)
        protocol: windows[n,k], disjoint[n] or sliding[n,s]; +eot scores each window's first token too
        precision: bfloat16 is faster, and within thousandths of a nat; models that only the plain engine serves are
            always evaluated in float32 (docs/performance.md)
        device: where the model runs
        context: positions of a model whose configuration does not name them (Bloom, Mamba)
        begin_token: before each window with +eot; default: the model's own, else its end-of-text token
        data_dir: where texts are or are downloaded to (also COLLAPSELAB_DATA)
        json: print JSON
    """
    from collapselab.config.base import split_at_commas
    from collapselab.config.protocols import parse_protocol

    parse_protocol(protocol.replace("[context]", "[1024]"))  # a wrong name is reported before a model is read
    from collapselab.inputs.texts import load_text

    with doing(f"reading the texts {data}"):
        texts = {name: load_text(name, data_dir) for name in split_at_commas(data)}
    if not texts:
        raise InputError(f"--data names no text, received {data!r}", "for example --data austen,moby-dick")
    from collapselab.engine.choose import make_engines
    from collapselab.inputs.encoded_text import encode_text
    from collapselab.inputs.models import load_model
    from collapselab.randomness import rng
    from collapselab.step.evaluate import evaluate as measure
    from collapselab.step.evaluate import plan
    from collapselab.step.parts import fitting_protocol

    with doing(f"reading the model {model}"):
        loaded = load_model(model, device=device, context=context, begin_token=begin_token)
    resolved = fitting_protocol(protocol, loaded)
    _, scorer = make_engines(loaded.model, "auto", write="float32", score=precision)
    used = "float32" if scorer.name == "plain" else precision  # the plain engine knows no other
    rows: dict[str, dict[str, Any]] = {}
    for name, text in texts.items():
        encoded = encode_text(loaded.tokenizer, text.text)
        loss = measure(
            scorer,
            plan(resolved, encoded, rng(0, "evaluation", 0)),
            loaded.tokenizer.start_id,
        )
        derived = {
            n: getattr(loss, n) for n in ("perplexity", "bits_per_byte", "word_perplexity", "word_perplexity_eol")
        }
        rows[name] = asdict(loss) | derived | {"text_sha256": text.sha256, "text_tokens": len(encoded.ids)}
    if json:
        print_json({"model": model, "protocol": resolved.name, "precision": used, "texts": rows})
        return
    shown = table(
        "text", "nats/token", "s.e.", "perplexity", "bits/byte", "per word", "with line ends", "tokens scored"
    )
    for name, row in rows.items():
        shown.add_row(
            plain(name),
            _number(row["nll_nats"], 4),
            _number(row["se_nats"], 4),
            _number(row["perplexity"], 2),
            _number(row["bits_per_byte"], 4),
            _number(row["word_perplexity"], 1),
            _number(row["word_perplexity_eol"], 1),
            f"{row['num_tokens']:,}",
        )
    stdout_console().print(plain(f"{model}, {resolved.name}, {used}"), shown, sep="\n")


def models() -> None:
    """Lists the models that have a name of their own."""
    from collapselab.inputs.models import model_names

    shown = table("model", "parameters", "from", "about")
    for info in model_names():
        shown.add_row(
            info.name, "–" if info.num_parameters is None else f"{info.num_parameters:,}", info.source, info.summary
        )
    _print(shown, "Any other causal language model: a hub id (owner/name), a folder or a GGUF file.")


def data() -> None:
    """Lists the texts that have a name of their own."""
    from collapselab.inputs.texts import text_names

    shown = table("text", "splits", "licence", "about")
    for info in text_names():
        shown.add_row(info.id, ", ".join(info.splits), info.licence, info.form)
    _print(shown, "Any other text: the path of a UTF-8 file, or of JSON lines (path.jsonl[:field]).")


def presets() -> None:
    """Lists the presets."""
    from inspect import cleandoc

    from collapselab.config.presets import PRESETS

    for name, preset in PRESETS.items():
        config = preset()
        _print(
            Text.assemble((name, "bold"), f"  (model {config.model}, data {','.join(config.data)})"),
            cleandoc(preset.__doc__ or ""),
            "",
        )


def metrics() -> None:
    """Lists every metric: its unit, its meaning, what it needs, and what that costs."""
    from collapselab.metrics import NEEDS, ON_DEMAND, that_need

    for needs, group in NEEDS.items():
        shown = table("metric", "unit", "meaning")
        for name, metric in that_need(needs).items():
            shown.add_row(name, metric.number.unit, metric.number.meaning)
        _print(Text.assemble((needs, "bold"), f": {group.text}"), f"{group.when}; cost: {group.cost}", shown, "")
    shown = table("metric", "least samples", "why", "needs")
    for name, kind in ON_DEMAND.items():
        shown.add_row(name, f"{kind.min_samples:,}", kind.why, kind.needs)
    _print(Text.assemble(("on demand", "bold"), ": collapselab.metrics.distributions, on embeddings"), shown)


def safeguards(json: bool = False) -> None:
    """Lists what may keep a model from collapsing: formula, defaults, source.

    Args:
        json: print JSON
    """
    from inspect import cleandoc

    from collapselab.config.safeguards import by_id
    from collapselab.config.safeguards.by_settings import BY_OTHER_SETTINGS

    rows = [
        _Safeguard(name, kind.point, cleandoc(kind.__doc__ or "").partition("\n")[0], kind().values, kind.source)
        for name, kind in by_id().items()
    ]
    rows += [_Safeguard(n, "setting", o.meaning, dict(o.changes), o.source) for n, o in BY_OTHER_SETTINGS.items()]
    if json:
        print_json({"safeguards": [row._asdict() for row in rows]})
        return
    for row in rows:
        values = ", ".join(f"{name}={_default(value)}" for name, value in row.settings.items())
        _print(Text.assemble((row.id, "bold"), plain(f"  ({row.point}; {row.source})")))
        _print(plain(f"  {row.formula}"), plain(f"  {values}"), "")
    _print(plain("Use them with --safeguards 'kl-anchor(beta=0.5), real-mix', or [[safeguards]] in a TOML file."))


class _Safeguard(NamedTuple):
    id: str
    point: str
    formula: str
    settings: dict[str, object]
    source: str


def _default(value: object) -> str:
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _print(*parts: object) -> None:
    stdout_console().print(*parts, sep="\n")
