"""Sets of the Hugging Face hub: fetched once as rows, and kept, so that the next time needs no
network.

Only files of data are fetched, Parquet or JSON lines, never code, and no credential is sent.
HF_ENDPOINT names another hub.
"""

import errno
import os
import re
import tempfile
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from threading import Event as StopSignal
from typing import Any, NamedTuple, TypeVar

from pipeline.evaluation.data import TaskData, task_data
from pipeline.evaluation.files import read_rows
from pipeline.evaluation.tasks.task import HubSet, Task
from pipeline.events import Event, Progress
from utils import json_text
from utils.artefacts import build_folder, read_manifest
from utils.errors import HatcheryError, NetworkError
from utils.files import DiskFullError
from utils.verification import verify

ResultT = TypeVar("ResultT")

KIND = "benchmark data"
FOLDER = "benchmarks"
"""Of the folder of data, the one that holds a folder for each task."""

CONVERTED = "refs/convert/parquet"
"""The branch on which the hub keeps every set as Parquet, also of one whose rows a script makes."""
_SECONDS = 30
_ATTEMPTS = 3
_WAIT = 0.5  # seconds before the second attempt, twice as many before the third
_AT_ONCE = 8  # files
_ANY = ("default", "plain_text")  # names of a configuration that need not stand in a path
_BUSY = (408, 429)
_FORMS = (".parquet", ".jsonl", ".jsonl.gz", ".json")


@dataclass(frozen=True)
class Wanted:
    """A set to fetch: its name here and for people, where it is published, and what to type where
    it cannot be reached."""

    name: str
    title: str
    source: HubSet
    remedy: str
    commands: tuple[tuple[str, ...], ...] = ()

    @property
    def settings(self) -> dict[str, str | None]:
        """What tells this set from others, for the manifest of what is kept of it."""
        source = self.source
        return {
            "repository": source.repository,
            "config": source.config,
            "split": source.split,
            "revision": source.revision,
        }


class Fetched(NamedTuple):
    """The commit that was read, and its rows, each with the place where it stands."""

    commit: str
    rows: list[tuple[str, Any]]


def is_here(task: Task, data_dir: Path) -> bool:
    """Whether the set of a task was fetched before."""
    return read_manifest(data_dir / FOLDER / task.name) is not None


def read_cached(task: Task, data_dir: Path) -> TaskData:
    """The items of a set that was fetched before.

    Raises:
        RefusedError: a file differs from its manifest, or the rows are none of the task's.
    """
    folder = data_dir / FOLDER / task.name
    manifest = verify(folder)
    facts = manifest.facts
    rows = read_rows(folder / _rows_of(task))
    where = " ".join(str(facts[name]) for name in ("repository", "config", "split") if facts[name])
    return task_data(task, rows, "hub", where, revision=str(facts["commit"]))


def _rows_of(task: Task) -> str:
    """The file of a set, by whose name `--data` finds it, also where the folder was copied to."""
    return f"{task.name}.jsonl"


def fetch(task: Task, data_dir: Path, stop: StopSignal) -> Generator[Event, None, TaskData | None]:
    """Fetch the set of a task; returns its items, None where it was stopped.

    Raises:
        NetworkError: it cannot be reached, or the hub has no such rows.
        RefusedError: the rows are none of the task's; another process fetches it.
        DiskFullError: there is no room for it.
    """
    assert task.hub is not None
    wanted = Wanted(
        task.name,
        task.title,
        task.hub,
        f"give its file, --data {task.name}=FILE, or ask what needs no network: {{}}",
        (("benchmark", "--tasks", "embedded_grammar"),),
    )
    fetched = yield from fetch_rows(wanted, stop)
    if fetched is None:
        return None
    rows = fetched.rows
    task_data(task, rows, "hub", task.hub.repository)  # nothing is kept that is not the task's
    folder = data_dir / FOLDER / task.name
    folder.parent.mkdir(parents=True, exist_ok=True)
    options = wanted.settings
    with build_folder(folder, kind=KIND, command="benchmark", options=options) as builder:
        builder.facts = wanted.settings | {"commit": fetched.commit}
        builder.write(_rows_of(task), b"".join(json_text.encode(row) + b"\n" for _, row in rows))
    return read_cached(task, data_dir)


