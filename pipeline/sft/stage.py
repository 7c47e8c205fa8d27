"""The sft stage: a checkpoint learns to answer as in a set of conversations.

Only answers are learned, by where they stand: a question is read and never a target. The rest is a
training like any other: the same session, resume, lock, checkpoints and events.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from threading import Event as StopSignal
from typing import Any

from model import device as devices
from model.checkpoint import load_training_state
from model.config import parameter_count
from pipeline.events import Event, Progress, Saved, Warned
from pipeline.options.command import tuning_command
from pipeline.options.config import Config, Settings, SftOptions, Typed
from pipeline.runs import folders, pretrained
from pipeline.sft.answers import HeldOutQuestions
from pipeline.sft.batches import ConversationBatches
from pipeline.sft.setup import TuneSetup, begin_run, resume_run
from pipeline.train.course import course, nothing_to_do
from pipeline.train.objective import NextToken
from pipeline.train.session import Session
from pipeline.train.state import RunState, load_state
from pipeline.train.task import Task
from utils.artefacts import read_manifest
from utils.files import FolderLock, write_json
from utils.units import human_count

SETTINGS = "sft_config.json"


def run(config: Config, options: SftOptions, stop: StopSignal, typed: Typed) -> Iterator[Event]:
    """Tune a checkpoint, or go on with a tuning; yields what happens and returns when it is over.

    Raises:
        HatcheryError: see `begin_run` and `resume_run`; NaN, out of memory, a disk that stays full.
    """
    devices.pick_device(options.device)  # refused before anything is read or made
    missing = pretrained.missing_model(options.checkpoint) if options.resume is None else None
    if missing is not None:
        yield Progress(0, message=f"fetching {missing}")
    with ExitStack() as stack:
        setup = _prepare(config, options, typed, stack)
        if setup.steps_done >= setup.total_steps:
            yield from nothing_to_do(setup)
            return
        yield from course(
            setup,
            f"Tune {setup.folder.name} on {setup.data.metadata.name}",
            _announcements(setup),
            lambda: _session(config, setup),
            partial(_changed, Settings(config, typed), setup),
            stop,
        )


def _prepare(config: Config, options: SftOptions, typed: Typed, stack: ExitStack) -> TuneSetup:
    """A new run or one to go on with, whose folder is locked until `stack` ends."""
    if options.resume is not None:
        setup = resume_run(config, options, typed, lambda run: stack.enter_context(FolderLock(run)))
        if setup.parent is None:
            return setup
    else:
        setup = begin_run(config, options, typed)
    stack.enter_context(FolderLock(setup.folder))
    return setup


def _announcements(setup: TuneSetup) -> Iterator[Event]:
    """What the user should know before the first step: the settings, and what they come to."""
    options = setup.options
    path = setup.folder / SETTINGS
    write_json(path, _settings(setup))
    filled = setup.tokens / (setup.rows * setup.window) if setup.packed else None
    facts = {
        "parameters": human_count(parameter_count(setup.model)),
        "conversations": len(setup.examples),
        "held out": len(setup.held_out),
        "learned": f"{setup.learned / setup.tokens:.0%} of {human_count(setup.tokens)} tokens",
        "steps": f"{setup.total_steps:,}, {setup.steps_per_epoch:g} per epoch",
        "rate": f"{options.peak_rate:g}",
        "packing": "off" if filled is None else f"{setup.rows:,} rows, {filled:.0%} full",
        "optimizer": options.optimizer + ", warm" * _is_warm(setup),
    }
    yield Saved("settings", str(path), facts)
    for note in setup.notes:
        yield Warned(note)
    device = devices.pick_device(options.device)
    if device.type == "cpu" and options.device == "auto":
        yield Warned("No GPU was found: training on the CPU.", remedy="--device cpu silences this.")


def _settings(setup: TuneSetup) -> dict[str, Any]:
    """What the run was made from and with, for people and other programs."""
    metadata = setup.data.metadata
    return {
        "base": None if setup.origin is None else {
            "checkpoint": setup.origin.path, "fingerprint": setup.origin.fingerprint,
        },
        "data": {
            "folder": str(setup.data.folder),
            "fingerprint": setup.data.fingerprint,
            "name": metadata.name,
            "sources": metadata.sources,
            "examples": len(setup.examples),
            "held_out": len(setup.held_out),
        },
        "tokenizer": {"name": setup.tokenizer.name, "fingerprint": setup.tokenizer.fingerprint},
        "chat_template": setup.tokenizer.chat_template,
        "options": setup.options.model_dump(mode="json"),
    }  # fmt: skip


def _session(config: Config, setup: TuneSetup) -> Session:
    """A session that learns the answers of conversations."""
    options, data = setup.options, setup.data
    device = devices.pick_device(options.device)
    state = _state(setup, load_state(setup, device))
    made = partial(
        ConversationBatches,
        data,
        window=setup.window,
        batch_size=options.batch_size,
        packed=setup.packed,
        device=device,
        seed=options.seed,
    )
    batches = made(setup.examples, accumulation=options.gradient_accumulation_steps)
    held_out = made(setup.held_out, accumulation=1)
    task = Task(
        batches,
        NextToken(state.model),
        held_out.in_order,
        HeldOutQuestions(
            data,
            setup.tokenizer,
            count=options.answers,
            context=setup.model.max_position_embeddings,
        ),
        lambda micro: batches.texts(micro, setup.tokenizer),
        measures_first=True,
        keeps_epochs=True,
    )
    return Session(config, setup, state, task)


def _state(setup: TuneSetup, state: RunState) -> RunState:
    """`state` with the moments that the optimizer had when the base was saved, where they are
    there: a run that begins goes on in the directions that were found before."""
    if not _is_warm(setup):
        return state
    assert setup.initial is not None
    assert setup.initial.path is not None
    moments, _ = load_training_state(setup.initial.path)
    return state._replace(optimizer=moments)


def _is_warm(setup: TuneSetup) -> bool:
    """Whether the optimizer of a run that begins takes over that of its base: the same kind, which
    the base's checkpoint holds."""
    base = setup.initial
    if setup.resume_from is not None or base is None or base.path is None:
        return False
    manifest = read_manifest(base.path) if base.path.is_dir() else None
    if manifest is None or "optimizer.safetensors" not in manifest.files:
        return False
    return bool(manifest.made_by.options.get("optimizer") == setup.options.optimizer)


def _changed(settings: Settings, setup: TuneSetup, **changes: object) -> tuple[str, ...]:
    """See `pipeline.train.course.Changed`."""
    if folders.step_folders(setup.folder):
        options = settings.config.sft.model_copy(update={"resume": str(setup.folder)})
        elsewhere = {n for n in settings.typed if not n.startswith("sft.")}
        config = settings.config.model_copy(update={"sft": options})
        settings = Settings(config, frozenset({*elsewhere, "sft.resume"}))
    return tuning_command(settings, changes)
