"""Where text comes from: the raw files of a source, and the download stage."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Event as StopSignal

from pipeline import corpora
from pipeline.events import Event, Finished
from pipeline.options.config import Config, DownloadOptions
from pipeline.source_table import SOURCES, Source, find_source
from pipeline.sources import fetch
from pipeline.sources.input_files import PassedOver, expand_inputs
from pipeline.sources.items import Input, as_input
from pipeline.sources.python_library import library_inputs
from utils.artefacts import read_manifest
from utils.errors import HatcheryError, UsageError
from utils.files import printable_name


def raw_inputs(
    source: Source,
    config: Config,
    given: Sequence[Path] | None,
    passed_over: PassedOver | None = None,
) -> list[Input]:
    """The raw files of a source, or those `given` in its place, with stable names; `passed_over`
    counts the files there that are not read.

    Names are relative to the folder that holds all files, so that ids, and with them the split,
    do not change when that folder moves.

    Raises:
        UsageError: there are none, or the source takes none.
    """
    if source.embedded:
        if given:
            raise UsageError(
                f"The source {source.name} is embedded and takes no --input.",
                remedy="clean your own texts, which makes a corpus of them: {}",
                commands=[("cleanup", "--input", *map(str, given))],
            )
        return library_inputs()
    if not given:
        folder = config.raw_dir(source.name)
        recorded = corpora.texts_of(config.paths.data_dir, source.name)
        if not folder.is_dir() and not recorded:
            raise UsageError(
                f"There is no raw text of {source.name} at {folder}.",
                found="no such folder",
                remedy="name your texts: {}"
                if source.where == "yours"
                else "{}, or put the files there, or name them with --input PATH",
                commands=[("cleanup", "--input", "FOLDER")]
                if source.where == "yours"
                else [("download", source.name)],
            )
        given = [folder] if folder.is_dir() else recorded
    files = expand_inputs(given, passed_over)
    common = Path(os.path.commonpath([file.absolute().parent for file in files]))
    names = (file.absolute().relative_to(common).as_posix() for file in files)
    return [as_input(file, printable_name(name)) for file, name in zip(files, names, strict=True)]


def is_here(source: Source, config: Config) -> bool:
    """Whether cleanup could start on the source now."""
    folder = config.raw_dir(source.name)
    if source.embedded:
        return True
    return folder.is_dir() and any(not e.name.startswith(".") for e in folder.iterdir())


def run(config: Config, options: DownloadOptions, stop: StopSignal) -> Iterator[Event]:
    """List the sources, or fetch one into its raw folder.

    Raises:
        UsageError: no such source, or none named.
        HatcheryError: it cannot be fetched, or is not what it should be.
    """
    if options.list or options.name is None:
        if not options.list:
            raise UsageError(
                "Which source?",
                found="no name",
                remedy="those there are: {}",
                commands=[("download", "--list")],
            )
        yield Finished(summary={"sources": [_row(source, config) for source in SOURCES]})
        return
    source = find_source(options.name)
    folder = config.raw_dir(source.name)
    if source.embedded:
        count = len(library_inputs())
        yield Finished(summary={"files": count, "note": "embedded: nothing to fetch"}, skipped=True)
        return
    if source.where == "yours":
        raise UsageError(
            "Your own files need no download.",
            remedy="{}",
            commands=[("cleanup", "--input", "PATH")],
        )
    manifest = read_manifest(folder) if folder.is_dir() else None
    if manifest is not None and not options.force:
        yield Finished(summary={"files": len(manifest.files)}, path=str(folder), skipped=True)
        return
    if manifest is None and is_here(source, config):
        raise HatcheryError(
            f"{folder} already holds files that download did not put there.",
            found=", ".join(sorted(entry.name for entry in folder.iterdir())[:5]),
            remedy="clean them as they are: {}, or move them away first",
            commands=[("cleanup", "--source", source.name)],
        )
    yield from fetch.fetch(source, folder, options, stop)


def _row(source: Source, config: Config) -> dict[str, str | bool]:
    return {
        "name": source.name,
        "what": source.what,
        "size": source.size,
        "license": source.license,
        "here": is_here(source, config),
    }
