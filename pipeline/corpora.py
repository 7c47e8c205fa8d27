"""Corpora: the named bodies of text of a workspace, and which of them a command means.

A corpus is a name: its clean documents lie in `data/cleaned_articles/NAME`, its tokens in
`data/tokenized_datasets/NAME_full_dataset`. Where nothing names one, that is meant which a stage
made or used last; `data/corpus.json` remembers it. Must not import the settings, which ask here.
"""

import glob
import json
import os
import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import NamedTuple

from pipeline.source_table import SOURCES, Source
from utils import artefacts
from utils.artefacts import MANIFEST, Manifest
from utils.errors import HatcheryError, RefusedError, UsageError
from utils.files import home_path, write_json

LAST = "corpus.json"
FALLBACK = "python"
EXAMPLES = "post-training"
"""Of the folder of data, the one that holds a folder for each set of encoded conversations."""
GIVEN = "given"
"""Among the facts of clean documents and tokens: the paths that --input named."""

_RAW, _CLEANED, _TOKENS = "raw", "cleaned_articles", "tokenized_datasets"
_KNOWN = {source.name: source for source in SOURCES}
_SHOWN = 8  # names in a list
_LONGEST = 100  # bytes of a name, which becomes part of names of files
_SUFFIXES = r"\.(?:jsonl|ndjson|json|parquet|txt|md|py|tar|zst|gz)"


class Meant(NamedTuple):
    """The corpus that a command means where it names none, and a word if it is not the one
    remembered."""

    name: str
    note: str = ""


def last_corpus(data_dir: Path) -> Meant:
    """The corpus worked on last, else the newest one there is, else Python's own library."""
    remembered = _remembered(data_dir)
    if remembered is not None and _is_there(remembered, data_dir):
        return Meant(remembered)
    newest = next(iter(corpora(data_dir)), FALLBACK)
    if remembered is not None:
        return Meant(newest, f"{remembered}, worked on last, is no longer there")
    if (data_dir / LAST).exists():
        return Meant(newest, f"{data_dir / LAST} is damaged")
    return Meant(newest)


def remember(data_dir: Path, name: str) -> None:
    """Note durably that `name` is what is worked on; a workspace that is read-only forgets."""
    if _remembered(data_dir) != name:
        with suppress(OSError):
            write_json(data_dir / LAST, {"corpus": name})


def remembering(data_dir: Path) -> Callable[[str], None]:
    """`remember` for the end of work that begins now: it leaves a choice alone that was made while
    the work went on, as beside a job in the background."""
    before = _written(data_dir / LAST)

    def at_the_end(name: str) -> None:
        if _written(data_dir / LAST) == before:
            remember(data_dir, name)

    return at_the_end


