"""The benchmark stage: checkpoints are asked the items of tasks, and what they answer is scored,
compared item by item, and written down with its recipe.
"""

import os
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from threading import Event as StopSignal
from typing import Any, TypeAlias

from pipeline.benchmark import harness
from pipeline.benchmark.candidates import examined, named
from pipeline.benchmark.endpoint import EndpointJudge
from pipeline.benchmark.item_log import ItemLog
from pipeline.benchmark.publishing import origins, published
from pipeline.benchmark.report import names_of
from pipeline.benchmark.results import Result, Results, task_result
from pipeline.benchmark.selection import Asked, complete, select
from pipeline.benchmark.training_text import Seen, TrainingTexts
from pipeline.evaluation.data import TaskData
from pipeline.evaluation.scoring import Judge, NoScoreError
from pipeline.evaluation.tasks.task import Task
from pipeline.events import Event, Progress, Scored, Started, Warned
from pipeline.inference.loading import device_for, load_model
from pipeline.options.config import BenchmarkOptions, Config
from pipeline.runs import inventory
from pipeline.runs.inventory import Checkpoint
from pipeline.runs.results import BENCHMARKS
from pipeline.runs.text_bounds import text_bounds
from pipeline.tokenizer.tokenizer import Tokenizer
from utils.artefacts import read_manifest
from utils.errors import HatcheryError, UsageError
from utils.files import hash_file
from utils.units import counted

_Loading: TypeAlias = Generator[Event, None, tuple[Judge, dict[str, Any]]]
_EVERY = 0.2  # seconds between two reports of progress


def run(config: Config, options: BenchmarkOptions, stop: StopSignal) -> Iterator[Event]:
    """Score every checkpoint at every task; the summary of the last event holds the `results`.

    Raises:
        UsageError: no such checkpoint, task, device or file, or no checkpoint has a tokenizer.
        RefusedError: a file of a task is not whole; every checkpoint is damaged.
        NetworkError: the data of a task is not here and cannot be fetched.
        HatcheryError: no checkpoint has a score, since all compute NaN.
    """
    selected = select(config, options)  # before a checkpoint is fetched
    if options.endpoint is not None:
        yield from _judge_endpoint(options.endpoint, selected, config, options, stop)
        return
    yield from judge_checkpoints(selected, named(config, options), config, options, stop)


def judge_checkpoints(
    selected: Mapping[Task, TaskData | None],
    chosen: Mapping[str, Checkpoint],
    config: Config,
    options: BenchmarkOptions,
    stop: StopSignal,
    *,
    called: bool = False,
) -> Iterator[Event]:
    """Score checkpoints by name at every task, as `run` does with those of the options; `called`
    says that a program gave them their names, by which they are then shown. The last event is a
    failure where one could not be asked, with the results of the others."""
    of_harness = harness.task_names(options)
    candidates = examined(chosen, config, options)
    tasks_asked = counted(len(selected) + len(of_harness), "task")
    what = f"{counted(len(chosen), 'checkpoint')} at {tasks_asked}"
    title = f"Judge {what} on {device_for(options)}"
    yield Started(stage="benchmark", title=title, unit="items")
    tasks = yield from complete(selected, config, options, stop)
    total = sum(len(each.sample.items) for each in tasks) * len(candidates.tokenizers)
    for each in tasks:
        yield from each.notes()
    results: Results = {}
    progress = _Meter(total)
    checkpoints = origins(chosen, called=called)
    names = names_of({"results": chosen, "checkpoints": checkpoints})
    training = TrainingTexts(config, options, tasks, BENCHMARKS)
    for key, checkpoint in chosen.items():
        if stop.is_set():
            break
        if key in candidates.tokenizers:
            try:
                loading = _judge(names[key], checkpoint, candidates.tokenizers[key], options)
                seen = yield from training.of(checkpoint.path, stop)
                results[key] = yield from _results(
                    loading, tasks, seen, of_harness, options, progress, stop
                )
            except NoScoreError as error:
                candidates.leave_out(key, error)
            except _NotLoadedError as error:
                candidates.leave_out(key, error.reason)
        if key in candidates.faults:
            yield candidates.warning(key, names[key])
            asked = [each.whole.task.name for each in tasks]
            asked += [harness.key_of(name) for name in of_harness]
            problem = candidates.faults[key].problem
            results[key] = {name: {"error": problem} for name in asked}
    candidates.refuse_if_none()
    yield from published(
        checkpoints, results, options, stop.is_set(), failure=candidates.failure(names)
    )


