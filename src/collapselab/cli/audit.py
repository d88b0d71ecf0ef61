"""What a person reads after `collapselab audit`, and what a program does."""

from __future__ import annotations

from dataclasses import asdict, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from collapselab.cli.text import one_line, plain, sparkline, stdout_console, table
from collapselab.collapse.words import percent
from collapselab.visible import first_words, last_words

if TYPE_CHECKING:  # these bring in scipy, half a second that only this command needs
    from collapselab.collapse.audit.excerpts import Excerpt
    from collapselab.collapse.audit.run import Audit
    from collapselab.collapse.audit.samples import Judge
    from collapselab.collapse.audit.tally import Tally

FOLDED_FROM, GROUPS_SHOWN, WORST_SHOWN, BAD_SHOWN, EXCERPT_CHARACTERS = 20, 40, 8, 5, 160


def print_audit(name: str, audit: Audit, judge: Judge, healthy: Audit | None) -> None:
    """Prints the verdict in a sentence, then what helps to act."""
    from collapselab.collapse.audit.sentence import (
        difference_sentence,
        human_sentence,
        verdict_sentence,
        whole_sentence,
    )

    console = stdout_console()
    say = partial(console.print, soft_wrap=not console.is_terminal)  # a pipe keeps each sentence on one line
    shown = "standard input" if name == "-" else name
    say(Text.assemble(plain(f"{shown}: "), plain(verdict_sentence(audit), "bold")))
    sentences = [whole_sentence(audit), human_sentence(audit) if audit.tally.num_degenerate else None]
    sentences.append(None if healthy is None else difference_sentence(audit.tally, healthy.tally))
    for sentence in sentences:
        if sentence is not None:
            say(plain(sentence[0].upper() + sentence[1:] + "."))
    for sentence in (_read(audit), _pools(audit), *_alike(audit)):
        if sentence:
            say(plain(sentence))
    _print_trend(console, audit)
    _print_groups(console, audit)
    _print_worst(console, audit, judge)
    if audit.num_bad:
        rows = "row" if audit.num_bad == 1 else "rows"
        console.print("", plain(f"{audit.num_bad:,} {rows} could not be judged:"), sep="\n")
        for bad in audit.bad[:BAD_SHOWN]:
            console.print(plain(f"  {bad.place} {bad.reason}"), soft_wrap=True)


def totals(audit: Audit, healthy: Audit | None) -> dict[str, Any]:
    """The totals of an audit as JSON values."""
    from collapselab.collapse.audit.human import expected_shares
    from collapselab.collapse.audit.tally import share_difference, trend

    likeness, whole = audit.likeness, audit.whole
    return {
        **tally_values(audit.tally),
        "short": tally_values(audit.short),
        "pools": {"num_texts": audit.num_pooled, **tally_values(audit.pools)},
        "num_bad": audit.num_bad,
        "bad": [asdict(bad) for bad in audit.bad],
        "num_tokens": audit.num_tokens,
        "fields": dict(audit.paths.most_common()),
        "onset_row": audit.onset_row,
        "trend": [{"num_judged": judged, "num_degenerate": count} for judged, count in trend(audit.flags)],
        "by": {name: tally_values(tally) for name, tally in audit.by.items()},
        "human": expected_shares(audit.lengths),
        "whole": None if whole is None else asdict(whole),
        "alike": None if likeness is None else asdict(likeness),
        "reference": None if healthy is None else tally_values(healthy.tally),
        "difference": None if healthy is None else share_difference(audit.tally, healthy.tally),
    }


def tally_values(tally: Tally) -> dict[str, Any]:
    """The counts of a tally as JSON values."""
    return {
        "num_texts": tally.num_samples,
        "num_judged": tally.num_judged,
        "num_degenerate": tally.num_degenerate,
        "degenerate_share": tally.share,
        "interval": tally.interval,
        "kinds": dict(tally.kinds.most_common()),
        "reasons": dict(tally.reasons.most_common()),
    }


