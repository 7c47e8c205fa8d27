"""Scores of single items on the disk: what was scored is not scored again, whatever ended it.

One folder for everything that decides the score of an item (weights, tokenizer, task, recipe), and
in it one line an item. A larger sample, another file of the same task or the next attempt after a
kill goes on with what is there.
"""

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from pipeline.evaluation.metrics import Ratio
from pipeline.evaluation.scoring import ItemScore
from utils import json_text
from utils.artefacts import digest
from utils.errors import RefusedError
from utils.files import AppendLog, FolderLock, write_json

FOLDER = "items"
_FILE, _RECIPE = "scores.jsonl", "recipe.json"


class _Line(msgspec.Struct, frozen=True, omit_defaults=True):
    key: str
    ratios: dict[str, tuple[float, float]] = {}
    reason: str = ""
    cut: bool = False
    joined: bool = False
    text: str = ""


class ItemLog:
    """The scores of items by their keys, for one identity; only within a `with` block.

    `identity` holds all that decides a score, as JSON values, the `task` among them. With `force`
    nothing that was there is taken.

    Raises:
        RefusedError: on entering, when another process scores the same.
        DiskFullError: there is no room.
    """

    def __init__(self, results_dir: Path, identity: Mapping[str, Any], *, force: bool) -> None:
        self.folder = results_dir / FOLDER / digest(dict(identity))[:24]
        self._identity, self._force = dict(identity), force
        self._lock = FolderLock(self.folder)
        self.scores: dict[str, ItemScore] = {}

    def __enter__(self) -> Self:
        try:
            self._lock.__enter__()
        except RefusedError as error:
            raise RefusedError(
                f"Another benchmark scores the same checkpoint at {self._identity['task']}.",
                found=error.found,
                remedy=f"{error.remedy}; what either has scored is kept",
            ) from error
        try:
            if self._force:
                (self.folder / _FILE).unlink(missing_ok=True)
            write_json(self.folder / _RECIPE, self._identity)
            self._log = AppendLog(self.folder / _FILE)
            self.scores = _read(self.folder / _FILE)
        except BaseException as error:
            self._lock.__exit__(type(error), error, None)
            raise
        return self

    def add(self, key: str, score: ItemScore) -> None:
        """Keep a score, durably against a kill."""
        ratios = {name: (float(n), float(d)) for name, (n, d) in score.ratios.items()}
        line = _Line(key, ratios, score.reason, score.cut, score.joined, score.text)
        self._log.write(json_text.encode(line))
        self.scores[key] = score

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._log.close()
        self._lock.__exit__(kind, error, at)


def _read(path: Path) -> dict[str, ItemScore]:
    found: dict[str, ItemScore] = {}
    for line in path.read_bytes().splitlines():
        try:
            read = json_text.decode(line, _Line)
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue  # damaged: it is scored again
        ratios = {name: Ratio(*pair) for name, pair in read.ratios.items()}
        found[read.key] = ItemScore(ratios, read.reason, read.cut, read.joined, read.text)
    return found
