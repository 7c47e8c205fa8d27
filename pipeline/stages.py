"""The ordered table of stages that the command line, the jobs and the app all read.

Imports neither pydantic nor torch: the app draws its first frame with what stands here.
"""

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Event as StopSignal
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from pipeline.events import Event

if TYPE_CHECKING:
    from pipeline.options.config import Settings  # pydantic, 60 ms that the help need not pay

Run: TypeAlias = Callable[..., Iterator[Event]]


@dataclass(frozen=True)
class Stage:
    """One row: what the user types, what it is for, what it reads and makes.

    `section` names its options in `pipeline.options.config.Config` and config.json; `entry` is
    `module:function`, imported only when the stage runs. `also` is a second section whose
    options it takes, and `tool` says that it is no step of the pipeline. `uses_typed` says that it
    goes on with earlier settings, which only typed ones change.
    """

    command: str
    title: str
    purpose: str
    section: str
    needs: tuple[str, ...]
    makes: str
    entry: str
    uses_torch: bool = False
    uses_typed: bool = False
    also: str | None = None
    tool: bool = False

    def load(self) -> Run:
        """Import the stage's generator, `run(config, options, stop)` or, where the stage
        `uses_typed`, `run(config, options, stop, typed)`."""
        module, _, function = self.entry.partition(":")
        run: Run = getattr(importlib.import_module(module), function)
        return run

    def events(self, settings: "Settings", stop: StopSignal) -> Iterator[Event]:
        """What happens while the stage runs with these settings, until `stop` is set.

        Raises:
            HatcheryError: whatever keeps the stage from going on.
        """
        run, options = self.load(), getattr(settings.config, self.section)
        if self.uses_typed:
            return run(settings.config, options, stop, settings.typed)
        return run(settings.config, options, stop)


STAGES: tuple[Stage, ...] = (
    Stage(
        "quickstart",
        "Quickstart",
        "Raise a first model from Python's own library, every stage in one go",
        "quickstart",
        (),
        "run",
        "pipeline.quickstart:run",
        uses_torch=True,
        uses_typed=True,
    ),
    Stage(
        "download",
        "Download",
        "Fetch a named source of text, or list them",
        "download",
        (),
        "raw",
        "pipeline.sources.stage:run",
    ),
    Stage(
        "cleanup",
        "Clean",
        "Turn raw records into clean documents, one per line",
        "cleanup",
        ("raw",),
        "cleaned",
        "pipeline.cleaner.stage:run",
    ),
    Stage(
        "tokenize",
        "Tokenizer",
        "Train or fetch a tokenizer; encode, decode and measure with it",
        "tokenize",
        ("cleaned",),
        "tokenizer",
        "pipeline.tokenizer.stage:run",
    ),
    Stage(
        "prepare",
        "Prepare",
        "Turn clean documents into token shards ready for training",
        "prepare",
        ("cleaned", "tokenizer"),
        "tokens",
        "pipeline.prep.stage:run",
    ),
    Stage(
        "train",
        "Train",
        "Train a model on token shards; stop and resume at will",
        "train",
        ("tokens",),
        "run",
        "pipeline.train.stage:run",
        uses_torch=True,
        uses_typed=True,
    ),
    Stage(
        "benchmark",
        "Benchmark",
        "Judge how good checkpoints are: scores with intervals, compared item by item",
        "benchmark",
        ("run",),
        "scores",
        "pipeline.benchmark.stage:run",
        uses_torch=True,
    ),
    Stage(
        "lima",
        "Examples",
        "Turn conversations into examples that a model is tuned on",
        "lima",
        ("tokenizer",),
        "examples",
        "pipeline.conversations.stage:run",
    ),
    Stage(
        "sft",
        "Tune",
        "Tune a checkpoint on conversations, so that it answers",
        "sft",
        ("run", "examples"),
        "run",
        "pipeline.sft.stage:run",
        uses_torch=True,
        uses_typed=True,
    ),
    Stage(
        "inference",
        "Generate",
        "Let one or several checkpoints continue a prompt",
        "inference",
        ("run",),
        "text",
        "pipeline.inference.stage:run",
        uses_torch=True,
    ),
    Stage(
        "serve",
        "Serve",
        "Answer programs that speak the OpenAI protocol, and people in a browser",
        "serve",
        ("run",),
        "answers",
        "pipeline.server.stage:run",
        uses_torch=True,
    ),
    Stage(
        "export",
        "Export",
        "Turn a checkpoint into a model that other programs open",
        "export",
        ("run",),
        "model folder",
        "pipeline.export.stage:run",
        uses_torch=True,
    ),
    Stage(
        "bench",
        "Speed",
        "Measure how fast this machine reads, writes and trains with a model",
        "bench",
        (),
        "speeds",
        "pipeline.benchmark.speed.stage:run",
        uses_torch=True,
        tool=True,
    ),
    Stage(
        "plan",
        "Plan",
        "Say what a training would need before it starts: memory, disk, time",
        "plan",
        ("tokens",),
        "plan",
        "pipeline.planning.stage:run",
        uses_typed=True,
        also="train",
        tool=True,
    ),
    Stage(
        "rehearse",
        "Rehearse",
        "Try every stage on a sliver of your own data with the real shapes",
        "rehearse",
        (),
        "verdicts",
        "pipeline.rehearsal.stage:run",
        uses_torch=True,
        also="train",
        tool=True,
    ),
)

PRODUCTS = {
    "raw": "raw text",
    "cleaned": "clean documents",
    "tokenizer": "a tokenizer",
    "tokens": "tokens",
    "examples": "conversations",
    "run": "a checkpoint",
}
"""What stages make for later ones, in words."""


State: TypeAlias = Literal["fresh", "stale", "missing", "damaged", "stopped"]


class Product(NamedTuple):
    """What a stage has made; a `stopped` one is a run that can go on.

    `title` names it, `figure` is its size in a few words, `made` is in seconds since 1970, `why`
    says what is wrong with a stale or damaged one. `foreign` says that it is stale because it was
    made for another corpus, `elsewhere` names what another corpus has newer.
    """

    state: State
    title: str = ""
    figure: str = ""
    path: Path | None = None
    made: float | None = None
    why: str = ""
    foreign: bool = False
    elsewhere: str = ""

    @property
    def usable(self) -> bool:
        """Whether later stages take it as it is."""
        return self.state in ("fresh", "stopped")


MISSING = Product("missing")


def find(command: str) -> Stage:
    """The stage of a command name; KeyError when there is none."""
    return {stage.command: stage for stage in STAGES}[command]
