"""The page of an audit: the verdict, numbers, excerpts, and a browser of the texts. One HTML file, no network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

from collapselab.collapse.audit.excerpts import excerpt, loop_places
from collapselab.collapse.audit.run import Audit, Sample
from collapselab.collapse.audit.samples import Judge
from collapselab.collapse.audit.sentence import (
    bounds,
    difference_sentence,
    human_sentence,
    verdict_sentence,
    whole_sentence,
)
from collapselab.collapse.audit.tally import Tally, trend
from collapselab.collapse.words import KINDS, RULES, percent
from collapselab.report.html import policy, render, template_file
from collapselab.report.packing import packed, script_json
from collapselab.report.writing import write_file, writing

MAX_SHOWN, MAX_CHARACTERS, MAX_GROUPS = 400, 6000, 200
SCRIPTS = ("common.js", "audit.js")


@dataclass
class _Spread:
    """Samples spread evenly over a stream: every k-th, k doubling whenever there are too many."""

    samples: list[Sample] = field(default_factory=list[Sample])
    _every: int = 1
    _num_seen: int = 0

    def add(self, sample: Sample) -> None:
        if self._num_seen % self._every == 0:
            self.samples.append(sample)
            if len(self.samples) > MAX_SHOWN:
                self.samples, self._every = self.samples[::2], 2 * self._every
        self._num_seen += 1


class Shown:
    """The texts that the page holds: some hundred degenerate ones, and as many others."""

    def __init__(self) -> None:
        self._broken, self._others = _Spread(), _Spread()

    def add(self, sample: Sample) -> None:
        """One more text of the corpus."""
        (self._broken if sample.judged.verdict.degenerate else self._others).add(sample)

    def in_order(self) -> list[Sample]:
        """Those kept, in the order of the corpus."""
        return sorted(self._broken.samples + self._others.samples, key=lambda sample: sample.number)


def write_audit_page(out: Path, name: str, audit: Audit, judge: Judge, shown: Shown, healthy: Audit | None) -> Path:
    """Writes the page of an audit; returns its path.

    The texts on it are those that `shown` kept, each cut to 6,000 characters.

    Raises:
        InputError: no regular file can be made there.
        RunFailed: the file cannot be written; an existing one is kept.
    """
    samples, meanings = shown.in_order(), cast(Mapping[str, str], KINDS)
    script = "(() => {\n" + "".join(map(template_file, SCRIPTS)) + "})();\n"
    css = template_file("page.css")
    sentences = [whole_sentence(audit), human_sentence(audit)]
    sentences.append(None if healthy is None else difference_sentence(audit.tally, healthy.tally))
    html = render(
        "audit.html.j2",
        {
            "css": css,
            "script": script,
            "metadata": script_json({"kinds": KINDS, "rules": RULES}),
            "samples": packed([_sample(sample, judge) for sample in samples]),
        },
        policy=policy([script], css),
        version=version("collapselab"),
        name=name,
        verdict=verdict_sentence(audit),
        sentences=[sentence[0].upper() + sentence[1:] + "." for sentence in sentences if sentence],
        facts=_facts(audit),
        trend=[{"share": count / judged, "judged": judged, "count": count} for judged, count in trend(audit.flags)],
        groups=[(group, _cells(tally)) for group, tally in list(audit.by.items())[:MAX_GROUPS]],
        kinds=[(kind, count, meanings.get(kind, "")) for kind, count in audit.tally.kinds.most_common()],
        worst=[(sample.place, sample.judged.verdict.kind, excerpt(sample.judged, judge)) for sample in audit.worst],
        bad=[(bad.place, bad.reason) for bad in audit.bad],
        num_bad=audit.num_bad,
        num_shown=len(samples),
        num_texts=audit.num_texts,
    )
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        write_file(out, html)
    return out


def _sample(sample: Sample, judge: Judge) -> dict[str, Any]:
    judged = sample.judged
    text = judged.text if judged.text is not None else " ".join(map(str, judged.ids[:1000].tolist()))
    verdict = judged.verdict
    values = {k: round(v, 4) if isinstance(v, float) else v for k, v in judged.metrics.items()}
    return {
        "place": sample.place,
        "by": sample.text.by,
        "degenerate": verdict.degenerate,
        "kind": verdict.kind,
        "reasons": list(verdict.reasons),
        "text": text[:MAX_CHARACTERS],
        "cut": max(0, len(text) - MAX_CHARACTERS),
        "loop": loop_places(judged, judge) if verdict.degenerate and judged.text is not None else None,
        "values": {"tokens": len(judged.ids), **values},
    }


def _cells(tally: Tally) -> list[str]:
    low, high = tally.interval or (0.0, 0.0)
    share = "–" if tally.share is None else f"{percent(tally.share)} [{bounds(low, high)}]"
    kinds = ", ".join(f"{count} {kind}" for kind, count in tally.kinds.most_common(3))
    return [f"{tally.num_judged:,}", f"{tally.num_degenerate:,}", share, kinds]


def _facts(audit: Audit) -> list[tuple[str, str]]:
    alike = audit.likeness
    facts = [
        ("texts", f"{audit.num_texts:,}"),
        ("tokens", f"{audit.num_tokens:,}"),
        ("fields", ", ".join(f"{path} {count:,}" for path, count in audit.paths.most_common(5) if path) or "–"),
        ("of 20 to 99 tokens", f"{audit.short.num_judged:,}, {audit.short.num_degenerate:,} degenerate"),
        ("under 20 tokens", f"{audit.num_pooled:,}"),
    ]
    if alike is None:
        return facts
    shares = {"exact copies": alike.copies_share, "near copies": alike.near_share}
    facts += [(what, "–" if share is None else percent(share)) for what, share in shares.items()]
    facts += [(f"distinct-{n}", "–" if s is None else f"{s:.3f}") for n, s in enumerate(alike.distinct, start=1)]
    found = [*alike.openings, *alike.phrases]
    return facts + [(f"× {count:,}", " ".join(text.split())) for text, count in found]
