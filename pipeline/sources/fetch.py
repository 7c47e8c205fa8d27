"""Fetching of sources that are elsewhere: one file by URL, or files of a Hugging Face dataset.

What arrives is checked and recorded in a manifest; an interrupted fetch goes on with the files
that are missing. No code of a dataset is ever run, and no credential is sent.
"""

import fnmatch
import shutil
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event as StopSignal
from typing import Any

from pipeline.events import Event, Finished, Progress, Saved, Started
from pipeline.options.config import DownloadOptions
from pipeline.source_table import Source
from utils.artefacts import FolderBuilder, build_folder
from utils.errors import HatcheryError, NetworkError, UsageError
from utils.files import durable_file, require_space
from utils.units import human_bytes

_CHUNK = 1 << 20
_TIMEOUT = 30  # seconds without a byte
_LOOK = 0.2  # seconds between looks at a running download
_UNPACKED = 4  # a zip of JSON lines takes about this many times its size


class _StoppedError(Exception):
    """The user asked to stop; what is complete stays."""


def fetch(
    source: Source, folder: Path, options: DownloadOptions, stop: StopSignal
) -> Iterator[Event]:
    """Bring the raw files of `source` into `folder`.

    Raises:
        UsageError: the address or revision holds no such files.
        HatcheryError: it cannot be reached, there is no room, or the checksum differs.
    """
    place = options.url or source.url or source.repository
    settings = {
        "name": source.name,
        "from": place,
        "revision": options.revision or source.revision,
        "max_files": options.max_files,
    }
    yield Started(
        stage="download",
        title=f"Download {source.name}: {source.what} ({source.size}, license {source.license})",
        total=source.bytes,
        unit="bytes",
    )
    try:
        with build_folder(folder, kind="raw", command="download", options=settings) as builder:
            builder.facts = {"license": source.license, "from": place}
            if source.where == "url":
                yield from _from_url(source, place, folder, builder, stop)
            else:
                yield from _from_hub(source, folder, builder, options, stop)
            names = [name for unit in builder.units.values() for name in unit.files]
    except _StoppedError:
        yield Finished(stopped=True)
        return
    yield Saved(kind="raw", path=str(folder))
    yield Finished(summary={"files": len(names), "license": source.license}, path=str(folder))


def _from_url(
    source: Source, url: str, folder: Path, builder: FolderBuilder, stop: StopSignal
) -> Iterator[Event]:
    if not url.startswith(("https://", "http://")):
        raise UsageError(f"{url!r} is not an http address.", remedy="give --url https://...")
    done = 0
    try:
        request = urllib.request.Request(url, headers={"User-Agent": "hatchery"})  # noqa: S310
        with (
            urllib.request.urlopen(request, timeout=_TIMEOUT) as answer,  # noqa: S310 (http only)
            durable_file(builder.path / source.file) as out,
        ):
            while chunk := answer.read(_CHUNK):
                if stop.is_set():
                    raise _StoppedError
                done += out.write(chunk)
                if done > 2 * source.bytes:
                    break  # not what was asked for; the checksum says so below
                yield Progress(done=done, total=source.bytes, unit="bytes")
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()
        raise _unreachable(source, url, folder, error) from error
    if out.written.sha256 != source.sha256:
        (builder.path / source.file).unlink()
        raise HatcheryError(
            f"{url} is not the {source.name} that was expected.",
            found=f"{out.written.bytes} bytes with SHA-256 {out.written.sha256[:16]}…, where "
            f"{source.bytes} bytes with {source.sha256[:16]}… were expected",
            remedy=f"fetch it by hand, then use cleanup --source {source.name} --input FILE",
        )
    builder.commit(source.file, {source.file: out.written})


