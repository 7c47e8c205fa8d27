"""A training from its first event to its last, whatever it trains: what is logged, and what an
error advises.

Every event but progress is also written to the run's own events.jsonl.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from threading import Event as StopSignal
from typing import TypeAlias, TypeVar

from model import device as devices
from pipeline import stages
from pipeline.events import Event, Finished, Progress, Started, Warned, to_json
from pipeline.options.config import Settings
from pipeline.runs import folders
from pipeline.train.run_setup import RunSetup, save_record
from pipeline.train.session import Session
from pipeline.train.trainer import NonFiniteError
from utils.errors import HatcheryError, OutOfMemoryError, as_typed, is_out_of_memory
from utils.files import AppendLog, DiskFullError, FolderLock

Changed: TypeAlias = Callable[..., tuple[str, ...]]
"""Gives the command that goes on, from the last checkpoint where there is one, with other values
of training settings: `changed(learning_rate="1e-3")`."""


Lock: TypeAlias = Callable[[Path], object]
_Setup = TypeVar("_Setup", bound=RunSetup)


def locked_setup(
    resume_from: str | None,
    begin: Callable[[], _Setup],
    resume: Callable[[Lock], _Setup],
    stack: ExitStack,
) -> _Setup:
    """A new run, or one to go on with where `resume_from` names it, whose folder is locked until
    `stack` ends. `resume` is given what locks a folder before it is looked into."""

    def lock(folder: Path) -> object:
        return stack.enter_context(FolderLock(folder))

    setup = begin() if resume_from is None else resume(lock)
    if not setup.resumes_itself:
        lock(setup.folder)
    return setup


def settings_to_go_on(settings: Settings, setup: RunSetup) -> Settings:
    """`settings` as they are typed to go on with a run, where it has a checkpoint; those that it
    began with it keeps."""
    if not folders.step_folders(setup.folder):
        return settings
    section = setup.command
    own = getattr(settings.config, section).model_copy(update={"resume": str(setup.folder)})
    elsewhere = {n for n in settings.typed if not n.startswith((f"{section}.", "model."))}
    config = settings.config.model_copy(update={section: own})
    return Settings(config, frozenset({*elsewhere, f"{section}.resume"}))


def course(
    setup: RunSetup,
    title: str,
    announcements: Iterable[Event],
    session: Callable[[], Session],
    changed: Changed,
    stop: StopSignal,
) -> Iterator[Event]:
    """What happens from the first event, which has the `title`, to the end of the session; the
    caller holds the lock of the run's folder.

    Raises:
        HatcheryError: NaN, out of memory, a disk that stays full; with what can be done.
    """
    with closing(AppendLog(setup.folder / "events.jsonl")) as log:
        save_record(setup)
        try:
            for event in _events(setup, title, announcements, session, changed, stop):
                if not isinstance(event, Progress):
                    log.write(to_json(event))
                yield event
        except DiskFullError as error:
            raise _without_room(error, setup) from error


def _events(
    setup: RunSetup,
    title: str,
    announcements: Iterable[Event],
    session: Callable[[], Session],
    changed: Changed,
    stop: StopSignal,
) -> Iterator[Event]:
    yield Started(setup.command, title, setup.total_steps, "steps", run=str(setup.folder))
    yield from announcements
    try:
        with closing(session()) as opened:
            yield from opened.run(stop)
    except NonFiniteError as error:
        raise _after_breakdown(error, setup, changed) from error
    except Exception as error:
        if isinstance(error, HatcheryError) or not is_out_of_memory(error):
            raise
        raise _out_of_memory(error, setup, changed) from error


def nothing_to_do(setup: RunSetup) -> Iterator[Event]:
    """Say why a run does not go on; nothing of it is changed."""
    done, total, run = setup.steps_done, setup.total_steps, str(setup.folder)
    yield Started(
        setup.command,
        f"{stages.find(setup.command).title} {setup.folder.name}",
        total,
        "steps",
        run=run,
    )
    for note in setup.notes:
        yield Warned(note)
    more = as_typed([setup.command, "--resume", run, "--max-steps", str(done + max(total, 1))])
    if total < done:
        problem = f"This run has done {done:,} steps already, more than the {total:,} asked for."
        remedy = f"--max-steps counts from its beginning; {total:,} steps more: {more}"
    else:
        problem = f"This run has done {done:,} steps already, of {total:,} asked for."
        remedy = f"--max-steps or --epochs with a larger value lets it go on: {more}"
    yield Warned(problem, remedy=remedy)
    yield Finished({"steps": done}, run, skipped=True)


def _without_room(error: DiskFullError, setup: RunSetup) -> DiskFullError:
    """`error` with what to do once there is room again: only a run with a checkpoint goes on."""
    if not folders.step_folders(setup.folder):
        remedy, commands = "free some room, then run the same command again", []
    else:
        remedy = "free some room, then go on from the last checkpoint: {}"
        commands = [(setup.command, "--resume", str(setup.folder))]
    return DiskFullError(error.problem, found=error.found, remedy=remedy, commands=commands)


def _after_breakdown(error: NonFiniteError, setup: RunSetup, changed: Changed) -> NonFiniteError:
    """`error` with what can be done; fp32 is no remedy where it is used already."""
    options = setup.options
    lower = {"learning_rate": f"{options.peak_rate / 2:g}"}
    if options.optimizer == "muon":
        lower["matrix_learning_rate"] = f"{options.matrix_learning_rate / 2:g}"
    commands = [changed(**lower)]
    device = devices.pick_device(options.device)
    if devices.pick_dtype(options.precision, device).itemsize < 4:
        commands.append(changed(precision="fp32"))
    saved = folders.step_folders(setup.folder)
    lead = "go on from the last checkpoint" if saved else "there is no checkpoint yet: begin again"
    return error.advising(f"{lead}: {' or '.join('{}' for _ in commands)}", commands)


def _out_of_memory(error: Exception, setup: RunSetup, changed: Changed) -> OutOfMemoryError:
    text, options = str(error), setup.options
    ways, commands = [], []
    if smaller := options.smaller_batches():
        batch, parts = smaller
        split = {"batch_size": batch, "gradient_accumulation_steps": parts}
        commands.append(changed(**split))
        ways.append("the same learning: {}")
    if not options.gradient_checkpointing:
        commands.append(changed(gradient_checkpointing=True))
        ways.append("less memory: {}")
    if setup.resume_from is None:
        ways.append("a smaller model needs less too" if ways else "a smaller model needs less")
    return OutOfMemoryError(
        f"Out of memory with a batch of {options.batch_size} rows of {setup.window} tokens.",
        found=text.splitlines()[0] if text else type(error).__name__,
        remedy="; ".join(ways) or "close other programs, or go on where there is more memory",
        commands=commands,
    )
