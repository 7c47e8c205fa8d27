"""What a stage reads and makes, in words, and the steps that must come before it."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from app.tui.forms.command_line import arguments
from pipeline.options.config import Config
from pipeline.stages import MISSING, PRODUCTS, STAGES, Product, Stage
from utils.artefacts import read_manifest
from utils.errors import HatcheryError

_SHARED = ("paths", "dataset")


class Input(NamedTuple):
    """Something a stage reads, in words, and what there is of it."""

    what: str
    product: Product


class Output(NamedTuple):
    """Where a stage writes, and what happens if something is there already."""

    where: str
    there: str


class Step(NamedTuple):
    """A stage of a chain, with its arguments."""

    stage: Stage
    arguments: list[str]


def proposals(
    stage: Stage, config: Config, products: Mapping[str, Product] | None = None
) -> dict[str, Any]:
    """What a form fills in where the command alone could only ask; by section.name.

    A tokenizer that is there is proposed again as it was made.
    """
    proposed: dict[str, Any] = {}
    options = getattr(config, stage.section)
    if stage.command == "download":
        proposed = {"download.name": config.source}
    elif stage.command == "inference":
        proposed = {"inference.prompt": ""}
    elif stage.command == "tokenize" and not (options.load or options.encode or options.decode):
        there = (products or {}).get("tokenize", MISSING).path
        proposed = {"tokenize.train": "bpe"} | (_as_made(there) if there is not None else {})
    default = Config()
    return {
        path: value
        for path, value in proposed.items()
        if _at(config, path) == _at(default, path) != value
    }


def _at(config: Config, path: str) -> Any:
    section, _, name = path.partition(".")
    return getattr(getattr(config, section), name)


def _as_made(tokenizer: Path) -> dict[str, Any]:
    """The settings that trained a tokenizer; none where it was not trained here."""
    try:
        manifest = read_manifest(tokenizer)
    except (HatcheryError, OSError):
        manifest = None
    if manifest is None or "train" not in manifest.made_by.options:
        return {}
    known = ("train", "vocab_size", "train_mib")
    made = {
        name: manifest.made_by.options[name] for name in known if name in manifest.made_by.options
    }
    return {f"tokenize.{name}": value for name, value in ({"name": tokenizer.name} | made).items()}


def inputs(stage: Stage, products: Mapping[str, Product]) -> list[Input]:
    """What a stage needs, and whether it is there."""
    return [
        Input(PRODUCTS.get(kind, kind), products.get(maker(kind).command, MISSING))
        for kind in stage.needs
    ]


def maker(kind: str) -> Stage:
    """The step that makes a kind of artefact; of several the one that makes nothing else."""
    return [stage for stage in STAGES if stage.makes == kind and not stage.tool][-1]


def output(stage: Stage, config: Config) -> Output | None:
    """Where the product goes, None for what is only shown."""
    options, source = getattr(config, stage.section), config.source
    source = getattr(options, "source", None) or source
    test = bool(getattr(options, "test", False))
    if stage.makes == "run":
        return _run(config, options)
    folders: dict[str, Path | None] = {
        "raw": config.raw_dir(getattr(options, "name", None) or source),
        "cleaned": config.cleaned_dir(source, test=test),
        "tokens": config.tokens_dir(source, test=test),
        "tokenizer": _tokenizer(config, options),
    }
    folder = getattr(options, "output", None) or folders.get(stage.makes)
    if folder is None:
        return None
    if not folder.is_dir():
        return Output(str(folder), "not there yet")
    if getattr(options, "force", False):
        return Output(str(folder), "there already: replaced once the new one is whole")
    return Output(str(folder), "there already: made again only if an input or a setting changed")


def _tokenizer(config: Config, options: Any) -> Path | None:
    name = getattr(options, "name", None)
    train = getattr(options, "train", None)
    name = name or (f"{train}_tokenizer" if train else None)
    return config.paths.tokenizers_dir / name if name else None


def _run(config: Config, options: Any) -> Output:
    resumed = getattr(options, "resume", None)
    if resumed:
        return Output(str(resumed), "goes on where it stopped")
    name = getattr(options, "name", None)
    date = time.strftime("%Y_%m_%d")
    folder = config.paths.checkpoints_dir / f"run_{date}_…{f'_{name}' if name else ''}"
    return Output(str(folder), "every run has a folder of its own; nothing is overwritten")


def missing(stage: Stage, products: Mapping[str, Product], *, test: bool = False) -> list[Stage]:
    """The steps before a stage whose product is missing or no longer fits, in order."""
    found: list[Stage] = []
    for kind in stage.needs:
        before = maker(kind)
        earlier = missing(before, products, test=test)
        anew = any(products.get(step.command, MISSING).state != "fresh" for step in earlier)
        small = test and hasattr(getattr(Config(), before.section), "test")
        if anew or small or products.get(before.command, MISSING).state != "fresh":
            earlier.append(before)
        found += earlier
    return list(dict.fromkeys(found))


def chain(
    stage: Stage, typed: Mapping[str, Any], config: Config, products: Mapping[str, Product]
) -> list[Step]:
    """A stage after every step that it lacks; each gets what `typed` says of its own section
    and of those that all share."""
    test = bool(getattr(getattr(config, stage.section), "test", False))
    steps = []
    for step in missing(stage, products, test=test):
        known = {step.section, *_SHARED}
        own = {path: value for path, value in typed.items() if path.partition(".")[0] in known}
        if test and hasattr(getattr(config, step.section), "test"):
            own[f"{step.section}.test"] = True
        steps.append(Step(step, arguments(step, proposals(step, config, products) | own)))
    return [*steps, Step(stage, arguments(stage, typed))]


def in_order(steps: Sequence[Step]) -> str:
    """A chain in one line."""
    return " → ".join(step.stage.title for step in steps)