def _judge_endpoint(
    url: str,
    selected: Mapping[Task, TaskData | None],
    config: Config,
    options: BenchmarkOptions,
    stop: StopSignal,
) -> Iterator[Event]:
    """Score a model that another program serves.

    Raises:
        UsageError: its name or key is missing, or a task needs more than likelihoods of texts.
    """
    key = os.environ.get(options.endpoint_key_env) if options.endpoint_key_env else None
    if options.endpoint_model is None or (options.endpoint_key_env and key is None):
        raise UsageError(
            "The model of the server has no name."
            if options.endpoint_model is None
            else f"The environment holds no {options.endpoint_key_env}.",
            remedy="name the model, and where the key is if it needs one: --endpoint-model NAME "
            "--endpoint-key-env VARIABLE",
        )
    other = [task.name for task in selected if task.kind != "items" or task.ranks]
    other += harness.task_names(options)
    if other:
        raise UsageError(
            f"{other[0]} cannot be asked of a server: it needs the model itself.",
            remedy="choose tasks of questions: --tasks embedded_grammar,embedded_docstrings",
        )
    judge = EndpointJudge(url, options.endpoint_model, key)
    served = Checkpoint(Path(url), inventory.LOOSE, judge.name, None, None, 0, 0.0)
    yield Started(stage="benchmark", title=f"Judge {judge.name}", unit="items")
    tasks = yield from complete(selected, config, options, stop)
    progress = _Meter(sum(len(each.sample.items) for each in tasks))
    seen = Seen(why="what a served model learned from is not known")
    # For a day: a server may change its model.
    identity = judge.recipe | {"day": time.strftime("%Y-%m-%d")}
    results = yield from _own_results(judge, identity, tasks, seen, options, progress, stop)
    yield from published(
        origins({judge.name: served}, called=False), {judge.name: results}, options, stop.is_set()
    )


def _results(
    loading: _Loading,
    tasks: Sequence[Asked],
    seen: Seen,
    of_harness: Sequence[str],
    options: BenchmarkOptions,
    progress: "_Meter",
    stop: StopSignal,
) -> Generator[Event, None, dict[str, Result]]:
    """What a checkpoint gets, by task; nothing holds its weights afterwards."""
    judge, identity = yield from loading
    found = yield from _own_results(judge, identity, tasks, seen, options, progress, stop)
    if of_harness and not stop.is_set():
        more = yield from harness.harness_results(judge, identity, of_harness, options, stop)
        for scored in more.values():
            yield _told(judge.name, scored)
        found |= more
    return found


def _own_results(
    judge: Judge | EndpointJudge,
    identity: dict[str, Any],
    tasks: Sequence[Asked],
    seen: Seen,
    options: BenchmarkOptions,
    progress: "_Meter",
    stop: StopSignal,
) -> Generator[Event, None, dict[str, Result]]:
    """What it gets at tasks of ours."""
    found = {}
    for each in tasks:
        scored = yield from _score(judge, identity, each, seen, options, progress, stop)
        if scored is not None:
            found[each.whole.task.name] = scored
            yield _told(judge.name, scored)
    return found


def _told(name: str, result: Result) -> Event:
    low, high = result["interval"]
    value = result["metrics"][result["main"]]
    return Scored(
        checkpoint=name,
        task=result["title"],
        metric=result["main"],
        value=value,
        low=low,
        high=high,
        items=result["n"],
    )


class _NotLoadedError(Exception):
    """A checkpoint cannot be loaded, for a reason that is an error of its own."""

    def __init__(self, reason: HatcheryError) -> None:
        self.reason = reason
        super().__init__(reason.problem)


def _judge(
    name: str, checkpoint: Checkpoint, tokenizer: Tokenizer, options: BenchmarkOptions
) -> _Loading:
    """Load a checkpoint; returns who is asked, and what decides the scores.

    Raises:
        _NotLoadedError: it is damaged, there is no room for it, or it was deleted meanwhile.
    """
    yield Progress(done=0, message=f"loading {name}")
    try:
        model, notes = load_model(checkpoint.path, name, options)
    except HatcheryError as error:
        raise _NotLoadedError(error) from None
    yield from map(Warned, notes)
    bounds = text_bounds(checkpoint.path, tokenizer)
    judge = Judge(
        name,
        model,
        tokenizer,
        bounds.before,
        ends=bounds.ends,
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
    judge: Judge | EndpointJudge,
    identity: dict[str, Any],
    asked: Asked,
    seen: Seen,
    options: BenchmarkOptions,
    progress: "_Meter",
    stop: StopSignal,
) -> Generator[Event, None, Result | None]:
    """Score what is not scored yet; returns the result, None where it was stopped before."""
    data, task = asked.sample, asked.sample.task
    names = [m.name for m in task.metrics] + [m.name for m in task.corpus_metrics]
    named = {"task": task.name, "join": task.join, "metrics": names, **task.recipe}
    with ItemLog(BENCHMARKS, identity | named, force=options.force) as log:
        items = {item.key: item for item in data.items}
        left = [key for key in items if key not in log.scores]
        yield progress.skip(len(data.items) - len(left), f"{judge.name}: {task.title}")
        left = [] if stop.is_set() else left
        for index, score in judge.scores(task, [items[key] for key in left], stop):
            log.add(left[index], score)
            yield from progress.step()
        if any(key not in log.scores for key in items):
            return None  # stopped
        scores = [log.scores[item.key] for item in data.items]
    recipe = judge.recipe | {"quantize": options.quantize}
    result = task_result(data, len(asked.whole.items), scores, recipe, seen)
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
