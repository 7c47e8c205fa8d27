"""How much disk each stage's artefacts take, corpus by corpus."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from textual import work
from textual.content import Content
from textual.message import Message
from textual.widgets import Static

from app.tui.widgets.meter import columns
from app.tui.widgets.text import MUTED, plain
from utils.units import human_bytes

if TYPE_CHECKING:
    from pipeline.options.config import Config

_AGAIN = 60.0  # seconds until the folders are measured anew
_MOST = 50_000  # files of one artefact that are measured
_STAGE, _SIZE = 9, 9  # columns
_TOKENS = "_full_dataset"  # what the folder of a corpus's tokens ends in


class DiskUse(NamedTuple):
    """One artefact: the title of the stage that made it, its name, its size in bytes."""

    stage: str
    name: str
    size: int


class DiskPanel(Static):
    """Lists the artefacts, the smaller ones of a stage together where there is no room."""

    class Measured(Message):
        """The folders were measured."""

        def __init__(self, uses: list[DiskUse]) -> None:
            super().__init__()
            self.uses = uses

    def __init__(self) -> None:
        super().__init__()
        self._uses: list[DiskUse] = []
        self._config: Config | None = None
        self._room = 0

    def follow(self, config: "Config") -> None:
        """Measure the folders of a config now, and every minute."""
        if self._config is None:
            self.set_interval(_AGAIN, self.look)
        self._config = config
        self.look()

    def look(self) -> None:
        """Measure the folders now, where anybody sees it."""
        if self.screen.is_current and self._config is not None:
            self._measure(self._config)

    @work(thread=True, group="disk", exclusive=True, exit_on_error=False)
    def _measure(self, config: "Config") -> None:
        self.post_message(self.Measured(measure(config)))

    def on_disk_panel_measured(self, message: Measured) -> None:
        self.show(message.uses)

    def show(self, uses: list[DiskUse]) -> None:
        """Show what was measured."""
        self._uses = uses
        self._draw()

    def fit(self, room: int) -> None:
        """Show it in so many lines, or one for each stage where these are more."""
        self._room = room
        self._draw()

    def _draw(self) -> None:
        width = self.size.width or 38
        shown = fitting(self._uses, self._room)
        stages = ["", *(use.stage for use in shown)]
        lines = [
            _line(use, width, again=use.stage == before)
            for use, before in zip(shown, stages, strict=False)
        ]
        self.update(Content("\n").join(lines))

    def on_resize(self) -> None:
        self._draw()


def measure(config: "Config") -> list[DiskUse]:
    """Every artefact there is, in the order of the pipeline, the largest of a stage first."""
    data = config.paths.data_dir
    places = {
        "Download": data / "raw",
        "Clean": data / "cleaned_articles",
        "Tokenizer": config.paths.tokenizers_dir,
        "Prepare": data / "tokenized_datasets",
        "Train": config.paths.checkpoints_dir,
    }
    uses: list[DiskUse] = []
    for stage, folder in places.items():
        found = [DiskUse(stage, _named(entry.name), _size(entry)) for entry in _entries(folder)]
        uses += sorted((use for use in found if use.size), key=lambda use: -use.size)
    logs = sum(map(_size, _entries(config.paths.logs_dir)))
    return [*uses, DiskUse("Jobs", "logs", logs)] if logs else uses


def _named(entry: str) -> str:
    """A corpus or a run by the name that its user gave it."""
    if entry.endswith(_TOKENS):
        return entry.removesuffix(_TOKENS)
    from pipeline.runs import folders  # 10 ms that the first frame need not wait for

    return folders.short_name(entry)


def _size(artefact: os.DirEntry[str]) -> int:
    """Bytes of a file or of all files in a folder; links are not followed."""
    total, left = 0, _MOST
    waiting = [iter([artefact])]
    while waiting and left > 0:
        for entry in waiting.pop():
            left -= 1
            try:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(_entries(entry.path))
                elif entry.is_file(follow_symlinks=False):
                    total += entry.stat(follow_symlinks=False).st_size
            except OSError:
                continue
    return total


def _entries(folder: str | Path) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            yield from entries
    except OSError:
        return


def fitting(uses: Sequence[DiskUse], room: int) -> list[DiskUse]:
    """One line for each stage and, as far as `room` lines allow, its largest artefacts alone; the
    rest of a stage is added up."""
    stages = {use.stage: [one for one in uses if one.stage == use.stage] for use in uses}
    alone = dict.fromkeys(
        stages, 0
    )  # how many have a line of their own, before the one for the rest
    while len(stages) + sum(alone.values()) < room:
        rest = {stage: _sum(stages[stage][alone[stage] :]) for stage in stages}
        cut = [stage for stage in stages if len(stages[stage]) > alone[stage] + 1]
        if not cut:
            break
        alone[max(cut, key=rest.__getitem__)] += 1
    lines = []
    for stage, group in stages.items():
        lines += group[: alone[stage]]
        rest_of = group[alone[stage] :]
        more = f"{len(rest_of)} {'more' if alone[stage] else 'in all'}"
        lines.append(rest_of[0] if len(rest_of) == 1 else DiskUse(stage, more, _sum(rest_of)))
    return lines


def _sum(uses: Sequence[DiskUse]) -> int:
    return sum(use.size for use in uses)


def _line(use: DiskUse, width: int, *, again: bool) -> Content:
    return columns(
        [plain("" if again else use.stage), plain(use.name, MUTED), plain(human_bytes(use.size))],
        [_STAGE, max(8, width - _STAGE - _SIZE - 4), -_SIZE],
    )
