"""What a folder holds, for a setting that takes a path: which entries it could read, and the path
as one would type it. Knows no widgets; reads folders, which may take long, so call it in a thread.
"""

import os
import shlex
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from heapq import nsmallest
from pathlib import Path
from typing import NamedTuple

from app.tui.forms.field_spec import Field
from app.tui.forms.suggestions import namer
from pipeline.options.config import Config
from pipeline.sources.input_files import kind_of
from utils.files import home_path

MOST = 5_000  # entries that are shown; more than that is searched by typing a path
_DOCUMENTS = ("cleanup.input", "tokenize.input", "prepare.input", "rehearse.input",
              "benchmark.text", "lima.input")  # fmt: skip
_CHECKPOINTS = ("checkpoint", "init_from", "resume")
_TOKENIZERS = ("tokenizer", "load")
_VOCABULARIES = ("vocab.json", "merges.txt", "vocab.txt", "tokenizer_config.json")


class Entry(NamedTuple):
    """One name in a folder; `kind` is in words, `reads` says whether the setting can take it.
    `size` is in bytes and None for a folder, `modified` in seconds since 1970."""

    name: str
    folder: bool
    kind: str
    reads: bool
    size: int | None = None
    modified: float | None = None


@dataclass(frozen=True)
class Listing:
    """A folder, folders first and then files by name; `left_out` counts the entries beyond `MOST`,
    `fault` says why it could not be read."""

    folder: Path
    entries: tuple[Entry, ...] = ()
    left_out: int = 0
    fault: str = ""


class Wanted(NamedTuple):
    """What a setting takes: `kind_of` gives the words for a file it can read, else "". `markers`
    are files that make a folder one of a kind, and the words for it."""

    title: str
    kind_of: Callable[[str], str]
    markers: tuple[tuple[str, str], ...] = ()
    folders: bool = True
    prefix: str = ""


def wanted(field: Field) -> Wanted | None:
    """What may be picked for a setting; None where it takes no path."""
    name = field.path.rpartition(".")[2]
    if field.path in _DOCUMENTS:
        return Wanted("text to read", _document)
    if field.path in ("inference.prompt", "inference.chat"):
        return Wanted("a file with the prompt", _text, folders=False, prefix="FILE:")
    if name in _CHECKPOINTS:
        marks = (("run.json", "run"), ("config.json", "model"), ("manifest.json", "checkpoint"))
        return Wanted("a run or checkpoint", _weights, marks)
    if name in _TOKENIZERS:
        return Wanted("a tokenizer", _vocabulary, (("tokenizer.json", "tokenizer"),))
    if field.path == "benchmark.data":
        return Wanted("a folder or file of tasks", _document)
    if field.path == "train.data":
        return Wanted("a folder of tokens", _nothing, (("metadata.json", "tokens"),))
    if field.path == "sft.data":
        return Wanted("conversations", _nothing, (("metadata.json", "conversations"),))
    return Wanted("a folder", _nothing) if field.kind in ("path", "paths") else None


def _document(name: str) -> str:
    return kind_of(Path(name)).removeprefix(".")


def _text(name: str) -> str:
    return "text" if Path(name).suffix.lower() in ("", ".txt", ".md", ".py", ".json") else ""


def _weights(name: str) -> str:
    return "PyTorch checkpoint" if Path(name).suffix.lower() in (".pt", ".pth") else ""


def _vocabulary(name: str) -> str:
    if Path(name).suffix.lower() == ".json" or name in _VOCABULARIES:
        return "vocabulary"
    return "SentencePiece model" if Path(name).suffix.lower() == ".model" else ""


def _nothing(name: str) -> str:
    return ""


def listing(folder: Path, want: Wanted) -> Listing:
    """What lies in a folder, without hidden entries; never fails."""
    try:
        with os.scandir(folder) as entries:
            there = [entry for entry in entries if not entry.name.startswith(".")]
    except (OSError, ValueError) as error:
        return Listing(folder, fault=getattr(error, "strerror", None) or "cannot be read")
    found = nsmallest(MOST, map(_sorted, there))
    shown = tuple(_entry(entry, want) for *_, entry in found)
    return Listing(folder, shown, len(there) - len(shown))


def _sorted(entry: "os.DirEntry[str]") -> tuple[bool, str, str, "os.DirEntry[str]"]:
    return not _is_folder(entry), entry.name.casefold(), entry.name, entry


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _entry(entry: "os.DirEntry[str]", want: Wanted) -> Entry:
    try:
        status = entry.stat()
    except OSError:
        return Entry(entry.name, folder=False, kind="broken link", reads=False)
    if stat.S_ISDIR(status.st_mode):
        kind = next(_marked(entry.path, want), "folder")
        return Entry(entry.name, True, kind, want.folders, None, status.st_mtime)
    if not stat.S_ISREG(status.st_mode):
        return Entry(entry.name, False, "not a file", False, None, status.st_mtime)
    kind = want.kind_of(entry.name)
    size, modified = status.st_size, status.st_mtime
    return Entry(entry.name, False, kind or "not read here", bool(kind), size, modified)


def _marked(folder: str, want: Wanted) -> Iterator[str]:
    for name, kind in want.markers:
        if Path(folder, name).is_file():
            yield kind


def places_to_begin(field: Field, typed: str, config: Config, home: Path) -> list[Path]:
    """Where to look first, best first: the folder that what is typed names or lies in, then the
    one where such things are made, then `home`, the folder of the workspace."""
    *_, last = _words(field, typed) or [""]
    name = field.path.rpartition(".")[2]
    places = []
    if last:
        path = Path(os.path.normpath(home / home_path(last.removeprefix("FILE:"))))
        places += [path, path.parent]
    if name in _CHECKPOINTS:
        places.append(home / config.paths.checkpoints_dir)
    if name in _TOKENIZERS:
        places.append(home / config.paths.tokenizers_dir)
    return [*places, home]


def first_listing(places: Sequence[Path], want: Wanted) -> Listing:
    """The first of these folders that can be read; of none, the last one's fault."""
    found = Listing(places[-1])
    for place in places:
        found = listing(place, want)
        if not found.fault:
            break
    return found


def typed_path(field: Field, path: Path, home: Path) -> str | None:
    """A path as one would type it: from the workspace where it lies inside, else whole; None for
    a name that cannot be typed."""
    inside = path.is_relative_to(home)
    text = str(path.relative_to(home)) if inside else str(path)
    if text == ".":
        return text
    if not text.isprintable():
        return None
    if inside and (namer(field) is not None or text.startswith(("-", "~"))) and "/" not in text:
        text = f"./{text}"  # not the name of something, nor a flag
    return text


def put_in(field: Field, typed: str, text: str) -> str:
    """What the field holds once `text` was picked: of several, one more, in place of a word that
    was begun with it."""
    if field.kind not in ("paths", "texts"):
        return text
    kept = _words(field, typed)
    if kept and not typed.endswith(" ") and text.startswith(kept[-1]):
        kept.pop()
    return shlex.join([*kept, text])


def _words(field: Field, typed: str) -> list[str]:
    if field.kind not in ("paths", "texts"):
        return [typed] if typed else []
    try:
        return shlex.split(typed)
    except ValueError:  # a quotation mark that is not closed
        return typed.split()
