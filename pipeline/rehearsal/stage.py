"""The rehearse stage: every stage on a sample of the user's own text, before the hours it takes.

Each step runs the real stage with the user's settings in a temporary folder and ends with a
verdict; what comes after a step that failed is tried with other inputs where there are any.
"""

import shutil
import tempfile
import time
import traceback
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event as StopSignal

import msgspec

from pipeline.corpora import corpora
from pipeline.events import Event, Failed, Finished, Progress, StageVerdict, Started
from pipeline.nested import revised
from pipeline.options.config import Config, RehearseOptions
from pipeline.options.data import settings_of
from pipeline.rehearsal import data_stages
from pipeline.rehearsal.context import NotTriedError, Rehearsal, StoppedError, Trial
from pipeline.rehearsal.verdicts import failed, row
from pipeline.source_table import find_source
from utils.errors import HatcheryError, RefusedError, explain_memory, is_out_of_memory
from utils.files import FolderLock, disk_error, existing_parent, raise_disk_error
from utils.units import human_bytes, human_seconds

_PREFIX = ".rehearsal-"  # of the temporary folder's name

Step = tuple[str, Callable[[Rehearsal], Trial]]


class Workspace:
    """A folder to rehearse in; it outlives the rehearsal only when `kept`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.kept = False

    @property
    def described(self) -> str:
        """Where it is and how large."""
        size = sum(p.stat().st_size for p in self.path.rglob("*") if p.is_file())
        return f"{self.path} ({human_bytes(size)})"


def run(config: Config, options: RehearseOptions, stop: StopSignal) -> Iterator[Event]:
    """Try every stage; the table of verdicts comes last, and a failure where a stage would fail.

    Raises:
        UsageError: there is no such source.
        HatcheryError: nothing can be written where the data is.
    """
    source = Rehearsal(config, options, Path(), stop).source
    config = revised(config, dataset=revised(config.dataset, source=source))  # for all of it
    if source not in corpora(config.paths.data_dir) and not (options.input or config.cleanup.input):
        find_source(source)
    with rehearsal_workspace(config.paths.data_dir) as workspace:
        rehearsal = Rehearsal(config, options, workspace.path, stop)
        title = f"Rehearse every stage on a sliver of {rehearsal.source}"
        yield Started("rehearse", title)
        verdicts: list[StageVerdict] = []
        try:
            for name, trial in _steps():
                verdict = yield from _tried(name, trial, rehearsal)
                verdicts.append(verdict)
                yield verdict
        except StoppedError:
            yield Finished({"verdicts": [row(verdict) for verdict in verdicts]}, stopped=True)
            return
        yield from _conclusion(verdicts, workspace)


def _steps() -> Sequence[Step]:
    """The steps in order, each with the name of its command."""
    from pipeline.rehearsal import model_stages  # torch, which a wrong source need not wait for

    return (
        ("cleanup", data_stages.clean),
        ("tokenize", data_stages.tokenize),
        ("prepare", data_stages.prepare),
        ("train", model_stages.train),
        ("resume", model_stages.resume),
        ("inference", model_stages.generate),
    )


def _tried(
    name: str, trial: Callable[[Rehearsal], Trial], rehearsal: Rehearsal
) -> Generator[Event, None, StageVerdict]:
    """The verdict of one step, with the time it took.

    Raises:
        StoppedError: the user asked to stop.
    """
    if rehearsal.stop.is_set():
        raise StoppedError
    yield Progress(0, message=name)
    begin = time.monotonic()
    try:
        verdict = yield from trial(rehearsal)
    except StoppedError:
        raise
    except NotTriedError as reason:
        return StageVerdict(stage=name, verdict="not tried", detail=str(reason))
    except Exception as error:
        return failed(name, _meaning(error, getattr(rehearsal.config, name, None)))
    took = human_seconds(time.monotonic() - begin)
    return msgspec.structs.replace(verdict, detail=f"{verdict.detail} ({took})")


def _meaning(error: Exception, options: object) -> HatcheryError:
    """What a stage with these options ended with, in words; our own mistakes with the place where
    they happened."""
    if isinstance(error, HatcheryError):
        return error
    if is_out_of_memory(error):
        return explain_memory(error, settings_of(options))
    if isinstance(error, OSError) and error.errno:
        error = disk_error(error, Path(str(error.filename or "a file")))
    if isinstance(error, HatcheryError):
        return error
    if isinstance(error, OSError) and error.errno:
        return HatcheryError(
            f"{error.filename or 'a file'}: {error.strerror}.",
            remedy="check the path and its rights",
        )
    place = traceback.extract_tb(error.__traceback__)[-1]
    return HatcheryError(
        f"A mistake in Hatchery itself: {type(error).__name__}: {error}",
        found=f"{place.filename}:{place.lineno}, in {place.name}",
        remedy="please report it with this line",
    )


def _conclusion(verdicts: Sequence[StageVerdict], workspace: Workspace) -> Iterator[Event]:
    """The table, and where a stage failed what to do first and where to look."""
    yield Finished({"verdicts": [row(verdict) for verdict in verdicts]})
    broken = [verdict for verdict in verdicts if verdict.verdict == "fails"]
    if broken:
        workspace.kept = True
        yield Failed(
            f"Not ready: {', '.join(v.stage for v in broken)} would fail.",
            found=f"what was tried is kept until the next rehearsal in {workspace.described}",
            remedy=broken[0].remedy or f"see {broken[0].stage} above",
            commands=broken[0].commands,
        )


@contextmanager
def rehearsal_workspace(data_dir: Path) -> Iterator[Workspace]:
    """A new folder on the disk of `data_dir`; those that ended rehearsals left are removed.

    Raises:
        HatcheryError: nothing can be written there.
    """
    place = existing_parent(data_dir)
    for abandoned in {*data_dir.glob(f"{_PREFIX}*"), *place.glob(f"{_PREFIX}*")}:
        _remove_unless_used(abandoned)
    try:
        workspace = Workspace(Path(tempfile.mkdtemp(prefix=_PREFIX, dir=place)))
    except OSError as error:
        raise_disk_error(error, place)
        raise HatcheryError(
            f"{place.absolute()} cannot be written: {error.strerror}.",
            found="a rehearsal needs a temporary folder where the data is, or will be",
            remedy="check its rights, or set paths.data_dir to a folder of yours",
        ) from error
    with FolderLock(workspace.path):
        try:
            yield workspace
        finally:
            if not workspace.kept:
                shutil.rmtree(workspace.path, ignore_errors=True)


def _remove_unless_used(folder: Path) -> None:
    """Remove what a kill, or a rehearsal that failed, has left; a living one holds its lock."""
    with suppress(RefusedError, OSError):
        folder.rmdir()  # killed before it was locked
        return
    if (folder / ".lock").is_file():
        with suppress(HatcheryError), FolderLock(folder):
            shutil.rmtree(folder, ignore_errors=True)
