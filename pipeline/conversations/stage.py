"""lima: conversations become examples, encoded once, with the tokens marked that a model learns.

A conversation is kept whole or left out with a reason; every reason is counted, and the rejects
are kept beside the examples. Reading and encoding take seconds, so that an interrupted run begins
anew; the set appears under its name when it is whole.
"""

from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from threading import Event as StopSignal
from typing import Any

from pipeline import corpora
from pipeline.conversations.conversation import Conversation, Preference, evenly
from pipeline.conversations.encoding import Encoded, ExampleEncoder
from pipeline.conversations.example_set import FOLDER, KIND
from pipeline.conversations.origins import (
    Origin,
    from_corpus,
    from_docstrings,
    from_files,
    from_hub,
    from_votes,
)
from pipeline.conversations.publishing import (
    About,
    kept_by_longer,
    publish,
    reasons_of,
    template_sha256,
)
from pipeline.conversations.shapes import Parsed
from pipeline.events import Event, Example, Finished, Progress, Rejected, Saved, Started, Warned
from pipeline.options.command import changed_flags
from pipeline.options.config import Config
from pipeline.options.tuning import LimaOptions
from pipeline.runs.results import BENCHMARKS
from pipeline.sources.input_files import PassedOver, in_words
from pipeline.sources.rejection import Rejection
from pipeline.tokenizer.load import load_tokenizer, newest, saved_folder
from utils.artefacts import FolderBuilder, Source, build_folder, is_current, read_manifest
from utils.errors import RefusedError, UsageError, as_typed
from utils.files import home_path
from utils.verification import verify

_SHOWN_REJECTS = 3  # of each reason, as events; all are counted and kept in the file
_SHOWN_EXAMPLES, _SHOWN_TEXT = 2, 300  # of each rule, and characters of a text
_READ_BETWEEN = 1000  # rows between two words on how far the reading is


class _StoppedError(Exception):
    """Leaves the build without publishing it."""


def run(config: Config, options: LimaOptions, stop: StopSignal) -> Iterator[Event]:
    """Encode conversations, or pairs of answers, for the model of one tokenizer.

    Raises:
        UsageError: there is nothing to read, or nothing of it can be learned.
        RefusedError: the set would take the place of another; the chat template is unusable.
        NetworkError: LIMA was not given as a file and cannot be fetched.
    """
    _check_origin(options)
    build = _Build(config, options)
    yield Started(stage="lima", title=build.title, unit="conversations")
    origin = yield from build.origin(stop)
    if origin is None:
        yield Finished(stopped=True)
        return
    build.refuse_to_replace(origin)
    inputs = build.inputs(origin)
    current = is_current(build.target, "lima", build.plan, inputs)
    if current and not options.force and _intact(build.target):
        yield Finished(summary=current.facts, path=str(build.target), skipped=True)
        return
    try:
        with build_folder(
            build.target, kind=KIND, command="lima", options=build.plan, inputs=inputs
        ) as builder:
            yield from build.fill(builder, origin, stop)
    except _StoppedError:
        yield Finished(stopped=True)
        return
    yield from build.notes
    yield Saved(kind=KIND, path=str(build.target), facts=builder.facts)
    yield Finished(summary=builder.facts, path=str(build.target))


def _check_origin(options: LimaOptions) -> None:
    given = {
        "--input": bool(options.input),
        "--from": options.from_corpus is not None,
        "--embedded": options.embedded,
        "--votes": options.votes,
    }
    named = [flag for flag, there in given.items() if there]
    if len(named) > 1:
        raise UsageError(
            f"A set is made of one thing: {' and '.join(named)} are two.",
            remedy="make a set of each",
        )


def _intact(target: Path) -> bool:
    try:
        verify(target)
    except RefusedError:
        return False
    return True


