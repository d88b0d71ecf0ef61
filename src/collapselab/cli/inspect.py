"""The commands that look at things: eval, diagnose, models, data, presets."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from rich.table import Table
from tyro.conf import Positional

from collapselab.cli.audit import TOTALS, print_audit
from collapselab.cli.text import stdout_console
from collapselab.errors import InputError
from collapselab.records import dumps


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
        data: texts, with commas
        protocol: windows[n,k], disjoint[n] or sliding[n,s]; +eot scores each window's first token too
        precision: bfloat16 is quicker, and within thousandths of a nat (docs/performance.md)
        device: where the model runs
        context: positions of a model whose configuration does not name them (Bloom, Mamba)
        begin_token: before each window with +eot; default: the model's own, else its end-of-text token
        data_dir: where texts lie or are downloaded to (also COLLAPSELAB_DATA)
        json: print JSON
    """
    from collapselab.protocols import parse_protocol

    parse_protocol(protocol.replace("[context]", "[1024]"))  # a wrong name is told before a model is read
    from collapselab.data import load_text

    texts = {name.strip(): load_text(name.strip(), data_dir) for name in data.split(",") if name.strip()}
    if not texts:
        raise InputError(f"--data names no text, received {data!r}", "for example --data austen,moby-dick")
    from collapselab.engine.choose import make_engines
    from collapselab.evaluation import evaluate as measure
    from collapselab.evaluation import plan
    from collapselab.models import load_model
    from collapselab.randomness import rng
    from collapselab.setup import fitting_protocol

    loaded = load_model(model, device=device, context=context, begin_token=begin_token)
    resolved = fitting_protocol(protocol, loaded)
    _, scorer = make_engines(loaded.model, "auto", write="float32", score=precision)
    rows: dict[str, dict[str, Any]] = {}
    for name, text in texts.items():
        ids = loaded.tokenizer.encode(text.text)
        loss = measure(
            scorer,
            plan(resolved, ids, loaded.tokenizer, rng(0, "evaluation", 0)),
            loaded.tokenizer.start_id,
        )
        derived = {n: getattr(loss, n) for n in ("perplexity", "bits_per_byte", "word_perplexity")}
        rows[name] = asdict(loss) | derived | {"text_sha256": text.sha256, "text_tokens": len(ids)}
    if json:
        print(dumps({"model": model, "protocol": resolved.name, "precision": precision, "texts": rows}, indent=1))  # noqa: T201
        return
    table = _table("text", "nats/token", "s.e.", "perplexity", "bits/byte", "word perplexity", "tokens scored")
    for name, row in rows.items():
        se = row["se_nats"]
        table.add_row(
            name,
            f"{row['nll_nats']:.4f}",
            "–" if se is None else f"{se:.4f}",
            f"{row['perplexity']:.2f}",
            f"{row['bits_per_byte']:.4f}",
            f"{row['word_perplexity']:.1f}",
            f"{row['num_tokens']:,}",
        )
    stdout_console().print(f"{model}, {resolved.name}", table, sep="\n", markup=False)


def diagnose(file: Positional[Path], tokenizer: str | None = None, window: int = 200, json: bool = False) -> None:
    """Audits a text for degeneration: which samples, by which rules, of which kind.

    Args:
        file: plain text (cut into windows), or JSON lines with `text` or `token_ids` (a sample a line)
        tokenizer: the model whose tokenizer reads the text (a name as in `collapselab models`); default: builtin
        window: tokens a window of plain text
        json: print JSON
    """
    from collapselab.config import Collapse
    from collapselab.diagnose import diagnose as audit_file
    from collapselab.tokenization import builtin_tokenizer

    if tokenizer is None:
        chosen = builtin_tokenizer()
    else:
        from collapselab.models import load_tokenizer

        chosen = load_tokenizer(tokenizer)
    # Ids in the file are those of a tokenizer we know only if it was named; else the white-space rule is skipped.
    audit = audit_file(file, chosen.encode, chosen.decode, Collapse(), window, ids_are_known=tokenizer is not None)
    if json:
        samples = [
            {"place": s.place, **asdict(s.verdict), "num_tokens": len(s.token_ids), "metrics": dict(s.metrics)}
            for s in audit.samples
        ]
        total = {name: getattr(audit, name) for name in TOTALS}
        print(dumps({"file": str(file), "tokenizer": tokenizer or "builtin", **total, "samples": samples}, indent=1))  # noqa: T201
        return
    print_audit(file, audit)


def models() -> None:
    """Lists the models that have a name of their own."""
    from collapselab.models import model_names

    table = _table("model", "parameters", "from", "about")
    for info in model_names():
        table.add_row(
            info.name, "–" if info.num_parameters is None else f"{info.num_parameters:,}", info.source, info.summary
        )
    _print(table, "Any other causal language model: a hub id (owner/name), a folder or a GGUF file.")


def data() -> None:
    """Lists the texts that have a name of their own."""
    from collapselab.data import text_names

    table = _table("text", "splits", "licence", "about")
    for info in text_names():
        table.add_row(info.id, ", ".join(info.splits), info.licence, info.form)
    _print(table, "Any other text: the path of a UTF-8 file, or of JSON lines with a field `text`.")


def presets() -> None:
    """Lists the presets."""
    from inspect import cleandoc

    from collapselab.presets import PRESETS

    for name, preset in PRESETS.items():
        config = preset()
        _print(
            f"[bold]{name}[/]  (model {config.model}, data {','.join(config.data)})", cleandoc(preset.__doc__ or ""), ""
        )


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _print(*parts: object) -> None:
    stdout_console().print(*parts, sep="\n")
