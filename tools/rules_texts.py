"""Human text of many genres from named Debian packages, to calibrate the rules of collapse on (results/rules/).

    for p in $(python tools/rules_texts.py --packages); do apt-get download $p; dpkg-deb -x ${p}_*.deb DEBS/$p; done
    python tools/rules_texts.py DEBS SHARED OUT

Writes OUT/GENRE.jsonl: documents of at most 20,000 characters with the half of the data that they belong to. DEBS holds
the unpacked packages, SHARED wikitext-2, ptb, austen and moby-dick; some genres are files of the machine itself. None
of this is in the repository, only counts.
"""

from __future__ import annotations

import argparse
import bz2
import gzip
import hashlib
import html
import json
import re
import sys
import sysconfig
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

MAX_DOCUMENTS, MAX_CHARACTERS, MIN_CHARACTERS = 160, 20_000, 1500


def as_is(text: str) -> str:
    return text


def no_tags(text: str) -> str:
    text = re.sub(r"(?s)<(script|style|head)\b.*?</\1>|<!--.*?-->", " ", text)
    text = html.unescape(re.sub(r"<[^>]+>", " ", text))
    return re.sub(r"\n\s*\n+", "\n\n", re.sub(r"[ \t]+", " ", text))


def no_roff(text: str) -> str:
    """The running text of a manual page."""
    lines = [line for line in text.splitlines() if line and line[0] not in ".'"]
    return re.sub(r"\\f.|\\&|\\[-|]", lambda found: "-" if found[0] == r"\-" else "", "\n".join(lines))


def no_separators(text: str) -> str:
    """A file of fortunes without the lines of `%` between them."""
    return re.sub(r"(?m)^%+$", "", text)


@dataclass(frozen=True)
class Genre:
    """Where the files of a genre are, and whether it is prose, code or tables."""

    group: str
    patterns: tuple[str, ...]
    clean: Callable[[str], str] = as_is


FORTUNES = "fortunes/usr/share/games/fortunes/"
MANUAL = "usr/share/man/"
GENRES: dict[str, Genre] = {
    # Of a novel, a Bible or a corpus, every stretch of 20,000 characters is a document.
    "novels": Genre("prose", ("@shared/austen/*.txt", "@shared/moby-dick/*.txt")),
    "encyclopedia": Genre("prose", ("@shared/wikitext-2/*.txt",)),
    "newspaper": Genre("prose", ("@shared/ptb/*.txt",)),
    "political essays": Genre("prose", ("anarchism/**/*.html",), no_tags),
    "policy and law": Genre("prose", ("debian-policy/**/*.txt*", "/usr/share/common-licenses/*")),
    "copyright files": Genre("prose", ("/usr/share/doc/lib[a-f]*/copyright",)),
    "handbooks": Genre("prose", ("developers-reference/**/*.txt*", "debian-faq/**/*.html"), no_tags),
    "Python's manual": Genre("prose", ("python3.11-doc/**/*.html",), no_tags),
    "Perl's manual": Genre("prose", ("perl-doc/**/perl*.pod",)),
    "Vim's manual": Genre("prose", ("vim-doc/**/usr_*.html",), no_tags),
    "lexicon of jargon": Genre("prose", ("jargon-text/**/jargon*",)),
    "quotations": Genre("prose", tuple(FORTUNES + n for n in ("people", "wisdom", "politics", "science", "work",
        "education", "law", "medicine", "love", "kids", "art", "cookie", "men-women", "humorists")), no_separators),
    "verse and songs": Genre("prose", (FORTUNES + "songs-poems",), no_separators),
    "dialogue": Genre("prose", (FORTUNES + "startrek", FORTUNES + "pratchett", FORTUNES + "zippy",
        FORTUNES + "knghtbrd"), no_separators),
    "German": Genre("prose", ("fortunes-de/usr/share/games/fortunes/de/*",), no_separators),
    "Spanish": Genre("prose", ("fortunes-es/**/*.fortunes",), no_separators),
    "Italian": Genre("prose", ("fortunes-it/usr/share/games/fortunes/it/*",), no_separators),
    "Polish": Genre("prose", ("fortunes-pl/usr/share/games/fortunes/pl/*",), no_separators),
    "Chinese": Genre("prose", (f"manpages-zh/{MANUAL}zh_CN/*/*.gz",), no_roff),
    "German manual pages": Genre("prose", (f"manpages-de/{MANUAL}de/*/*.gz",), no_roff),
    "manual pages": Genre("prose", (f"manpages/{MANUAL}*/*.gz",), no_roff),
    "manual pages, source": Genre("code", (f"/{MANUAL}man[178]/*.gz",)),
    "changelogs": Genre("code", ("/usr/share/doc/*/changelog.Debian.gz",)),
    "Python": Genre("code", ("@stdlib/*.py", "@stdlib/json/*.py", "@stdlib/email/*.py", "@stdlib/asyncio/*.py",
        "python3-recipe-scrapers/**/*.py")),
    "C headers": Genre("code", ("/usr/include/*.h", "/usr/include/linux/*.h")),
    "Go": Genre("code", ("golang-1.19-src/**/src/[a-m]*/*.go",)),
    "Java": Genre("code", ("openjdk-17-source/**/src.zip",)),
    "assembler": Genre("code", ("golang-1.19-src/**/*.s",)),
    "JavaScript": Genre("code", ("/usr/share/**/*.js", "python3.11-doc/**/*.js")),
    "Lisp": Genre("code", ("cl-sql-tests/**/*.lisp",)),
    "shell scripts": Genre("code", ("/usr/bin/*sh", "/usr/bin/dpkg-*", "/var/lib/dpkg/info/*.postinst",
        "/etc/init.d/*")),
    "SQL": Genre("code", ("postgresql-15/**/*.sql",)),
    "HTML": Genre("code", ("python3.11-doc/**/library/*.html", "vim-doc/**/*.html")),
    "JSON": Genre("table", ("/usr/share/iso-codes/json/*.json", "@site/**/*.json", "/usr/lib/**/*.json")),
    "XML": Genre("table", ("/usr/share/xml/**/*.xml", "/usr/share/**/*.xml")),
    "CSV": Genre("table", ("/usr/share/**/*.csv", "@site/**/*.csv")),
    "character tables": Genre("table", ("unicode-data/usr/share/unicode/*.txt",)),
    "logs": Genre("table", ("/var/log/*.log", "/var/log/apt/*.log")),
    "word lists": Genre("table", ("wamerican/usr/share/dict/american-english",)),
    "package lists": Genre("table", ("/var/lib/dpkg/status", "/usr/share/zoneinfo/*.tab", "/etc/services")),
}  # fmt: skip
WHOLE = ("novels", "encyclopedia", "newspaper", "package lists", "logs", "character tables", "word lists", "quotations",
    "verse and songs", "dialogue", "German", "Spanish", "Italian", "lexicon of jargon", "policy and law")  # fmt: skip