class _Build:
    """One run of the stage: what it reads, and the plan that a rerun is compared with."""

    def __init__(self, config: Config, options: LimaOptions) -> None:
        self._config, self._options = config, options
        folder = config.paths.tokenizers_dir
        self._where = newest(folder) if options.tokenizer is None else _path_of(options, folder)
        self._tokenizer = load_tokenizer(self._where, folder)
        self._encoder = ExampleEncoder(self._tokenizer)
        self._passed_over: PassedOver = {}
        self._rejected: list[Rejection] = []
        self._shown: Counter[str] = Counter()
        if options.from_corpus is not None:
            corpora.checked_name(options.from_corpus)
        self.name = options.set_name
        if not corpora.is_name(self.name):
            raise UsageError(
                f"{self.name!r} cannot be the name of a set.",
                found="it becomes the name of a folder",
                remedy="use letters, digits, _ and -, at most 100 bytes",
            )
        self.target = config.paths.data_dir / FOLDER / self.name
        self.plan: dict[str, Any] = {
            "input": corpora.places_of(options.input) if options.input else None,
            "from_corpus": options.from_corpus,
            "embedded": options.embedded,
            "votes": options.votes,
            "tokenizer": options.tokenizer or self._where.name,
            "name": self.name,
            "max_length": options.max_length,
            "val_split": options.val_split,
        }
        self.notes: list[Warned] = []

    @property
    def title(self) -> str:
        """The first line: which set, for which tokenizer."""
        return f"Conversations {self.name} for {self._tokenizer.name}"

    def origin(self, stop: StopSignal) -> Generator[Event, None, Origin | None]:
        """What is read; None where it was stopped."""
        options = self._options
        if options.votes:
            return from_votes(BENCHMARKS)
        if options.input:
            return from_files(options.input, self._passed_over)
        if options.embedded:
            return from_docstrings()
        if options.from_corpus is not None:
            return from_corpus(self._config, options.from_corpus)
        return (yield from from_hub(self._config.paths.data_dir, stop))

    def inputs(self, origin: Origin) -> list[Source]:
        """What the set is made from; the template and the tokenizer come last."""
        template = Source(f"{self._where} chat template", template_sha256(self._tokenizer))
        return [*origin.lineage, template, Source(str(self._where), self._tokenizer.fingerprint)]

    def refuse_to_replace(self, origin: Origin) -> None:
        """Refuse to put a set of other conversations in place of one that is there."""
        there = read_manifest(self.target)
        if self._options.force or there is None or there.kind != KIND:
            return
        before, now = there.inputs[:-2], origin.lineage
        known = {source.path for source in now} | {source.fingerprint for source in now}
        if any({source.path, source.fingerprint} & known for source in before):
            return
        raise corpora.in_the_way(
            f"There is a set {self.name} already, made from other conversations.",
            f"{there.facts.get('kept', 0):,} conversations",
            ", ".join(source.path for source in before[:3]),
            self.target,
            there,
            ["lima", *changed_flags(self._options, "name")],
            ("--name", self.name),
        )

    def fill(self, builder: FolderBuilder, origin: Origin, stop: StopSignal) -> Iterator[Event]:
        """Make everything in the folder."""
        found: list[Parsed] = yield from self._read(origin, stop)
        encoded: list[Encoded] = []
        kept: list[Parsed] = []
        lengths: list[int] = []
        for number, parsed in enumerate(found):
            if number % self._options.batch_size == 0:
                if stop.is_set():
                    raise _StoppedError
                yield Progress(done=number, total=len(found), unit="conversations")
            result = self._encoder.encode(parsed.item)
            if isinstance(result, Encoded):
                lengths.append(result.length)
                if result.length <= self._options.max_length:
                    kept.append(parsed)
                    encoded.append(result)
                    continue
                tokens = f"{result.length:,} tokens"
                result = Rejection("too_long", parsed.item.where, tokens)
            yield from self._reject(result)
        yield Progress(done=len(found), total=len(found), unit="conversations")
        if not kept:
            raise self._nothing_left(lengths)
        self._note(lengths)
        yield from _preview(kept)
        about = About(
            name=self.name,
            sources=[source.path for source in origin.lineage],
            tokenizer=self._tokenizer,
            where=self._where,
            max_length=self._options.max_length,
            val_split=self._options.val_split,
        )
        publish(builder, about, kept, encoded, lengths, self._rejected)

    def _read(self, origin: Origin, stop: StopSignal) -> Generator[Event, None, list[Parsed]]:
        """Everything that the origin holds, each once, in its order."""
        found: dict[Any, Parsed] = {}
        for number, parsed in enumerate(origin.read()):
            if number % _READ_BETWEEN == 0:
                if stop.is_set():
                    raise _StoppedError
                yield Progress(done=number, unit="conversations", message="reading")
            if isinstance(parsed, Rejection):
                yield from self._reject(parsed)
                continue
            first = found.setdefault(parsed.item._replace(where=""), parsed)
            if first is not parsed:
                where = parsed.item.where
                yield from self._reject(Rejection("duplicate", where, f"as {first.item.where}"))
        kinds = Counter(isinstance(parsed.item, Preference) for parsed in found.values())
        if len(kinds) > 1:
            raise UsageError(
                "Conversations and pairs of answers cannot be one set.",
                found=f"{kinds[False]:,} conversations and {kinds[True]:,} pairs",
                remedy="put them into files of their own, and make a set of each",
            )
        return list(found.values())

    def _reject(self, rejection: Rejection) -> Iterator[Event]:
        self._rejected.append(rejection)
        self._shown[rejection.reason] += 1
        if self._shown[rejection.reason] <= _SHOWN_REJECTS:
            reason, where, detail = rejection.reason, rejection.where, rejection.detail
            yield Rejected(rule=reason, where=where, detail=detail)

    def _again(self, **changes: Any) -> tuple[str, ...]:
        """The command of this run with other settings."""
        flags = changed_flags(self._options, *changes)
        for name, value in changes.items():
            flags += [f"--{name.replace('_', '-')}", str(value)]
        return ("lima", *flags)

    def _nothing_left(self, lengths: Sequence[int]) -> UsageError:
        counts = reasons_of(self._rejected)
        reasons = ", ".join(f"{name} {count:,}" for name, count in counts.items())
        first = next(iter(self._rejected), None)
        example = f"; first at {first.where}: {first.detail}"[:200] if first else ""
        remedy = "give conversations of a known shape: {}"
        command: tuple[str, ...] = ("lima", "--input", "FILE")
        if lengths:
            remedy = "take longer ones, where the model's context holds them: {}"
            command = self._again(max_length=1 << (min(lengths) - 1).bit_length())
        return UsageError(
            "No conversation is left to learn from.",
            found=f"left out: {reasons or 'none'}{example}",
            remedy=remedy,
            commands=[command],
        )

    def _note(self, lengths: Sequence[int]) -> None:
        """What a user should know of the set as a whole."""
        limit = self._options.max_length
        long = sum(length > limit for length in lengths)
        if long:
            advice = [
                f"{window:,} tokens keep {more:,} more: {as_typed(self._again(max_length=window))}"
                for window, more in kept_by_longer(lengths, limit).items()
                if more
            ]
            self.notes.append(
                Warned(
                    message=f"{long:,} of {len(lengths):,} conversations are longer than "
                    f"{limit:,} tokens and are left out; the longest has {max(lengths):,}.",
                    remedy="; ".join(advice),
                )
            )
        if not self._encoder.ends_answers:
            self.notes.append(
                Warned(
                    message=f"The chat template of {self._tokenizer.name} puts no control token "
                    "behind an answer: a model does not learn from it to stop.",
                    remedy="end each answer with eos_token in its template",
                )
            )
        if self._passed_over:
            self.notes.append(Warned(message=f"Passed over: {in_words(self._passed_over)}."))


def _preview(kept: Sequence[Parsed]) -> Iterator[Example]:
    """A few conversations of each rule, or form of row, from all over what was kept."""
    by_rule: dict[str, list[Conversation]] = {}
    for one in kept:
        if isinstance(one.item, Conversation):
            by_rule.setdefault(one.shape, []).append(one.item)
    for rule, found in by_rule.items():
        for index, (turns, where, _) in enumerate(evenly(found, _SHOWN_EXAMPLES)):
            asked = next((turn.content for turn in turns if turn.role == "user"), "")
            answer = next(turn.content for turn in turns if turn.role == "assistant")
            yield Example(rule, where, _short(asked), _short(answer), index)


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN_TEXT else f"{text[:_SHOWN_TEXT]}..."


def _path_of(options: LimaOptions, folder: Path) -> Path:
    return saved_folder(str(options.tokenizer), folder) or home_path(str(options.tokenizer))
