"""The parts of an audit: shares and their difference, onset over rows, copies and likeness, the corpus as a whole."""

from __future__ import annotations

import csv
import random
from pathlib import Path

import numpy as np
import pytest

from collapselab.collapse.audit.excerpts import excerpt, loop_places
from collapselab.collapse.audit.human import FLAGGED, expected_shares, nearest_length
from collapselab.collapse.audit.likeness import (
    MAX_KEPT_TOKENS,
    Copies,
    Kept,
    Openings,
    gram_hashes,
    likeness,
    near_share,
    shared_phrases,
)
from collapselab.collapse.audit.samples import Judge
from collapselab.collapse.audit.tally import Tally, onset_of, share_difference, trend
from collapselab.collapse.audit.whole import compare_diversity, join_evenly, judge_whole
from collapselab.collapse.rules import SampleVerdict
from collapselab.collapse.short import SHORT_RULES
from collapselab.config.schema import Collapse
from collapselab.visible import first_words, last_words

Texts = list[np.ndarray]


def encode_all(texts: list[str]) -> list[list[int]]:
    return [[ord(character) for character in text] for text in texts]


def decode(ids: list[int]) -> str:
    return "".join(map(chr, ids))


JUDGE = Judge(encode_all, decode, Collapse())


def drawn(seed: int, num_words: int = 3000, length: int = 120) -> np.ndarray:
    return np.array([0x4E00 + word for word in random.Random(seed).choices(range(num_words), k=length)], np.uint32)


def test_a_difference_of_shares_is_newcombes() -> None:
    def tally(flagged: int, total: int) -> Tally:
        return Tally(total, total, flagged)

    found = share_difference(tally(56, 70), tally(48, 80))
    assert found is not None
    # Newcombe 1998, table II: 56/70 - 48/80 = 0.2, by method 10 [0.0524, 0.3339]; exact intervals are a little wider.
    assert found[0] == pytest.approx(0.2)
    assert found[1:] == pytest.approx((0.0524, 0.3339), abs=0.02)
    assert found[1] < 0.0524
    assert found[2] > 0.3339
    none = share_difference(tally(0, 40), tally(0, 40))
    assert none is not None
    assert none[1] < 0 < none[2], "no width of 0 at shares of 0"
    assert share_difference(Tally(), tally(1, 2)) is None


def test_onset_over_rows() -> None:
    assert onset_of([0] * 30 + [1] * 15) == 30
    assert onset_of([0] * 28 + [1, 0] + [1] * 15) == 30 or onset_of([0] * 28 + [1, 0] + [1] * 15) == 28
    assert onset_of([0, 0, 1] * 15) is None, "a third, spread over the rows"
    assert onset_of([1] * 40) is None, "degenerate from the first row"
    assert onset_of([0] * 30 + [1] * 7) is None, "too few"
    assert onset_of([1] * 10 + [0] * 30) is None
    assert onset_of([]) is None


def test_a_trend_has_ten_parts() -> None:
    assert trend([0] * 19) == []
    assert trend([0] * 50 + [1] * 50) == [(10, 0)] * 5 + [(10, 10)] * 5


def test_copies_are_counted_without_keeping_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("collapselab.collapse.audit.likeness.MAX_HASHES", 500)
    copies = Copies()
    for i in range(4000):
        copies.add(str(i % 2000).encode())
    assert len(copies.counts) <= 500
    assert copies.share == pytest.approx(0.5), "each kept text was seen twice"
    assert copies.largest == 2
    assert Copies().share is None