def _from_hub(
    source: Source,
    folder: Path,
    builder: FolderBuilder,
    options: DownloadOptions,
    stop: StopSignal,
) -> Iterator[Event]:
    from huggingface_hub import HfApi  # 0.5 s to load; only a download pays
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.hf_api import RepoFile

    # Its bases are OSError and the error of whichever HTTP library it is built on.
    failures: tuple[type[Exception], ...] = (OSError, *HfHubHTTPError.__bases__)
    revision = options.revision or source.revision
    hub = HfApi(endpoint=options.url, token=False)
    try:
        tree = hub.list_repo_tree(
            source.repository, recursive=True, revision=revision, repo_type="dataset"
        )
        sizes = {entry.path: entry.size for entry in tree if isinstance(entry, RepoFile)}
        requested = sorted(
            name for name in sizes if any(fnmatch.fnmatch(name, p) for p in source.patterns)
        )[: options.max_files]
        if not requested:
            raise UsageError(
                f"{source.repository} holds no {' or '.join(source.patterns)} at {revision}.",
                found=", ".join(sorted(sizes)[:5]) or "no files",
                remedy="choose another --revision",
            )
        missing = [name for name in requested if name not in builder.units]
        packed = sum(sizes[name] for name in missing if name.endswith(".zip"))
        require_space(builder.path, sum(sizes[n] for n in missing) + packed * _UNPACKED)
        arrived = 0
        for name in missing:
            arguments = {"revision": revision, "endpoint": options.url}
            for part in _one_file(source, name, builder.path, arguments, stop):
                yield Progress(
                    done=arrived + part,
                    total=sum(sizes[n] for n in missing),
                    unit="bytes",
                    message=name,
                    figures={"files": f"{requested.index(name)}/{len(requested)}"},
                )
            arrived += sizes[name]
            if name.endswith(".zip"):
                yield from _unpack(name, builder, stop)
            else:
                builder.adopt(name)
    except failures as error:
        raise _unreachable(source, options.url or "huggingface.co", folder, error) from error
    finally:
        _remove_bookkeeping(builder.path)


def _one_file(
    source: Source, name: str, folder: Path, arguments: dict[str, Any], stop: StopSignal
) -> Iterator[int]:
    """Fetch one file in a thread, yielding the bytes so far; the library resumes a partial one."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.utils import tqdm  # type: ignore[attr-defined]

    arrived = [0]

    class Bar(tqdm):
        """Counts in silence, and is where a stop gets in."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **{**kwargs, "disable": True})  # type: ignore[no-untyped-call]
            arrived[0] = kwargs.get("initial") or 0

        def update(self, n: float | None = 1) -> bool | None:
            if stop.is_set():
                raise _StoppedError
            arrived[0] += int(n or 0)
            return None

    with ThreadPoolExecutor(1) as thread:
        download: Callable[..., str] = hf_hub_download
        future = thread.submit(
            download,
            source.repository,
            name,
            repo_type="dataset",
            local_dir=folder,
            token=False,
            tqdm_class=Bar,
            **arguments,
        )
        while not future.done():
            time.sleep(_LOOK)
            yield arrived[0]
        future.result()
    if stop.is_set():
        raise _StoppedError


def _unpack(name: str, builder: FolderBuilder, stop: StopSignal) -> Iterator[Event]:
    """Take the JSON lines out of a zip, member by member, and let the zip go."""
    packed = builder.path / name
    try:
        with zipfile.ZipFile(packed) as archive:
            members = [m for m in archive.infolist() if m.filename.endswith(".jsonl")]
            for number, member in enumerate(members):
                target = Path(member.filename).name
                yield Progress(
                    done=number, total=len(members), unit="files", message=f"unpack {target}"
                )
                if target in builder.units:
                    continue
                with archive.open(member) as data, durable_file(builder.path / target) as out:
                    while chunk := data.read(_CHUNK):
                        if stop.is_set():
                            raise _StoppedError
                        out.write(chunk)
                builder.commit(target, {target: out.written})
    except zipfile.BadZipFile as error:
        size = human_bytes(packed.stat().st_size)
        packed.unlink()
        raise HatcheryError(
            f"{name} is damaged: {error}.", found=f"{size}, now removed", remedy="download again"
        ) from error
    packed.unlink()
    builder.commit(name, {})


def _remove_bookkeeping(folder: Path) -> None:
    """Remove what the hub library keeps beside the files, unless a partial file is in it."""
    kept = folder / ".cache"
    if kept.is_dir() and not any(kept.rglob("*.incomplete")):
        shutil.rmtree(kept)


def _unreachable(source: Source, place: str, folder: Path, error: Exception) -> NetworkError:
    return NetworkError(
        f"{source.name} could not be fetched from {place}.",
        found=str(error).split("\n")[0][:300],
        remedy=f"try again later, or put the files into {folder} yourself, then: {{}}",
        commands=[("cleanup", "--source", source.name)],
    )
