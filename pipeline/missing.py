"""What an earlier stage has not made yet, and the commands that make it, in order.

A stage that lacks its input advises every step that is missing, not only its neighbour, whose
command would fail in the same way.
"""

from collections.abc import Sequence
from pathlib import Path

from pipeline import corpora, vocabulary
from pipeline.options.config import Config
from pipeline.source_table import SOURCES
from utils.artefacts import read_manifest
from utils.errors import HatcheryError, UsageError

Commands = list[tuple[str, ...]]


class MissingError(UsageError):
    """What earlier stages make is not there; `commands` make it, one after the other."""

    def __init__(
        self,
        problem: str,
        found: str = "",
        commands: Sequence[tuple[str, ...]] = (),
        *,
        do: str = "make them",
    ) -> None:
        remedy = f"{do}: " + "; then ".join("{}" for _ in commands)
        super().__init__(problem, found=found, remedy=remedy, commands=commands)


def cleaning(config: Config, name: str) -> Commands:
    """What makes the clean documents of a corpus; FOLDER stands for texts that only its owner can
    name."""
    if corpora.means_path(name, config.paths.data_dir):
        return [("cleanup", "--input", name)]
    source = next((one for one in SOURCES if one.name == name), None)
    raw = config.raw_dir(name)
    is_known = (source is not None and source.embedded) or _holds_something(raw)
    if is_known or corpora.texts_of(config.paths.data_dir, name):
        return [("cleanup", "--source", name)]
    if source is None or source.where == "yours":
        return [("cleanup", "--input", "FOLDER", "--name", name)]
    return [("download", name), ("cleanup", "--source", name)]


def tokens(config: Config, name: str, *, test: bool = False) -> Commands:
    """What makes the tokens of a corpus, from the first step that has not been done."""
    small = ["--test"] * test
    places = [config.cleaned_dir(name), *[config.cleaned_dir(name, test=True)] * test]
    steps = [] if any(map(_holds_something, places)) else cleaning(config, name)
    if not _a_tokenizer(config.paths.tokenizers_dir):
        steps.append(("tokenize", "--train", "bpe", "--source", name, *_size(config, name)))
    return [*steps, ("prepare", "--source", name, *small)]


def model(config: Config) -> Commands:
    """What trains a model on the corpus worked on last, from the first step that has not been
    done; where no corpus was begun, what raises one from nothing."""
    name = config.source
    if not corpora.corpora(config.paths.data_dir):
        return [("quickstart",)]
    steps = [] if _holds_something(config.tokens_dir(name, test=False)) else tokens(config, name)
    return [*steps, ("train", "--source", name)]


def _size(config: Config, name: str) -> list[str]:
    """The flag of a vocabulary for a text that is too small for the usual one."""
    text_bytes = vocabulary.text_bytes_of(config, name)
    size = vocabulary.fitting_size(text_bytes) if text_bytes is not None else vocabulary.LARGEST
    return ["--vocab-size", str(size)] if size != vocabulary.LARGEST else []


def _holds_something(folder: Path) -> bool:
    return folder.is_dir() and any(not entry.name.startswith(".") for entry in folder.iterdir())


def _a_tokenizer(folder: Path) -> bool:
    for place in folder.glob("[!.]*"):
        try:
            manifest = read_manifest(place)
        except HatcheryError:
            continue
        if manifest is not None and manifest.kind == "tokenizer":
            return True
    return False
