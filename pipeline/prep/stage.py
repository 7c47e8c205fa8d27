"""prepare: clean documents become token shards, once, for any window and any validation share.

Files are taken in groups; a group is one worker's task and a shard one unit of the build: after a
kill the finished shards stay and the work goes on behind them. Groups, shards and their order
depend on the input alone, so any number of workers writes the same bytes.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Event as StopSignal
from typing import Any

import msgspec
import numpy as np

from pipeline import corpora
from pipeline.events import Event, Finished, Rejected, Saved, Started, Warned
from pipeline.options.command import changed_flags
from pipeline.options.config import Config, PrepareOptions
from pipeline.prep.plan import (
    corpus_name,
    in_groups,
    input_paths,
    lineage,
    open_tokenizer,
    refuse_to_replace,
    same_texts,
    sample_limits,
)
from pipeline.prep.progress import PrepareProgress
from pipeline.prep.worker import EncodingUnit, Message, ShardDone
from pipeline.sources.documents import NotCleanedError, cleaned_files
from pipeline.sources.input_files import PassedOver, in_words
from pipeline.tokens.metadata import METADATA, Metadata, ShardRecord, TokenizerRecord, read_metadata
from pipeline.tokens.shards import SPLIT_SEED, token_dtype
from pipeline.tokens.split import count_tokens, split_tokens
from pipeline.tokens.windows import count_windows
from pipeline.workers import run_units
from utils.artefacts import FolderBuilder, Manifest, Source, build_folder, is_current, read_manifest
from utils.errors import UsageError, as_typed
from utils.files import link_or_copy
from utils.verification import DamagedFileError

_SHOWN_REJECTS = 100  # as events; all are counted
# Options that decide the shards' bytes.
_LAYOUT = ("source", "test", "split", "shard_tokens", "text_field")


class _StoppedError(Exception):
    """Leaves the build without publishing it."""


def run(config: Config, options: PrepareOptions, stop: StopSignal) -> Iterator[Event]:
    """Encode the clean documents of a source.

    Raises:
        UsageError: no documents or no tokenizer; names the command that makes them.
        HatcheryError: a damaged input, a full disk, a worker that died.
    """
    build = _Build(config, options)
    if not options.force:
        refuse_to_replace(config, options, build.target, build.inputs)
    current = is_current(build.target, "prepare", build.plan, build.inputs)
    if current and not options.force and _intact(build.target, current):
        build.remember()
        facts = _shown(current.facts, build.passed_over)
        yield Finished(summary=facts, path=str(build.target), skipped=True)
        return
    try:
        with build_folder(
            build.target,
            kind="tokens",
            command="prepare",
            options=build.plan,
            inputs=build.inputs,
        ) as builder:
            yield from build.fill(builder, stop)
    except _StoppedError:
        yield Finished(summary=build.progress.figures(), stopped=True)
        return
    if dropped := builder.facts["rejected"].get("not_exact"):
        yield build.dropped(dropped)
    yield from build.notes
    build.remember()
    facts = _shown(builder.facts, build.passed_over)
    yield Saved(kind="tokens", path=str(build.target), facts=facts)
    yield Finished(summary=facts | build.progress.figures(), path=str(build.target))


def _shown(facts: dict[str, Any], passed_over: PassedOver) -> dict[str, Any]:
    """The figures of the tokens, and the files beside those that were read."""
    shown = {name: value for name, value in facts.items() if name != corpora.GIVEN}
    return shown | ({"passed_over": in_words(passed_over)} if passed_over else {})


class _Build:
    """One run of the stage: what it reads, and the plan that a rerun is compared with."""

    def __init__(self, config: Config, options: PrepareOptions) -> None:
        self._config, self._options = config, options
        self._name = corpus_name(config, options)
        self._remember = corpora.remembering(config.paths.data_dir)
        self.target = options.output or config.tokens_dir(self._name, test=options.test)
        inputs = input_paths(config, options)
        self.passed_over: PassedOver = {}
        self._groups = list(in_groups(cleaned_files(inputs, self.passed_over)))
        self._text_field = options.text_field or ""
        self._tokenizer, self._where = open_tokenizer(config, options)
        self.inputs: list[Source] = lineage(inputs, self._tokenizer, self._where)
        chosen = options.model_dump(include={"test", "window", "split", "shard_tokens"})
        self._stride = options.stride or max(1, options.window // 2)
        self.plan: dict[str, Any] = chosen | {"source": self._name, "stride": self._stride}
        if self._text_field:
            self.plan["text_field"] = self._text_field
        self.progress = PrepareProgress(self._groups)
        self.notes: list[Warned] = []

    def _title(self) -> str:
        """The first line: of which corpus, and how to choose another."""
        options = self._options
        named = self._name if options.input or options.name else options.source
        return self._config.titled("Prepare", named)

    def remember(self) -> None:
        """Note that this corpus was worked on last, unless its tokens lie elsewhere."""
        if self._options.output is None:
            self._remember(self._name)

    def fill(self, builder: FolderBuilder, stop: StopSignal) -> Iterator[Event]:
        """Make everything in the folder: reuse the target's shards, or encode what is missing."""
        old = self._same_shards()
        if old is not None:
            yield Warned(message="Only the window changed: the shards stay as they are.")
            files = {name: done for name, done in old.files.items() if name != METADATA}
            for name in files:
                (builder.path / name).unlink(missing_ok=True)
                link_or_copy(self.target / name, builder.path / name)
            builder.commit("shards", files)
            before = read_metadata(self.target, old)
            self._describe(builder, before.shards, before.read, before.rejected)
            return
        done = self._recalled(builder)
        yield from self._encode(builder, done, stop)
        done.sort(key=lambda shard: shard.name)
        rejected: dict[str, int] = {}
        for shard in done:
            for rule, count in shard.rejected.items():
                rejected[rule] = rejected.get(rule, 0) + count
        records = [_record(shard) for shard in done if shard.tokens]
        self._describe(builder, records, sum(shard.read for shard in done), rejected)

    def _recalled(self, builder: FolderBuilder) -> list[ShardDone]:
        """The shards that an interrupted run finished; those of other groups than there are now
        are discarded."""
        found = {name: unit for name, unit in builder.units.items() if name.startswith("shard ")}
        done = []
        for name, unit in found.items():
            shard = msgspec.convert(unit.facts, ShardDone)
            groups = self._groups[shard.group : shard.group + 1]
            if [(group.begin, group.end) for group in groups] == [(shard.begin, shard.end)]:
                done.append(shard)
            else:
                builder.discard(name)
        return done

    def dropped(self, documents: int) -> Warned:
        """What to say of documents that the tokenizer could not give back."""
        learn = ("tokenize", "--train", "bpe", *same_texts(self._config, self._options))
        flags = changed_flags(self._options, "source", "tokenizer", "force")
        again = ("prepare", "--source", self._name, *flags, "--tokenizer", "bpe_tokenizer")
        return Warned(
            message=f"{documents:,} documents are left out: {self._tokenizer.name} does not give "
            "them back character by character (an indented first line, or text beside one of its "
            "added tokens, is often why).",
            remedy="to keep them, learn a tokenizer that does: "
            f"{as_typed(learn)}, then {as_typed(again)}",
        )

    def _to_clean_first(self, error: NotCleanedError, given: Sequence[Path]) -> NotCleanedError:
        flags = changed_flags(self._options, "input", "text_field", "source", "name", "force")
        return error.with_cleaning(given, self._name, ["prepare", "--source", self._name, *flags])

    def _same_shards(self) -> Manifest | None:
        """The target's manifest if only the windows differ from what is requested."""
        old = read_manifest(self.target)
        if old is None or self._options.force or not _intact(self.target, old):
            return None
        requested = [self.plan.get(key) for key in _LAYOUT]
        same = [old.made_by.options.get(key) for key in _LAYOUT] == requested
        return old if same and old.inputs == self.inputs else None

    def _encode(
        self, builder: FolderBuilder, done: list[ShardDone], stop: StopSignal
    ) -> Iterator[Event]:
        """Encode what `done` lacks and add it there."""
        limits = sample_limits(self._groups, self._text_field) if self._options.test else None
        self.progress.restore(done, limits)
        yield Started(
            stage="prepare",
            title=self._title(),
            total=self.progress.total,
            unit=self.progress.unit,
        )
        units = [
            self._unit(builder, group, [shard for shard in done if shard.group == group], limits)
            for group in range(len(self._groups))
            if not any(shard.last for shard in done if shard.group == group)
        ]
        try:
            yield from self._collected(builder, done, run_units(units, self._options.workers, stop))
        except NotCleanedError as error:
            if not self._options.input:
                raise
            raise self._to_clean_first(error, self._options.input) from error
        except DamagedFileError as error:
            ended = {shard.group for shard in done if shard.last}
            for shard in done:  # made before the damage was known
                if shard.group not in ended or error.path in self._groups[shard.group].files:
                    builder.discard(f"shard {shard.name}")
            raise
        if sum(shard.last for shard in done) < len(self._groups):
            raise _StoppedError
        yield self.progress.event()

    def _collected(
        self, builder: FolderBuilder, done: list[ShardDone], messages: Iterator[Message]
    ) -> Iterator[Event]:
        """Commit the shards that workers report, and add them to `done`."""
        shown = 0
        for message in messages:
            if isinstance(message, Rejected):
                shown += 1
                if shown <= _SHOWN_REJECTS:
                    yield message
                continue
            if isinstance(message, ShardDone):
                facts = msgspec.to_builtins(message)
                builder.commit(f"shard {message.name}", message.files, facts)
                done.append(message)
            yield from self.progress.add(message)

    def _unit(
        self, builder: FolderBuilder, group: int, done: list[ShardDone], limits: list[int] | None
    ) -> EncodingUnit:
        return EncodingUnit(
            number=group,
            group=self._groups[group],
            text_field=self._text_field,
            folder=str(builder.path),
            tokenizer=str(self._where),
            tokenizers_dir=str(self._config.paths.tokenizers_dir),
            fingerprint=self._tokenizer.fingerprint,
            by_hash=self._options.split == "document",
            shard_tokens=self._options.shard_tokens,
            batch=self._options.batch,
            skip=max((shard.upto for shard in done), default=0),
            part=len(done),
            limit=None if limits is None else limits[group],
        )

    def _describe(
        self,
        builder: FolderBuilder,
        shards: list[ShardRecord],
        read: int,
        rejected: dict[str, int],
    ) -> None:
        """Write metadata.json, and the summary into the manifest."""
        documents = sum(shard.documents for shard in shards)
        tokens = sum(shard.tokens for shard in shards)
        text_bytes = sum(shard.text_bytes for shard in shards)
        assert read == documents + sum(rejected.values()), "a document was lost or doubled"
        if not tokens:
            raise self._nothing_left(read, rejected)
        tokenizer = self._tokenizer
        window = self._options.window
        metadata = Metadata(
            source=self._name,
            tokenizer=TokenizerRecord(
                name=tokenizer.name,
                path=str(self._where),
                fingerprint=tokenizer.fingerprint,
                vocab_size=tokenizer.vocab_size,
                bos_id=tokenizer.bos_id,
                eos_id=tokenizer.eos_id,
            ),
            dtype=token_dtype(tokenizer.vocab_size).name,
            documents=documents,
            tokens=tokens,
            text_bytes=text_bytes,
            bytes_per_token=text_bytes / tokens,
            window=window,
            stride=self._stride,
            windows=sum(count_windows(s.tokens, window, self._stride) for s in shards),
            split=self._options.split,
            split_seed=SPLIT_SEED,
            read=read,
            rejected=rejected,
            shards=shards,
        )
        metadata = self._held_out(metadata, builder.path)
        builder.write(METADATA, msgspec.json.format(msgspec.json.encode(metadata)) + b"\n")
        shown = ("documents", "tokens", "text_bytes", "bytes_per_token", "windows", "window")
        facts = {key: getattr(metadata, key) for key in (*shown, "read", "rejected")}
        builder.facts = facts | {"shards": len(shards), "tokenizer": tokenizer.name}
        if self._options.input:
            builder.facts[corpora.GIVEN] = corpora.places_of(self._options.input)

    def _nothing_left(self, read: int, rejected: dict[str, int]) -> UsageError:
        found = f"{read:,} documents read, rejected: {rejected or 'none'}"
        remedy, command = "give other text: {}", ["prepare", "--input", "FILE_OR_FOLDER"]
        given = [str(path) for path in self._options.input or ()]
        if given and rejected.get("no_text_field", 0) * 2 > read:
            remedy = "say which field holds the text: {}"
            command = ["prepare", "--input", *given, "--text-field", "NAME"]
        elif given and set(rejected) & {"not_cleaned", "no_text_field"}:
            remedy, command = "clean the text first: {}", ["cleanup", "--input", *given]
        return UsageError(
            "Nothing is left to train on.", found=found, remedy=remedy, commands=[tuple(command)]
        )

    def _held_out(self, metadata: Metadata, folder: Path) -> Metadata:
        """The metadata with a word on what a training holds out by default, where that is not
        the ordinary share; adds to the notes what the user should know.

        Raises:
            UsageError: the text is so short that nothing can be learned from it.
        """
        tables = [
            np.load(folder / f"documents_{s.name}.npy", mmap_mode="r") for s in metadata.shards
        ]
        split = split_tokens(metadata, tables, self._config.train.val_split, metadata.window)
        longest, left = split.longest_window, count_tokens(split.train)
        found = f"{metadata.tokens:,} tokens in {metadata.documents:,} "
        found += f"document{'s' * (metadata.documents != 1)}"
        if not longest:
            raise UsageError(
                "The text is too short to learn from.",
                found=found,
                remedy="add more text, and clean it: {}",
                commands=[("cleanup", "--input", "FILE_OR_FOLDER")],
            )
        if longest < metadata.window:
            where = ["--source", self._name, *["--test"] * self._options.test]
            if self._options.output is not None:
                where = ["--data", str(self.target)]
            shorter = ("train", *where, "--window", str(1 << longest.bit_length() - 1))
            message = f"The text fills no window of {metadata.window:,} tokens: of {found}, "
            message += f"{left:,} are left to learn from."
            advice = f"Add more text, or train with a shorter window: {as_typed(shorter)}"
            self.notes.append(Warned(message=message, remedy=advice))
        if split.sentence:
            self.notes.append(Warned(message=split.sentence))
        return msgspec.structs.replace(metadata, held_out=split.sentence)


def _record(shard: ShardDone) -> ShardRecord:
    return ShardRecord(
        name=shard.name,
        tokens=shard.tokens,
        documents=shard.documents,
        text_bytes=shard.text_bytes,
        largest_id=shard.largest_id,
        sha256=shard.files[f"tokens_{shard.name}.npy"].sha256,
        read=shard.read,
        rejected=shard.rejected,
        inputs=shard.inputs,
    )


def _intact(folder: Path, manifest: Manifest) -> bool:
    """Whether every file is there in full length; their content is checked when they are used."""
    paths = ((folder / name, done.bytes) for name, done in manifest.files.items())
    return all(path.is_file() and path.stat().st_size == size for path, size in paths)
