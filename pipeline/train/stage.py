"""The train stage: sets a run up, says what is known of it, and trains it.

Checkpoints are saved only between optimizer steps; a stop request finishes the step, saves and
ends the run.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from threading import Event as StopSignal
from typing import Any

from model import device as devices
from model.config import parameter_count
from model.gpt import GPT
from model.huggingface.folding import folded_config
from pipeline import corpora
from pipeline.dataloader import train_val_loaders
from pipeline.events import Event, Progress, Sample, Warned
from pipeline.options.command import train_command
from pipeline.options.config import Config, Settings, TrainOptions, Typed
from pipeline.runs import pretrained
from pipeline.train.benchmarks import StepBenchmark, tasks_here
from pipeline.train.course import course, locked_setup, nothing_to_do, settings_to_go_on
from pipeline.train.fitting import fitting, is_unset, usual_speed
from pipeline.train.objective import NextToken
from pipeline.train.resume import resume_run
from pipeline.train.session import Session
from pipeline.train.setup import Setup, begin_run
from pipeline.train.state import load_state
from pipeline.train.task import Task, document_start, write_sample
from utils.errors import RefusedError, as_typed
from utils.units import human_count

_SMALLER = 0.7  # of the parameters, from which a smaller model is worth a word


def run(config: Config, options: TrainOptions, stop: StopSignal, typed: Typed) -> Iterator[Event]:
    """Train a model, or go on with a run; yields what happens and returns when it is over.

    Raises:
        HatcheryError: see `begin_run` and `resume_run`; NaN, out of memory, a disk that stays full.
    """
    devices.pick_device(options.device)  # refused before anything is read or made
    if options.benchmark_every is not None:
        tasks_here(options.benchmark_tasks, config.paths.data_dir)
    missing = pretrained.missing_model(options.init_from) if options.resume is None else None
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
        if setup.options.data is None:
            corpora.remember(config.paths.data_dir, config.source)
        settings = Settings(config, typed)
        yield from course(
            setup,
            _title(config, setup),
            _announcements(config, setup, typed),
            lambda: _session(config, setup),
            partial(_changed, settings, setup),
            stop,
        )


def _title(config: Config, setup: Setup) -> str:
    """The first line: which run, on which corpus, and how to choose another."""
    what, corpus = f"Train {setup.folder.name} on", setup.data.metadata.source
    if setup.options.data is None and setup.resume_from is None:
        return config.titled(what)
    return f"{what} {corpus}"


def _session(config: Config, setup: Setup) -> Session:
    """A session that learns to predict the next token of a token set."""
    options, tokenizer = setup.options, setup.tokenizer
    device = devices.pick_device(options.device)
    state = load_state(setup, device)  # before the tokens, which take what memory it leaves
    batches, validation, _ = train_val_loaders(
        setup.data, options.batch_size, verbose=False, seed=options.seed, device=device
    )

    def samples(model: GPT, step: int) -> Iterator[Sample]:
        prompt = options.sample_prompt
        ids, ends = document_start(tokenizer, prompt)
        yield write_sample(model, tokenizer, ids, step, prompt=prompt, ends=ends)

    def texts(micro: int) -> list[dict[str, Any]]:
        rows = zip(batches.indices(micro), batches.batch(micro)[0].tolist(), strict=True)
        return [
            {"window": int(index), "token_ids": ids, "text": tokenizer.decode(ids)}
            for index, ids in rows
        ]

    task = Task(
        batches,
        NextToken(state.model),
        validation.first,
        samples,
        texts,
        bytes_per_target=validation.windows.bytes_per_token,
        benchmark=_benchmark(config, setup),
        benchmark_every=options.benchmark_every,
    )
    return Session(config, setup, state, task)


def _benchmark(config: Config, setup: Setup) -> StepBenchmark | None:
    """The items of tasks that are asked between steps; None where nobody wants any."""
    options = setup.options
    if options.benchmark_every is None:
        return None
    name, data_dir = setup.folder.name, config.paths.data_dir
    return StepBenchmark(name, setup.tokenizer, options.benchmark_tasks, data_dir)


def _announcements(config: Config, setup: Setup, typed: Typed) -> Iterator[Event]:
    """What the user should know before the first step."""
    options, device = setup.options, devices.pick_device(setup.options.device)
    for note in setup.notes:
        yield Warned(note)
    if device.type == "cpu" and options.device == "auto":
        yield Warned("No GPU was found: training on the CPU.", remedy="--device cpu silences this.")
    try:
        folded_config(setup.model)
    except RefusedError as error:
        yield Warned(f"Only Hatchery computes such a model, export will refuse it: {error.found}.")
    yield from _size_for_the_text(config, setup, typed)


def _size_for_the_text(config: Config, setup: Setup, typed: Typed) -> Iterator[Event]:
    """That a model is large for its text, and what would fit, where nobody chose its size."""
    options, tokens = setup.options, setup.data.train.tokens
    parameters, better = parameter_count(setup.model), ""
    if is_unset(config) and setup.resume_from is None:
        speed = usual_speed(devices.pick_device(options.device).type, os.cpu_count() or 1)
        fit = fitting(config, tokens, setup.data.train.window, setup.tokenizer.vocab_size, speed)
        if fit.parameters < _SMALLER * parameters:
            command = as_typed(train_command(Settings(config, typed), fit.changes(config)))
            better = f"what this text feeds: {command}"
    size = f"{human_count(parameters)} parameters"
    if tokens * options.epochs < parameters and options.max_steps is None:
        yield Warned(
            f"{human_count(tokens)} training tokens are few for {size}: expect the model to learn "
            "them by heart.",
            remedy=better,
        )
    elif better:
        yield Warned(f"{size} are many for {human_count(tokens)} training tokens.", remedy=better)


def _changed(settings: Settings, setup: Setup, **changes: object) -> tuple[str, ...]:
    """See `pipeline.train.course.Changed`."""
    named = {f"train.{name}": value for name, value in changes.items()}
    return train_command(settings_to_go_on(settings, setup), named)
