"""Input files: which kinds are read, how they are found, and what is passed over and why.

A file is known by its suffix, .gz or not; a file of WikiExtractor, which has none, by its name.
Whatever a search passes over is counted by reason and suffix, so that nothing is lost in silence.
"""

import glob
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

from utils.artefacts import MANIFEST
from utils.errors import UsageError
from utils.files import printable_name

ROWS = (".jsonl", ".json", ".parquet")
TEXTS = (".txt", ".md", ".py")
ARCHIVE = ".tar"
WIKI = "wiki_NN"
"""The kind of WikiExtractor's files, `wiki_00` and on: articles between tags, or JSON lines."""
READ_HERE = (
    ".txt, .md, .py, .jsonl, .ndjson, .json (plain or .gz), .parquet, .tar(.gz) of JSON, or wiki_00"
)

PassedOver: TypeAlias = dict[str, dict[str, int]]
"""How many files of which suffix were passed over, under each reason."""
NOT_READ, HIDDEN, DESCRIPTION = "not_read_here", "hidden", "describes_the_rows"
OUR_OWN, UNREADABLE, NOT_A_FILE = "manifest", "cannot_be_opened", "not_a_file"
FOLDER = "folder"
"""Stands for the suffix where a whole folder was passed over."""

_SAME = {".ndjson": ".jsonl", ".tgz": ARCHIVE}
_PACKED = (".gz", ".zst", ".bz2", ".xz", ".zip")
_NEVER_PACKED = (".parquet", ".tgz")
_WIKI_NAME = re.compile(r"wiki_\d{2,}")
# Beside these a README describes a data set or a model; beside rows it does where no other texts
# are. A front matter of YAML is how such a README begins on the Hugging Face hub.
_DESCRIBED = ("dataset_info.json", "dataset_infos.json", "generation_config.json")
_WEIGHTS = (".safetensors", ".gguf", ".onnx", ".pt", ".ckpt")
_BESIDE_ROWS = ("readme", "license", "licence", "notice", "citation", "changelog")
_LONGEST_SUFFIX = 12  # characters; a longer one is part of a name
_SHOWN = 8  # suffixes and reasons in a line
_IN_WORDS = {
    HIDDEN: "hidden",
    DESCRIPTION: "README that describes the rest",
    OUR_OWN: "manifest",
    UNREADABLE: "cannot be opened",
    NOT_A_FILE: "not a file",
}


def kind_of(path: Path) -> str:
    """The suffix that says how to read `path`, without .gz; empty when it is none of ours."""
    name = path.name.lower()
    plain = name.removesuffix(".gz")
    if _WIKI_NAME.fullmatch(plain):
        return WIKI
    suffix = Path(plain).suffix
    if plain != name and suffix in _NEVER_PACKED:
        return ""
    suffix = _SAME.get(suffix, suffix)
    return suffix if suffix in (*ROWS, *TEXTS, ARCHIVE) else ""


def is_packed(path: Path) -> bool:
    """Whether the bytes of a file are compressed by gzip."""
    return path.suffix.lower() == ".gz"


def pass_over(counts: PassedOver, reason: str, path: Path, number: int = 1) -> None:
    """Count a file that is passed over under its suffix."""
    count_passed_over(counts, reason, _shown_suffix(path), number)


def count_passed_over(counts: PassedOver, reason: str, suffix: str, number: int = 1) -> None:
    """Add to `counts`."""
    of_reason = counts.setdefault(reason, {})
    of_reason[suffix] = of_reason.get(suffix, 0) + number


def merge_passed_over(counts: PassedOver, more: PassedOver) -> None:
    """Add `more` to `counts`."""
    for reason, suffixes in more.items():
        for suffix, number in suffixes.items():
            count_passed_over(counts, reason, suffix, number)


def in_words(counts: PassedOver) -> str:
    """What was passed over as one line, most first: `7 files (.csv 2, .pdf 1, hidden 4)`."""
    files = folders = 0
    shown: dict[str, int] = {}
    for reason, suffixes in counts.items():
        for suffix, number in suffixes.items():
            files += 0 if suffix == FOLDER else number
            folders += number if suffix == FOLDER else 0
            name = _IN_WORDS.get(reason, suffix)
            shown[name] = shown.get(name, 0) + number
    if not shown:
        return ""
    order = sorted(shown, key=lambda name: (name in _IN_WORDS.values(), -shown[name], name))
    parts = [f"{name} {shown[name]:,}" for name in order[:_SHOWN]]
    more = " …" if len(order) > _SHOWN else ""
    total = [f"{files:,} file{'s' * (files != 1)}"] * bool(files)
    total += [f"{folders:,} folder{'s' * (folders != 1)}"] * bool(folders)
    return f"{' and '.join(total)} ({', '.join(parts)}{more})"


def _shown_suffix(path: Path) -> str:
    """The suffix of a file, two for a packed one (.jsonl.zst)."""
    name = printable_name(path.name).lower().lstrip(".")
    suffixes = [s for s in Path(name).suffixes if len(s) <= _LONGEST_SUFFIX]
    shown = suffixes[-2:] if suffixes and suffixes[-1] in _PACKED else suffixes[-1:]
    return "".join(shown) or "no suffix"


