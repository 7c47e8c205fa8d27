"""What there is: the product of each stage for the chosen source, how old, and whether it fits.

Reads manifests and links only, so that a board can ask every second. Weights are not read and
torch is not imported.
"""

import calendar
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.runs import folders, inventory
from pipeline.runs.record import read_record
from pipeline.source_table import SOURCES
from pipeline.stages import MISSING, Product, State
from utils.artefacts import Manifest, Source, read_manifest
from utils.errors import HatcheryError
from utils.units import human_bytes, human_count

if TYPE_CHECKING:  # the app's first frame need not wait 0.1 s for all settings
    from pipeline.options.config import Config

_NOT_FETCHED = {"embedded": "embedded in this Python", "yours": "your own files"}


def survey(config: "Config") -> dict[str, Product]:
    """The product of each stage, by its command; a stage that only shows something has none."""
    looks: dict[str, Callable[[Config], Product]] = {
        "download": _raw,
        "cleanup": _cleaned,
        "tokenize": _tokenizer,
        "prepare": _tokens,
        "train": _run,
    }
    return {command: _guarded(look, config) for command, look in looks.items()}


def _guarded(look: "Callable[[Config], Product]", config: "Config") -> Product:
    try:
        return look(config)
    except HatcheryError as error:
        return Product("damaged", why=error.problem)
    except OSError as error:
        return Product("damaged", why=f"{error.filename}: {error.strerror}")


def _raw(config: "Config") -> Product:
    source = config.source
    folder = config.raw_dir(source)
    where = next((known.where for known in SOURCES if known.name == source), "yours")
    if where in _NOT_FETCHED:
        return Product("fresh", source, _NOT_FETCHED[where])
    manifest = read_manifest(folder)
    if manifest is None:
        return _put_there(source, folder)
    size = sum(written.bytes for written in manifest.files.values())
    figure = _files(len(manifest.files), size)
    return _product(folder, manifest, source, figure)


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
            figure = f"{kept:,.0f} documents of {read:,.0f}"
            return _product(folder, manifest, f"{source}{' (test)' * test}", figure)
    return Product("missing", source)


def _tokenizer(config: "Config") -> Product:
    """The tokenizer that the tokens were made with, else the newest one."""
    tokens = _tokens_manifest(config)
    used = Path(tokens[1].inputs[-1].path) if tokens and tokens[1].inputs else None
    folder = used if used is not None and used.is_dir() else _newest_tokenizer(config)
    manifest = read_manifest(folder) if folder else None
    if folder is None or manifest is None:
        return MISSING
    size = _number(manifest, "bytes_per_token")
    figure = f"{_number(manifest, 'vocab_size'):,.0f} ids"
    figure += f", {size:.2f} bytes per token" if size else ""
    return _product(folder, manifest, folder.name, figure)


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


def _run(config: "Config") -> Product:
    """The newest run, with its best validation loss; stale when its tokens were made anew."""
    found = [run for run in inventory.list_runs(config.paths.checkpoints_dir) if run.checkpoints]
    if not found:
        return MISSING
    newest = found[0]
    folder = config.paths.checkpoints_dir / newest.name
    best = newest.default
    figure = f"step {max(c.step or 0 for c in newest.checkpoints):,}"
    figure += f", val {best.val_loss:.3f}" if best.val_loss is not None else ""
    why = _trained_on_others(folder) if (folder / "run.json").is_file() else ""
    state: State = "stale" if why else "fresh"
    title = folders.short_name(newest.name)
    return Product(state, title, figure, folder, newest.modified, why)


def _trained_on_others(run: Path) -> str:
    record = read_record(run)
    manifest = read_manifest(Path(record.data))
    if manifest is None or manifest.fingerprint == record.fingerprints["data"]:
        return ""
    return "its tokens have been made anew since"


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
