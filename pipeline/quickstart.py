"""Raise a first model: every stage in turn on Python's own library, nothing to download.

Each stage is the one that users run by hand, with its settings filled in here; what is done
already is skipped, and a training that was interrupted goes on.
"""

import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from threading import Event as StopSignal
from typing import Any, TypeVar

from pydantic import BaseModel

from model.config import ModelConfig
from pipeline import runs, stages
from pipeline.events import Event, Finished, Progress, Saved
from pipeline.options import Config, QuickstartOptions
from pipeline.train_setup import read_record
from utils.artefacts import read_manifest
from utils.errors import UsageError
from utils.units import human_seconds

SOURCE = "python"
PROMPTS = ("def read(self", "class ", "import os\n", "The ")
MODEL = ModelConfig(
    hidden_size=256,
    num_layers=6,
    num_heads=4,
    num_kv_heads=4,
    max_position_embeddings=512,
    qk_norm=True,
    norm_gain=False,
    zero_init=True,
)
TRAINING: dict[str, Any] = {
    "window": 256,
    "batch_size": 8,
    "warmup_steps": 20,
    "cooldown": 0.6,
    "eval_batches": 25,
    "log_every": 5,
    "weight_decay": 0.0,
}


@dataclass
class _Outcome:
    """How an inner stage ended."""

    finished: Finished | None = None

    @property
    def stopped(self) -> bool:
        return self.finished is None or self.finished.stopped


def run(config: Config, options: QuickstartOptions, stop: StopSignal) -> Iterator[Event]:
    """Clean, tokenize, prepare, train, and let the model write.

    Raises:
        HatcheryError: whatever a stage raises.
    """
    begin = time.monotonic()
    config = _settings(config, options)
    outcome = _Outcome()
    for command in ("cleanup", "tokenize", "prepare"):
        outcome = yield from _inner(command, config, stop)
        if outcome.stopped:
            yield Finished(stopped=True)
            return
    config = yield from _with_training(config, options, stop)
    outcome = yield from _inner("train", config, stop)
    if outcome.stopped or stop.is_set():
        yield Finished(stopped=True)
        return
    assert outcome.finished is not None
    assert outcome.finished.path is not None
    folder = outcome.finished.path
    for prompt in PROMPTS:
        yield from _inner("inference", _asking(config, folder, prompt), stop)
    yield Finished(_farewell(folder, time.monotonic() - begin), folder)


def _inner(command: str, config: Config, stop: StopSignal) -> Generator[Event, None, _Outcome]:
    """Run another stage as part of this one; its end becomes a `Saved` event."""
    stage, outcome = stages.find(command), _Outcome()
    for event in stage.load()(config, getattr(config, stage.section), stop):
        if isinstance(event, Finished):
            outcome.finished = event
            if event.path is not None and not event.stopped:
                facts = {"unchanged": True} if event.skipped else {}
                yield Saved(stage.makes, event.path, facts)
        else:
            yield event
    return outcome


Section = TypeVar("Section", bound=BaseModel)


def _with(section: Section, **update: Any) -> Section:
    return section.model_copy(update=update)


def _settings(config: Config, options: QuickstartOptions) -> Config:
    """The configuration of all stages before training."""
    tokenizer = config.paths.tokenizers_dir / options.name
    return _with(
        config,
        dataset=_with(config.dataset, source=SOURCE),
        cleanup=_with(config.cleanup, source=SOURCE, force=options.force),
        tokenize=_with(
            config.tokenize,
            train="bpe",
            vocab_size=options.vocab_size,
            name=options.name,
            source=SOURCE,
            force=options.force,
        ),
        prepare=_with(
            config.prepare,
            source=SOURCE,
            tokenizer=str(tokenizer),
            window=TRAINING["window"],
            force=options.force,
        ),
    )


def _with_training(
    config: Config, options: QuickstartOptions, stop: StopSignal
) -> Generator[Event, None, Config]:
    """The configuration of training: going on with the run of that name, or a new one whose
    length is planned by the speed of this machine."""
    if not options.force and _can_go_on(config, options.name):
        resume = _with(config.train, resume="auto", name=options.name)
        return _with(config, train=resume)
    train = _with(config.train, name=options.name, resume=None, data=None, **TRAINING)
    config = _with(config, model=MODEL, train=train)
    steps = options.max_steps
    if steps is None:
        from pipeline.probe import seconds_per_step

        yield Progress(0, None, message="measuring how fast this machine trains")
        steps = max(1, round(options.minutes * 60 / seconds_per_step(config, train, stop)))
    return _with(config, train=_with(train, max_steps=steps))


def _can_go_on(config: Config, name: str) -> bool:
    """Whether there is a run of that name on exactly these tokens."""
    try:
        run = runs.find_run(config.paths.checkpoints_dir, name)
    except UsageError:
        return False
    tokens = read_manifest(config.tokens_dir(SOURCE, test=False))
    return tokens is not None and read_record(run).fingerprints["data"] == tokens.fingerprint


def _asking(config: Config, folder: str, prompt: str) -> Config:
    inference = _with(config.inference, checkpoint=[folder], prompt=prompt, seed=1, samples=1)
    return _with(config, inference=inference)


def _farewell(folder: str, seconds: float) -> dict[str, Any]:
    return {
        "time": human_seconds(seconds),
        "talk to it": f"python main.py inference --checkpoint {folder}",
        "train longer": "python main.py quickstart --minutes 20 --name second",
        "use your own text": "python main.py cleanup --source files --input FOLDER",
        "all commands": "python main.py --help",
    }
