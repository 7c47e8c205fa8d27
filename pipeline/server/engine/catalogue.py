"""What the server offers: ids, never paths, and the checkpoints behind them.

An id is RUN/step-500; RUN, RUN/best and RUN/latest are other names of what they mean at that
moment, and RUN may be short: the name that the user gave, of the newest run that has it. An id is
looked up in a table, so nothing that a client sends ever becomes a path.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from model.checkpoint import load_config
from model.config import parameter_count
from pipeline.inference.loading import bytes_needed
from pipeline.options.config import LoadOptions
from pipeline.runs.folders import short_name
from pipeline.runs.inventory import LOOSE, Checkpoint, Run, list_runs, safe_name
from pipeline.server.errors import ApiError
from pipeline.tokenizer.chat_template import is_chat_model
from utils.errors import HatcheryError

_FRESH_SECONDS = 2.0  # for which a listing is reused
_MODELS_NAMED = 8  # in an error


@dataclass(frozen=True)
class ServedModel:
    """A checkpoint that may be asked for. `bytes` is the memory of its weights, `chat` whether its
    files say that it was taught to answer; what a damaged or very old one does not say is None."""

    id: str
    checkpoint: Checkpoint
    parameters: int | None
    context: int | None
    bytes: int
    chat: bool


class Catalogue:
    """The served models by id. Safe to call from any thread.

    `chosen` are the checkpoints to serve; without them, all there are in `directory`.
    """

    def __init__(
        self,
        directory: Path,
        options: LoadOptions,
        chosen: Sequence[Checkpoint],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._directory, self._options, self._chosen = directory, options, chosen
        self._clock = clock
        self._read_at: float | None = None
        self._by_id: dict[str, ServedModel] = {}
        self._aliases: dict[str, str] = {}
        self._facts: dict[tuple[Path, float], tuple[int | None, int | None, int, bool]] = {}
        self._lock = Lock()

    def served_models(self) -> list[ServedModel]:
        """All of them, the newest run first and in it the newest checkpoint."""
        with self._lock:
            self._refresh()
            return list(self._by_id.values())

    def find(self, name: str | None) -> ServedModel:
        """The served model of an id or alias; without a name that of the newest run.

        Raises:
            ApiError: 404, there is none (any more); names those there are.
        """
        with self._lock:
            self._refresh()
            if name is None and self._aliases:
                name = next(iter(self._aliases))
            found = self._by_id.get(self._aliases.get(name or "", name or ""))
            if found is not None:
                return found
            names = ", ".join([*self._aliases, *self._by_id][:_MODELS_NAMED])
        raise ApiError(
            404,
            f"The model {name[:100]!r} does not exist." if name else "There is no model yet.",
            code="model_not_found",
            param="model",
            found=f"models: {names}" if names else "no runs",
            remedy="ask /v1/models for all of them"
            if names
            else "train one: python main.py quickstart",
        )

    def _refresh(self) -> None:
        now = self._clock()
        if self._read_at is not None and now - self._read_at < _FRESH_SECONDS:
            return
        runs = list_runs(self._directory) if not self._chosen else _grouped(self._chosen)
        self._by_id, self._aliases = {}, {}
        for run in runs:
            ids = {}
            for checkpoint in run.checkpoints:
                ids[checkpoint] = self._add(_unused_id(self._by_id, checkpoint.id), checkpoint)
            if run.name != LOOSE:
                for alias, checkpoint in _aliases(run):
                    if alias not in self._by_id:
                        self._aliases.setdefault(alias, ids[checkpoint])
            else:
                self._aliases |= {i: i for i in ids.values()}
        self._read_at = self._clock()

    def _add(self, name: str, checkpoint: Checkpoint) -> str:
        key = (checkpoint.path, checkpoint.modified)
        if key not in self._facts:
            self._facts[key] = _facts(checkpoint, self._options)
        self._by_id[name] = ServedModel(name, checkpoint, *self._facts[key])
        return name


def _facts(
    checkpoint: Checkpoint, options: LoadOptions
) -> tuple[int | None, int | None, int, bool]:
    """Parameters, context, bytes of memory, and whether it was taught to answer."""
    parameters = context = None
    chat = False
    try:
        if checkpoint.path.is_dir():
            config = load_config(checkpoint.path)
            parameters, context = parameter_count(config), config.max_position_embeddings
            chat = is_chat_model(checkpoint.path)
        return parameters, context, bytes_needed(checkpoint, options), chat
    except (HatcheryError, OSError):  # loading it will say what is wrong
        return parameters, context, checkpoint.size, chat


def _grouped(chosen: Sequence[Checkpoint]) -> list[Run]:
    names = dict.fromkeys(checkpoint.run for checkpoint in chosen)
    return [Run(name, tuple(c for c in chosen if c.run == name)) for name in names]


def _unused_id(taken: dict[str, ServedModel], name: str) -> str:
    number = 1
    while (unique := name if number == 1 else f"{name}-{number}") in taken:
        number += 1
    return unique


def _aliases(run: Run) -> Iterator[tuple[str, Checkpoint]]:
    for name in dict.fromkeys((safe_name(run.name), safe_name(short_name(run.name)))):
        yield name, run.default
        for checkpoint in run.checkpoints:
            if checkpoint.best:
                yield f"{name}/best", checkpoint
            if checkpoint.latest:
                yield f"{name}/latest", checkpoint
