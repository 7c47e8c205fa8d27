"""What there is: the product of each stage for one corpus or for all, how old, and whether it fits.

Reads manifests and links only, so that a board can ask every second. Weights are not read and
torch is not imported.
"""

import calendar
import os
import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import corpora
from pipeline.runs import folders, inventory, judged
from pipeline.runs.progress import steps_to_go_on_to
from pipeline.runs.record import read_record
from pipeline.runs.results import BENCHMARKS
from pipeline.source_table import SOURCES
from pipeline.stages import MISSING, Product, State
from utils.artefacts import Manifest, Source, read_manifest
from utils.errors import HatcheryError
from utils.units import human_bytes, human_count

if TYPE_CHECKING:  # the app's first frame need not wait 0.1 s for all settings
    from pipeline.options.config import Config

_COUNTED = 10_000  # files of a folder named by --input, of which there may be millions
_GIVEN_SHOWN = 2


def survey_all(config: "Config") -> dict[str, dict[str, Product]]:
    """The products of every corpus that there is or could be: those with clean documents or
    tokens, the one made last first; raw folders; the named sources."""
    data = config.paths.data_dir
    raw: list[str] = []
    with suppress(OSError):
        raw = sorted(entry.name for entry in os.scandir(data / "raw") if entry.is_dir())
    known = [source.name for source in SOURCES if source.where != "yours"]
    names = dict.fromkeys([*corpora.corpora(data), *filter(corpora.is_name, raw), *known])
    return {name: survey(of_corpus(config, name)) for name in names}


def of_corpus(config: "Config", name: str) -> "Config":
    """The settings with another corpus to work on."""
    return config.model_copy(update={"dataset": config.dataset.model_copy(update={"source": name})})


def survey(config: "Config") -> dict[str, Product]:
    """The product of each stage, by its command; a stage that only shows something has none."""
    looks: dict[str, Callable[[Config], Product]] = {
        "download": _raw,
        "cleanup": _cleaned,
        "tokenize": _tokenizer,
        "prepare": _tokens,
        "train": lambda config: _run(config, "train"),
        "sft": lambda config: _run(config, "sft"),
        "benchmark": _scores,
        "lima": _examples,
    }
    return {command: _guarded(look, config) for command, look in looks.items()}


def _guarded(look: "Callable[[Config], Product]", config: "Config") -> Product:
    try:
        return look(config)
    except HatcheryError as error:
        return Product("damaged", why=error.problem)
    except OSError as error:
        return Product("damaged", why=f"{error.filename}: {error.strerror}")
    except ValueError as error:  # a name in a record that no file system takes
        return Product("damaged", why=str(error))


def _raw(config: "Config") -> Product:
    """The texts to clean: those given, else those of the corpus."""
    if config.cleanup.input:
        return given_texts(config.cleanup.input)
    source = config.source
    folder = config.raw_dir(source)
    where = corpora.source_called(source).where
    if where == "embedded":
        return Product("fresh", source, "embedded in this Python")
    if where == "yours" and not folder.is_dir():
        return _own_texts(config)
    manifest = read_manifest(folder)
    if manifest is None:
        return _put_there(source, folder)
    size = sum(written.bytes for written in manifest.files.values())
    figure = _files(len(manifest.files), size)
    return _product(folder, manifest, source, figure)


def given_texts(paths: Sequence[Path]) -> Product:
    """What --input names: how many files in it can be read, counted up to a limit."""
    from pipeline.sources.input_files import PassedOver, in_words, readable_files

    passed_over: PassedOver = {}
    shown = ", ".join(map(str, paths[:_GIVEN_SHOWN])) + ", ..." * (len(paths) > _GIVEN_SHOWN)
    try:
        files = list(islice(readable_files(paths, passed_over), _COUNTED + 1))
        there = bool(files) or any(path.exists() for path in paths)
    except OSError as error:  # a name that is too long, a folder that nobody may look into
        return Product("missing", shown, why=str(error.strerror))
    except ValueError:  # a name that no file system takes
        return Product("missing", shown, why="not there")
    if not files:
        why = f"nothing that is read here, {in_words(passed_over)}".removesuffix(", ")
        return Product("missing", shown, why=why if there else "not there")
    if len(files) > _COUNTED:
        return Product("fresh", shown, f"more than {_COUNTED:,} files")
    size = 0
    for file in files:
        with suppress(OSError):  # deleted meanwhile
            size += file.stat().st_size
    others = in_words(passed_over)
    figure = _files(len(files), size) + (f"; passed over: {others}" if others else "")
    return Product("fresh", shown, figure)