def expand_inputs(paths: Sequence[Path], passed_over: PassedOver | None = None) -> list[Path]:
    """The files meant by files, folders (searched to any depth) and globs, sorted, each once.

    In folders only known kinds count (`READ_HERE`); hidden entries and manifests are passed over,
    and so is a README that describes the rows or the model beside it. Symbolic links are followed
    once. `passed_over` counts what was found and is not read.

    Raises:
        UsageError: nothing of the kind is there; says what was looked for and what was found.
    """
    counts: PassedOver = {} if passed_over is None else passed_over
    found: dict[Path, Path] = {}
    for path in paths:
        matches = _matches(path, counts)
        if not matches:
            raise UsageError(
                f"There is nothing to read at {path}.",
                found=_describe(path),
                remedy=f"give files, folders or globs of {READ_HERE}",
            )
        for match in matches:
            found.setdefault(match.resolve(), match)
    files = sorted(found.values())
    if files and not any(_size(file) for file in files):
        raise UsageError(
            f"The input is empty: {', '.join(map(str, paths))}.",
            found=f"{len(files)} file{'s' * (len(files) != 1)} of 0 bytes",
            remedy="give files that hold text",
        )
    return files


def readable_files(paths: Sequence[Path], passed_over: PassedOver) -> Iterator[Path]:
    """The same files one by one, unsorted, a file named twice twice; none where there is none."""
    for path in paths:
        yield from _walk(path, passed_over) if path.is_dir() else _matches(path, passed_over)


def _size(file: Path) -> int:
    """Bytes of a file; one that cannot be looked at may have some."""
    try:
        return file.stat().st_size
    except OSError:
        return 1


def _matches(path: Path, passed_over: PassedOver) -> list[Path]:
    if path.is_file():
        return [path] if kind_of(path) else []
    if path.is_dir():
        return list(_walk(path, passed_over))
    found: list[Path] = []
    if glob.has_magic(str(path)):
        for match in map(Path, glob.iglob(str(path), recursive=True)):  # noqa: PTH207 (absolute globs)
            if match.is_file() and kind_of(match):
                found.append(match)
            elif match.is_file():
                pass_over(passed_over, NOT_READ, match)
    return found


def _walk(folder: Path, passed_over: PassedOver) -> Iterator[Path]:
    """Readable files under `folder`; a folder reached twice (a symlink loop) is read once."""
    seen: set[str] = set()

    def closed(error: OSError) -> None:
        count_passed_over(passed_over, UNREADABLE, FOLDER)

    for place, folders, names in os.walk(folder, followlinks=True, onerror=closed):
        real = os.path.realpath(place)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        hidden = [name for name in folders if name.startswith(".")]
        if hidden:
            count_passed_over(passed_over, HIDDEN, FOLDER, len(hidden))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        described = _is_described(Path(place), names)
        for name in sorted(names):
            file = Path(place, name)
            reason = _reason_against(file, described=described)
            if reason:
                pass_over(passed_over, reason, file)
            else:
                yield file


def _reason_against(file: Path, *, described: bool) -> str:
    """Why a file of a folder is not read; empty where it is."""
    if file.name.startswith("."):
        return HIDDEN
    if file.name == MANIFEST:
        return OUR_OWN
    if not kind_of(file):
        return NOT_READ
    if described and file.name.lower().startswith("readme."):
        return DESCRIPTION
    return "" if file.is_file() else NOT_A_FILE


def _is_described(folder: Path, names: Sequence[str]) -> bool:
    """Whether a README in a folder of these files describes a data set or a model."""
    lowered = [name.lower() for name in names if not name.startswith(".")]
    if not any(name.startswith("readme.") for name in lowered):
        return False
    if any(name in _DESCRIBED or name.endswith(_WEIGHTS) for name in lowered):
        return True
    kinds = {name: kind_of(Path(name)) for name in lowered if name != MANIFEST}
    rows = any(kind in (".jsonl", ".parquet", ARCHIVE) for kind in kinds.values())
    others = any(
        kind in (".txt", ".md") and not name.startswith(_BESIDE_ROWS)
        for name, kind in kinds.items()
    )
    return (rows and not others) or any(_has_front_matter(folder / name) for name in names)


def _has_front_matter(file: Path) -> bool:
    """Whether a README begins with the card of a data set or model of the Hugging Face hub."""
    if file.name.lower() != "readme.md":
        return False
    try:
        with file.open("rb") as handle:
            head = handle.read(2048)
    except OSError:
        return False
    keys = rb"^(?:dataset_info|task_categories|library_name|pipeline_tag|base_model|configs):"
    return head.startswith(b"---") and bool(re.search(keys, head, re.MULTILINE))


def _describe(path: Path) -> str:
    if path.is_dir():
        try:
            others = sorted(printable_name(entry.name) for entry in path.iterdir())
        except OSError as error:
            return f"a folder that cannot be opened ({error.strerror})"
        more = f" and {len(others) - 5} more" if len(others) > 5 else ""
        return f"only {', '.join(others[:5])}{more}" if others else "an empty folder"
    if path.is_file():
        return f"a file of a kind that is not read here ({path.suffix or 'no suffix'})"
    if path.is_symlink():
        return "a symbolic link that leads nowhere"
    return "no file, folder or match of that name"
