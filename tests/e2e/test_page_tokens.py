"""Repeats are marked on the tokens that the metric counts, so a sample has one share of repeats on the page."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

from browsing import opened
from collapselab.collapse.words import percent
from collapselab.inputs.tokenizers import builtin_tokenizer
from collapselab.metrics.repetition import seq_rep
from collapselab.report.figures.barcode import repeat_lengths
from collapselab.report.page import write_page
from collapselab.rundir.frames import load_runs
from report_runs import LOOP, token_run

TEXTS = (
    "It was a calm day, and the sea lay still beneath the ship.",
    LOOP * 12,
    "\n\nno, no, no, no, no, no!\n\n" * 3,
    "é𝄞 naïve é𝄞 naïve é𝄞 naïve café é𝄞 naïve",  # tokens that are parts of a character, and characters of two units
    "I am sure. I am sure you are. I am sure you are. You are, I am sure you are.",
)


def expected_marks(text: str, n: int) -> str:
    tokenizer = builtin_tokenizer()
    ids = tokenizer.encode(text)
    _, ends = tokenizer.decode_with_ends(ids)
    borders = pairwise([0, *ends])
    lengths = repeat_lengths(ids)
    return "".join(text[a:b] for (a, b), length in zip(borders, lengths, strict=True) if length >= n)


def test_marks_and_shares_are_those_of_the_tokens(browser: Any, tmp_path: Path) -> None:
    token_run(tmp_path / "a", TEXTS)
    for page in opened(browser, write_page(load_runs(tmp_path), tmp_path / "report.html")):
        for n in (2, 4, 8):
            page.locator("#ngram").select_option(str(n))
            for step, text in enumerate(TEXTS):
                page.locator("[data-part=slider]").fill(str(step))
                marks = page.locator("[data-part=sample] mark").all_text_contents()
                assert "".join(marks).replace("⏎", "").replace("\n", "") == expected_marks(text, n).replace("\n", "")
                share = seq_rep(builtin_tokenizer().encode(text), n)
                words = page.locator("[data-part=marked]").inner_text()
                assert words.startswith(f"{percent(share or 0)} of the {n}-grams occur earlier")
                assert "words" not in words
                if n < 8:  # the same number again, among those of the step
                    cell = page.locator(f"[data-part=values] tr[data-name=seq_rep_{n}] td").inner_text()
                    assert cell == words.split(" of the")[0]


def test_the_barcode_has_a_column_per_step_and_red_where_a_step_is_degenerate(page: Any) -> None:
    colours = page.evaluate("""() => {
      const canvas = document.querySelector('.barcode-box canvas');
      const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
      const scale = devicePixelRatio;
      const at = (x, y) => [...data.slice(4 * (Math.round(y) * canvas.width + Math.round(x))).slice(0, 3)].join();
      const column = (step) => (step / 11) * (canvas.width - 1);
      return [2, 8].map((step) => [at(column(step), canvas.height / 3), at(column(step), canvas.height - 2 * scale)]);
    }""")
    # Step 2 is new text, step 8 a loop of more than 32 words; both runs of pixels below them tell their verdicts.
    assert colours == [["245,245,242", "0,0,0"], ["20,33,61", "179,38,30"]]