def _own_texts(config: "Config") -> Product:
    """The files that a corpus of the user's own was made from, wherever they are now."""
    folders_of_clean = [config.cleaned_dir(config.source, test=test) for test in (False, True)]
    try:
        manifest = next(filter(None, map(read_manifest, folders_of_clean)), None)
    except HatcheryError:  # which the row of Clean tells
        return Product("fresh", config.source, "your own files")
    if manifest is None:
        return Product("missing", config.source, why="no texts are known by this name")
    given = manifest.facts.get(corpora.GIVEN)
    if not isinstance(given, list) or not given:
        return Product("fresh", config.source, "your own files")
    more = f" and {len(given) - 1} more" if len(given) > 1 else ""
    return Product("fresh", config.source, f"your own files in {given[0]}{more}")


def _put_there(source: str, folder: Path) -> Product:
    """Raw files that the user copied there."""
    files = [entry.stat() for entry in os.scandir(folder)] if folder.is_dir() else []
    if not files:
        return Product("missing", source)
    figure = _files(len(files), sum(file.st_size for file in files))
    return Product("fresh", source, figure, folder, max(file.st_mtime for file in files))


def _files(count: int, size: int) -> str:
    return f"{count:,} {'file' if count == 1 else 'files'}, {human_bytes(size)}"


def _cleaned(config: "Config") -> Product:
    source = config.source
    for test in (False, True):
        folder = config.cleaned_dir(source, test=test)
        if manifest := read_manifest(folder):
            kept, read = (_number(manifest, name) for name in ("kept", "read"))
            figure = f"{kept:,.0f} document{'s' * (kept != 1)} of {read:,.0f}"
            return _product(folder, manifest, f"{source}{' (test)' * test}", figure)
    return Product("missing", source)


def _tokenizer(config: "Config") -> Product:
    """The tokenizer that prepare is told to take, or that the tokens were made with, else the
    newest one; one that was never used here should have learned from this corpus."""
    folder = _chosen_tokenizer(config)
    chosen = folder is not None
    folder = folder or _newest_tokenizer(config)
    manifest = read_manifest(folder) if folder else None
    if folder is None or manifest is None:
        return MISSING
    size = _number(manifest, "bytes_per_token")
    figure = f"{_number(manifest, 'vocab_size'):,.0f} ids"
    figure += f", {size:.2f} bytes per token" if size else ""
    product = _product(folder, manifest, folder.name, figure)
    learned_from = _learned_from(manifest)
    if chosen or learned_from in (None, config.source):
        return product
    why = f"it learned from {learned_from}, not from {config.source}"
    return product._replace(state="stale", why=why, foreign=True)


def _chosen_tokenizer(config: "Config") -> Path | None:
    if config.prepare.tokenizer:
        for folder in (
            config.paths.tokenizers_dir / config.prepare.tokenizer,
            Path(config.prepare.tokenizer),
        ):
            if folder.is_dir():
                return folder
    tokens = _tokens_manifest(config)
    used = Path(tokens[1].inputs[-1].path) if tokens and tokens[1].inputs else None
    return used if used is not None and used.is_dir() else None


def _learned_from(tokenizer: Manifest) -> str | None:
    """The corpus that a tokenizer learned from; None where it was loaded, or from other texts."""
    if "train" not in tokenizer.made_by.options or not tokenizer.inputs:
        return None
    folder = Path(tokenizer.inputs[0].path)
    inside = folder.parent.name == "cleaned_articles"
    return folder.name.removesuffix("_test") if inside else None


def _newest_tokenizer(config: "Config") -> Path | None:
    from pipeline.tokenizer.load import newest  # the tokenizers library, 60 ms

    try:
        return newest(config.paths.tokenizers_dir)
    except HatcheryError:
        return None


def _tokens_manifest(config: "Config") -> tuple[Path, Manifest] | None:
    for test in (False, True):
        folder = config.tokens_dir(config.source, test=test)
        if manifest := read_manifest(folder):
            return folder, manifest
    return None


def _tokens(config: "Config") -> Product:
    found = _tokens_manifest(config)
    if found is None:
        return Product("missing", config.source)
    folder, manifest = found
    tokens, windows = _number(manifest, "tokens"), _number(manifest, "windows")
    window = manifest.made_by.options.get("window", "?")
    figure = f"{human_count(tokens)} tokens, {windows:,.0f} windows of {window}"
    return _product(folder, manifest, config.source, figure)


def _run(config: "Config", command: str) -> Product:
    """The newest run on the corpus that `command` trains, with its best validation loss: stale
    when its data was made anew, stopped when it is not at its end and nobody trains it."""
    runs_dir = config.paths.checkpoints_dir
    known = inventory.list_runs(runs_dir)
    found = [run for run in known if folders.trained_by(runs_dir / run.name) == command]
    own = [run for run in found if corpus_of_run(runs_dir / run.name) in (None, config.source)]
    elsewhere = ""
    if found and found[:1] != own[:1]:
        corpus = corpus_of_run(runs_dir / found[0].name)
        elsewhere = f"{folders.short_name(found[0].name)} of {corpus}"
    if not own:
        return MISSING._replace(elsewhere=elsewhere)
    newest = own[0]
    folder = runs_dir / newest.name
    recorded = (folder / "run.json").is_file()
    why = _trained_on_others(folder) if recorded else ""
    total = steps_to_go_on_to(folder) if recorded and not why else None
    step = max(c.step or 0 for c in newest.checkpoints)
    state: State = "stale" if why else "fresh" if total is None else "stopped"
    figure = (
        _trained(newest.default, step) if total is None else f"stopped at {step:,} of {total:,}"
    )
    title = folders.short_name(newest.name)
    return Product(state, title, figure, folder, newest.modified, why, elsewhere=elsewhere)


