"""What `prepare` will read: documents, tokenizer, and their division into groups."""

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from pipeline import corpora
from pipeline.options.config import Config, PrepareOptions
from pipeline.sources.documents import cleaned_files, read_cleaned
from pipeline.sources.lines import check_listed
from pipeline.tokenizer.load import load_tokenizer, missing, newest, saved_folder
from pipeline.tokenizer.tokenizer import Tokenizer
from utils.artefacts import Source, read_manifest, source
from utils.errors import UsageError
from utils.files import home_path

TEST_DOCUMENTS = 10_000
GROUP_BYTES = 16 << 20
"""Small files are encoded together up to this size, so that shards are not tiny."""


def corpus_name(config: Config, options: PrepareOptions) -> str:
    """The corpus whose tokens are made: as typed, else called as `--input`, else the configured
    one, else the one worked on last.

    Raises:
        UsageError: what was typed cannot be a name.
    """
    if options.source is not None:
        return corpora.checked_name(options.source)
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
    name = corpus_name(config, options)
    folder, small = config.cleaned_dir(name), config.cleaned_dir(name, test=True)
    if options.test and not folder.is_dir():
        folder = small
    if not folder.is_dir() or not any(folder.iterdir()):
        raise UsageError(
            f"There are no clean documents of {name} yet.",
            found=f"{folder} is {'empty' if folder.is_dir() else 'not there'}"
            + (f"; {small} is, for --test" if small.is_dir() and folder != small else ""),
            remedy="make them: {}",
            commands=[corpora.cleaning(name, config.paths.data_dir)],
        )
    return [folder]


def open_tokenizer(config: Config, options: PrepareOptions) -> tuple[Tokenizer, Path]:
    """The tokenizer asked for, or the newest one, and where it lies.

    Raises:
        UsageError: it is not on this machine; names the command that makes or fetches it.
    """
    folder = config.paths.tokenizers_dir
    if options.tokenizer is None:
        path = newest(folder)
    else:
        path = saved_folder(options.tokenizer, folder) or home_path(options.tokenizer)
        if not path.exists():
            raise missing(options.tokenizer, folder)
    return load_tokenizer(path, folder), path


def lineage(inputs: Sequence[Path], tokenizer: Tokenizer, where: Path) -> list[Source]:
    """What the tokens are made from: cleaned folders as artefacts, other input file by file."""
    sources = []
    for path in inputs:
        whole = path.is_dir() and read_manifest(path) is not None
        sources += [source(p) for p in ([path] if whole else cleaned_files(path))]
    return [*sources, Source(str(where), tokenizer.fingerprint)]


def in_groups(files: Sequence[Path]) -> Iterator[list[Path]]:
    """Neighbouring files up to `GROUP_BYTES` together; one larger file is a group of its own."""
    group: list[Path] = []
    size = 0
    for file in files:
        more = file.stat().st_size
        if group and size + more > GROUP_BYTES:
            yield group
            group, size = [], 0
        group.append(file)
        size += more
    if group:
        yield group


def sample_limits(groups: Sequence[Sequence[Path]]) -> list[int]:
    """How many records of each group belong to the first `TEST_DOCUMENTS` of the input. Their
    files are not read to the end: they are compared with their manifest here."""
    limits, left = [], TEST_DOCUMENTS
    for files in groups:
        for file in files if left else ():
            check_listed(file)
        records = (document for file in files for document in read_cleaned(file))
        limits.append(sum(1 for _ in islice(records, left)))
        left -= limits[-1]
    return limits
