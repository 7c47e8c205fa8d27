"""The benchmark stage: checkpoints are asked the items of tasks, and what they answer is scored,
compared item by item, and written down with its recipe.
"""

import time
from collections.abc import Generator, Iterator
from pathlib import Path
from threading import Event as StopSignal
from typing import Any

import msgspec

from pipeline.benchmark.item_log import ItemLog
from pipeline.benchmark.report import format_benchmark_results, names_of, said
from pipeline.benchmark.results import Result, Results, comparisons, ranking, task_result
from pipeline.benchmark.selection import Asked, complete, select
from pipeline.evaluation.scoring import Judge, NoScoreError
from pipeline.evaluation.tasks import TASKS
from pipeline.evaluation.tasks.task import Task
from pipeline.events import Event, Finished, Progress, Saved, Scored, Started, Warned
from pipeline.inference.loading import device_for, load_model
from pipeline.options.config import BenchmarkOptions, Config
from pipeline.runs import inventory
from pipeline.runs.inventory import Checkpoint
from pipeline.runs.results import BENCHMARKS
from pipeline.runs.text_bounds import text_bounds
from pipeline.tokenizer.load import tokenizer_of
from pipeline.tokenizer.tokenizer import Tokenizer
from utils.artefacts import made_by, read_manifest
from utils.files import hash_file, unique_name, write_file, write_json
from utils.units import counted

_SINGLE = ("items", "documents")  # parts of a result that grow with its items
_EVERY = 0.2  # seconds between two reports of progress


def run(config: Config, options: BenchmarkOptions, stop: StopSignal) -> Iterator[Event]:
    """Score every checkpoint at every task; the summary of the last event holds the `results`.

    Raises:
        UsageError: no such checkpoint, task, device or file, or a checkpoint without a tokenizer.
        RefusedError: a file of a task is not whole; a checkpoint is damaged.
        NetworkError: the data of a task is not here and cannot be fetched.
        HatcheryError: no checkpoint has a score, since all compute NaN.
    """
    selected = select(config, options)
    chosen = _checkpoints(config, options)
    tokenizers = {
        key: tokenizer_of(c.path, options.tokenizer, config.paths.tokenizers_dir)
        for key, c in chosen.items()
    }
    what = f"{counted(len(chosen), 'checkpoint')} at {counted(len(selected), 'task')}"
    title = f"Judge {what} on {device_for(options)}"
    yield Started(stage="benchmark", title=title, unit="items")
    tasks = yield from complete(selected, config, options, stop)
    total = sum(len(each.sample.items) for each in tasks) * len(chosen)
    for each in tasks:
        yield from each.notes()
    results: Results = {}
    errors: list[NoScoreError] = []
    progress = _Meter(total)
    names = names_of({"results": chosen, "checkpoints": _origins(chosen)})
    for key, checkpoint in chosen.items():
        if stop.is_set():
            break
        judge, identity = yield from _judge(names[key], checkpoint, tokenizers[key], options)
        results[key] = {}
        try:
            for each in tasks:
                scored = yield from _score(judge, identity, each, options, progress, stop)
                if scored is not None:
                    results[key][each.whole.task.name] = scored
                    yield _told(names[key], each.whole.task, scored)
        except NoScoreError as error:
            errors.append(error)
            yield Warned(f"{error.problem} {error.found}.", remedy=error.remedy)
            results[key] = {each.whole.task.name: {"error": error.problem} for each in tasks}
    if errors and len(errors) == len(chosen):
        raise errors[0]
    yield from _published(chosen, results, options, stop.is_set())


def _told(name: str, task: Task, result: Result) -> Event:
    low, high = result["interval"]
    value = result["metrics"][result["main"]]
    return Scored(
        checkpoint=name,
        task=task.title,
        metric=result["main"],
        value=value,
        low=low,
        high=high,
        items=result["n"],
    )


def _checkpoints(config: Config, options: BenchmarkOptions) -> dict[str, Checkpoint]:
    """What is judged, by the name that was typed or else the label, each once."""
    directory = config.paths.checkpoints_dir
    named = {where: inventory.resolve(where, directory) for where in options.checkpoint or ()}
    if options.every_checkpoint is not None:
        run_folder = inventory.resolve(options.every_checkpoint, directory).path.parent
        steps = inventory.checkpoints_in(run_folder)
        named |= {checkpoint.label: checkpoint for checkpoint in reversed(steps)}
    if not named:
        newest = inventory.newest(config)
        named = {newest.label: newest}
    seen: dict[Path, str] = {}
    for name, checkpoint in named.items():
        seen.setdefault(checkpoint.path.resolve(), name)
    return {name: named[name] for name in seen.values()}