def excerpt_text(found: Excerpt, at_most: int = EXCERPT_CHARACTERS) -> str:
    """An excerpt on one line: what comes before a loop, the loop once in brackets, its copies, and what comes after."""
    if not found.unit:
        return first_words(one_line(found.before), at_most)
    before, after = last_words(one_line(found.before), at_most // 4), first_words(one_line(found.after), at_most // 4)
    unit = first_words(one_line(found.unit) or "blank", at_most // 2)
    return " ".join(part for part in (before, f"[{unit}] × {found.copies:.0f}", after) if part)


def _read(audit: Audit) -> str:
    of_fields = ", ".join(f"{path} {count:,}" for path, count in audit.paths.most_common(4) if path)
    read = f"Read {audit.num_texts:,} texts, {audit.num_tokens:,} tokens"
    read += f"; field: {of_fields}" if of_fields else ""
    read += (
        f"; {audit.short.num_judged:,} of 20 to 99 tokens, judged by rules of their own"
        if audit.short.num_judged
        else ""
    )
    hint = f"; rows have a step: --by {audit.step_field}" if audit.step_field and not audit.by else ""
    return read + hint + "."


def _pools(audit: Audit) -> str:
    if not audit.num_pooled:
        return ""
    pools = audit.pools
    together = f"{pools.num_samples:,} pool{'' if pools.num_samples == 1 else 's'}"
    return (
        f"{audit.num_pooled:,} texts under 20 tokens, judged together in {together}: "
        f"{pools.num_degenerate:,} of {pools.num_judged:,} degenerate."
    )


def _alike(audit: Audit) -> list[str]:

    alike = audit.likeness
    if alike is None or audit.num_texts < 2:
        return []
    share = alike.copies_share
    copies = [f"{percent(share)} are exact copies of an earlier one" if share is not None else ""]
    copies += [f"one stands there {alike.most_copied:,} times" if alike.most_copied > 2 else ""]
    if alike.near_share is not None:
        copies.append(f"{percent(alike.near_share)} have a near copy (of {alike.num_compared:,} compared)")
    else:
        copies.append("near copies are not looked for (pip install rensa)")
    distinct = " ".join("–" if share is None else f"{share:.3f}" for share in alike.distinct)
    lines = [f"Texts: {', '.join(part for part in copies if part)}."]
    lines.append(f"Distinct-1 to -4 of {alike.num_tokens:,} tokens together: {distinct}.")
    for what, found in (("Openings", alike.openings), ("Shared phrases", alike.phrases)):
        shown = ", ".join(f"'{one_line(text)}' × {count:,}" for text, count in found)
        lines += [f"{what}: {shown}."] if shown else []
    return lines


def _print_trend(console: Console, audit: Audit) -> None:
    from collapselab.collapse.audit.tally import trend

    parts = trend(audit.flags)
    if not any(count for _, count in parts):
        return
    shares = [count / judged for judged, count in parts]
    shown = ", ".join(f"{100 * share:.0f}" for share in shares) + f" %  {sparkline(shares)}"
    console.print(plain(f"Degenerate in each tenth of the rows: {shown}"), soft_wrap=not console.is_terminal)


def _print_groups(console: Console, audit: Audit) -> None:
    from collapselab.collapse.audit.sentence import bounds

    if not audit.by:
        return
    shown = table("group", "texts", "degenerate", "share", "95 % interval", "kinds")
    groups = _folded(_sorted(audit.by))
    for name, tally in groups[:GROUPS_SHOWN]:
        low, high = tally.interval or (0.0, 0.0)
        kinds = ", ".join(f"{count} {kind}" for kind, count in tally.kinds.most_common(3))
        share = ("–", "–") if tally.share is None else (percent(tally.share), f"[{bounds(low, high)}]")
        shown.add_row(plain(name), f"{tally.num_judged:,}", f"{tally.num_degenerate:,}", *share, kinds)
    console.print("", shown, sep="\n")
    if len(groups) > GROUPS_SHOWN:
        console.print(f"… and {len(groups) - GROUPS_SHOWN:,} more groups; --json has all of them")


def _folded(groups: dict[str, Tally]) -> list[tuple[str, Tally]]:
    """The groups as they are shown: of many, neighbours without a degenerate text are one, `1 … 38`."""
    found: list[tuple[str, Tally]] = []
    is_folding, first = len(groups) > FOLDED_FROM, ""
    for name, tally in groups.items():
        if is_folding and found and not tally.num_degenerate and not found[-1][1].num_degenerate:
            former = found[-1][1]
            sums = former.num_samples + tally.num_samples, former.num_judged + tally.num_judged
            found[-1] = (f"{first} … {name}", replace(former, num_samples=sums[0], num_judged=sums[1]))
        else:
            first = name
            found.append((name, tally))
    return found


def _sorted(groups: dict[str, Tally]) -> dict[str, Tally]:
    """Groups in numeric order where all names are numbers, else in the order of the corpus."""
    try:
        return dict(sorted(groups.items(), key=lambda pair: float(pair[0])))
    except ValueError:
        return groups


def _print_worst(console: Console, audit: Audit, judge: Judge) -> None:
    from collapselab.collapse.audit.excerpts import excerpt

    if not audit.worst:
        return
    shown = table("worst", "tokens", "kind", "text")
    for sample in audit.worst[:WORST_SHOWN]:
        judged = sample.judged
        excerpted = excerpt_text(excerpt(judged, judge))
        shown.add_row(plain(sample.place), str(len(judged.ids)), judged.verdict.kind or "", plain(excerpted))
    console.print("", shown, sep="\n")
