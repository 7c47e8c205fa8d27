"""The cleanup stage: raw records become clean documents, one per line.

A unit of work is one large file or a bundle of small ones; each is cleaned in one process into a
scratch folder and moved into the artefact when it is whole. A rerun after any interruption does
only the units that are missing.
"""

import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Event as StopSignal
from typing import Any

import msgspec

from pipeline import corpora
from pipeline.cleaner import rules
from pipeline.cleaner.corpus import (
    first_line,
    places_read,
    refuse_to_replace,
    source_name,
    source_of_text,
    text_field,
)
from pipeline.cleaner.report import PASSED_OVER, finished, summary, warnings
from pipeline.cleaner.worker import CleaningCounts, CleaningUnit, UnitProgress, UnitReport
from pipeline.events import Event, Finished, Progress, Rejected, Saved, Started
from pipeline.options.config import CleanupOptions, Config
from pipeline.sources import raw
from pipeline.sources.input_files import (
    UNREADABLE,
    PassedOver,
    merge_passed_over,
    pass_over,
)
from pipeline.sources.items import Input
from pipeline.sources.stage import raw_inputs
from pipeline.workers import run_units
from utils import artefacts
from utils.artefacts import FolderBuilder, Manifest, build_folder, is_current, read_manifest
from utils.errors import HatcheryError
from utils.files import sync_folder
from utils.units import human_count

_BUNDLE = 4 * 1024 * 1024
_TICK = 0.15  # seconds between progress events
_LONGEST_NAME = 150  # bytes, as file systems count; what is put around it fits into 255
_ALONE = ("rows", "json", "parquet", "archive")


class _StoppedError(Exception):
    """The user asked to stop; finished units stay."""


def run(config: Config, options: CleanupOptions, stop: StopSignal) -> Iterator[Event]:
    """Clean a source into `cleaned_*` and `rejected_*` files with a manifest.

    Raises:
        UsageError: unknown source, or no input.
        RefusedError: the output folder holds something else, or is being written.
        HatcheryError: a worker died, the disk is full, or no document survived.
    """
    name = source_name(config, options)
    remember = corpora.remembering(config.paths.data_dir)
    passed_over: PassedOver = {}
    inputs, sources = _readable(
        raw_inputs(source_of_text(name, config, options), config, options.input, passed_over),
        passed_over,
    )
    field, places = text_field(config, options, name), places_read(config, options, name)
    inputs = [msgspec.structs.replace(item, text_field=field) for item in inputs]
    target = options.output or config.cleaned_dir(name, test=options.test)
    settings: dict[str, Any] = {
        "source": name,
        "format": options.format,
        "min_words": options.min_words,
        "test": options.test,
        "rules": rules.VERSION,
        "reading": raw.VERSION,
    }
    if field:
        settings["text_field"] = field
    current = is_current(target, "cleanup", settings, sources)
    if current is not None and not options.force:
        last = finished(target, _as_found_now(current, inputs, passed_over), skipped=True)
        if options.output is None:
            remember(name)
        yield last
        return
    if not options.force:
        refuse_to_replace(target, name, sources, options)
    cleaning = _CleaningRun(plan_units(inputs, name, options))
    try:
        with build_folder(
            target, kind="cleaned", command="cleanup", options=settings, inputs=sources
        ) as builder:
            yield Started(
                stage="cleanup",
                title=first_line(config, options, name),
                total=cleaning.total_bytes,
                unit="bytes",
            )
            yield from cleaning.run(builder, options.workers, stop)
            merge_passed_over(builder.facts[PASSED_OVER], passed_over)
            if places:
                builder.facts[corpora.GIVEN] = places
    except _StoppedError:
        yield Finished(
            summary={"units_done": len(cleaning.finished), "units": len(cleaning.units)},
            stopped=True,
        )
        return
    manifest = read_manifest(target)
    assert manifest is not None
    yield Saved(kind="cleaned", path=str(target), facts=summary(manifest))
    yield from warnings(cleaning.counts, target)
    last = finished(target, manifest)
    if options.output is None:  # what went to a folder of its own is no corpus
        remember(name)
    yield last


def _as_found_now(manifest: Manifest, inputs: Sequence[Input], passed_over: PassedOver) -> Manifest:
    """The manifest of clean documents that are up to date, with what lies beside their texts
    today: a file that cannot be opened makes no difference to what was read. What an archive holds
    is only known to who reads it."""
    if any(item.form == "archive" for item in inputs):
        return manifest
    return msgspec.structs.replace(manifest, facts=manifest.facts | {PASSED_OVER: passed_over})


def _readable(
    inputs: Sequence[Input], passed_over: PassedOver
) -> tuple[list[Input], list[artefacts.Source]]:
    """The inputs that may be opened, and what identifies their content; others are counted.

    Raises:
        HatcheryError: none of them can be opened.
    """
    found: list[tuple[Input, artefacts.Source]] = []
    failure: HatcheryError | None = None
    for item in inputs:
        try:
            content = artefacts.source(item.path)
            item = msgspec.structs.replace(item, fingerprint=content.fingerprint)
            found.append((item, content))
        except HatcheryError as error:
            failure = failure or error
            pass_over(passed_over, UNREADABLE, item.path)
    if failure is not None and not found:
        raise failure
    return [item for item, _ in found], [source for _, source in found]


