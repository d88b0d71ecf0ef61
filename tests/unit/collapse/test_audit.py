"""Audits of files: what is judged how, what a file's own order says, and what is counted."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from collapselab.collapse.audit.batches import Options
from collapselab.collapse.audit.run import Audit, Sample, audit
from collapselab.collapse.audit.samples import Judge
from collapselab.collapse.rules import judge_sample, unspaced
from collapselab.config.schema import Collapse
from collapselab.engine.repetition import plain_shares, repeated_shares
from collapselab.errors import InputError
from collapselab.inputs.corpus import Corpus
from collapselab.metrics.shares import clopper_pearson

LOOP = "abc" * 100
HEALTHY = "".join(chr(0x4E00 + k) for k in range(200))


def encode_all(texts: Sequence[str]) -> list[list[int]]:
    """One token a character."""
    return [[ord(character) for character in text] for text in texts]


def decode(ids: Sequence[int]) -> str:
    return "".join(map(chr, ids))


def judge_with(**thresholds: int) -> Judge:
    return Judge(encode_all, decode, Collapse(**thresholds), ids_are_known=False)  # pyright: ignore[reportArgumentType]


def audited(path: Path, options: Options | None = None, judge: Judge | None = None) -> tuple[Audit, list[Sample]]:
    samples: list[Sample] = []
    found, _ = audit(Corpus.of([str(path)]), judge or judge_with(), options or Options(), each=samples.append)
    return found, samples


def lines(path: Path, *records: object) -> Path:
    path.write_text("\n".join(map(json.dumps, records)), encoding="utf-8")
    return path


def text(path: Path, content: str) -> Path:
    path.write_text(content, encoding="utf-8")
    return path


def test_plain_text_is_cut_into_windows(tmp_path: Path) -> None:
    found, samples = audited(text(tmp_path / "a.txt", HEALTHY + LOOP[:200] + HEALTHY[:15]))
    assert [sample.place for sample in samples] == ["tokens 0-199", "tokens 200-399", "tokens 400-414"]
    assert [sample.judged.verdict.degenerate for sample in samples] == [False, True, None]
    assert (found.tally.num_judged, found.tally.num_degenerate, found.tally.share) == (2, 1, 0.5)
    assert found.tally.kinds == {"loop": 1}
    assert samples[1].judged.metrics["loop_period"] == 3
    assert samples[2].judged.ids.tolist() == encode_all([HEALTHY[:15]])[0]


def test_windows_of_a_long_text_are_numbered_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("collapselab.inputs.corpus_forms.BLOCK_CHARACTERS", 400)
    _, samples = audited(text(tmp_path / "a.txt", HEALTHY * 6))
    assert [sample.place for sample in samples] == [f"tokens {200 * k}-{200 * k + 199}" for k in range(6)]


def test_a_paragraph_again_and_again_is_a_template(tmp_path: Path) -> None:
    """No window of 200 holds it twice, so each alone looks healthy."""
    paragraph = "".join(chr(0x4E00 + k) for k in range(900))
    other = "".join(chr(0x7000 + k) for k in range(2000))
    found, samples = audited(text(tmp_path / "a.txt", other + paragraph * 3 + other))
    flagged = [sample.judged.verdict.degenerate for sample in samples]
    # The first copy ends within tokens 2800-2999; the other text is too long ago when it comes again.
    assert flagged == [False] * 15 + [True] * 8 + [False] * 11
    assert found.tally.kinds == {"template": 8}
    assert samples[15].judged.verdict.reasons == ("template",)


@settings(max_examples=500, derandomize=True, deadline=None)
@given(st.lists(st.integers(0, 1), max_size=80), st.integers(4, 12), st.integers(1, 40))
def test_repeated_shares_are_their_slow_definition(ids: list[int], window: int, looked_back: int) -> None:
    shares = plain_shares(ids, window, looked_back)
    for number, start in enumerate(range(0, len(ids), window)):
        before = ids[max(0, start - looked_back) : start]
        known = {tuple(before[i : i + 4]) for i in range(len(before) - 3)}
        part = ids[start : start + window]
        own = [tuple(part[i : i + 4]) in known for i in range(len(part) - 3)]
        assert shares[number] == (sum(own) / len(own) if own else 0.0)
    assert len(shares) == -(-len(ids) // window)
    assert repeated_shares(ids, window, looked_back) == shares, "the C kernel"


def test_the_window_is_a_choice(tmp_path: Path) -> None:
    _, samples = audited(text(tmp_path / "a.txt", LOOP), Options(window=100))
    assert [len(sample.judged.ids) for sample in samples] == [100, 100, 100]
    with pytest.raises(InputError, match="at least 100 tokens"):
        audited(tmp_path / "a.txt", Options(window=99))


def test_the_verdict_is_that_of_the_plain_rules(tmp_path: Path) -> None:
    texts = [HEALTHY, LOOP, "a  \t   b c" * 40, " " * 300, "to to be be or or not not " * 9, "Row 1.\nRow 2.\n" * 20]
    texts += ["".join(f"{n}) and then {n + 1}. " for n in range(30)), HEALTHY[:120] + "x" * 60]
    _, samples = audited(lines(tmp_path / "a.jsonl", *texts))
    for sample, content in zip(samples, texts, strict=True):
        (ids,) = encode_all([content])
        seen = sum(bool(c.strip()) for c in content)
        plain = judge_sample(ids, Collapse(), seen, text=content, unspaced=unspaced(ids, decode))
        assert sample.judged.verdict == plain, content


def test_ids_go_before_text_and_are_judged_without_their_words(tmp_path: Path) -> None:
    _, samples = audited(lines(tmp_path / "a.jsonl", {"text": HEALTHY}, {"token_ids": [7, 8] * 60, "text": HEALTHY}))
    assert [sample.judged.verdict.degenerate for sample in samples] == [False, True]
    assert samples[1].judged.text is None
    blanks = lines(tmp_path / "b.jsonl", {"token_ids": [9, 32] * 3 + list(range(0x2000, 0x2000 + 11)) * 20})
    known = Judge(encode_all, decode, Collapse())
    assert "whitespace" in audited(blanks, judge=known)[1][0].judged.verdict.reasons
    assert "whitespace" not in audited(blanks)[1][0].judged.verdict.reasons


def test_bad_rows_are_counted_and_named_and_strict_refuses(tmp_path: Path) -> None:
    path = lines(tmp_path / "a.jsonl", {"text": HEALTHY}, {"txt": "a"}, {"text": "half \ud83d"}, {"text": LOOP})
    found, _ = audited(path)
    assert (found.tally.num_judged, found.num_bad) == (2, 2)
    assert [bad.place for bad in found.bad] == ["line 2", "line 3: 'text'"]
    assert "surrogate" in found.bad[1].reason
    with pytest.raises(InputError, match="line 2 has no generated text"):
        audited(path, Options(strict=True))
    with pytest.raises(InputError, match="no row has a text"):
        audited(lines(path, {"txt": "a"}))
    with pytest.raises(InputError, match="is plain text and has no field"):
        audited(text(tmp_path / "a.txt", HEALTHY), Options(field="b"))


def test_short_texts_are_pooled(tmp_path: Path) -> None:
    found, samples = audited(lines(tmp_path / "a.jsonl", *["Yes, sure."] * 50, HEALTHY))
    assert [s.judged.verdict.degenerate for s in samples] == [None] * 50 + [False]
    assert (found.tally.num_judged, found.num_pooled) == (1, 50)
    assert (found.pools.num_samples, found.pools.num_degenerate) == (3, 3), "two pools of 200 tokens, and 100"


def test_a_very_long_text_is_judged_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("collapselab.collapse.audit.batches.MAX_TOKENS", 250)
    _, samples = audited(lines(tmp_path / "a.jsonl", {"text": HEALTHY + LOOP}, {"text": HEALTHY}))
    assert [sample.place for sample in samples] == ["line 1, tokens 0-249", "line 1, tokens 250-499", "line 2"]
    assert [sample.judged.verdict.degenerate for sample in samples] == [False, True, False]


def test_groups_and_onset(tmp_path: Path) -> None:
    records = [
        {"step": i // 10, "meta": {"model": "ab"[i % 2]}, "text": LOOP if i >= 30 else HEALTHY[i:] + HEALTHY[:i]}
        for i in range(45)
    ]
    path = lines(tmp_path / "a.jsonl", *records)
    found, _ = audited(path, Options(by="step"))
    assert {name: tally.num_degenerate for name, tally in found.by.items()} == dict(
        zip("01234", (0, 0, 0, 10, 5), strict=True)
    )
    assert (found.onset_row, found.step_field) == (31, "step")
    assert audited(path, Options(by="meta.model"))[0].by["b"].num_degenerate == 7
    with pytest.raises(InputError, match="more than 1000 values"):
        audited(lines(path, *({"id": i, "text": HEALTHY} for i in range(1001))), Options(by="id"))


def test_records_may_be_the_steps_of_a_run(tmp_path: Path) -> None:
    texts = [HEALTHY, HEALTHY[::-1], HEALTHY, "".join(chr(0x5E00 + k) for k in range(200))]
    records = [{"text": t, "train_nll_nats": nll} for t, nll in zip(texts, (3, 2.5, 0.5, 0.05), strict=True)]
    path = lines(tmp_path / "steps.jsonl", *records)
    assert audited(path)[0].tally.num_degenerate == 0
    found, samples = audited(path, Options(stream=True))
    assert [s.judged.verdict.reasons for s in samples] == [(), (), ("template",), ("frozen",)]
    assert found.tally.kinds == {"template": 1, "frozen": 1}
    short, _ = audited(path, Options(stream=True), judge_with(window=2))
    assert short.tally.kinds == {"frozen": 1}, "the copy is of a sample before the window"


def test_steps_are_compared_with_the_first_eight(tmp_path: Path) -> None:
    def drawn(seed: int, num_words: int) -> str:
        return "".join(chr(0x4E00 + word) for word in random.Random(seed).choices(range(num_words), k=200))

    texts = [drawn(i, 3000) for i in range(12)] + [drawn(i, 90) for i in range(12)]
    found, samples = audited(lines(tmp_path / "a.jsonl", *texts), Options(stream=True))
    assert not any(sample.judged.verdict.degenerate for sample in samples[:13])
    assert "low-diversity" in samples[-1].judged.verdict.reasons
    assert audited(tmp_path / "a.jsonl")[0].tally.num_degenerate == 0
    assert found.tally.num_degenerate


@given(st.integers(1, 2000).flatmap(lambda trials: st.tuples(st.integers(0, trials), st.just(trials))))
def test_the_interval_is_scipys(counts: tuple[int, int]) -> None:
    expected = binomtest(*counts).proportion_ci(method="exact")
    assert clopper_pearson(*counts) == (pytest.approx(expected.low, abs=1e-9), pytest.approx(expected.high, abs=1e-9))


def test_an_audit_needs_no_torch(tmp_path: Path) -> None:
    """Not on the command line either: it would triple the memory, and take seconds."""
    path = lines(tmp_path / "a.jsonl", *[LOOP] * 30)
    code = (
        "import sys; from collapselab.cli import guarded, parse\n"
        f"code = guarded(parse(['audit', {str(path)!r}, '--report', {str(tmp_path / 'page.html')!r}]), 'audit')\n"
        "sys.exit(code or 'torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).returncode == 0