def test_kept_texts_are_spread_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("collapselab.collapse.audit.likeness.MAX_KEPT", 64)
    kept = Kept()
    for i in range(10_000):
        kept.add(np.full(3, i, np.uint32))
    firsts = [int(ids[0]) for ids in kept.ids]
    assert 32 <= len(firsts) <= 64
    assert set(np.diff(firsts)) == {256}
    big = Kept()
    for _ in range(20):
        big.add(np.zeros(MAX_KEPT_TOKENS // 8, np.uint32))
    assert sum(map(len, big.ids)) <= MAX_KEPT_TOKENS


def test_hashes_of_n_grams_are_equal_for_equal_n_grams_only() -> None:
    ids = np.array(random.Random(0).choices(range(3), k=3000), np.uint32)
    grams = [tuple(ids[i : i + 4].tolist()) for i in range(len(ids) - 3)]
    by_hash: dict[int, set[tuple[int, ...]]] = {}
    for gram, key in zip(grams, gram_hashes(ids, 4).tolist(), strict=True):
        by_hash.setdefault(key, set()).add(gram)
    assert all(len(found) == 1 for found in by_hash.values())
    assert len(by_hash) == len(set(grams))
    assert len(gram_hashes(ids[:3], 4)) == 0


def test_near_copies_are_found_and_others_are_not() -> None:
    texts = [drawn(i) for i in range(50)]
    assert near_share(texts) == 0
    changed = texts[0].copy()
    changed[60] = 1
    assert near_share([*texts, changed]) == pytest.approx(2 / 51)


def test_shared_phrases_and_openings() -> None:
    phrase = np.array(encode_all(["as an AI"])[0], np.uint32)
    texts: Texts = [np.concatenate([drawn(i, length=40), phrase, drawn(i + 99, length=40)]) for i in range(6)]
    assert shared_phrases(texts, decode) == [("as an AI", 6)]
    assert shared_phrases([drawn(i) for i in range(6)], decode) == []
    openings = Openings()
    for text in ["Sure, here is the answer to it: x"] * 4 + ["No.", ""]:
        openings.add(text)
    assert openings.common() == [("Sure, here is the answer to", 4)]


def test_distinct_n_is_its_definition() -> None:
    kept = Kept()
    texts = [drawn(1, 20), drawn(2, 20)]
    for ids in texts:
        kept.add(ids)
    found = likeness(kept, Copies(), Openings(), decode)
    for n in (1, 2, 3, 4):
        grams = [tuple(ids[i : i + n].tolist()) for ids in texts for i in range(len(ids) - n + 1)]
        assert found.distinct[n - 1] == pytest.approx(len(set(grams)) / len(grams))


def whole_of(samples: Texts, *, is_ordered: bool = False, reference: Texts | None = None):
    kept, copies = Kept(), Copies()
    for ids in samples:
        kept.add(ids)
        copies.add(ids.tobytes())
    before = None if reference is None else Kept(ids=reference)
    return judge_whole(kept.ids, likeness(kept, copies, Openings(), None), JUDGE, is_ordered, before)


def mixed(seed: int) -> np.ndarray:
    """A paragraph of which a few words differ each time."""
    ids = drawn(7, length=150)
    ids[random.Random(seed).sample(range(150), 6)] = drawn(seed)[:6]
    return ids


CORPORA: dict[str, tuple[Texts, set[str]]] = {
    "a paragraph of 900 characters, twelve rows": ([drawn(7, length=900)] * 12, {"loop", "template"}),
    "the same in windows of 200": (list(np.tile(drawn(7, length=900), 12).reshape(-1, 200)), {"loop"}),
    "a sentence of 30 characters, forty rows": ([drawn(7, length=30)] * 40, {"loop", "template"}),
    "a paragraph with other words each time": ([mixed(i) for i in range(30)], {"template"}),
    "two answers in turn": ([drawn(i % 2, length=60) for i in range(30)], {"loop", "template"}),
    "half of the rows are one answer": ([drawn(0 if i % 2 else i, length=60) for i in range(60)], {"template"}),
    "one word a row": ([np.full(30, 0x4E00, np.uint32)] * 20, {"loop", "top_token_share"}),
    "blank rows": ([np.full(30, 32, np.uint32)] * 20, {"whitespace"}),
    "twenty words at random": ([drawn(i, 2, 60) for i in range(30)], {"seq_rep_4"}),
    "healthy rows": ([drawn(i) for i in range(60)], set()),
    "a third of the rows are one answer": ([drawn(0 if i % 3 == 0 else i) for i in range(60)], set()),
    "one row": ([drawn(1)], set()),
}  # fmt: skip


@pytest.mark.parametrize("name", CORPORA)
def test_a_corpus_is_judged_as_a_whole(name: str) -> None:
    samples, expected = CORPORA[name]
    found = whole_of(samples)
    assert expected <= set(found.reasons)
    assert found.degenerate == bool(expected)


def test_a_baseline_shows_low_diversity() -> None:
    healthy, poor = [drawn(i) for i in range(40)], [drawn(i, 60) for i in range(40)]
    assert whole_of(poor).reasons == ()
    found = whole_of(poor, reference=healthy)
    assert (found.reasons, found.baseline) == (("low-diversity",), "reference")
    assert found.entropies is not None
    assert found.entropies[0] < found.entropies[1] - 1.25
    assert whole_of(healthy + poor, is_ordered=True).baseline == "start"
    assert whole_of(healthy + poor, is_ordered=True).reasons == ("low-diversity",)
    assert whole_of(healthy + poor).reasons == (), "the order of the rows may mean nothing"
    assert whole_of(healthy, reference=healthy).reasons == ()
    assert compare_diversity(healthy[:2], healthy) is None, "too few tokens"


def test_joined_texts_are_whole_and_spread() -> None:
    samples = [np.full(10, i, np.uint32) for i in range(100)]
    joined = join_evenly(samples, 100)
    assert joined.tolist() == [i for i in range(0, 100, 10) for _ in range(10)]
    assert len(join_evenly([], 10)) == 0


@pytest.mark.parametrize("length", [20, 50, 80, 99])
def test_short_rules(length: int) -> None:
    def reasons(text: str) -> set[str]:
        (judged,) = JUDGE.judge([(text * 100)[:length] if len(text) < length else text[:length]])
        assert judged.verdict.degenerate == bool(judged.verdict.reasons)
        return set(judged.verdict.reasons)

    assert {"loop", "seq_rep_2", "top_token_share"} <= reasons("x")
    assert {"loop", "seq_rep_2"} <= reasons("abcd")
    assert "whitespace" in reasons("   \n\t\n \n\n\t\t\n")
    assert reasons(decode(drawn(3).tolist())) == set()
    assert reasons(decode(drawn(3)[: length // 3].tolist()) + decode(drawn(4).tolist())) == set()
    words = " ".join(f"w{chr(97 + i)} w{chr(97 + i)}" for i in range(26))
    assert ("stutter" in reasons(words)) == (length >= 80), "20 words are needed"
    assert set(SHORT_RULES) == {"seq_rep_2", "loop", "top_token_share", "whitespace", "stutter"}


def test_a_loop_is_shown_once() -> None:
    (judged,) = JUDGE.judge(["And then: " + "abc" * 90 + "!!"])
    found = excerpt(judged, JUDGE)
    assert (found.unit, found.copies) == ("abc", 90)
    assert (found.before, found.after) == ("And then: ", "!!")
    assert loop_places(judged, JUDGE) == (10, 13, 280)
    (healthy,) = JUDGE.judge([decode(drawn(1).tolist())])
    assert excerpt(healthy, JUDGE).unit == ""
    assert loop_places(healthy, JUDGE) is None


def test_a_text_is_cut_between_words() -> None:
    text = "one two three"
    assert [first_words(text, n) for n in (13, 12, 7, 6, 2)] == [text, "one two …", "one two …", "one …", "on …"]
    assert [last_words(text, n) for n in (13, 12, 9, 8, 2)] == [text, "… two three", "… two three", "… three", "… ee"]


def test_what_human_text_gives_is_that_of_the_results() -> None:
    """The table in the package is that of results/rules, under the builtin tokenizer, genres pooled."""
    folder = Path(__file__).parents[3] / "results" / "rules"
    counts: dict[tuple[str, int], list[int]] = {}
    for name in ("human-half-1.csv", "short-half-1.csv"):
        for row in csv.DictReader((folder / name).read_text(encoding="utf-8").splitlines()):
            if row["tokenizer"] == "builtin":
                total = counts.setdefault((row["group"], int(row["tokens"])), [0, 0])
                total[0] += int(row["flagged"])
                total[1] += int(row["windows"])
    for length, shares in FLAGGED.items():
        for group, share in zip(("prose", "code", "table"), shares, strict=True):
            flagged, windows = counts[group, length]
            assert share == pytest.approx(flagged / windows, abs=5e-5), (group, length, flagged / windows)
    assert expected_shares({200: 3, 1024: 1})["code"] == pytest.approx((3 * FLAGGED[200][1] + FLAGGED[1024][1]) / 4)
    assert [nearest_length(n) for n in (5, 20, 99, 100, 5000)] == [20, 20, 80, 100, 1024]
    assert expected_shares({}) == {}


def test_a_tally_counts_kinds_of_degenerate_texts() -> None:
    tally = Tally()
    for verdict in (SampleVerdict(True, ("loop",), "loop"), SampleVerdict(False), SampleVerdict(None, ("x",))):
        tally.add(verdict)
    assert (tally.num_samples, tally.num_judged, tally.num_degenerate, tally.share) == (3, 2, 1, 0.5)
    assert (dict(tally.kinds), dict(tally.reasons)) == ({"loop": 1}, {"loop": 1})
