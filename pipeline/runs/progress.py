"""How far a training run got: its steps of how many, which were validated, and whether it ended.

Read from the run's events.jsonl, in which a session of training begins with `started` and, unless
it was killed, ends with `finished`.
"""

import re
import threading
from pathlib import Path
from typing import IO

from pipeline.event_search import end_of_lines, search
from pipeline.events import Finished, Metric, Started
from pipeline.runs import folders

_MARK = re.compile(rb'"started"|"finished"|"val(?:idation|_loss)"')
_known: dict[Path, "RunProgress"] = {}
_reading = threading.Lock()


class RunProgress:
    """What the events of one run say; `read` takes up what was added since.

    `total` are the steps that its last session was to reach. `ended` says that it ended there or
    by early stopping, `stopped` that it was asked to stop before; neither, that it goes on or was
    killed. `validated` are the steps at which the validation loss was measured.
    """

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self.total: int | None = None
        self.ended = self.stopped = False
        self.validated: set[int] = set()
        self._offset = 0

    def read(self, handle: IO[bytes]) -> None:
        """Take up the whole lines of a file that were not there before."""
        end = end_of_lines(handle)  # the last line may be half-written
        if end < self._offset:  # another file of that name
            self._begin()
        for found in search(handle, _MARK, self._offset, end):
            event = found.event
            if isinstance(event, Started):
                self.total, self.ended, self.stopped = event.total, False, False
            elif isinstance(event, Finished):
                self.ended, self.stopped = not event.stopped, event.stopped
            elif isinstance(event, Metric) and event.kind == "validation":
                self.validated.add(event.step)
        self._offset = end


def progress_of(run: Path) -> RunProgress | None:
    """How far `run` got; None where it has no events that can be read."""
    path = run.absolute() / "events.jsonl"
    try:
        with path.open("rb") as handle:
            found = _known.setdefault(path, RunProgress())
            with _reading:
                found.read(handle)
            return found
    except OSError:
        return None


def steps_to_go_on_to(run: Path) -> int | None:
    """The steps that a run was to reach, where it stopped before and nobody trains it now; None
    where it has ended, goes on, or does not say."""
    progress = progress_of(run)
    if progress is None or progress.ended or progress.total is None:
        return None
    if not progress.stopped and is_being_written(run):
        return None
    saved = folders.step_folders(run)
    return progress.total if saved and folders.step_of(saved[-1]) < progress.total else None


def is_being_written(run: Path) -> bool:
    """Whether the process that last locked a run still lives; the lock itself is not touched, or
    a training that starts now would find it taken."""
    import psutil  # 30 ms

    lock = run / ".lock"
    try:
        pid = int(lock.read_bytes().split(b" ", 1)[0])
        return bool(psutil.Process(pid).create_time() <= lock.stat().st_mtime + 1)
    except (OSError, ValueError, psutil.Error):
        return False
