"""The rehearsal of the stages from raw text to tokens."""

import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

from pipeline.cleaner.stage import plan_units
from pipeline.cleaner.worker import CleaningUnit
from pipeline.corpora import source_called
from pipeline.events import Event, Rejected
from pipeline.prep.plan import TEST_DOCUMENTS
from pipeline.rehearsal.context import (
    NotTriedError,
    Record,
    Rehearsal,
    StoppedError,
    Trial,
    refuse_unwritable,
)
from pipeline.rehearsal.sample import TextSample
from pipeline.rehearsal.verdicts import (
    Concern,
    enough_tokens,
    exactness,
    judged,
    passed_over,
    rejections,
    vocabulary,
)
from pipeline.sources.items import Input, as_input
from pipeline.sources.stage import raw_inputs
from pipeline.tokenizer.load import newest, not_here, saved_folder
from pipeline.tokens.shards import DOCUMENT, token_dtype
from utils.artefacts import Manifest, read_manifest
from utils.errors import UsageError
from utils.files import home_path
from utils.hardware import usable_cores
from utils.units import human_bytes, human_count, human_seconds


def clean(rehearsal: Rehearsal) -> Trial:
    """Clean a sample of the raw files.

    Raises:
        NotTriedError: there is no raw text, but something made from it.
        HatcheryError: what cleanup would end with on all of it.
    """
    source, config = source_called(rehearsal.source), rehearsal.config
    if rehearsal.start != "raw":
        what = "clean documents" if rehearsal.start == "cleaned" else "tokens"
        raise NotTriedError(f"no raw text of {source.name} is here; starting from its {what}")
    target = config.cleanup.output or config.cleaned_dir(source.name, test=config.cleanup.test)
    refuse_unwritable(target)
    inputs = raw_inputs(source, config, rehearsal.given)
    sample = rehearsal.take(inputs, "raw")
    name = "files" if source.embedded else source.name  # which takes no files
    changes = {"source": name, "input": sample.files, "output": rehearsal.folder / "cleaned"}
    record = yield from rehearsal.follow("cleanup", rehearsal.in_workspace(cleanup=changes))
    rehearsal.documents, rehearsal.sample = record.path, sample
    facts = record.finished.summary
    figures = [
        f"{facts['kept']:,} of {facts['read']:,} documents kept",
        f"from {len(sample.files):,} of {sample.of_files:,} files",
    ]
    if sample.partial and not config.cleanup.test:
        seconds = _cleaning_time(rehearsal, sample, inputs)
        figures.append(f"all {human_bytes(sample.of_bytes)} in about {human_seconds(seconds)}")
    damaged = [event.where.rpartition(":")[0] for event in record.of(Rejected)]
    written = sum(file.stat().st_size for file in record.path.glob("cleaned_*"))
    concerns = [
        passed_over(sample.problem),
        rejections(facts["read"], facts["rejected"], damaged),
        rehearsal.fits_on_disk(target, written * sample.scale),
    ]
    return judged("cleanup", figures, concerns)


def _cleaning_time(rehearsal: Rehearsal, sample: TextSample, inputs: list[Input]) -> float:
    """Seconds to clean all `inputs`, by a second pass over the sample in this process: much of
    the first went into starting workers.

    Raises:
        StoppedError: the user asked to stop.
    """
    options = rehearsal.config.cleanup
    field = options.text_field or ""
    pieces = [as_input(file, file.name, text_field=field) for file in sample.files]
    folder = rehearsal.folder / "timed"
    unit = CleaningUnit("timed", folder, pieces, options.format, options.min_words, False)
    begin = time.perf_counter()
    for _ in unit.run():
        if rehearsal.stop.is_set():
            raise StoppedError
    seconds = time.perf_counter() - begin
    units = len(plan_units(inputs, "timed", options))
    return seconds * sample.scale / min(options.workers, units, usable_cores())


def tokenize(rehearsal: Rehearsal) -> Trial:
    """Measure the user's tokenizer on the sample, or train one on it.

    Raises:
        NotTriedError: there is nothing to measure it on.
        HatcheryError: what tokenize would end with.
    """
    documents = yield from rehearsal.some_documents()
    options, own = rehearsal.config.tokenize, users_tokenizer(rehearsal)
    load = str(own.absolute()) if own is not None else options.load
    kind = None if load else options.train or "bpe"
    if own is None:
        refuse_unwritable(rehearsal.config.paths.tokenizers_dir)
    changes = {"load": load, "train": kind, "input": [documents], "encode": None, "decode": None}
    changes |= {"name": None} if load else {}
    record = yield from rehearsal.follow("tokenize", rehearsal.in_workspace(tokenize=changes))
    rehearsal.tokenizer, facts = record.path, record.finished.summary
    size = facts["vocab_size"]
    made = "learned from the sliver" if kind else facts["tokenizer"]
    figures = [
        f"{made}: {size:,} ids",
        f"{facts['bytes_per_token']:.2f} bytes per token" if "bytes_per_token" in facts else "",
        rehearsal.basis,
    ]
    concerns = [exactness(facts.get("exact_round_trips", 0), facts.get("sample_documents", 0))]
    if kind == "bpe":
        rehearsal.asked_ids = options.vocab_size
        concerns.append(vocabulary(size, options.vocab_size, whole=not rehearsal.partial))
    return judged("tokenize", figures, concerns)


