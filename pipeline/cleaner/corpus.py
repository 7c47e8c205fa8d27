"""Which corpus cleanup makes, from which texts, and that none takes the place of another."""

import glob
from collections.abc import Sequence
from pathlib import Path

from pipeline import corpora
from pipeline.options.command import changed_flags
from pipeline.options.config import CleanupOptions, Config
from pipeline.source_table import Source, find_source
from pipeline.sources.input_files import kind_of
from utils import artefacts
from utils.artefacts import read_manifest
from utils.errors import UsageError


def source_name(config: Config, options: CleanupOptions) -> str:
    """The corpus to make: as typed, else the configured one where it can take `--input`, else
    called as that input, else the one worked on last.

    Raises:
        UsageError: what was typed cannot be a name.
    """
    typed = options.name or options.source
    if typed is not None:
        _refuse_name_of_test(config, options, typed)
        return corpora.checked_name(typed)
    configured = config.dataset.source
    takes_input = configured is not None and not corpora.source_called(configured).embedded
    if options.input and not takes_input:
        return corpora.name_of(options.input)
    return configured or config.source


def _refuse_name_of_test(config: Config, options: CleanupOptions, name: str) -> None:
    """Refuse a name whose folder is that of a trial of another corpus, unless there is a corpus
    of that name already."""
    trial_of = name.removesuffix("_test")
    there = read_manifest(config.cleaned_dir(name)) if corpora.is_name(name) else None
    if trial_of in ("", name) or (there and there.made_by.options.get("source") == name):
        return
    same = changed_flags(options, "name", "source", "test")
    raise UsageError(
        f"{name!r} cannot be the name of a corpus.",
        found=f"its folder is that of {trial_of}, cleaned with --test",
        remedy="give a name that does not end in _test, such as {}; or try a part of {}",
        commands=[
            ("cleanup", *same, "--name", f"{name}s"),
            ("cleanup", *same, "--test", "--name", trial_of),
        ],
    )


def source_of_text(name: str, config: Config, options: CleanupOptions) -> Source:
    """The source to read, which for a corpus of the user's own is its input.

    Raises:
        UsageError: there is no such source or corpus; names the nearest.
    """
    folders = [config.cleaned_dir(name, test=test) for test in (False, True)]
    own = options.input or any(map(read_manifest, folders)) or config.raw_dir(name).is_dir()
    if own:
        return corpora.source_called(name)
    source = (options.source if options.name else None) or name
    if corpora.means_path(source, config.paths.data_dir):
        raise corpora.path_for_name(source)
    try:
        return find_source(source)
    except UsageError as error:
        raise _of_your_own(error, source) from None


def _of_your_own(error: UsageError, name: str) -> UsageError:
    """The refusal of a name that nothing has, with how to give it to texts: those of a file or
    folder here that is called so, but for its suffix."""
    called = (path for path in sorted(Path().glob(f"{glob.escape(name)}.*")) if kind_of(path))
    texts = str(next(called, "FILE_OR_FOLDER"))
    return UsageError(
        error.problem,
        found=error.found,
        remedy="make a corpus of that name of your texts: {}; or see the named sources: {}",
        commands=[("cleanup", "--input", texts, "--name", name), ("download", "--list")],
    )


def text_field(config: Config, options: CleanupOptions, name: str) -> str:
    """The field of rows that holds the text; for a corpus that is cleaned again by its name the
    one that was named before. Empty: the usual ones."""
    if options.text_field or options.input:
        return options.text_field or ""
    there = [read_manifest(config.cleaned_dir(name, test=test)) for test in (options.test, False)]
    made = next((manifest.made_by.options for manifest in there if manifest), {})
    return str(made.get("text_field", ""))


def places_read(config: Config, options: CleanupOptions, name: str) -> list[str]:
    """The paths that --input names, or named when the corpus was made that is cleaned again; empty
    where the texts are those of its raw folder."""
    if options.input:
        return corpora.places_of(options.input)
    if config.raw_dir(name).is_dir():
        return []
    there = [read_manifest(config.cleaned_dir(name, test=test)) for test in (False, True)]
    recorded = (m.facts.get(corpora.GIVEN) for m in there if m is not None)
    return next((list(places) for places in recorded if places), [])


def first_line(config: Config, options: CleanupOptions, name: str) -> str:
    """The first line: which corpus it makes, and how to choose another name or text."""
    if options.name or options.source:
        return f"Clean {name}"
    if options.input and name != config.dataset.source:
        return f"Clean {name} (--name calls this corpus otherwise)"
    return config.titled("Clean")


def refuse_to_replace(
    target: Path, name: str, inputs: Sequence[artefacts.Source], options: CleanupOptions
) -> None:
    """Refuse to put other texts in place of a corpus that is there.

    The same place given again, and texts among which all earlier ones are, may be written anew.

    Raises:
        RefusedError: documents would be lost; says which.
    """
    there = read_manifest(target)
    if there is None or there.kind != "cleaned" or options.input is None:
        return
    made_from = corpora.other_texts(there, there.inputs, inputs, options.input)
    if made_from:
        raise corpora.in_the_way(
            f"There is a corpus {name} already, made from other texts.",
            f"{there.facts.get('kept', 0):,} documents",
            made_from,
            target,
            there,
            ["cleanup", *changed_flags(options, "output", "name", "source")],
            ("--output", str(options.output)) if options.output else ("--name", name),
        )


def made_from_others(target: Path, options: CleanupOptions) -> str:
    """Where the clean documents in `target` came from, in a few words; empty where there are none,
    or where `options` give the same place.

    Raises:
        RefusedError: its manifest is damaged.
    """
    there = read_manifest(target)
    if there is None or there.kind != "cleaned" or options.input is None:
        return ""
    same = there.facts.get(corpora.GIVEN) == corpora.places_of(options.input)
    return "" if same else corpora.shown_places(there, there.inputs)
