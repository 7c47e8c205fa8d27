"""The tokenize stage: train or fetch a tokenizer, encode and decode with it, measure it."""

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from threading import Event as StopSignal
from typing import Any, NamedTuple

from pipeline import corpora, missing
from pipeline.events import Event, Finished, Progress, Saved, Started, Warned
from pipeline.missing import MissingError
from pipeline.options.command import changed_flags
from pipeline.options.config import Config, TokenizeOptions
from pipeline.sources.documents import NotCleanedError, cleaned_files, read_cleaned
from pipeline.sources.input_files import PassedOver, in_words
from pipeline.tokenizer import load as loading
from pipeline.tokenizer import train as training
from pipeline.tokenizer.formats import read
from pipeline.tokenizer.tokenizer import Tokenizer
from pipeline.vocabulary import fitting_size
from utils.artefacts import Source, is_current, read_manifest, source
from utils.errors import RefusedError, UsageError, as_typed
from utils.units import human_bytes

_SAMPLE_BYTES = 1 << 20
_SAMPLE_FILES = 64
_TEXTS_SHOWN = 3
_TEXTS = ("source", "input", "text_field")
_PROBES = (
    "The quick brown fox, 1234567 times; it's fine.",
    "one  two   three    four",
    "def f(x):\n    return x\n\n\n\tdone\n",
    "naïve Ünïcødé – Ελληνικά Русский עברית العربية हिन्दी 日本語 한국어 🙂👩‍👩‍👧",
    "".join(map(chr, range(0x21, 0x7F))),
    "".join(chr(point) for point in (*range(0xA1, 0x180), 0x7FF, 0x800, 0xFFFD, 0x10FFFF)),
)
_FORMS = {
    "a space at the beginning": " x",
    "spaces at the beginning": "    x",
    "a line break at the beginning": "\nx",
    "spaces at the end": "x  ",
    "the character U+2581": "a\u2581b",
    "control characters": "a\x00b\x07c\r\nd\u2028e\x85f",
}


class Outcome(NamedTuple):
    """A tokenizer in its folder; `fresh` says that this run made it."""

    tokenizer: Tokenizer
    path: Path
    facts: dict[str, Any]
    fresh: bool


Making = Generator[Event, None, Outcome]


def run(config: Config, options: TokenizeOptions, stop: StopSignal) -> Iterator[Event]:
    """Train or fetch a tokenizer; encode, decode and measure with it."""
    _refuse_contradictions(options)
    yield Started(stage="tokenize", title=_title(config, options))
    try:
        if options.train:
            made = yield from _train(config, options, stop)
        elif options.load:
            made = yield from _load(config, options)
        else:
            made = yield from _use(config, options)
    except training.StoppedError:
        yield Finished(summary={"learned": False}, stopped=True)
        return
    except NotCleanedError as error:
        if not options.input:
            raise
        name, flags = corpora.name_of(options.input), changed_flags(options, *_TEXTS)
        again = ["tokenize", "--source", name, *flags]
        raise error.with_cleaning(options.input, name, again) from error
    answer = _answer(made.tokenizer, options)
    facts = {"tokenizer": made.tokenizer.name, **made.facts}
    yield Finished(
        summary={**answer, **facts},  # an answer is the result, else the folder is
        path=None if answer else str(made.path),
        skipped=not made.fresh and not answer and bool(options.train or options.load),
    )


def _title(config: Config, options: TokenizeOptions) -> str:
    """The first line, with the corpus where the tokenizer learns from one."""
    if options.train is None or options.input:
        return "Tokenizer"
    return config.titled("Tokenizer of", options.source)


def _refuse_contradictions(options: TokenizeOptions) -> None:
    if options.train and options.load:
        raise UsageError(
            "--train and --load exclude each other.",
            found=f"--train {options.train} and --load {options.load}",
            remedy="give one of them",
        )
    name = options.name
    if name is not None and (not name.strip() or name.startswith(".") or Path(name).name != name):
        raise UsageError(
            "The name of a tokenizer is the name of one folder.",
            found=f"--name {name!r}",
            remedy="use letters, digits, _ and -",
        )