def users_tokenizer(rehearsal: Rehearsal) -> Path | None:
    """The tokenizer that prepare would take, None where tokenize has to make it first.

    Raises:
        UsageError: prepare names one that is not there, and that tokenize would not make.
    """
    config = rehearsal.config
    folder, options, named = config.paths.tokenizers_dir, config.tokenize, config.prepare.tokenizer
    made = options.name or f"{options.train or 'bpe'}_tokenizer"
    if named is not None:
        path = saved_folder(named, folder) or home_path(named)
        if not path.exists() and named not in (made, options.load):
            raise not_here(named, folder)
        return path if path.exists() else None
    if options.load is not None:
        return saved_folder(options.load, folder)
    if options.train is not None:
        manifest = read_manifest(folder / made)
        return folder / made if manifest is not None and _as_asked(manifest, options) else None
    try:
        return newest(folder)
    except UsageError:
        return None


def _as_asked(manifest: Manifest, options: Any) -> bool:
    """Whether a tokenizer was trained as `options` ask for."""
    before = manifest.made_by.options
    same_size = options.train != "bpe" or before.get("vocab_size") == options.vocab_size
    return bool(before.get("train") == options.train and same_size)


def prepare(rehearsal: Rehearsal) -> Trial:
    """Encode the sample.

    Raises:
        NotTriedError: there are no documents.
        HatcheryError: what prepare would end with.
    """
    documents = yield from rehearsal.some_documents()
    config, test = rehearsal.config, rehearsal.config.prepare.test or rehearsal.config.train.test
    target = config.prepare.output or config.tokens_dir(rehearsal.source, test=test)
    refuse_unwritable(target)
    tokens = yield from encoded(rehearsal, documents, "tokens")
    manifest = read_manifest(tokens)
    assert manifest is not None
    rehearsal.tokens, facts = tokens, manifest.facts
    figures = [
        f"{facts['tokens']:,} tokens in {facts['windows']:,} windows of {facts['window']:,}",
        f"{facts['bytes_per_token']:.2f} bytes per token",
        rehearsal.basis,
    ]
    concerns = [rejections(facts["read"], facts["rejected"], [])]
    if rehearsal.sample is not None:
        scale = rehearsal.sample.scale
        if test:
            scale = min(scale, max(1.0, TEST_DOCUMENTS / max(facts["documents"], 1)))
        rehearsal.whole_tokens = scale * facts["tokens"]
        if rehearsal.sample.partial:
            seconds = yield from _encoding_seconds(rehearsal, documents)
            whole = f"{human_count(rehearsal.whole_tokens)} tokens"
            figures.append(f"all: about {whole} in {human_seconds(seconds * scale)}")
        concerns += _concerns(rehearsal, facts, target)
    return judged("prepare", figures, concerns)


def _concerns(rehearsal: Rehearsal, facts: dict[str, Any], target: Path) -> list[Concern | None]:
    """Whether all the text makes enough tokens, and whether these fit on the disk."""
    options, whole = rehearsal.config.train, rehearsal.whole_tokens
    assert whole is not None
    window = options.window or facts["window"]
    step = window * options.batch_size * options.gradient_accumulation_steps
    each = token_dtype(rehearsal.asked_ids).itemsize
    each += DOCUMENT.itemsize * facts["documents"] / facts["tokens"]
    return [enough_tokens(whole, window, step), rehearsal.fits_on_disk(target, whole * each)]


def encoded(rehearsal: Rehearsal, documents: Path, name: str) -> Generator[Event, None, Path]:
    """Tokens of `documents` in the workspace, with a tokenizer made on the spot where none is."""
    if rehearsal.tokenizer is None:
        changes = {"load": None, "train": "bpe", "input": [documents], "name": "stand_in"}
        changes |= {"encode": None, "decode": None}
        learned = yield from rehearsal.follow("tokenize", rehearsal.in_workspace(tokenize=changes))
        rehearsal.tokenizer = learned.path
        rehearsal.asked_ids = rehearsal.config.tokenize.vocab_size
    record = yield from _run_prepare(rehearsal, documents, name)
    return record.path


def _run_prepare(
    rehearsal: Rehearsal, documents: Path, name: str
) -> Generator[Event, None, Record]:
    changes = {
        "input": [documents],
        "output": rehearsal.folder / name,
        "tokenizer": str(rehearsal.tokenizer),
        "source": rehearsal.source,
    }
    return (yield from rehearsal.follow("prepare", rehearsal.in_workspace(prepare=changes)))


def _encoding_seconds(rehearsal: Rehearsal, documents: Path) -> Generator[Event, None, float]:
    """Seconds to encode the sample once the tokenizer is loaded, by a second pass."""
    record = yield from _run_prepare(rehearsal, documents, "timed_tokens")
    return float(record.finished.summary["seconds"])
