"""The page of an audit: text is escaped, samples are bounded, the verdict stands first."""

from __future__ import annotations

import base64
import json
import re
import zlib
from html import unescape
from pathlib import Path

import pytest

from collapselab.collapse.audit.batches import Options
from collapselab.collapse.audit.run import audit
from collapselab.collapse.audit.samples import Judge
from collapselab.config.schema import Collapse
from collapselab.inputs.corpus import Corpus
from collapselab.report import audit_page
from collapselab.report.audit_page import Shown, write_audit_page

HOSTILE = "</script><b>bold\u202e "


def page_of(tmp_path: Path, rows: list[dict[str, object]]) -> tuple[str, list[dict[str, object]]]:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    judge = Judge(
        lambda texts: [list(map(ord, text)) for text in texts], lambda ids: "".join(map(chr, ids)), Collapse()
    )
    shown = Shown()
    found, _ = audit(Corpus.of([str(path)]), judge, Options(by="group"), each=shown.add)
    html = write_audit_page(tmp_path / "page.html", "rows <i>", found, judge, shown, None).read_text(encoding="utf-8")
    data = re.search(r'id="samples">([^<]*)<', html)
    assert data is not None
    return html, json.loads(zlib.decompress(base64.b64decode(data[1])))


def test_the_page_holds_verdict_and_texts_and_no_markup_of_theirs(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"text": HOSTILE * 20, "group": "<g>"} for _ in range(9)]
    rows += [{"text": "".join(chr(0x4E00 + i + k * k % 900) for k in range(150)), "group": "b"} for i in range(16)]
    html, samples = page_of(tmp_path, [*rows, {"x": 1}])
    assert "9 of 25 texts, 36 % [18, 57] degenerate" in html
    assert "<td>100 % [66, 100]</td>" in html, "of the group"
    assert "<dt>exact copies</dt><dd>32 %</dd>" in html
    assert "<b>bold" not in html
    assert "<g>" not in html
    assert "rows &lt;i&gt;" in html
    assert "\u202e" not in html, "characters that reorder the page are spelled out"
    assert "× 20" in html
    assert "has no generated text" in html
    assert [sample["degenerate"] for sample in samples] == [True] * 9 + [False] * 16
    assert samples[0]["loop"] == [0, len(HOSTILE), 20 * len(HOSTILE)]
    assert samples[0]["text"] == HOSTILE * 20
    policy = re.search(r"default-src 'none'; script-src 'sha256-[^']+'; style-src 'sha256-", unescape(html))
    assert policy is not None


def test_a_page_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_page, "MAX_SHOWN", 20)
    monkeypatch.setattr(audit_page, "MAX_CHARACTERS", 50)
    _, samples = page_of(tmp_path, [{"text": "ab" * 60, "group": "a"} for _ in range(500)])
    assert 10 <= len(samples) <= 20
    assert {len(str(sample["text"])) for sample in samples} == {50}
    assert {sample["cut"] for sample in samples} == {70}
