"""What the steps of a rehearsal share: its workspace, what each step found or made, and how a
real stage is run in it.

Everything is written into the workspace; what the user has is only read.
"""

import os
import shutil
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from threading import Event as StopSignal
from typing import Any, TypeAlias, TypeVar

import msgspec

from pipeline.cleaner.corpus import source_name
from pipeline.corpora import source_called
from pipeline.events import Event, Finished, Progress, StageVerdict
from pipeline.nested import nested_events, revised
from pipeline.options.config import Config, RehearseOptions, Settings
from pipeline.rehearsal.sample import TextSample, take_sample
from pipeline.rehearsal.verdicts import Concern, disk
from pipeline.sources.documents import cleaned_files
from pipeline.sources.items import Input, as_input
from pipeline.sources.stage import is_here
from utils.artefacts import read_manifest
from utils.errors import HatcheryError
from utils.files import existing_parent

Trial: TypeAlias = Generator[Event, None, StageVerdict]
_Kind = TypeVar("_Kind", bound=Event)
_WINDOWS = 64  # bytes of raw text per token of the window: markup may be nine tenths of it


class NotTriedError(Exception):
    """A step has nothing to work on; says why."""


class StoppedError(Exception):
    """The user asked to stop."""


@dataclass
class Record:
    """What a stage yielded, without its progress."""

    finished: Finished
    events: list[Event]

    def of(self, kind: type[_Kind]) -> list[_Kind]:
        """Its events of one kind."""
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def path(self) -> Path:
        """What the stage made."""
        assert self.finished.path is not None
        return Path(self.finished.path)


