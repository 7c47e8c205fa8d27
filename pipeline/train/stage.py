"""The train stage: sets a run up, trains it, and records its events.

Every event but progress is also written to the run's own events.jsonl. Checkpoints are saved only
between optimizer steps; a stop request finishes the step, saves and ends the run.
"""

from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from threading import Event as StopSignal

from model import device as devices
from model.config import parameter_count
from model.huggingface.folding import folded_config
from pipeline.dataloader import train_val_loaders
from pipeline.events import Event, Progress, Started, Warned, to_json
from pipeline.options.config import Config, TrainOptions, Typed
from pipeline.runs import folders, pretrained
from pipeline.train.session import Session
from pipeline.train.setup import Setup, prepare_run, write_record
from pipeline.train.state import load_state
from utils.errors import HatcheryError, OutOfMemoryError, RefusedError, is_out_of_memory
from utils.files import AppendLog, DiskFullError, FolderLock
from utils.units import human_count


def run(config: Config, options: TrainOptions, stop: StopSignal, typed: Typed) -> Iterator[Event]:
    """Train a model, or go on with a run; yields what happens and returns when it is over.

    Raises:
        HatcheryError: see `prepare_run`; NaN, out of memory, a disk that stays full.
    """
    devices.pick_device(options.device)  # refused before anything is read or made
    missing = pretrained.missing_model(options.init_from) if options.resume is None else None
    if missing is not None:
        yield Progress(0, message=f"fetching {missing}")
    setup = prepare_run(config, options, typed)
    with ExitStack() as stack:
        stack.enter_context(FolderLock(setup.folder))
        log = AppendLog(setup.folder / "events.jsonl")
        stack.callback(log.close)
        write_record(setup)
        try:
            for event in _train(config, setup, stop):
                if not isinstance(event, Progress):
                    log.write(to_json(event))
                yield event
        except DiskFullError as error:
            raise _without_room(error, setup.folder) from error


def _train(config: Config, setup: Setup, stop: StopSignal) -> Iterator[Event]:
    title, run = f"Train {setup.folder.name}", str(setup.folder)
    yield Started("train", title, setup.total_steps, "steps", run=run)
    yield from _announcements(setup)
    try:
        with closing(_session(config, setup)) as session:
            yield from session.run(stop)
    except Exception as error:
        if isinstance(error, HatcheryError) or not is_out_of_memory(error):
            raise
        raise _out_of_memory(error, setup) from error


def _session(config: Config, setup: Setup) -> Session:
    """A session that learns to predict the next token of a token set."""
    device = devices.pick_device(setup.options.device)
    state = load_state(setup, device)  # before the tokens, which take what memory it leaves
    batches, validation, _ = train_val_loaders(
        setup.data,
        setup.options.batch_size,
        verbose=False,
        seed=setup.options.seed,
        device=device,
    )
    return Session(config, setup, state, batches, validation, state.model.loss)


def _without_room(error: DiskFullError, run: Path) -> DiskFullError:
    """`error` with what to do once there is room again: only a run with a checkpoint goes on."""
    if not folders.step_folders(run):
        remedy, commands = "free some room, then run the same command again", []
    else:
        remedy = "free some room, then go on from the last checkpoint: {}"
        commands = [("train", "--resume", str(run))]
    return DiskFullError(error.problem, found=error.found, remedy=remedy, commands=commands)


def _announcements(setup: Setup) -> Iterator[Event]:
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
    tokens, parameters = setup.data.train.tokens, parameter_count(setup.model)
    if tokens * options.epochs < parameters and options.max_steps is None:
        yield Warned(
            f"{human_count(tokens)} training tokens are few for {human_count(parameters)} "
            "parameters: expect the model to learn them by heart."
        )


def _out_of_memory(error: Exception, setup: Setup) -> OutOfMemoryError:
    text, batch = str(error), setup.options.batch_size
    halved = max(1, batch // 2)
    return OutOfMemoryError(
        f"Out of memory with a batch of {batch} windows of {setup.data.train.window} tokens.",
        found=text.splitlines()[0] if text else type(error).__name__,
        remedy=f"--batch-size {halved} --gradient-accumulation-steps "
        f"{setup.options.gradient_accumulation_steps * (batch // halved)} learns the same; "
        "--gradient-checkpointing and a smaller model need less too",
    )
