from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from collapselab.collapse.audit import Audit, _repeated_shares, diagnose
from collapselab.config.schema import Collapse
from collapselab.errors import InputError
from collapselab.metrics.shares import clopper_pearson

LOOP = "abc" * 100
HEALTHY = "".join(chr(0x4E00 + k) for k in range(200))


def encode(text: str) -> list[int]:
    """One token a character."""
    return [ord(character) for character in text]


def decode(ids: Sequence[int]) -> str:
    return "".join(map(chr, ids))


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def audited(path: Path, window: int = 200) -> Audit:
    return diagnose(path, encode, decode, Collapse(), window)


def test_plain_text_is_cut_into_windows(tmp_path: Path):
    result = audited(written(tmp_path / "a.txt", HEALTHY + LOOP[:200] + HEALTHY[:50]))
    assert [sample.place for sample in result.samples] == ["tokens 0-199", "tokens 200-399", "tokens 400-449"]
    assert [sample.verdict.degenerate for sample in result.samples] == [False, True, None]
    assert (result.num_judged, result.num_degenerate, result.degenerate_share) == (2, 1, 0.5)
    assert result.kinds == {"loop": 1}
    assert result.samples[1].metrics["loop_period"] == 3
    assert result.samples[2].token_ids == tuple(encode(HEALTHY[:50]))


def test_a_paragraph_again_and_again_is_a_template(tmp_path: Path):
    """No window of 200 holds it twice, so each alone looks healthy."""
    paragraph = "".join(chr(0x4E00 + k) for k in range(900))
    other = "".join(chr(0x7000 + k) for k in range(2000))
    result = audited(written(tmp_path / "a.txt", other + paragraph * 3 + other))
    flagged = [sample.verdict.degenerate for sample in result.samples]
    # The first copy ends within tokens 2800-2999; the other text is too long ago when it comes again.
    assert flagged == [False] * 15 + [True] * 8 + [False] * 11
    assert result.kinds == {"template": 8}
    assert result.samples[15].verdict.reasons == ("template",)


@settings(max_examples=500, derandomize=True, deadline=None)
@given(st.lists(st.integers(0, 1), min_size=1, max_size=80), st.integers(4, 12), st.integers(1, 40))
def test_repeated_shares_are_their_slow_definition(ids: list[int], window: int, looked_back: int):
    shares = list(_repeated_shares(ids, window, looked_back))
    for number, start in enumerate(range(0, len(ids), window)):
        before = ids[max(0, start - looked_back) : start]
        known = {tuple(before[i : i + 4]) for i in range(len(before) - 3)}
        part = ids[start : start + window]
        own = [tuple(part[i : i + 4]) in known for i in range(len(part) - 3)]
        assert shares[number] == (sum(own) / len(own) if own else 0.0)
    assert len(shares) == -(-len(ids) // window)


def test_the_window_is_a_choice(tmp_path: Path):
    result = audited(written(tmp_path / "a.txt", LOOP), window=100)
    assert [len(sample.token_ids) for sample in result.samples] == [100, 100, 100]
    with pytest.raises(InputError, match="at least 100 tokens"):
        audited(tmp_path / "a.txt", window=99)


def test_json_lines_hold_one_sample_each(tmp_path: Path):
    lines = [json.dumps({"text": HEALTHY}), "", json.dumps({"token_ids": [7, 8] * 60, "text": HEALTHY})]
    result = audited(written(tmp_path / "a.jsonl", "\n".join(lines)))
    assert [sample.place for sample in result.samples] == ["line 1", "line 3"]
    assert [sample.verdict.degenerate for sample in result.samples] == [False, True]  # ids go before text


def test_line_separators_inside_a_string_do_not_cut_a_line(tmp_path: Path):
    result = audited(written(tmp_path / "a.jsonl", json.dumps({"text": "a\u2028b"}, ensure_ascii=False)))
    assert result.samples[0].token_ids == tuple(encode("a\u2028b"))


def test_white_space_is_seen_only_with_a_decoder(tmp_path: Path):
    spaces = "".join(chr(0x2000 + k % 11) + "\t\n "[k % 3] for k in range(100))
    path = written(tmp_path / "a.jsonl", json.dumps({"text": spaces}))
    assert "whitespace" in audited(path).samples[0].verdict.reasons
    assert "whitespace" not in diagnose(path, encode, None, Collapse()).samples[0].verdict.reasons


def test_nothing_judged_has_no_share(tmp_path: Path):
    result = audited(written(tmp_path / "a.jsonl", '{"token_ids": []}\n{"text": "short"}\n'))
    assert (result.num_judged, result.degenerate_share, result.interval, result.kinds) == (0, None, None, {})
    assert result.samples[0].verdict.reasons == ("under_100_tokens",)


def test_what_the_file_may_not_be_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match="none of the fields token_ids, text"):
        audited(written(tmp_path / "a.jsonl", '{"txt": "a"}'))


def test_a_field_by_name_and_an_answer_in_a_conversation(tmp_path: Path):
    turns = [{"role": "user", "content": HEALTHY}, {"role": "assistant", "content": LOOP}]
    path = written(tmp_path / "a.json", json.dumps([{"messages": turns}]))
    assert audited(path).kinds == {"loop": 1}
    result = diagnose(path, encode, decode, Collapse(), field="messages.0.content")
    assert [(sample.place, sample.verdict.degenerate) for sample in result.samples] == [("item 1", False)]


@given(st.integers(1, 2000).flatmap(lambda trials: st.tuples(st.integers(0, trials), st.just(trials))))
def test_the_interval_is_scipys(counts: tuple[int, int]):
    expected = binomtest(*counts).proportion_ci(method="exact")
    assert clopper_pearson(*counts) == (pytest.approx(expected.low, abs=1e-9), pytest.approx(expected.high, abs=1e-9))


def test_no_trials_have_no_interval():
    assert clopper_pearson(0, 0) is None


def test_an_audit_needs_no_torch():
    code = "import collapselab.collapse.audit, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_records_may_be_the_steps_of_a_run(tmp_path: Path):
    texts = [HEALTHY, HEALTHY[::-1], HEALTHY, "".join(chr(0x5E00 + k) for k in range(200))]
    lines = [
        json.dumps({"text": text, "train_nll_nats": nll}) for text, nll in zip(texts, (3, 2.5, 0.5, 0.05), strict=True)
    ]
    path = written(tmp_path / "steps.jsonl", "\n".join(lines))
    assert audited(path).num_degenerate == 0
    stream = diagnose(path, encode, decode, Collapse(), stream=True)
    assert [sample.verdict.reasons for sample in stream.samples] == [(), (), ("template",), ("frozen",)]
    assert stream.kinds == {"template": 1, "frozen": 1}
    short = diagnose(path, encode, decode, Collapse(window=2), stream=True)
    assert short.kinds == {"frozen": 1}, "the copy is of a sample before the window"
    plain = diagnose(written(tmp_path / "a.txt", HEALTHY), encode, decode, Collapse(), stream=True)
    assert plain.num_degenerate == 0, "plain text is a stream as it is"