@dataclass
class Rehearsal:
    """One rehearsal: the user's settings, and what is there for the next step.

    `documents`, `tokenizer` and `tokens` are in the workspace, and so is what was `trained` with
    the settings `training`. `sample` is what they were made of, None for a stand-in; `basis` says
    so where it is not the beginning of the user's chain. `asked_ids` is the size of a vocabulary
    that the sample may not fill, `whole_tokens` the tokens of all the text, `still_to_write` the
    bytes that all stages up to here would add to the disk.
    """

    config: Config
    options: RehearseOptions
    folder: Path
    stop: StopSignal
    sample: TextSample | None = None
    documents: Path | None = None
    tokenizer: Path | None = None
    tokens: Path | None = None
    trained: Record | None = None
    training: Config | None = None
    basis: str = ""
    standing_in: bool = False
    asked_ids: int = 0
    whole_tokens: float | None = None
    still_to_write: float = 0.0

    @property
    def given(self) -> list[Path] | None:
        """The raw input that was named instead of the source's own."""
        return self.options.input or self.config.cleanup.input

    @property
    def source(self) -> str:
        """The source whose chain this is."""
        chosen = self.options.source or self.config.cleanup.source
        cleanup = revised(self.config.cleanup, source=chosen, input=self.given)
        return source_name(self.config, cleanup)

    @property
    def start(self) -> str:
        """The first of raw, cleaned and tokens that is there; raw where nothing is."""
        if self.given or is_here(source_called(self.source), self.config):
            return "raw"
        if self.users_documents:
            return "cleaned"
        return "tokens" if self.users_tokens else "raw"

    @property
    def users_documents(self) -> list[Path] | None:
        """Where the user's clean documents are."""
        if self.config.prepare.input:
            return self.config.prepare.input
        folders = [self.config.cleaned_dir(self.source, test=test) for test in (False, True)]
        return next(([f] for f in folders if f.is_dir() and any(f.glob("cleaned_*"))), None)

    @property
    def users_tokens(self) -> Path | None:
        """The folder of the user's tokens."""
        if self.config.train.data:
            return self.config.train.data
        first = self.config.train.test
        folders = [self.config.tokens_dir(self.source, test=test) for test in (first, not first)]
        return next((f for f in folders if f.is_dir() and read_manifest(f) is not None), None)

    @property
    def partial(self) -> bool:
        """Whether what is worked on is a sample of much more of the user's text, or stands in."""
        return self.standing_in or (self.sample is not None and self.sample.partial)

    def fits_on_disk(self, target: Path, size: float) -> Concern | None:
        """Whether `size` bytes at `target` would still fit beside what the stages before need."""
        if not target.exists():
            self.still_to_write += size
        free = shutil.disk_usage(existing_parent(target)).free
        return disk(self.still_to_write, free, target)

    def in_workspace(self, **sections: dict[str, Any]) -> Config:
        """The user's settings with every path in the workspace and `sections` changed."""
        paths = {f"{name}_dir": self.folder / name for name in ("data", "checkpoints", "logs")}
        paths["tokenizers_dir"] = self.folder / "tokenizers"
        config = revised(self.config, paths=revised(self.config.paths, **paths))
        for name, update in sections.items():
            config = revised(config, **{name: revised(getattr(config, name), **update)})
        return config

    def follow(
        self, name: str, config: Config, command: str = ""
    ) -> Generator[Event, None, Record]:
        """Run the real stage `command`, passing on its progress as that of the step `name`.

        Raises:
            StoppedError: it was stopped.
            HatcheryError: whatever the stage raises.
        """
        kept: list[Event] = []
        finished: Finished | None = None
        for event in nested_events(command or name, Settings(config), self.stop):
            if isinstance(event, Progress):
                message = f"{name}: {event.message}".rstrip(": ")
                yield msgspec.structs.replace(event, message=message)
            elif isinstance(event, Finished):
                finished = event
            else:
                kept.append(event)
        if finished is None or finished.stopped or self.stop.is_set():
            raise StoppedError
        return Record(finished, kept)

    def take(self, inputs: list[Input], name: str) -> TextSample:
        """A sample of `inputs` in the workspace, large enough for the window."""
        window = max(self.config.prepare.window, self.config.train.window or 0)
        sample = take_sample(
            inputs, self.folder / name, self.options.documents, _WINDOWS * window, self.stop
        )
        if self.stop.is_set():
            raise StoppedError
        if sample.problem is not None and not sample.files:
            raise sample.problem
        return sample

    def some_documents(self) -> Generator[Event, None, Path]:
        """Clean documents in the workspace: of this rehearsal, else the user's, else a stand-in.

        Raises:
            NotTriedError: none of them is to be had, or the user's tokens come after them.
        """
        if self.start == "tokens":
            raise NotTriedError("no documents are here; starting from the tokens")
        if self.documents is None and (places := self.users_documents):
            files = cleaned_files(places)
            inputs = [_clean_input(file, number) for number, file in enumerate(files)]
            self.sample = self.take(inputs, "documents")
            self.documents = self.folder / "documents"
            self.basis = f"from your clean documents in {places[0]}"
        if self.documents is None:
            self.documents = yield from self.stand_in()
        return self.documents

    def stand_in(self) -> Generator[Event, None, Path]:
        """A sample of Python's library, so that later stages can be tried with the real shapes."""
        from pipeline.sources.python_library import (
            library_inputs,  # only where nothing else is there
        )

        try:
            sample = self.take(library_inputs(), "stand_in")
        except HatcheryError as error:
            raise NotTriedError(f"nothing could stand in for your text: {error.problem}") from error
        output = self.folder / "stand_in_cleaned"
        cleanup = {"source": "files", "input": sample.files, "output": output, "test": False}
        record = yield from self.follow("cleanup", self.in_workspace(cleanup=cleanup))
        self.sample, self.standing_in = None, True
        self.basis, self.whole_tokens = "on Python's library in place of your text", None
        return record.path


def _clean_input(file: Path, number: int) -> Input:
    """A file of clean documents; those that cleanup wrote hold one document per line."""
    item = as_input(file, f"{number}/{file.name}")
    ours = file.name.startswith("cleaned_")
    return msgspec.structs.replace(item, form="rows") if ours else item


def refuse_unwritable(path: Path) -> None:
    """Refuse where a stage could not write its result to `path`.

    Raises:
        HatcheryError: there is a file in the way, or no right to write.
    """
    parent = existing_parent(path)
    in_the_way = next((p for p in (path, *path.parents) if p.exists() and not p.is_dir()), None)
    if in_the_way is not None:
        raise HatcheryError(
            f"{in_the_way} is a file, where a folder is needed.",
            remedy="move it away, or choose another folder in the paths section of config.json",
        )
    if not os.access(parent, os.W_OK | os.X_OK):
        raise HatcheryError(
            f"{path} cannot be written: no right to write in {parent.absolute()}.",
            remedy="give yourself the right, or choose another folder in the paths section of "
            "config.json",
        )
