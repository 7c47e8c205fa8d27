"""The sft stage: a checkpoint learns to answer as in a set of conversations.

Only answers are learned, by where they stand: a question is read and never a target. The rest is a
training like any other: the same session, resume, lock, checkpoints and events.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from threading import Event as StopSignal
from typing import Any

import torch
from torch import Tensor

from model import device as devices
from model.checkpoint import load_adapted, load_training_state, load_weights
from model.config import parameter_count
from model.gpt import GPT
from model.lora import LoraSettings, adapters, add_adapters
from pipeline.events import Event, Progress, Saved, Warned
from pipeline.options.command import tuning_command
from pipeline.options.config import Config, Settings, SftOptions, Typed
from pipeline.runs import pretrained
from pipeline.sft.answers import HeldOutQuestions
from pipeline.sft.batches import ConversationBatches
from pipeline.sft.preference import (
    REFERENCE,
    PreferenceBatches,
    PreferenceLoss,
    read_reference,
    reference_log_probabilities,
    write_reference,
)
from pipeline.sft.setup import TuneSetup, base_weights, begin_run, resume_run
from pipeline.train.course import course, locked_setup, nothing_to_do, settings_to_go_on
from pipeline.train.objective import NextToken, Objective
from pipeline.train.session import Session
from pipeline.train.state import RunState, load_state
from pipeline.train.task import Task
from utils.artefacts import read_manifest
from utils.files import write_json
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
        setup = locked_setup(
            options.resume,
            partial(begin_run, config, options, typed),
            partial(resume_run, config, options, typed),
            stack,
        )
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


def _announcements(setup: TuneSetup) -> Iterator[Event]:
    """What the user should know before the first step: the settings, and what they come to."""
    options = setup.options
    path = setup.folder / SETTINGS
    write_json(path, _settings(setup))
    filled = setup.tokens / (setup.rows * setup.window) if setup.packed else None
    facts = {
        "parameters": human_count(parameter_count(setup.model)),
        "conversations" if options.method == "sft" else "pairs": len(setup.examples),
        "held out": len(setup.held_out),
        "learned": f"{setup.learned / setup.tokens:.0%} of {human_count(setup.tokens)} tokens",
        "steps": f"{setup.total_steps:,}, {setup.steps_per_epoch:g} per epoch",
        "rate": f"{options.peak_rate:g}",
        "packing": "off" if filled is None else f"{setup.rows:,} rows, {filled:.0%} full",
        "optimizer": options.optimizer + ", warm" * _is_warm(setup),
    }
    if options.lora:
        facts["adapters"] = f"rank {options.lora_rank}, alpha {options.lora_alpha:g}"
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
    """A session that learns the answers of conversations, or to prefer one of two."""
    options, data = setup.options, setup.data
    device = devices.pick_device(options.device)
    base = partial(_frozen, config, setup)
    state = _state(setup, load_state(setup, device, partial(_own_model, setup, base)))
    batches: ConversationBatches
    made: Callable[..., ConversationBatches] = ConversationBatches
    settings: dict[str, Any] = {"packed": setup.packed}
    objective: Objective = NextToken(state.model)
    if options.method == "dpo":
        made, settings = PreferenceBatches, {"reference": _reference(setup, state, base)}
        objective = PreferenceLoss(state.model, beta=options.beta, nll_weight=options.nll_weight)
    made = partial(
        made,
        data,
        window=setup.window,
        batch_size=options.batch_size,
        device=device,
        seed=options.seed,
        **settings,
    )
    if options.lora and not adapters(state.model):
        add_adapters(state.model, _lora(setup), seed=options.seed)
    batches = made(setup.examples, accumulation=options.gradient_accumulation_steps)
    held_out = made(setup.held_out, accumulation=1)
    task = Task(
        batches,
        objective,
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


def _lora(setup: TuneSetup) -> LoraSettings:
    """What the adapters are; `base` is where PEFT finds the weights beside which they stand."""
    options, origin = setup.options, setup.origin
    base = None if origin is None else origin.path
    if base is not None and Path(base).is_dir():
        base = str(Path(base).resolve())
    return LoraSettings(options.lora_rank, options.lora_alpha, options.lora_dropout, base)


def _frozen(config: Config, setup: TuneSetup, device: torch.device) -> GPT:
    """The weights that the run began with."""
    path = base_weights(config, setup.folder, setup.options, setup.model, setup.origin)
    return load_weights(path, device, torch.float32, config=setup.model)


def _own_model(
    setup: TuneSetup, base: Callable[[torch.device], GPT], checkpoint: Path, device: torch.device
) -> GPT:
    """The model of a checkpoint of the run: with adapters where they are what learns."""
    if not setup.options.lora:
        return load_weights(checkpoint, device)
    model = base(device)
    load_adapted(checkpoint, model)
    return model


def _reference(setup: TuneSetup, state: RunState, base: Callable[[torch.device], GPT]) -> Tensor:
    """What the weights that the run began with make of all answers. It is computed once and kept
    in the run's folder; a run that branches off has it from the one it leaves."""
    path = setup.folder / REFERENCE
    left = path if setup.parent is None else setup.parent.parent / REFERENCE
    kept = read_reference(left, setup.data)
    if kept is not None:
        if left != path:
            write_reference(path, setup.data, kept)
        return kept
    begins = setup.resume_from is None
    model = state.model if begins else base(state.model.device)
    found = reference_log_probabilities(
        model,
        setup.data,
        window=setup.window,
        batch_size=setup.options.batch_size,
        dtype=devices.pick_dtype(setup.options.precision, model.device),
    )
    write_reference(path, setup.data, found)
    return found


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
    if setup.options.lora or setup.resume_from is not None or base is None or base.path is None:
        return False
    manifest = read_manifest(base.path) if base.path.is_dir() else None
    if manifest is None or "optimizer.safetensors" not in manifest.files:
        return False
    return bool(manifest.made_by.options.get("optimizer") == setup.options.optimizer)


def _changed(settings: Settings, setup: TuneSetup, **changes: object) -> tuple[str, ...]:
    """See `pipeline.train.course.Changed`."""
    return tuning_command(settings_to_go_on(settings, setup), changes)
