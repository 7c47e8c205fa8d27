"""What `prepare` will read: documents, tokenizer, and their division into groups."""

from collections.abc import Iterator, Sequence
from itertools import islice, pairwise
from pathlib import Path
from typing import NamedTuple

from pipeline import corpora, missing
from pipeline.missing import MissingError
from pipeline.options.command import changed_flags
from pipeline.options.config import Config, PrepareOptions
from pipeline.sources.documents import Document, cleaned_files, may_be_shared, read_documents
from pipeline.sources.lines import Damage, check_listed
from pipeline.tokenizer.load import load_tokenizer, newest, not_here, saved_folder
from pipeline.tokenizer.tokenizer import Tokenizer
from utils.artefacts import Source, read_manifest, source
from utils.files import home_path

TEST_DOCUMENTS = 10_000
GROUP_BYTES = 16 << 20
"""Small files are encoded together up to this size, so that shards are not tiny."""
PART_BYTES = 16 << 20
"""A large file of rows is shared out in parts of this size at least."""
_MOST_PARTS = 64  # of a file
_TEXTS = {"input", "text_field"}


class Group(NamedTuple):
    """Files that one worker encodes one after the other; with `end` the lines of a single one that
    begin at its bytes [begin, end)."""

    files: list[Path]
    bytes: int
    begin: int = 0
    end: int | None = None

    def documents(self, text_field: str) -> Iterator[tuple[Path, Document | Damage]]:
        """What is read for the group, and where, in order."""
        for file in self.files:
            for document in read_documents(file, text_field, self.begin, self.end):
                yield file, document


def corpus_name(config: Config, options: PrepareOptions) -> str:
    """The corpus whose tokens are made: as typed, else called as `--input`, else the configured
    one, else the one worked on last.

    Raises:
        UsageError: what was typed cannot be a name.
    """
    typed = options.name or options.source
    if typed is not None:
        return corpora.checked_name(typed)
    if options.input:
        cleaned = config.paths.data_dir.absolute() / "cleaned_articles"
        first = options.input[0].absolute()
        inside = first.relative_to(cleaned).parts if first.is_relative_to(cleaned) else ()
        return inside[0].removesuffix("_test") if inside else corpora.name_of(options.input)
    return config.source


def input_paths(config: Config, options: PrepareOptions) -> list[Path]:
    """Where the clean documents are: as given, else the source's cleaned folder.

    With --test a folder made by `cleanup --test` will do.

    Raises:
        UsageError: there are none; names the command that makes them.
    """
    if options.input:
        return options.input
    name = corpora.checked_name(options.source or config.source)
    folder, small = config.cleaned_dir(name), config.cleaned_dir(name, test=True)
    if options.test and not folder.is_dir():
        folder = small
    if not folder.is_dir() or not any(folder.iterdir()):
        raise MissingError(
            f"There are no clean documents of {name} yet.",
            f"{folder} is {'empty' if folder.is_dir() else 'not there'}"
            + (f"; {small} is, for --test" if small.is_dir() and folder != small else "")
            + corpora.others_than(name, config.paths.data_dir),
            commands=missing.cleaning(config, name),
        )
    return [folder]


def open_tokenizer(config: Config, options: PrepareOptions) -> tuple[Tokenizer, Path]:
    """The tokenizer asked for, or the newest one, and where it lies.

    Raises:
        UsageError: it is not on this machine; names the command that makes or fetches it.
    """
    folder = config.paths.tokenizers_dir
    if options.tokenizer is None:
        path = newest(folder, same_texts(config, options))
    else:
        path = saved_folder(options.tokenizer, folder) or home_path(options.tokenizer)
        if not path.exists():
            raise not_here(options.tokenizer, folder, same_texts(config, options))
    return load_tokenizer(path, folder), path


def same_texts(config: Config, options: PrepareOptions) -> list[str]:
    """The flags with which a tokenizer learns from the texts that are to be prepared."""
    if options.input is None:
        return ["--source", options.source or config.source]
    return changed_flags(options, *set(type(options).model_fields) - _TEXTS)


def lineage(inputs: Sequence[Path], tokenizer: Tokenizer, where: Path) -> list[Source]:
    """What the tokens are made from: cleaned folders as artefacts, other input file by file."""
    sources = []
    for path in inputs:
        whole = path.is_dir() and read_manifest(path) is not None
        sources += [source(p) for p in ([path] if whole else cleaned_files(path))]
    return [*sources, Source(str(where), tokenizer.fingerprint)]


def refuse_to_replace(
    config: Config, options: PrepareOptions, target: Path, inputs: Sequence[Source]
) -> None:
    """Refuse to put tokens of other texts in place of some that are there.

    Raises:
        RefusedError: they would be lost; says which.
    """
    there, name = read_manifest(target), corpus_name(config, options)
    if there is None or there.kind != "tokens":
        return
    before, now = there.inputs[:-1], inputs[:-1]  # the last one is the tokenizer
    own = {str(config.cleaned_dir(name, test=test)) for test in (False, True)}
    if own.issuperset(source.path for source in (*before, *now)):
        return
    given = options.input
    if given is None and (clean := read_manifest(config.cleaned_dir(name))):
        given = [Path(path) for path in clean.facts.get(corpora.GIVEN, ())]
    made_from = corpora.other_texts(there, before, now, given or [])
    if made_from:
        raise corpora.in_the_way(
            f"There are tokens of {name} already, made from other texts.",
            f"{there.facts.get('tokens', 0):,} tokens",
            made_from,
            target,
            there,
            ["prepare", *changed_flags(options, "output", "name")],
            ("--output", str(target)) if options.output else ("--name", name),
        )


def in_groups(files: Sequence[Path]) -> Iterator[Group]:
    """Neighbouring files up to `GROUP_BYTES` together; one larger file is a group of its own, or
    several if its lines can be shared out. Depends on the files alone, not on who encodes them."""
    group: list[Path] = []
    size = 0
    for file in files:
        more = file.stat().st_size
        if group and size + more > GROUP_BYTES:
            yield Group(group, size)
            group, size = [], 0
        count = min(_MOST_PARTS, more // PART_BYTES)
        if count > 1 and may_be_shared(file):
            borders = [more * part // count for part in range(count + 1)]
            for begin, end in pairwise(borders):
                yield Group([file], end - begin, begin, end)
            continue
        group.append(file)
        size += more
    if group:
        yield Group(group, size)


def sample_limits(groups: Sequence[Group], text_field: str) -> list[int]:
    """How many records of each group belong to the first `TEST_DOCUMENTS` of the input. Their
    files are not read to the end: they are compared with their manifest here."""
    limits, left = [], TEST_DOCUMENTS
    for group in groups:
        for file in group.files if left and not group.begin else ():
            check_listed(file)
        limits.append(sum(1 for _ in islice(group.documents(text_field), left)))
        left -= limits[-1]
    return limits