def _train(config: Config, options: TokenizeOptions, stop: StopSignal) -> Making:
    assert options.train is not None
    passed_over: PassedOver = {}
    files, inputs = _corpus(config, options, passed_over)
    if not options.input:
        corpora.remember(config.paths.data_dir, options.source or config.source)
    target = config.paths.tokenizers_dir / (options.name or f"{options.train}_tokenizer")
    settings: dict[str, Any] = {"train": options.train, "train_mib": options.train_mib}
    if options.train == "bpe":
        settings["vocab_size"] = options.vocab_size
    if options.text_field:
        settings["text_field"] = options.text_field
    if not options.force and (done := is_current(target, "tokenize", settings, inputs)):
        return Outcome(read(target, target.name), target, done.facts, fresh=False)
    yield from _replacing(target, inputs, config, options)
    field = options.text_field or ""
    feed = training.TrainingTexts(files, options.train_mib << 20, stop, field)
    spec = yield from training.learn(options.train, options.vocab_size, feed, stop)
    tokenizer = Tokenizer(spec, target.name, training.ROLES)
    if options.train == "bpe" and tokenizer.vocab_size < options.vocab_size:
        yield Warned(
            message=f"Only {tokenizer.vocab_size} of {options.vocab_size} ids were learned: no "
            f"pair of pieces is left to join in {feed.bytes:,} bytes of text.",
            remedy="give more text, or a smaller --vocab-size",
        )
    elif options.train == "bpe" and (fit := fitting_size(feed.bytes)) < options.vocab_size:
        yield Warned(
            message=f"{options.vocab_size:,} ids are many for {human_bytes(feed.bytes)} of text: "
            "most are met too seldom to be learned, and all take parameters of the model.",
            remedy=f"--vocab-size {fit} fits this text",
        )
    learned = {"learned_from_bytes": feed.bytes, "learned_from_documents": feed.documents}
    figures = yield from _measure(config, options, tokenizer, files)
    if passed_over:
        figures["passed_over"] = in_words(passed_over)
    return (yield from _save(tokenizer, target, settings, inputs, learned | figures))


def _replacing(
    target: Path, inputs: Sequence[Source], config: Config, options: TokenizeOptions
) -> Iterator[Warned]:
    """Warn that a tokenizer learned from other texts is about to be replaced."""
    there = read_manifest(target)
    if there is None or options.force or "train" not in there.made_by.options:
        return
    if corpora.other_texts(there, there.inputs, inputs, options.input or []):
        texts = ", ".join(Path(text.path).name for text in there.inputs[:_TEXTS_SHOWN])
        more = ", ..." * (len(there.inputs) > _TEXTS_SHOWN)
        of = [] if options.input else ["--source", options.source or config.source]
        flags = changed_flags(options, "name", "source")
        command = ("tokenize", *of, *flags, "--name", f"{target.name}_2")
        yield Warned(
            message=f"{target.name}, learned from {texts}{more}, is replaced: tokens that it made "
            "no longer fit.",
            remedy=f"to keep it, stop this and give another name: {as_typed(command)}",
        )


def _load(config: Config, options: TokenizeOptions) -> Making:
    assert options.load is not None
    folder = config.paths.tokenizers_dir
    found = loading.find(options.load, folder, refetch=options.force)
    if found.saved and options.name in (None, found.name):
        return (yield from _measured(config, options, found.open(), found.saved))
    target = folder / (options.name or found.name)
    settings, inputs = {"load": options.load}, [found.origin()]
    if not options.force and is_current(target, "tokenize", settings, inputs):
        return (yield from _measured(config, options, read(target, target.name), target))
    yield Progress(done=0, message=f"fetching {options.load}")
    tokenizer = found.open()
    tokenizer.name = target.name
    yield from probed(tokenizer)
    figures = yield from _measure(config, options, tokenizer, _files_to_measure(config, options))
    return (yield from _save(tokenizer, target, settings, inputs, figures))