def fetch_rows(wanted: Wanted, stop: StopSignal) -> Generator[Event, None, Fetched | None]:
    """Fetch the rows of a set, which nothing here keeps; None where it was stopped.

    Raises:
        NetworkError: it cannot be reached, or the hub has no such rows.
        DiskFullError: there is no room for its files.
    """
    source = wanted.source
    yield Progress(done=0, message=f"fetching {wanted.title} from {source.repository}")
    commit, names = _patiently(wanted, stop, lambda: _files(wanted))
    with tempfile.TemporaryDirectory() as scratch:
        done = yield from _fetched(wanted, commit, names, Path(scratch), stop)
        if not done:
            return None
        return Fetched(
            commit,
            [(f"{name}, {at}", r) for name in names for at, r in read_rows(Path(scratch, name))],
        )


def _files(wanted: Wanted) -> tuple[str, list[str]]:
    """The commit that is read, and the files of the split there."""
    from huggingface_hub import HfApi  # 0.5 s to load; only fetching pays

    source = wanted.source
    hub = HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None, token=False)
    seen: list[str] = []
    for revision in (source.revision, CONVERTED):
        try:
            info = hub.dataset_info(source.repository, revision=revision, timeout=_SECONDS)
        except Exception as error:
            if revision == CONVERTED and _is_final(error):
                break  # the hub did not convert it
            raise
        names = [file.rfilename for file in info.siblings or []]
        found = files_of_split(names, source)
        if found and info.sha:
            return info.sha, found
        seen += names
    raise _unreachable(wanted, f"no rows among {', '.join(sorted(seen)[:5]) or 'no files'}")


def files_of_split(names: Sequence[str], source: HubSet) -> list[str]:
    """The files that hold the split of a set, of the first form there is, in order.

    The split is a word of a file's path, and the configuration a folder in it or how the name of
    the file begins; it need not be named where it is the default.
    """
    for form in _FORMS:
        split = [
            name
            for name in sorted(names)
            if name.endswith(form)
            and source.split in (words := re.split(r"[/_.-]", name))
            and "partial" not in words  # of a set that the hub did not convert whole
        ]
        config = source.config
        if config not in (None, "*"):
            named = [name for name in split if _is_of(name, str(config))]
            split = named or (split if config in _ANY else [])
        if split:
            return split
    return []


def _is_of(name: str, config: str) -> bool:
    *folders, file = name.split("/")
    return config in folders or file.startswith(config)


def _fetched(
    wanted: Wanted, commit: str, names: Sequence[str], folder: Path, stop: StopSignal
) -> Generator[Event, None, bool]:
    """Fetch files into a folder, several at once; returns whether all are there."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.utils.tqdm import disable_progress_bars

    disable_progress_bars()  # a stage never prints
    repository = wanted.source.repository

    def one(name: str) -> None:
        if not stop.is_set():
            _patiently(
                wanted,
                stop,
                lambda: hf_hub_download(
                    repository,
                    name,
                    repo_type="dataset",
                    revision=commit,
                    local_dir=folder,
                    endpoint=os.environ.get("HF_ENDPOINT") or None,
                    token=False,
                    etag_timeout=_SECONDS,
                ),
            )

    with ThreadPoolExecutor(_AT_ONCE) as threads:
        waiting = [threads.submit(one, name) for name in names]
        try:
            for done, future in enumerate(as_completed(waiting), 1):
                future.result()
                yield Progress(
                    done=done, total=len(names), unit="files", message=f"fetching {wanted.title}"
                )
        finally:
            threads.shutdown(wait=False, cancel_futures=True)
    return not stop.is_set()


def _patiently(wanted: Wanted, stop: StopSignal, ask: Callable[[], ResultT]) -> ResultT:
    """The answer of the hub, asked again where it may yet come."""
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return ask()
        except HatcheryError:
            raise
        except Exception as error:  # the client, its HTTP library or the socket may raise anything
            if isinstance(error, OSError) and error.errno == errno.ENOSPC:
                raise DiskFullError(
                    f"There is no room to fetch {wanted.name}.",
                    found=f"{tempfile.gettempdir()} is full",
                    remedy="make room there, or name another place by TMPDIR",
                ) from error
            if attempt == _ATTEMPTS or _is_final(error) or stop.wait(_WAIT * attempt):
                lines = str(error).strip().splitlines()
                found = f"{type(error).__name__}: {lines[0] if lines else 'no answer'}"
                raise _unreachable(wanted, found) from error
    raise AssertionError("the last attempt returns or raises")


def _is_final(error: Exception) -> bool:
    """Whether the hub answered that there is no such thing, which no patience changes."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status is not None and 400 <= status < 500 and status not in _BUSY


def _unreachable(wanted: Wanted, found: str) -> NetworkError:
    place = os.environ.get("HF_ENDPOINT") or "huggingface.co"
    return NetworkError(
        f"{wanted.name} could not be fetched: {wanted.source.repository} from {place}.",
        found=found[:300],
        remedy=wanted.remedy,
        commands=wanted.commands,
    )
