"""What a stage reads and makes, in words, and the steps that must come before it."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from app.commands.corpus import corpus_setting
from app.tui.forms.command_line import arguments
from app.tui.stage.form_corpus import corpus_of
from pipeline import corpora
from pipeline.options.config import BenchmarkOptions, Config
from pipeline.runs import inventory
from pipeline.runs.folders import may_be_called
from pipeline.runs.results import BENCHMARKS
from pipeline.stages import MISSING, PRODUCTS, STAGES, Product, Stage
from pipeline.vocabulary import fitting_size, text_bytes_of
from utils.artefacts import read_manifest
from utils.errors import HatcheryError, UsageError

_SHARED = ("paths", "dataset")
GIVEN = "input"
"""Stands for a command where the input of a stage is a product of none."""
_FEW = 8  # checkpoints of a run that are judged together unless others are named


class Input(NamedTuple):
    """Something a stage reads, in words, and what there is of it; `given` by the user, it is not
    made by an earlier stage."""

    what: str
    product: Product
    given: bool = False


class Output(NamedTuple):
    """Where a stage writes, and what happens if something is there already."""

    where: str
    there: str


class Step(NamedTuple):
    """A stage of a chain, with its arguments."""

    stage: Stage
    arguments: list[str]


def proposals(
    stage: Stage,
    config: Config,
    products: Mapping[str, Product] | None = None,
    corpus: str | None = None,
) -> dict[str, Any]:
    """What a form fills in where the command alone could only ask; by section.name.

    `corpus` is named by stages that work on one. A tokenizer that is there is proposed again as it
    was made; one for another corpus is called like it, and so is a run. Where another corpus has a
    newer run, what uses a model names the run of this one. Conversations are looked for in the
    documents of the corpus.
    """
    proposed: dict[str, Any] = {}
    options = getattr(config, stage.section)
    if stage.command == "download" and corpora.source_called(config.source).where != "yours":
        proposed = {"download.name": config.source}
    elif stage.command == "inference":
        proposed = {"inference.prompt": ""}
    elif stage.command == "tokenize" and not (options.load or options.encode or options.decode):
        again = _tokenizer_again(products or {}, corpus)
        fit = None if "tokenize.train" in again else _size_for_text(config, corpus)
        sized = {"tokenize.vocab_size": fit} if fit is not None else {}
        proposed = {"tokenize.train": "bpe"} | sized | again
    elif stage.command == "lima" and not (options.input or options.embedded or options.votes):
        clean = (products or {}).get("cleanup", MISSING)
        proposed = {"lima.from_corpus": config.source} if clean.usable else {}
    run = (products or {}).get("train", MISSING)
    if run.path is not None and stage.command == "benchmark" and _has_several(run.path, options):
        proposed["benchmark.every_checkpoint"] = run.path.name
    elif "run" in stage.needs and run.path is not None and run.elsewhere:
        one = stage.command == "sft"  # others compare several
        proposed[f"{stage.section}.checkpoint"] = run.path.name if one else [run.path.name]
    if corpus is not None and (setting := corpus_setting(stage, config)) is not None:
        proposed[setting] = corpus
        if stage.command == "train" and may_be_called(corpus):
            proposed["train.name"] = corpus
    default = Config()
    return {
        path: value
        for path, value in proposed.items()
        if _at(config, path) == _at(default, path) != value
    }


def _has_several(run: Path, options: BenchmarkOptions) -> bool:
    """Whether a run has a few checkpoints to compare, and no other was named."""
    return not options.checkpoint and 1 < len(inventory.checkpoints_in(run)) <= _FEW


def _at(config: Config, path: str) -> Any:
    section, _, name = path.partition(".")
    return getattr(getattr(config, section), name)


def _size_for_text(config: Config, corpus: str | None) -> int | None:
    """The vocabulary that fits the text that a tokenizer is to learn from; None where the text is
    not known, or every character gets an id."""
    if config.tokenize.input or config.tokenize.train == "char":
        return None
    size = text_bytes_of(config, corpus or config.source)
    return None if size is None else fitting_size(size)


def _tokenizer_again(products: Mapping[str, Product], corpus: str | None) -> dict[str, Any]:
    there = products.get("tokenize", MISSING)
    if there.path is not None and not there.foreign and (made := _as_made(there.path)):
        return made
    return {} if corpus is None else {"tokenize.name": corpus}


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


def inputs(
    stage: Stage, products: Mapping[str, Product], config: Config | None = None
) -> list[Input]:
    """What a stage needs, and whether it is there; what `config` gives, in place of the first
    where it stands for that."""
    given = bool(config and getattr(getattr(config, stage.section), "input", None))
    found = [
        Input(PRODUCTS.get(kind, kind), products.get(maker(kind).command, MISSING))
        for kind in stage.needs
    ]
    if given and is_made_by_others(stage):
        found[0] = Input("input", found[0].product, given=True)
    elif given and found:
        found.insert(0, Input("input", products.get(GIVEN, MISSING), given=True))
    return found


def is_made_by_others(stage: Stage) -> bool:
    """Whether an earlier stage makes what the input of this one stands for."""
    return stage.needs[:1] in (("raw",), ("cleaned",))


def maker(kind: str) -> Stage:
    """The step that makes a kind of artefact; of several the one that makes nothing else, and
    needs no such thing itself."""
    steps = [stage for stage in STAGES if stage.makes == kind and not stage.tool]
    return [stage for stage in steps if kind not in stage.needs][-1]


def output(stage: Stage, config: Config) -> Output | None:
    """Where the product goes, None for what is only shown."""
    options, source = getattr(config, stage.section), corpus_of(stage, config)
    test = bool(getattr(options, "test", False))
    if stage.makes == "run":
        return _run(config, options, "run" if stage.command != "sft" else "sft_…")
    if stage.command == "benchmark":
        where = f"{BENCHMARKS}/benchmark_….json, .txt"
        return Output(where, "each is kept; an item that was scored before is not scored again")
    if stage.command == "cleanup":
        return _corpus(config, test=test)
    if stage.command == "download" and options.name is None:
        own = corpora.source_called(source).where == "yours"
        why = f"the texts of {source} are files of yours, which need no download" if own else ""
        return Output("nothing", why or "no source is named")
    if stage.command == "lima":
        return _folder(
            config.paths.data_dir / corpora.EXAMPLES / options.set_name, forced=options.force
        )
    folders: dict[str, Path | None] = {
        "raw": config.raw_dir(getattr(options, "name", None) or source),
        "tokens": config.tokens_dir(source, test=test),
        "tokenizer": _tokenizer(config, options),
    }
    folder = getattr(options, "output", None) or folders.get(stage.makes)
    return None if folder is None else _folder(folder, forced=getattr(options, "force", False))


def _folder(folder: Path, *, forced: bool) -> Output:
    if not folder.is_dir():
        return Output(str(folder), "not there yet")
    if forced:
        return Output(str(folder), "there already: replaced once the new one is whole")
    return Output(str(folder), "there already: made again only if an input or a setting changed")


def _corpus(config: Config, *, test: bool) -> Output:
    """Where the clean documents go: never into a folder that holds those of other texts."""
    from pipeline.cleaner.corpus import made_from_others, source_name

    options = config.cleanup
    try:
        name = source_name(config, options)
    except UsageError as error:
        return Output("nothing", error.problem)
    folder = options.output or config.cleaned_dir(name, test=test)
    try:
        others = made_from_others(folder, options)
    except (HatcheryError, OSError):
        others = ""  # the stage will say what is wrong
    if others and not options.force:
        there = f"there already, made from {others}: give another Name, unless these hold those too"
        return Output(str(folder), there)
    made = _folder(folder, forced=options.force)
    return made._replace(there=f"the corpus {name}, {made.there}") if options.input else made


def _tokenizer(config: Config, options: Any) -> Path | None:
    name = getattr(options, "name", None)
    train = getattr(options, "train", None)
    name = name or (f"{train}_tokenizer" if train else None)
    return config.paths.tokenizers_dir / name if name else None


def _run(config: Config, options: Any, kind: str) -> Output:
    resumed = getattr(options, "resume", None)
    if resumed:
        return Output(str(resumed), "goes on where it stopped")
    name = getattr(options, "name", None)
    date = time.strftime("%Y_%m_%d")
    folder = config.paths.checkpoints_dir / f"{kind}_{date}_…{f'_{name}' if name else ''}"
    return Output(str(folder), "every run has a folder of its own; nothing is overwritten")


def asked(config: Config) -> list[str]:
    """What a benchmark asks, in sentences."""
    from pipeline.evaluation.tasks import TASKS

    options = config.benchmark
    named = [name for typed in options.tasks or [] for name in typed.split(",") if name in TASKS]
    tasks = [TASKS[name] for name in named]
    if not tasks:
        own = [task.title for task in TASKS.values() if task.embedded is not None]
        found = [f"sets of ours, which need no network: {', '.join(own)}"]
        found += ["and published ones that were fetched before"]
        if options.data:
            found = ["every task that Data holds"]
        if options.text:
            found.append("and Text: how well it is foretold")
    else:
        found = [", ".join(task.title for task in tasks)]
        if any(task.hub is not None and task.embedded is None for task in tasks):
            found.append("what is neither in Data nor here yet is fetched from the hub")
    much = f"a {options.preset} sample" if options.samples is None else f"{options.samples} items"
    return [*found, f"{much} of each; more items make intervals narrower"]


def missing(
    stage: Stage, products: Mapping[str, Product], *, test: bool = False, given: bool = False
) -> list[Stage]:
    """The steps before a stage whose product is missing or no longer fits, in order; where the
    first is `given` by the user, none makes it."""
    found: list[Stage] = []
    for kind in stage.needs[given:]:
        before = maker(kind)
        earlier = missing(before, products, test=test)
        anew = any(not products.get(step.command, MISSING).usable for step in earlier)
        small = test and hasattr(getattr(Config(), before.section), "test")
        if anew or small or not products.get(before.command, MISSING).usable:
            earlier.append(before)
        found += earlier
    return list(dict.fromkeys(found))


def chain(
    stage: Stage,
    typed: Mapping[str, Any],
    config: Config,
    products: Mapping[str, Product],
    corpus: str | None = None,
) -> list[Step]:
    """A stage after every step that it lacks; each gets what `typed` says of its own section
    and of those that all share, and the `corpus` that is to be named."""
    options = getattr(config, stage.section)
    test = bool(getattr(options, "test", False))
    given = bool(getattr(options, "input", None)) and is_made_by_others(stage)
    steps = []
    for step in missing(stage, products, test=test, given=given):
        known = {step.section, *_SHARED}
        own = {path: value for path, value in typed.items() if path.partition(".")[0] in known}
        if test and hasattr(getattr(config, step.section), "test"):
            own[f"{step.section}.test"] = True
        proposed = proposals(step, config, products, corpus)
        settings = proposed | own
        steps.append(Step(step, arguments(step, settings, proposed=proposed.keys() - own.keys())))
    return [*steps, Step(stage, arguments(stage, typed))]


def in_order(steps: Sequence[Step]) -> str:
    """A chain in one line."""
    return " → ".join(step.stage.title for step in steps)