def probed(tokenizer: Tokenizer) -> Iterator[Warned]:
    """Encode and decode a few texts; warns of the rare forms of text that do not come back.

    Raises:
        RefusedError: the engine cannot be built, or ordinary text does not come back.
    """
    lost = [text for text in _PROBES if tokenizer.decode(tokenizer.encode(text)) != text]
    if lost:
        raise RefusedError(
            f"The tokenizer {tokenizer.name} does not give ordinary text back.",
            found=f"{lost[0]!r} comes back as {tokenizer.decode(tokenizer.encode(lost[0]))!r}",
            remedy="use another tokenizer, or train one: {}",
            commands=[("tokenize", "--train", "bpe")],
        )
    added = [t["content"] for t in tokenizer.spec["added_tokens"] if not t["special"]]
    forms = _FORMS | {f"text beside the token {text}": f"x {text} y{text}z" for text in added[:64]}
    odd = [form for form, text in forms.items() if tokenizer.decode(tokenizer.encode(text)) != text]
    if odd:
        more = f" and {len(odd) - 3} more" if len(odd) > 3 else ""
        yield Warned(
            message=f"{tokenizer.name} rewrites {', '.join(odd[:3])}{more}: prepare leaves out "
            "documents with such text.",
            remedy="train your own where every character counts: "
            + as_typed(("tokenize", "--train", "bpe")),
        )


def _use(config: Config, options: TokenizeOptions) -> Making:
    folder = config.paths.tokenizers_dir
    path = folder / options.name if options.name else loading.newest(folder)
    found = loading.find(path, folder)
    return (yield from _measured(config, options, found.open(), path))


def _measured(config: Config, options: TokenizeOptions, tokenizer: Tokenizer, path: Path) -> Making:
    """A tokenizer that exists: its known facts, or figures on the input that was asked for."""
    answers = options.encode is not None or options.decode is not None
    manifest = read_manifest(path) if path.is_dir() and not answers else None
    facts = dict(manifest.facts) if manifest else _identity(tokenizer)
    if options.input or not (answers or options.load):
        facts |= yield from _measure(config, options, tokenizer, _files_to_measure(config, options))
    return Outcome(tokenizer, path, facts, fresh=False)


def _save(
    tokenizer: Tokenizer,
    target: Path,
    settings: dict[str, Any],
    inputs: Sequence[Source],
    figures: dict[str, Any],
) -> Making:
    facts = _identity(tokenizer) | figures
    tokenizer.save(target, options=settings, inputs=inputs, facts=facts)
    yield Saved(kind="tokenizer", path=str(target), facts=facts)
    return Outcome(tokenizer, target, facts, fresh=True)


def _identity(tokenizer: Tokenizer) -> dict[str, Any]:
    return {"vocab_size": tokenizer.vocab_size, "fingerprint": tokenizer.fingerprint}


def _corpus(
    config: Config, options: TokenizeOptions, passed_over: PassedOver
) -> tuple[list[Path], list[Source]]:
    """Files to learn from, and the artefacts or files they are, for lineage; what else their
    folder holds is counted."""
    name = corpora.checked_name(options.source or config.source)
    folder = _cleaned(config, name)
    places = options.input or [folder]
    if not options.input and not folder.is_dir():
        raise MissingError(
            f"There are no clean documents of {name} yet.",
            f"no folder {folder}{corpora.others_than(name, config.paths.data_dir)}",
            commands=missing.cleaning(config, name),
        )
    files = cleaned_files(places, passed_over)
    whole = [place for place in places if place.is_dir() and read_manifest(place)]
    single = [file for file in files if file.parent not in whole]
    return files, [source(path) for path in (*whole, *single)]


def _cleaned(config: Config, name: str) -> Path:
    """The clean documents of a corpus, or those of `cleanup --test` where there are no others."""
    whole, small = config.cleaned_dir(name), config.cleaned_dir(name, test=True)
    return small if small.is_dir() and not whole.is_dir() else whole


def _files_to_measure(config: Config, options: TokenizeOptions) -> list[Path]:
    """The input, else the cleaned source where there is one."""
    folder = _cleaned(config, options.source or config.source)
    if options.input or options.source or folder.is_dir():
        return cleaned_files(options.input or [folder])
    return []