def _written(file: Path) -> tuple[int, int] | None:
    """What differs whenever a file has been written anew; None where there is none."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def _remembered(data_dir: Path) -> str | None:
    try:
        value = json.loads((data_dir / LAST).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    name = value.get("corpus") if isinstance(value, dict) else None
    return name if isinstance(name, str) and is_name(name) else None


def _is_there(name: str, data_dir: Path) -> bool:
    if name in _KNOWN:
        return True
    places = [data_dir / _CLEANED / name, data_dir / _CLEANED / f"{name}_test"]
    places += [data_dir / _TOKENS / f"{name}_{kind}_dataset" for kind in ("full", "test")]
    made = any((place / MANIFEST).is_file() for place in places)
    return made or (data_dir / _RAW / name).is_dir()


def corpora(data_dir: Path) -> list[str]:
    """Names of all corpora with clean documents or tokens, the one made last first."""
    made: dict[str, float] = {}
    for folder, pattern in (
        (_CLEANED, r"(.+?)(?:_test)?"),
        (_TOKENS, r"(.+)_(?:full|test)_dataset"),
    ):
        for name, time in _artefacts(data_dir / folder, pattern):
            made[name] = max(time, made.get(name, 0.0))
    return sorted(made, key=lambda name: (-made[name], name))


def example_sets(data_dir: Path) -> list[tuple[Path, Manifest]]:
    """The folders of the whole sets of conversations, the one made last first; a damaged one is
    told by what opens it."""
    found: list[tuple[Path, Manifest]] = []
    for folder in sorted((data_dir / EXAMPLES).glob("[!.]*"), reverse=True):
        with suppress(HatcheryError, OSError):
            if folder.is_dir() and (manifest := artefacts.read_manifest(folder)) is not None:
                found.append((folder, manifest))
    return sorted(found, key=lambda one: one[1].made_by.time, reverse=True)


def others_than(name: str, data_dir: Path) -> str:
    """The corpora there are, to be put behind what was not found of one of the name `name`; empty
    where it is one of them, or there are none."""
    known = corpora(data_dir)
    if name in known or not known:
        return ""
    return f"; corpora here: {', '.join(known[:_SHOWN])}" + ", ..." * (len(known) > _SHOWN)


def _artefacts(folder: Path, pattern: str) -> Iterable[tuple[str, float]]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        found = re.fullmatch(pattern, entry.name)
        if found and is_name(found[1]):
            with suppress(OSError):
                yield found[1], Path(entry.path, MANIFEST).stat().st_mtime


def is_name(name: str) -> bool:
    """Whether a corpus may be called so: the name of one visible folder, printable and short."""
    printable = name.isprintable() and bool(name.strip()) and not name.startswith((".", "-"))
    return printable and "/" not in name and "\\" not in name and len(name.encode()) <= _LONGEST


def checked_name(name: str) -> str:
    """`name`, if a corpus may be called so.

    Raises:
        UsageError: it may not; a path is offered as --input.
    """
    path = home_path(name)
    there = _exists(path)
    if not is_name(name) or (name not in _KNOWN and there and path.is_file()):
        if there or "/" in name:
            raise path_for_name(name)
        raise UsageError(
            f"{name!r} cannot be the name of a corpus.",
            found="it becomes the name of a folder",
            remedy="use letters, digits, _ and -, at most 100 bytes",
        )
    return name


def path_for_name(path: str) -> UsageError:
    """The refusal of a path where the name of a corpus belongs, which offers to make one of it."""
    there = _exists(home_path(path))
    return UsageError(
        f"{path!r} is a path, where the name of a corpus belongs.",
        found="a file or folder of that name" if there else "nothing of that name",
        remedy="clean the texts there, which names the corpus: {}"
        if there
        else "check the path, which names the corpus: {}",
        commands=[("cleanup", "--input", path if there else "PATH")],
    )


def means_path(name: str, data_dir: Path) -> bool:
    """Whether what stands where the name of a corpus belongs is a file or folder: there is one, or
    it is written like one, and no corpus is called so."""
    if is_name(name) and _is_there(name, data_dir):
        return False
    return "/" in name or _exists(home_path(name))


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # too long for a name, or a NUL in it
        return False


def name_of(inputs: Sequence[Path]) -> str:
    """What a corpus read from `inputs` is called: as the first folder or file.

    Never a name that means something else: of a named source, or ending as test folders do.
    """
    first = inputs[0]
    while re.search(r"[*?\[]", first.name) and first.parent != first:
        first = first.parent  # a glob is called as the folder it searches
    name = first.resolve().name if first.name in ("", "..") else first.name
    if _exists(first) and first.is_file():
        name = re.sub(rf"(?:{_SUFFIXES})+$", "", name, flags=re.IGNORECASE)
    name = re.sub(r"[^\w.-]+", "_", name).strip("._-")
    name = name.encode()[: _LONGEST - 6].decode(errors="ignore") or "texts"
    return f"{name}_texts" if name in _KNOWN or name.endswith("_test") else name


def places_of(paths: Sequence[Path]) -> list[str]:
    """`paths`, those inside the workspace relative to it, so that it can be moved."""
    here = Path.cwd()
    whole = [path.absolute() for path in paths]
    return [str(p.relative_to(here) if p.is_relative_to(here) else p) for p in whole]


def texts_of(data_dir: Path, name: str) -> list[Path]:
    """The paths from which the clean documents of a corpus, or else of its trial, were made, where
    all of them are still there."""
    for folder in (name, f"{name}_test"):
        manifest = artefacts.read_manifest(data_dir / _CLEANED / folder)
        given = manifest.facts.get(GIVEN) if manifest is not None else None
        paths = [Path(path) for path in given] if isinstance(given, list) else []
        if paths and all(_exists(path) or any(glob.iglob(str(path))) for path in paths):  # noqa: PTH207
            return paths
    return []


def other_texts(
    there: Manifest,
    before: Sequence[artefacts.Source],
    now: Sequence[artefacts.Source],
    given: Sequence[Path],
) -> str:
    """Where the texts `before` of an artefact came from if those read `now` from `given` would
    take their place; empty where it is the same place, or all the earlier ones are among them."""
    recorded = there.facts.get(GIVEN)
    prints = {source.fingerprint for source in before}
    kept = prints <= {source.fingerprint for source in now}
    paths = {source.path for source in now}
    shared = recorded is None and any(source.path in paths for source in before)
    if kept or shared or recorded == places_of(given):
        return ""
    return shown_places(there, before)


def shown_places(there: Manifest, texts: Sequence[artefacts.Source]) -> str:
    """The places that the `texts` of an artefact came from, the first three."""
    places = there.facts.get(GIVEN) or sorted({str(Path(text.path).parent) for text in texts})
    return ", ".join(map(str, places[:3])) + ", ..." * (len(places) > 3)


def in_the_way(
    problem: str,
    size: str,
    made_from: str,
    target: Path,
    there: Manifest,
    command: Sequence[str],
    place: tuple[str, str],
) -> RefusedError:
    """Why `target` is not replaced, with the `command` that makes another beside it and the one
    that replaces it; `place` is the flag that says where, and its value."""
    flag, value = place
    stem = Path(value).name
    rest = target.name.removeprefix(stem)
    free = next(n for n in count(2) if not target.with_name(f"{stem}_{n}{rest}").exists())
    return RefusedError(
        problem,
        found=f"{size} in {target}, made from {made_from} on {there.made_by.time[:10]}",
        remedy=f"call this one otherwise: {{}}; or replace those {size.split()[-1]}: {{}}",
        commands=[(*command, flag, f"{value}_{free}"), (*command, flag, value, "--force")],
    )


def source_called(name: str) -> Source:
    """The named source, or for any other name texts of the user's own."""
    return _KNOWN.get(name) or Source(name, "Your own texts", "yours", "yours", "yours")


def titled(what: str, name: str, *, named: bool, note: str = "") -> str:
    """A stage's first line: what it does with which corpus, and how to choose another."""
    if named:
        return f"{what} {name}"
    because = f"{note}; " if note else ""
    return f"{what} {name} ({because}--source NAME chooses another corpus)"