def read(path: Path) -> Iterator[tuple[str, str]]:
    """(name, text) of a file, unpacked; nothing where it is no UTF-8 text."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            names = sorted(name for name in archive.namelist() if re.match(r"java.base/java/[a-z]+/\w+\.java$", name))
            yield from ((name, archive.read(name).decode(errors="replace")) for name in names)
        return
    unpack = {".gz": gzip.decompress, ".bz2": bz2.decompress}.get(path.suffix, bytes)
    try:
        yield path.name, unpack(path.read_bytes()).decode()
    except (UnicodeDecodeError, OSError, EOFError):
        return


def documents(genre: str, roots: dict[str, Path], debs: Path) -> Iterator[tuple[str, str]]:
    """The documents of a genre, sorted by file; large files give one per 20,000 characters."""
    paths: set[Path] = set()
    for pattern in GENRES[genre].patterns:
        base, _, rest = pattern.partition("/")
        if base == "":
            paths.update(Path("/").glob(rest))
        elif base.startswith("@"):
            paths.update(roots[base].glob(rest))
        else:
            paths.update(debs.glob(pattern))
    files = [path.resolve() for path in paths if path.is_file() and path.suffix != ".dat"]
    seen: set[str] = set()
    for path in sorted(set(files), key=lambda path: digest(path.name)):
        for name, raw in read(path):
            text = GENRES[genre].clean(raw).strip()
            key = digest(text)
            if len(text) < MIN_CHARACTERS or key in seen:
                continue
            seen.add(key)
            starts = range(0, len(text), MAX_CHARACTERS) if genre in WHOLE else (0,)
            for start in starts:
                part = text[start : start + MAX_CHARACTERS]
                if len(part) >= MIN_CHARACTERS:
                    yield f"{name}:{start}", part


def plain(text: str, group: str) -> str:
    """No-break spaces as spaces, and prose without lines of signs alone ("=====": no tokenizer's words)."""
    text = text.replace("\xa0", " ")
    return re.sub(r"(?m)^[^\w\n]{4,}$", "", text) if group == "prose" else text


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packages", action="store_true", help="print the packages to download, and stop")
    parser.add_argument("folders", nargs="*", type=Path, metavar="DEBS SHARED OUT")
    args = parser.parse_args()
    if args.packages:
        named = {p.partition("/")[0] for genre in GENRES.values() for p in genre.patterns}
        sys.stdout.write("\n".join(sorted(name for name in named if name and name[0] != "@")) + "\n")
        return
    debs, shared, out = args.folders
    paths = sysconfig.get_paths()
    roots = {"@shared": shared, "@stdlib": Path(paths["stdlib"]), "@site": Path(paths["purelib"])}
    out.mkdir(parents=True, exist_ok=True)
    for genre, settings in GENRES.items():
        found = sorted(documents(genre, roots, debs), key=lambda pair: digest(pair[1]))[:MAX_DOCUMENTS]
        halves = [int(digest(text)[-8:], 16) % 2 for _, text in found]
        lines = [
            json.dumps(
                {
                    "genre": genre,
                    "group": settings.group,
                    "name": name,
                    "half": half,
                    "text": plain(text, settings.group),
                }
            )
            for (name, text), half in zip(found, halves, strict=True)
        ]
        (out / f"{genre.replace(' ', '-')}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        characters = sum(len(text) for _, text in found)
        print(f"{settings.group:6} {genre:22} {len(found):4} documents, {halves.count(1):3} of half 1, {characters:9,}")


if __name__ == "__main__":
    main()
