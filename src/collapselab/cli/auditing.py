"""`collapselab audit`: is this text degenerate, and how? `diagnose` is the same command."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tyro.conf import Positional

from collapselab.cli.overview import duration
from collapselab.cli.text import note, print_json_line, stderr_console
from collapselab.collapse.words import percent, rules_in_words
from collapselab.errors import CollapselabError, InputError, doing

if TYPE_CHECKING:
    from collapselab.collapse.audit.likeness import Kept
    from collapselab.collapse.audit.run import Audit, Sample
    from collapselab.collapse.audit.samples import Judge
    from collapselab.inputs.corpus import Corpus
    from collapselab.inputs.corpus_writing import RowSorter
    from collapselab.report.audit_page import Shown

LINES_EVERY_S = 10.0  # without a terminal: at most one line of progress in this time


class TooManyDegenerate(CollapselabError):
    """The share of degenerate texts is above `--max-share`."""


def audit(
    paths: Positional[tuple[str, ...]],
    tokenizer: str | None = None,
    field: str | None = None,
    by: str | None = None,
    reference: str | None = None,
    window: int = 200,
    max_share: float | None = None,
    keep: Path | None = None,
    drop: Path | None = None,
    report: Path | None = None,
    stream: bool = False,
    strict: bool = False,
    json: bool = False,
) -> None:
    """Audits any text or corpus for degeneration: which texts, by which rules, of which kind, from where on.

    Args:
        paths: JSON lines, JSON, CSV, Parquet, Arrow or plain text, also as .gz or .zst; folders of these, such as a
            saved data set; - is standard input. Plain text is cut into windows, all else has a text per row
        tokenizer: the model whose tokenizer reads the text (a name as in `collapselab models`); default: builtin
        field: of a row, the one with the generated text, for example choices[0].message.content; also
            FILE.jsonl:FIELD; default: found by itself (text, completion, response, messages, …)
        by: a field to group by, such as step or model
        reference: text of a healthy source (human, or the untouched model) to compare with; the same forms
        window: tokens a window of plain text
        max_share: exit with code 1 if more than this share is degenerate, or the corpus as a whole; for a gate in CI
        keep: write the healthy rows to this JSON lines file
        drop: write the degenerate rows to this one
        report: write a page that needs no network: numbers, excerpts and a browser of the texts
        stream: rows are the steps of one run, in order: copies of earlier samples and frozen ones are found too
        strict: refuse a row that cannot be judged, instead of counting it
        json: print a JSON line per text, and one of the totals at the end
    """
    from collapselab.collapse.audit.batches import Options
    from collapselab.collapse.audit.run import audit as audit_corpus

    if not paths:
        raise InputError("audit needs a file, a folder, or - for standard input", "collapselab audit samples.jsonl")
    if max_share is not None and not 0 <= max_share <= 1:
        raise InputError(f"--max-share is a share from 0 to 1, received {max_share}", "0.05 is 5 %")
    judge, options = _judge(tokenizer), Options(window, field, by, strict, stream)
    healthy: tuple[Audit, Kept] | None = None
    if reference is not None:
        with doing(f"reading {reference}"), _progress(corpus := _corpus([reference]), "reference") as progress:
            healthy = audit_corpus(corpus, judge, Options(window, field, None, strict), progress=progress)
    shown = None if report is None else _shown()
    with doing(f"reading {', '.join(paths)}"), _rows(keep, drop, paths) as sorter:
        sort = None if sorter is None else partial(_sort, sorter)
        each = [one for one in (_print_sample if json else None, sort, shown.add if shown else None) if one]
        with _progress(corpus := _corpus(paths), "audit") as progress:
            found, _ = audit_corpus(
                corpus, judge, options, each=_in_turn(each),
                progress=progress, reference=healthy[1] if healthy else None,
            )  # fmt: skip
    _show(", ".join(paths), found, judge, healthy[0] if healthy else None, is_json=json, tokenizer=tokenizer)
    if sorter is not None:
        note(_sorted(sorter, keep, drop, found.num_bad))
    if report is not None and shown is not None:
        from collapselab.report.audit_page import write_audit_page

        write_audit_page(report, ", ".join(paths), found, judge, shown, healthy[0] if healthy else None)
        note(f"page: {report}")
    if max_share is not None:
        _gate(found, max_share)


def _in_turn(functions: list[Callable[[Sample], None]]) -> Callable[[Sample], None]:
    def call(sample: Sample) -> None:
        for function in functions:
            function(sample)

    return call


def _judge(tokenizer: str | None) -> Judge:
    from collapselab.collapse.audit.samples import Judge
    from collapselab.config.schema import Collapse
    from collapselab.inputs.tokenizers import builtin_tokenizer

    if tokenizer is None:
        chosen = builtin_tokenizer()
    else:
        from collapselab.inputs.models import load_tokenizer

        with doing(f"reading the tokenizer of {tokenizer}"):
            chosen = load_tokenizer(tokenizer)
    # Ids in the file are those of a tokenizer we know only if it was named; else the white-space rule is skipped.
    return Judge(chosen.encode_all, chosen.decode, Collapse(), ids_are_known=tokenizer is not None)


def _corpus(paths: list[str] | tuple[str, ...]) -> Corpus:
    from collapselab.inputs.corpus import Corpus

    return Corpus.of(paths)


def _shown() -> Shown:
    from collapselab.report.audit_page import Shown

    return Shown()


def _show(
    name: str, found: Audit, judge: Judge, healthy: Audit | None, *, is_json: bool, tokenizer: str | None
) -> None:
    from collapselab.cli.audit import print_audit, totals

    if is_json:
        total = {"total": True, "files": name, "tokenizer": tokenizer or "builtin", **totals(found, healthy)}
        print_json_line(total)
    else:
        print_audit(name, found, judge, healthy)


def _print_sample(sample: Sample) -> None:
    judged = sample.judged
    values = {"place": sample.place, "by": sample.text.by, **asdict(judged.verdict), "num_tokens": len(judged.ids)}
    print_json_line({name: v for name, v in values.items() if name != "by" or v} | {"metrics": judged.metrics})


def _gate(found: Audit, max_share: float) -> None:
    share = found.tally.share
    hint = "the gate of --max-share; without it the exit code is 0"
    if share is None:
        raise TooManyDegenerate("no text is long enough to be judged, so the share is unknown", hint)
    if share > max_share:
        counts = f"{found.tally.num_degenerate:,} of {found.tally.num_judged:,}"
        too_many = f"{percent(share)} of the texts ({counts}) are degenerate, more than {100 * max_share:g} %"
        raise TooManyDegenerate(too_many, hint)
    if found.whole is not None and found.whole.degenerate:
        raise TooManyDegenerate(f"the corpus as a whole is degenerate ({rules_in_words(found.whole.reasons)})", hint)


@contextmanager
def _rows(keep: Path | None, drop: Path | None, inputs: tuple[str, ...]) -> Generator[RowSorter | None]:
    if keep is None and drop is None:
        yield None
        return
    from collapselab.inputs.corpus_writing import RowSorter

    with RowSorter(keep, drop, inputs) as sorter:
        yield sorter


def _sort(sorter: RowSorter, sample: Sample) -> None:
    content = sample.judged.text or "" if sample.text.row.is_prose else sample.text.content
    sorter.add(sample.text.row, content, sample.judged.verdict.degenerate is True)


def _sorted(sorter: RowSorter, keep: Path | None, drop: Path | None, num_bad: int) -> str:
    """How many rows are in which file."""
    kept, dropped = sorter.num_rows
    words = f"{kept:,} rows kept{f' in {keep}' if keep else ''}, {dropped:,} dropped{f' to {drop}' if drop else ''}"
    return words + (f", {num_bad:,} that could not be judged in neither" if num_bad else "")


@contextmanager
def _progress(corpus: Corpus, what: str) -> Generator[Callable[[Audit], None]]:
    """Says on standard error how far the audit is; nothing for what takes less than two seconds."""
    console, started = stderr_console(), time.monotonic()
    live = console.status("", spinner="line") if console.is_terminal else None
    last = started

    def show(found: Audit) -> None:
        nonlocal last
        now = time.monotonic()
        if now - started < 2 or now - last < (0.2 if live else LINES_EVERY_S):
            return
        last = now
        line = f"{what}: {_so_far(corpus, found, now - started)}"
        live.update(line) if live else note(line)

    if live:
        live.start()
    try:
        yield show
    finally:
        if live:
            live.stop()


def _so_far(corpus: Corpus, found: Audit, seconds: float) -> str:
    done, total = corpus.done_bytes, corpus.total_bytes
    parts = [f"{found.num_texts:,} texts, {found.tally.num_degenerate:,} degenerate"]
    if total and done:
        left, digits = seconds * (total - done) / done, 0 if total >= 1e7 else 1
        parts = [f"{done / 1e6:,.{digits}f} of {total / 1e6:,.{digits}f} MB", *parts, f"about {duration(left)} left"]
    return ", ".join(parts)
