"""Runs one stage to its end: signals in, events out, an exit code at last.

The first Ctrl-C (or SIGTERM, SIGHUP) asks the stage to finish its step, save and leave; the second
leaves at once. A reader that left, or a terminal that closed, counts as the first.
"""

import errno
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from msgspec.structs import replace

from app.jobs.dependencies import own_record, wait_turn
from app.jobs.folder import (
    EVENTS,
    JOB_FOLDER,
    KEY_VARIABLE,
    record_exit,
    record_run,
    reserve_room,
    write_key,
)
from app.jobs.history import belongs_to_step
from app.jobs.processes import STOP_SIGNALS
from app.terminal.event_renderers import EventRenderer, JsonRenderer, TerminalRenderer
from pipeline.events import Event, Failed, Finished, ServerReady, Started, Warned, to_json
from pipeline.options.config import Settings
from pipeline.options.data import settings_of
from pipeline.stages import Stage
from utils.errors import ExitCode, HatcheryError, explain_memory, is_out_of_memory
from utils.files import AppendLog, DiskFullError, disk_error, home_path
from utils.hardware import keep_heap

_SHOW_CURSOR = "\x1b[?25h"
_CLEAR_LINE = "\r\x1b[2K"
_GRACE = 0.8  # seconds that the threads of a stopped stage have to end


class StopRequest(threading.Event):
    """Set by a signal; remembers which exit code that signal asks for."""

    def __init__(self, job: Path | None = None) -> None:
        super().__init__()
        # A signal arrives between any two instructions, so also while this thread holds the
        # event's own lock: a plain one would wait for itself for ever.
        self._cond = threading.Condition(threading.RLock())
        self._job = job
        self._process = os.getpid()
        self.exit_code = ExitCode.INTERRUPTED
        self.signal: str | None = None

    def on_signal(self, number: int, _frame: FrameType | None) -> None:
        code = ExitCode.INTERRUPTED if number == signal.SIGINT else ExitCode.TERMINATED
        if os.getpid() != self._process:  # a forked worker: its parent says when it is enough
            if self.is_set() or number != signal.SIGINT:
                os._exit(code)
            self.set()
            return
        if self.is_set():
            self._leave(code)
        self.exit_code = code
        self.signal = signal.Signals(number).name
        self.set()
        _write_note("stopping: this step is finished and saved; Ctrl-C again leaves at once\n")

    def _leave(self, code: ExitCode) -> None:
        _write_note("")
        if self._job is not None:
            record_exit(self._job, code, signal=self.signal)
        os._exit(code)


def _write_note(text: str) -> None:
    """Write to the terminal past Rich, whose locks a signal handler must not wait for."""
    terminal = sys.stderr.isatty()
    note = f"{_CLEAR_LINE}{_SHOW_CURSOR}{text and '  '}{text}" if terminal else text
    try:
        os.write(2, note.encode())
    except OSError:
        return  # the terminal is gone: that is what the signal says


@contextmanager
def _stop_on_signals(job: Path | None) -> Iterator[StopRequest]:
    """A stop request that the process's signals set, until the block ends."""
    stop = StopRequest(job)
    names = ["SIGINT", "SIGTERM"]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        names.append("SIGHUP")  # whoever typed nohup wants it to go on
    before = {n: signal.signal(getattr(signal, n), stop.on_signal) for n in names}
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)  # a job is started with them blocked
    try:
        yield stop
    finally:
        for name, handler in before.items():
            signal.signal(getattr(signal, name), handler)


