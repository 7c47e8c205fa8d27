"""The train stage: sets a run up, trains it, and records its events.

Every event but progress is also written to the run's own events.jsonl. Checkpoints are saved only
between optimizer steps; a stop request finishes the step, saves and ends the run.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from threading import Event as StopSignal
from typing import Any

from model import device as devices
from model.config import parameter_count
from model.gpt import GPT
from model.huggingface.folding import folded_config
from pipeline import corpora
from pipeline.dataloader import train_val_loaders
from pipeline.events import Event, Finished, Progress, Sample, Started, Warned, to_json
from pipeline.options.command import train_command
from pipeline.options.config import Config, Settings, TrainOptions, Typed
from pipeline.runs import folders, pretrained
from pipeline.train.benchmarks import StepBenchmark, tasks_here
from pipeline.train.fitting import fitting, is_unset, usual_speed
from pipeline.train.objective import NextToken
from pipeline.train.resume import resume_run
from pipeline.train.run_setup import save_record
from pipeline.train.session import Session
from pipeline.train.setup import Setup, begin_run
from pipeline.train.state import load_state
from pipeline.train.task import Task, document_start, write_sample
from pipeline.train.trainer import NonFiniteError
from utils.errors import (
    HatcheryError,
    OutOfMemoryError,
    RefusedError,
    as_typed,
    is_out_of_memory,
)
from utils.files import AppendLog, DiskFullError, FolderLock
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
        setup = _prepare(config, options, typed, stack)
        if setup.steps_done >= setup.total_steps:
            yield from _nothing_to_do(setup)
            return
        log = AppendLog(setup.folder / "events.jsonl")
        stack.callback(log.close)
        save_record(setup)
        if setup.options.data is None:
            corpora.remember(config.paths.data_dir, config.source)
        try:
            for event in _train(Settings(config, typed), setup, stop):
                if not isinstance(event, Progress):
                    log.write(to_json(event))
                yield event
        except DiskFullError as error:
            raise _without_room(error, setup.folder) from error


def _prepare(config: Config, options: TrainOptions, typed: Typed, stack: ExitStack) -> Setup:
    """A new run or one to go on with, whose folder is locked until `stack` ends."""
    if options.resume is not None:
        setup = resume_run(config, options, typed, lambda run: stack.enter_context(FolderLock(run)))
        if setup.parent is None:
            return setup
    else:
        setup = begin_run(config, options, typed)
    stack.enter_context(FolderLock(setup.folder))
    return setup


def _nothing_to_do(setup: Setup) -> Iterator[Event]:
    """Say why a run does not go on; nothing of it is changed."""
    done, total, run = setup.steps_done, setup.total_steps, str(setup.folder)
    yield Started("train", f"Train {setup.folder.name}", total, "steps", run=run)
    for note in setup.notes:
        yield Warned(note)
    more = as_typed(["train", "--resume", run, "--max-steps", str(done + max(total, 1))])
    if total < done:
        problem = f"This run has done {done:,} steps already, more than the {total:,} asked for."
        remedy = f"--max-steps counts from its beginning; {total:,} steps more: {more}"
    else:
        problem = f"This run has done {done:,} steps already, of {total:,} asked for."
        remedy = f"--max-steps or --epochs with a larger value lets it go on: {more}"
    yield Warned(problem, remedy=remedy)
    yield Finished({"steps": done}, run, skipped=True)


def _train(settings: Settings, setup: Setup, stop: StopSignal) -> Iterator[Event]:
    title, run = _title(settings.config, setup), str(setup.folder)
    yield Started("train", title, setup.total_steps, "steps", run=run)
    yield from _announcements(settings.config, setup, settings.typed)
    try:
        with closing(_session(settings.config, setup)) as session:
            yield from session.run(stop)
    except NonFiniteError as error:
        raise _after_breakdown(error, settings, setup) from error
    except Exception as error:
        if isinstance(error, HatcheryError) or not is_out_of_memory(error):
            raise
        raise _out_of_memory(error, settings, setup) from error


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


def _without_room(error: DiskFullError, run: Path) -> DiskFullError:
    """`error` with what to do once there is room again: only a run with a checkpoint goes on."""
    if not folders.step_folders(run):
        remedy, commands = "free some room, then run the same command again", []
    else:
        remedy = "free some room, then go on from the last checkpoint: {}"
        commands = [("train", "--resume", str(run))]
    return DiskFullError(error.problem, found=error.found, remedy=remedy, commands=commands)


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
    """The command that goes on, from the last checkpoint where there is one, with other values of
    training settings."""
    if folders.step_folders(setup.folder):
        options = settings.config.train.model_copy(update={"resume": str(setup.folder)})
        elsewhere = {n for n in settings.typed if not n.startswith(("train.", "model."))}
        config = settings.config.model_copy(update={"train": options})
        settings = Settings(config, frozenset({*elsewhere, "train.resume"}))
    return train_command(settings, {f"train.{name}": value for name, value in changes.items()})


def _after_breakdown(error: NonFiniteError, settings: Settings, setup: Setup) -> NonFiniteError:
    """`error` with what can be done; fp32 is no remedy where it is used already."""
    options = setup.options
    lower = {"learning_rate": f"{options.learning_rate / 2:g}"}
    if options.optimizer == "muon":
        lower["matrix_learning_rate"] = f"{options.matrix_learning_rate / 2:g}"
    commands = [_changed(settings, setup, **lower)]
    device = devices.pick_device(options.device)
    if devices.pick_dtype(options.precision, device).itemsize < 4:
        commands.append(_changed(settings, setup, precision="fp32"))
    saved = folders.step_folders(setup.folder)
    lead = "go on from the last checkpoint" if saved else "there is no checkpoint yet: begin again"
    return error.advising(f"{lead}: {' or '.join('{}' for _ in commands)}", commands)


def _out_of_memory(error: Exception, settings: Settings, setup: Setup) -> OutOfMemoryError:
    text, options = str(error), setup.options
    ways, commands = [], []
    if smaller := options.smaller_batches():
        batch, parts = smaller
        split = {"batch_size": batch, "gradient_accumulation_steps": parts}
        commands.append(_changed(settings, setup, **split))
        ways.append("the same learning: {}")
    if not options.gradient_checkpointing:
        commands.append(_changed(settings, setup, gradient_checkpointing=True))
        ways.append("less memory: {}")
    if setup.resume_from is None:
        ways.append("a smaller model needs less too" if ways else "a smaller model needs less")
    return OutOfMemoryError(
        f"Out of memory with a batch of {options.batch_size} windows of "
        f"{setup.data.train.window} tokens.",
        found=text.splitlines()[0] if text else type(error).__name__,
        remedy="; ".join(ways) or "close other programs, or go on where there is more memory",
        commands=commands,
    )
