"""The table of named sources: what each holds, how large it is, and under which license."""

import difflib
from dataclasses import dataclass
from typing import Literal

from utils.errors import UsageError


@dataclass(frozen=True)
class Source:
    """A named source: what it holds, how large it is as published, and under which license.

    `where` says whether it is embedded in this Python, given by the user, one file at `url`, or
    files of the Hugging Face dataset `repository` that match `patterns` at commit `revision`.
    """

    name: str
    what: str
    size: str
    license: str
    where: Literal["embedded", "yours", "url", "hub"]
    url: str = ""
    file: str = ""
    sha256: str = ""
    repository: str = ""
    revision: str = ""
    patterns: tuple[str, ...] = ()
    bytes: int = 0

    @property
    def embedded(self) -> bool:
        return self.where == "embedded"


SOURCES: tuple[Source, ...] = (
    Source(
        "python",
        "The library and language reference of the Python that runs this",
        "about 10 MB",
        "PSF-2.0",
        "embedded",
    ),
    Source(
        "files",
        "Your own .txt, .md, .py, .jsonl, .ndjson, .json (plain or .gz), .parquet and .tar.gz of "
        "JSON, named by --input",
        "yours",
        "yours",
        "yours",
    ),
    Source(
        "wikipedia",
        "English Wikipedia of 2024-09-16 as structured contents (Hugging Face "
        "wikimedia/structured-wikipedia): 38 files of nested JSON",
        "17.9 GB to fetch, 50 GB and more unpacked",
        "CC-BY-SA-4.0 and GFDL",
        "hub",
        repository="wikimedia/structured-wikipedia",
        revision="8e8a6a435ae41e2572c065ae1b0cdd56fd17bd69",
        patterns=("20240916.en/*.zip", "enwiki/*.parquet"),
        bytes=70_000_000_000,
    ),
    Source(
        "shakespeare",
        "Tiny Shakespeare: 40,000 lines of the plays in one file",
        "1.1 MB",
        "public domain",
        "url",
        url="https://raw.githubusercontent.com/karpathy/char-rnn/"
        "6f9487a6fe5b420b7ca9afb0d7c078e37c1d1b4e/data/tinyshakespeare/input.txt",
        file="input.txt",
        sha256="86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
        bytes=1_115_394,
    ),
)


def find_source(name: str) -> Source:
    """The source of that name.

    Raises:
        UsageError: there is none; names the nearest.
    """
    known = {source.name: source for source in SOURCES}
    if name in known:
        return known[name]
    close = difflib.get_close_matches(name, known, n=1)
    raise UsageError(
        f"There is no source named {name!r}.",
        found=f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}",
        remedy="{}",
        commands=[("download", "--list")],
    )