def plan_units(inputs: Sequence[Input], source: str, options: CleanupOptions) -> list[CleaningUnit]:
    """Units of work: each large file or file of rows alone, small texts in bundles of 4 MiB."""
    bundles: list[list[Input]] = []
    size = _BUNDLE
    for item in inputs:
        alone = item.form in _ALONE or item.bytes >= _BUNDLE
        if alone or size + item.bytes > _BUNDLE:
            bundles.append([])
            size = 0
        bundles[-1].append(item)
        size += _BUNDLE if alone else item.bytes
    names: dict[str, int] = {}
    units = []
    for number, bundle in enumerate(bundles, 1):
        name = _stem(bundle[0].name) if len(bundle) == 1 else f"{_stem(source)}_{number:05d}"
        names[name] = names.get(name, 0) + 1
        if names[name] > 1:
            name = f"{name}_{number:05d}"
        kept = (options.format, options.min_words, options.test)
        units.append(CleaningUnit(name, Path(), bundle, *kept))
    return units


def _stem(name: str) -> str:
    """A file name from a document name: no suffix, no separators, nothing a shell would mind."""
    stem = re.sub(
        r"\.(?:jsonl|ndjson|json|parquet|txt|md|py|tar|tgz)(?:\.gz)?$",
        "",
        name,
        flags=re.IGNORECASE,
    )
    short = re.sub(r"[^\w.-]+", "_", stem).encode()[:_LONGEST_NAME]
    return short.decode(errors="ignore") or "text"


class _CleaningRun:
    """The units of one run and how far they are."""

    def __init__(self, units: list[CleaningUnit]) -> None:
        self.units = units
        self.total_bytes = sum(unit.bytes for unit in units)
        self.finished: dict[str, CleaningCounts] = {}
        self._sizes = {unit.name: unit.bytes for unit in units}
        self._running: dict[str, UnitProgress] = {}
        self._raw_before = 0
        self._start = time.monotonic()

    @property
    def counts(self) -> CleaningCounts:
        """The counts of all finished units."""
        total = CleaningCounts()
        for counts in self.finished.values():
            total.add(counts)
        return total

    def run(self, builder: FolderBuilder, workers: int, stop: StopSignal) -> Iterator[Event]:
        """Do the missing units; the artefact's facts are complete at the end."""
        for leftover in builder.path.glob("scratch-*"):  # of a run that was killed
            shutil.rmtree(leftover, ignore_errors=True)
        scratch = Path(tempfile.mkdtemp(prefix="scratch-", dir=builder.path))
        try:
            self._recall(builder)
            missing = [
                msgspec.structs.replace(unit, folder=scratch)
                for unit in self.units
                if unit.name not in self.finished
            ]
            yield self._progress()
            shown = time.monotonic()
            for message in run_units(missing, workers, stop):
                if isinstance(message, UnitReport):
                    self._publish(message, scratch, builder)
                    for damage in message.damage:
                        yield Rejected(rule=damage.reason, where=damage.where, detail=damage.detail)
                else:
                    self._running[message.unit] = message
                if time.monotonic() - shown >= _TICK:
                    shown = time.monotonic()
                    yield self._progress()
            if len(self.finished) < len(self.units):
                raise _StoppedError
            yield self._progress()
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        counts = msgspec.to_builtins(self.counts)
        notes = {name: dict(sorted(found.items())) for name, found in counts.pop("notes").items()}
        builder.facts = counts | notes | {"units": len(self.units)}

    def _recall(self, builder: FolderBuilder) -> None:
        """Take over the units that an interrupted run finished."""
        for name, unit in builder.units.items():
            self.finished[name] = msgspec.convert(unit.facts, CleaningCounts)
        self._raw_before = self.counts.raw_bytes

    def _publish(self, report: UnitReport, scratch: Path, builder: FolderBuilder) -> None:
        """Move a finished unit out of the scratch folder and record it.

        A worker that outlives a killed parent by a moment still writes into its own scratch
        folder, so it can never disturb the run that goes on with the work.
        """
        for file in report.files:
            (scratch / file).replace(builder.path / file)
        sync_folder(builder.path)
        builder.commit(report.unit, report.files, msgspec.to_builtins(report.counts))
        self.finished[report.unit] = report.counts
        self._running.pop(report.unit, None)

    def _progress(self) -> Progress:
        counts, running = self.counts, self._running.values()
        read = counts.read + sum(unit.read for unit in running)
        raw = counts.raw_bytes + sum(unit.raw_bytes for unit in running)
        done = sum(self._sizes[name] for name in self.finished)
        done += sum(unit.done for unit in running)
        seconds = max(time.monotonic() - self._start, 1e-3)
        return Progress(
            done=min(done, self.total_bytes),
            total=self.total_bytes,
            unit="bytes",
            figures={
                "articles": human_count(read),
                "raw": f"{raw / 1e6:.0f} MB",
                "speed": f"{(raw - self._raw_before) / 1e6 / seconds:.0f} MB/s",
                "files": f"{len(self.finished)}/{len(self.units)}",
            },
        )