def _measure(
    config: Config, options: TokenizeOptions, tokenizer: Tokenizer, files: Sequence[Path]
) -> Generator[Event, None, dict[str, Any]]:
    if not files:
        return {}
    yield Progress(done=0, message="measuring")
    gpt2 = config.paths.tokenizers_dir / loading.KNOWN["gpt2"][1]
    other = read(gpt2, gpt2.name) if gpt2.is_dir() else None
    figures = measure(tokenizer, sample(files, options.text_field or ""), other)
    if figures and figures["exact_round_trips"] < figures["sample_documents"]:
        lost = figures["sample_documents"] - figures["exact_round_trips"]
        yield Warned(
            message=f"{lost} of {figures['sample_documents']} documents do not come back exactly: "
            f"{tokenizer.name} rewrites text before it cuts it.",
            remedy="train your own where every character counts",
        )
    return figures


def _answer(tokenizer: Tokenizer, options: TokenizeOptions) -> dict[str, Any]:
    answer: dict[str, Any] = {}
    if options.encode is not None:
        ids = tokenizer.encode(options.encode)
        size = len(options.encode.encode())
        answer |= {
            "ids": ids,
            "tokens": [tokenizer.piece(i) for i in ids],
            "count": len(ids),
            "text_bytes": size,
            "text_bytes_per_token": round(size / len(ids), 4) if ids else None,
        }
    if options.decode is not None:
        ids = _parse_ids(options.decode)
        pieces = [tokenizer.piece(i) for i in ids]
        answer |= {"text": tokenizer.decode(ids), "decoded_tokens": pieces}
    return answer


def _parse_ids(text: str) -> list[int]:
    """Ids from "1,2 3" or "[1, 2, 3]".

    Raises:
        UsageError: something else than whole numbers.
    """
    parts = text.strip().strip("[]").replace(",", " ").split()
    wrong = [part for part in parts if not (part.isascii() and part.isdigit() and len(part) < 19)]
    if wrong or not parts:
        raise UsageError(
            "These are not token ids.",
            found=repr(wrong[0][:40]) if wrong else "nothing",
            remedy='give numbers, as in --decode "123,456"',
        )
    return [int(part) for part in parts]


def sample(files: Sequence[Path], text_field: str = "", limit: int = _SAMPLE_BYTES) -> list[str]:
    """The beginnings of up to 64 files spread over `files`, `limit` bytes in all."""
    chosen = files[:: -(-len(files) // _SAMPLE_FILES)]
    each = limit // len(chosen)
    return [text for file in chosen for text in _beginning(file, text_field, each)]


def _beginning(file: Path, text_field: str, limit: int) -> Iterator[str]:
    left = limit
    for document in read_cleaned(file, text_field=text_field):
        if left <= 0:
            return
        text = document.text.encode()[:left].decode(errors="ignore")
        left -= len(document.text.encode())
        if text:
            yield text


def measure(
    tokenizer: Tokenizer,
    texts: Sequence[str],
    other: Tokenizer | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Any]:
    """Figures over `texts`; empty when there are none.

    `bytes_per_token` counts UTF-8, `compression` is its size over that of the ids as stored,
    `tokens_vs_gpt2` the number of tokens over that of `other`.
    """
    started = clock()
    encoded = tokenizer.encode_batch(texts)
    seconds = clock() - started
    tokens = sum(ids.size for ids in encoded)
    if not tokens:
        return {}
    size = sum(len(text.encode()) for text in texts)
    stored = sum(ids.nbytes for ids in encoded)
    came_back = (tokenizer.decode(i.tolist()) == t for i, t in zip(encoded, texts, strict=True))
    figures = {
        "sample_documents": len(texts),
        "sample_bytes": size,
        "sample_tokens": tokens,
        "bytes_per_token": _round(size / tokens),
        "characters_per_token": _round(sum(map(len, texts)) / tokens),
        "compression": _round(size / stored),
        "tokens_per_second": round(tokens / max(seconds, 1e-9)),
        "exact_round_trips": sum(came_back),
    }
    if other is not None and other.fingerprint != tokenizer.fingerprint:
        theirs = sum(ids.size for ids in other.encode_batch(texts))
        figures["tokens_vs_gpt2"] = _round(tokens / theirs)
    return figures


def _round(value: float) -> float:
    return round(value, 4)