def _trained(best: inventory.Checkpoint, step: int) -> str:
    """The last step of a run, and the loss of its best checkpoint with its own step."""
    if best.val_loss is None:
        return f"step {step:,}"
    at = f" at {best.step:,}" if best.step not in (None, step) else ""
    return f"step {step:,}, val {best.val_loss:.3f}{at}"


def corpus_of_run(run: Path) -> str | None:
    """The corpus that a run learned from, or the weights that it tunes; None where nothing says
    so."""
    try:
        record = read_record(run)
        if record.command == "sft":
            base = None if record.initial is None else Path(record.initial.path).parent
            return None if base in (None, run) else corpus_of_run(base)
        tokens = Path(record.data)
        manifest = read_manifest(tokens)
    except (HatcheryError, OSError, ValueError):  # also a path that no file system takes
        return None
    source = manifest.made_by.options.get("source") if manifest is not None else None
    named = re.fullmatch(r"(.+)_(?:full|test)_dataset", tokens.name)
    return source if isinstance(source, str) else named[1] if named else None


def _trained_on_others(run: Path) -> str:
    record = read_record(run)
    manifest = read_manifest(Path(record.data))
    if manifest is None or manifest.fingerprint == record.fingerprints["data"]:
        return ""
    return (
        f"its {'conversations' if record.command == 'sft' else 'tokens'} have been made anew since"
    )


_benchmarks = judged.Reader()  # which reads a file once, however often the board asks


def _scores(config: "Config") -> Product:
    """The newest benchmark of a run on the corpus, or of models that are of no run here."""
    runs_dir = config.paths.checkpoints_dir
    for report in _benchmarks.reports(BENCHMARKS).reports:
        corpora_judged = {corpus_of_run(runs_dir / run) for run in report.runs if run}
        if not corpora_judged or corpora_judged & {None, config.source}:
            runs = {folders.short_name(run) for run in report.runs if run != inventory.LOOSE}
            title = next(iter(runs)) if len(runs) == 1 else f"{len(runs) or 'other'} runs"
            return Product("fresh", title, _judged(report), report.path, report.made)
    return MISSING


def _judged(report: judged.Report) -> str:
    """The best mean accuracy, if there is one, and of how many tasks and checkpoints."""
    best, count = report.best_accuracy, len(report.results)
    tasks = len(report.tasks) if best is None else best[1]
    of = f"{tasks} task{'s' * (tasks != 1)}"
    if count > 1:
        of += f", {count} checkpoints"
    return of if best is None else f"acc {100 * best[0]:.0f} % at {of}"


def _examples(config: "Config") -> Product:
    """The newest set of conversations, whatever it was made of."""
    made = corpora.example_sets(config.paths.data_dir)
    if not made:
        return MISSING
    folder, manifest = made[0]
    kept = _number(manifest, "kept")
    kind = "pair" if manifest.facts.get("kind") == "preferences" else "conversation"
    figure = f"{kept:,.0f} {kind}{'s' * (kept != 1)}"
    figure += f", {human_count(_number(manifest, 'learned_tokens'))} tokens to learn"
    return _product(folder, manifest, folder.name, figure)


def _product(folder: Path, manifest: Manifest, title: str, figure: str) -> Product:
    why = next(filter(None, map(_changed, manifest.inputs)), "")
    made = calendar.timegm(time.strptime(manifest.made_by.time, "%Y-%m-%dT%H:%M:%SZ"))
    return Product("stale" if why else "fresh", title, figure, folder, float(made), why)


def _changed(origin: Source) -> str:
    """What became of an input that is an artefact. Plain files are not hashed for a board; the
    stage itself does that before it skips."""
    path = Path(origin.path)
    if not path.is_dir():
        return ""
    try:
        manifest = read_manifest(path)
    except HatcheryError:
        return f"{path.name} is damaged"
    if manifest is None:
        return ""
    if origin.fingerprint in (manifest.fingerprint, manifest.facts.get("fingerprint")):
        return ""  # of a tokenizer counts what determines its ids, which is among its facts
    return f"{path.name} has changed since"


def _number(manifest: Manifest, name: str) -> float:
    value: Any = manifest.facts.get(name)
    return float(value) if isinstance(value, int | float) else 0.0