def _judge(
    name: str, checkpoint: Checkpoint, tokenizer: Tokenizer, options: BenchmarkOptions
) -> Generator[Event, None, tuple[Judge, dict[str, Any]]]:
    """Load a checkpoint; returns who is asked, and what decides the scores."""
    yield Progress(done=0, message=f"loading {name}")
    model, notes = load_model(checkpoint.path, name, options)
    yield from map(Warned, notes)
    before = text_bounds(checkpoint.path, tokenizer).before
    judge = Judge(
        name,
        model,
        tokenizer,
        before,
        bos=options.bos,
        window=options.window,
        batch_tokens=options.batch_tokens,
    )
    identity = {
        "weights": _weights(checkpoint.path),
        "tokenizer": tokenizer.fingerprint,
        "quantize": options.quantize,
        **judge.recipe,
    }
    return judge, identity


def _weights(path: Path) -> str:
    """What tells the weights of a checkpoint from others: its fingerprint, or checksums of its
    files."""
    manifest = read_manifest(path) if path.is_dir() else None
    if manifest is not None:
        return manifest.fingerprint
    files = [path]
    if path.is_dir():
        files = sorted([*path.glob("*.safetensors"), *path.glob("*.bin"), path / "config.json"])
    return " ".join(hash_file(file).sha256[:16] for file in files)


def _score(
    judge: Judge,
    identity: dict[str, Any],
    asked: Asked,
    options: BenchmarkOptions,
    progress: "_Meter",
    stop: StopSignal,
) -> Generator[Event, None, Result | None]:
    """Score what is not scored yet; returns the result, None where it was stopped before."""
    data, task = asked.sample, asked.sample.task
    named = {"task": task.name, "join": task.join}
    with ItemLog(BENCHMARKS, identity | named, force=options.force) as log:
        items = {item.key: item for item in data.items}
        left = [key for key in items if key not in log.scores]
        yield progress.skip(len(data.items) - len(left), f"{judge.name}: {task.title}")
        for index, score in judge.scores(task, [items[key] for key in left], stop):
            log.add(left[index], score)
            yield from progress.step()
        if any(key not in log.scores for key in items):
            return None  # stopped
        scores = [log.scores[item.key] for item in data.items]
    recipe = judge.recipe | {"quantize": options.quantize}
    result = task_result(data, len(asked.whole.items), scores, recipe)
    for reason, count in result["left_out"].items():
        yield Warned(f"{judge.name}: {counted(count, 'item')} of {task.name} left out: {reason}.")
    return result


class _Meter:
    """Progress in items over all checkpoints and tasks, said a few times a second."""

    def __init__(self, total: int) -> None:
        self._done, self._total, self._said, self._what = 0, total, 0.0, ""

    def skip(self, count: int, what: str) -> Event:
        """`count` items of the next task need not be scored."""
        self._done += count
        self._what = what
        return Progress(done=self._done, total=self._total, unit="items", message=what)

    def step(self) -> Iterator[Event]:
        """One more item is scored."""
        self._done += 1
        if time.monotonic() - self._said > _EVERY:
            self._said = time.monotonic()
            yield self.skip(0, self._what)


def _published(
    chosen: dict[str, Checkpoint], results: Results, options: BenchmarkOptions, stopped: bool
) -> Iterator[Event]:
    """Write both files, and end."""
    complete = {name: by_task for name, by_task in results.items() if by_task}
    if not complete:
        yield Finished(stopped=stopped)
        return
    scored = {n: {t: r for t, r in by.items() if "error" not in r} for n, by in complete.items()}
    scored = {name: by_task for name, by_task in scored.items() if by_task}
    typed = options.model_dump(mode="json", exclude_unset=True)
    compared = comparisons(scored, {name: t.metrics[0] for name, t in TASKS.items()})
    report: dict[str, Any] = {
        "version": 1,
        "made_by": msgspec.to_builtins(made_by("benchmark", typed)),
        "checkpoints": _origins(chosen),
        "results": complete,
        "ranking": ranking(scored, compared),
        "comparisons": compared,
    }
    stamp = time.strftime("%Y_%m_%d_%H_%M_%S")
    path = unique_name(BENCHMARKS, f"benchmark_{stamp}.json")
    write_json(path, report)
    text = path.with_suffix(".txt")
    write_file(text, format_benchmark_results(report))
    yield Saved(kind="benchmark", path=str(path), facts={"text": str(text)})
    yield Finished(summary=_summary(report), path=str(path), stopped=stopped)


def _origins(chosen: dict[str, Checkpoint]) -> dict[str, Any]:
    """Where every checkpoint is, and of which run and step, as JSON values."""
    return {
        name: {"path": str(c.path), "run": c.run, "name": c.name, "step": c.step}
        for name, c in chosen.items()
    }


def _summary(report: dict[str, Any]) -> dict[str, Any]:
    """The report without its single items, which only the file holds."""
    short = {
        name: {
            task: {k: v for k, v in r.items() if k not in _SINGLE} for task, r in by_task.items()
        }
        for name, by_task in report["results"].items()
    }
    return {
        "results": short,
        "ranking": report["ranking"],
        "comparisons": report["comparisons"],
        "said": [said(row, names_of(report)) for row in report["comparisons"]],
        "checkpoints": report["checkpoints"],
    }