class JobRenderer(TerminalRenderer):
    """Inside a job: events go into the job folder, plain terminal lines into its log.

    What belongs to a step of a training run is in the run's own events already, so run.json says
    where, and it is not written again. A full disk must not end a job that could go on, so what
    cannot be recorded is counted and reported when there is room again.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder
        reserve_room(folder)
        self._log = AppendLog(folder / EVENTS)
        self._lost = 0
        self._in_run = False

    def show(self, event: Event) -> None:
        if isinstance(event, Started):
            self._in_run = bool(event.run) and record_run(self._folder, Path(event.run))
        if isinstance(event, ServerReady) and event.token is not None:
            self._keep_key(event, event.token)
            return
        try:
            if self._lost:
                lost = Warned(f"{self._lost:,} events could not be recorded: disk full.")
                self._log.write(to_json(lost))
                self._lost = 0
            if not (self._in_run and belongs_to_step(event)):
                self._log.write(to_json(event))
            super().show(event)
        except DiskFullError:
            self._lost += 1
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            self._lost += 1

    def _keep_key(self, event: ServerReady, key: str) -> None:
        """Show what a server says without its key, and where that is: others may read the log."""
        try:
            path = write_key(self._folder, key)
        except (OSError, HatcheryError) as error:
            note = Warned(f"The key of the server could not be kept: {error}.",
                          remedy=f"Choose one: {KEY_VARIABLE}.")  # fmt: skip
        else:
            note = Warned(f"The key of the server is in {path}, which only you can read.",
                          remedy=f"Give it to programs as {KEY_VARIABLE}; in a browser the address "
                          "ends with /#token= and the key.")  # fmt: skip
        self.show(replace(event, token=None))
        self.show(note)

    def close(self) -> None:
        super().close()
        self._log.close()


class DetachableRenderer:
    """A renderer whose reader may leave: then it is muted, and the stage asked to save and stop."""

    def __init__(self, renderer: EventRenderer, stop: StopRequest) -> None:
        self._renderer = renderer
        self._stop = stop
        self.gone = False

    def show(self, event: Event) -> None:
        if self.gone:
            return
        try:
            self._renderer.show(event)
        except OSError as error:
            if isinstance(disk_error(error, Path()), HatcheryError):
                raise
            self.gone = True
            if not self._stop.is_set():
                self._stop.exit_code = ExitCode.TERMINATED
                self._stop.set()

    def close(self) -> None:
        try:
            self._renderer.close()
        except OSError:
            self.gone = True


def run_stage(stage: Stage, settings: Settings, *, as_json: bool = False) -> int:
    """Run `stage` in this process and return its exit code."""
    folder = os.environ.pop(JOB_FOLDER, None)  # children of this process are not the job
    job = Path(folder) if folder else None
    record = own_record(job) if job else None
    if job and record is None:
        return ExitCode.FAILED  # whoever started it died before anybody could know of this job
    renderer: EventRenderer = (
        JobRenderer(job) if job else JsonRenderer() if as_json else TerminalRenderer()
    )
    with _stop_on_signals(job) as stop:
        output = DetachableRenderer(renderer, stop)
        try:
            if job and record and record.after:
                from app.jobs.states import Watch

                for note in wait_turn(job, record, stop, Watch(job.parent.parent).look):
                    output.show(note)
            code = _run(stage, settings, renderer, output, stop)
        except Exception as error:
            failure = describe(error, getattr(settings.config, stage.section))
            code = failure.exit_code
            output.show(failure)
        finally:
            output.close()
        if output.gone:
            leave_quietly()
            code = code or ExitCode.FAILED
    if job is not None:
        record_exit(job, code, signal=stop.signal)
    if stop.is_set() and threading.active_count() > 1:
        _leave_soon(code)
    return code


def _leave_soon(code: int) -> None:
    """End the process a moment from now, however far its threads are: the interpreter would wait
    for them, such as for one that reads a large model."""

    def leave() -> None:
        time.sleep(_GRACE)
        os._exit(code)

    threading.Thread(target=leave, name="leave", daemon=True).start()


def _run(
    stage: Stage,
    settings: Settings,
    renderer: EventRenderer,
    output: DetachableRenderer,
    stop: StopRequest,
) -> int:
    if stop.is_set():  # before there was anything to save
        output.show(Finished(stopped=True))
        return stop.exit_code
    _require_named(stage, settings)
    if stage.uses_torch:
        keep_heap()
        renderer.waiting("loading torch")
    return _consume(stage.events(settings, stop), output, stop)


def _require_named(stage: Stage, settings: Settings) -> None:
    """Refuse a run or checkpoint that there is not, before seconds are spent on loading torch.

    Raises:
        UsageError: a setting of the stage names nothing.
    """
    from pipeline.runs import folders, inventory

    options = getattr(settings.config, stage.section)
    folder = settings.config.paths.checkpoints_dir
    given = getattr(options, "checkpoint", None) or []
    named = [given] if isinstance(given, str) else list(given)
    begun = getattr(options, "init_from", None)
    for where in [*named, *([begun] if begun else [])]:
        inventory.require_known(where, folder)
    resumed = getattr(options, "resume", None)
    if resumed is not None and resumed != "auto" and not home_path(resumed).exists():
        folders.find_run(folder, resumed)


def fail_job(error: HatcheryError) -> None:
    """Record in this process's job folder, where there is one, why its command never ran."""
    folder = os.environ.pop(JOB_FOLDER, None)
    if folder and own_record(Path(folder)):
        with JobRenderer(Path(folder)) as renderer:
            renderer.show(describe(error))
        record_exit(Path(folder), error.exit_code)


def _consume(events: Iterable[Event], output: DetachableRenderer, stop: StopRequest) -> int:
    """Show every event; the exit code is that of the last final one."""
    code: int | None = None
    for event in events:
        if isinstance(event, Finished):
            code = stop.exit_code if event.stopped else ExitCode.DONE
        elif isinstance(event, Failed):
            code = event.exit_code
        output.show(event)
    if code is None:
        raise RuntimeError("the stage ended without a final event")
    return code


def leave_quietly() -> None:
    """Send what is still buffered nowhere, so that the interpreter's last flush cannot fail."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        os.dup2(nowhere, descriptor)


def system_failure(error: OSError) -> HatcheryError:
    """A failure of the system, such as a full disk or a missing right, with a remedy."""
    path = Path(str(error.filename or "a file"))
    mended = disk_error(error, path)
    if isinstance(mended, HatcheryError):
        return mended
    return HatcheryError(f"{path}: {error.strerror}.", remedy="check the path and its rights")


def describe(error: Exception, options: object = None) -> Failed:
    """The final event of a stage with these options that raised; the traceback only of what is
    our own mistake."""
    kind = type(error).__name__
    if not isinstance(error, HatcheryError) and is_out_of_memory(error):
        error = explain_memory(error, settings_of(options))
        kind = type(error).__name__
    if isinstance(error, OSError) and error.errno:
        error = system_failure(error)
        kind = kind if type(error) is HatcheryError else type(error).__name__
    if isinstance(error, HatcheryError):
        return Failed(
            error.problem,
            error.found,
            error.remedy,
            error.exit_code,
            kind=kind,
            commands=error.commands,
        )
    return Failed(
        f"A mistake in Hatchery itself: {type(error).__name__}: {error}",
        found="".join(traceback.format_exception(error)).rstrip(),
        remedy="please report it with the lines above; what was saved is safe",
        exit_code=ExitCode.FAILED,
        kind=kind,
    )
