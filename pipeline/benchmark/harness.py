"""The tasks of lm-evaluation-harness on our engine: it asks and scores, our model answers.

The harness runs in a thread of its own. What it asks of a model comes over as one list of requests
at a time and is answered here, so that progress is told, a stop is heeded, and every answer is kept
on the disk as those of our own tasks are. Its metrics are taken apart into what single items add,
as far as that gives its own number again: those get intervals and are compared item by item.
"""

import difflib
import importlib
import math
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from queue import SimpleQueue
from threading import Event as StopSignal
from threading import Thread
from typing import Any, ClassVar, TypeAlias

from model.generation.batch_scoring import Likelihood, ScoredText
from pipeline.benchmark.harness_writing import Wanted, texts_written
from pipeline.benchmark.item_log import ItemLog
from pipeline.benchmark.results import Result, task_result
from pipeline.benchmark.selection import SIZES
from pipeline.evaluation.data import TaskData
from pipeline.evaluation.encoding import TextEncoder
from pipeline.evaluation.metrics import Form, Metric, Ratio, form_value
from pipeline.evaluation.scoring import ItemScore, Judge
from pipeline.evaluation.tasks.task import Item, Ratios, Row, Task
from pipeline.events import Event, Progress
from pipeline.options.config import BenchmarkOptions
from pipeline.runs.results import BENCHMARKS
from utils.artefacts import digest
from utils.errors import HatcheryError, RefusedError, UsageError

_EXACT = 1e-9  # how near a metric's parts have to come to the number of the harness
_ITEMS = 1  # place of items in a size of `SIZES`

Requests: TypeAlias = Sequence[tuple[Any, ...]]


@dataclass(frozen=True)
class _Asked:
    """What the harness asks of a model: requests of one kind, and where their answers go."""

    kind: str
    requests: Requests
    answers: "SimpleQueue[list[Any] | None]"


class _StoppedError(Exception):
    """The harness is to end: nobody waits for it any more."""


def task_names(options: BenchmarkOptions) -> list[str]:
    """The tasks of the harness that were named.

    Raises:
        UsageError: lm-eval is not installed, or has no such task.
    """
    names = [name.strip() for typed in options.harness or () for name in typed.split(",")]
    names = [name for name in dict.fromkeys(names) if name]
    if names:
        known = _tasks(options).all_tasks
        unknown = [name for name in names if name not in known]
        if unknown:
            close = difflib.get_close_matches(unknown[0], known, n=1)
            raise UsageError(
                f"lm-evaluation-harness has no task {unknown[0]}.",
                found=f"{len(known):,} tasks, with those of --data",
                remedy=f"did you mean --harness {close[0]}?"
                if close
                else "give the folder of its YAML file: --data FOLDER",
            )
    return names


def harness_results(
    judge: Judge,
    identity: Mapping[str, Any],
    names: Sequence[str],
    options: BenchmarkOptions,
    stop: StopSignal,
) -> Generator[Event, None, dict[str, Result]]:
    """What a checkpoint gets at tasks of the harness, by name; nothing where it was stopped.

    Raises:
        HatcheryError: the harness fails; says with what.
        RefusedError: a request cannot be scored, since it is too long or holds nothing.
    """
    messages: SimpleQueue[Any] = SimpleQueue()
    thread = Thread(target=_run, args=(names, options, messages), daemon=True)
    yield Progress(done=0, message=f"{judge.name}: lm-evaluation-harness reads its tasks")
    thread.start()
    while isinstance(message := messages.get(), _Asked):
        answers = None
        try:
            answers = yield from _answered(judge, identity, message, options, stop)
        finally:
            message.answers.put(answers)
    thread.join()
    if isinstance(message, _StoppedError):
        return {}
    if isinstance(message, Exception):
        if isinstance(message, HatcheryError):
            raise message
        raise HatcheryError(
            "lm-evaluation-harness ended with an error.",
            found=f"{type(message).__name__}: {(str(message).splitlines() or [''])[0]}",
            remedy="see whether lm_eval itself can run it, or leave the task out",
        ) from message
    recipe = judge.recipe | {"quantize": options.quantize, "harness": _version()}
    scored = (_result(name, message, recipe) for name in message.get("samples", {}))
    return {result["recipe"]["task"]: result for result in scored}


def _run(names: Sequence[str], options: BenchmarkOptions, messages: "SimpleQueue[Any]") -> None:
    """The harness from its tasks to its scores; its result or error is the last message."""
    answers: SimpleQueue[list[Any] | None] = SimpleQueue()

    def ask(kind: str, requests: Iterable[Any]) -> list[Any]:
        messages.put(_Asked(kind, [request.args for request in requests], answers))
        found = answers.get()
        if found is None:
            raise _StoppedError
        return found

    try:
        most = options.samples or SIZES[options.preset][_ITEMS]
        messages.put(
            _library().simple_evaluate(
                model=_engine(ask),
                tasks=list(names),
                limit=None if most == "all" else most,
                task_manager=_tasks(options),
                bootstrap_iters=0,
                log_samples=True,
            )
        )
    except BaseException as error:
        messages.put(error if isinstance(error, Exception) else RuntimeError(repr(error)))


def _engine(ask: Callable[[str, Iterable[Any]], list[Any]]) -> Any:
    """A model as the harness wants one, which has everything answered by `ask`."""
    base: Any = importlib.import_module("lm_eval.api.model").LM

    class Engine(base):  # type: ignore[misc]
        def loglikelihood(self, requests: Any, **_: Any) -> list[Any]:
            return ask("loglikelihood", requests)

        def loglikelihood_rolling(self, requests: Any, **_: Any) -> list[Any]:
            return ask("loglikelihood_rolling", requests)

        def generate_until(self, requests: Any, **_: Any) -> list[Any]:
            return ask("generate_until", requests)

    return Engine()


class _Likelihoods(Task):
    """Not a task but the likelihoods themselves: of every request the sum, and whether it is
    greedy."""

    name = "harness"
    title = "lm-evaluation-harness"
    metrics: ClassVar[tuple[Metric, ...]] = ()

    def item(self, row: Row) -> Item:
        raise TypeError("items are made of requests")

    def ratios(self, item: Item, found: Sequence[Likelihood]) -> Ratios:
        return {str(n): Ratio(one.logprob, float(one.greedy)) for n, one in enumerate(found)}


class _RollingLikelihoods(_Likelihoods):
    def texts(self, item: Item, encoder: TextEncoder) -> list[ScoredText]:
        return encoder.windows(item.requests[0][1])

    def ratios(self, item: Item, found: Sequence[Likelihood]) -> Ratios:
        return {"0": Ratio(math.fsum(one.logprob for one in found))}


def _answered(
    judge: Judge,
    identity: Mapping[str, Any],
    asked: _Asked,
    options: BenchmarkOptions,
    stop: StopSignal,
) -> Generator[Event, None, list[Any] | None]:
    """The answers to requests, in order, from the disk where they are there; None on a stop."""
    items = list(_items(asked))
    with ItemLog(
        BENCHMARKS,
        {**identity, "task": f"lm-evaluation-harness, {asked.kind}"},
        force=options.force,
    ) as log:
        left = list({item.key: item for item in items if item.key not in log.scores}.values())
        left = [] if stop.is_set() else left
        for done, (index, score) in enumerate(_answers(judge, asked.kind, left, stop), 1):
            log.add(left[index].key, score)
            message = f"{judge.name}: lm-evaluation-harness, {asked.kind}"
            yield Progress(done=done, total=len(left), unit="items", message=message)
        if any(item.key not in log.scores for item in items):
            return None  # stopped
        scores = [log.scores[item.key] for item in items]
    found: list[Any] = []
    for item, score in zip(items, scores, strict=True):
        if score.reason:
            raise RefusedError(
                "lm-evaluation-harness asks what has no score.",
                found=f"{score.reason}: {item.requests[0][1][:60]!r}",
                remedy="judge a model with a longer context, or leave the task out",
            )
        found += _as_asked(asked.kind, item, score)
    return found


def _items(asked: _Asked) -> Iterator[Item]:
    """Requests as items: those with one context, which is read once, are one."""
    if asked.kind == "loglikelihood":
        for _, group in groupby(asked.requests, key=lambda request: request[0]):
            yield Item(tuple((context, continuation) for context, continuation in group))
    elif asked.kind == "loglikelihood_rolling":
        for (text,) in asked.requests:
            yield Item((("", text),), text=text)
    else:
        for prompt, settings in asked.requests:
            yield Item(((prompt, ""),), answers=(repr(sorted(settings.items())),))


def _answers(
    judge: Judge, kind: str, items: Sequence[Item], stop: StopSignal
) -> Iterator[tuple[int, ItemScore]]:
    if kind != "generate_until":
        task = _Likelihoods() if kind == "loglikelihood" else _RollingLikelihoods()
        yield from judge.scores(task, items, stop)
        return
    wanted = [Wanted.of(item.requests[0][0], item.answers[0]) for item in items]
    for index, text in texts_written(judge, wanted, stop):
        yield index, ItemScore({}, text=text)


def _as_asked(kind: str, item: Item, score: ItemScore) -> list[Any]:
    """A score in the form that the harness knows."""
    if kind == "generate_until":
        return [score.text]
    pairs = [score.ratios[str(number)] for number in range(len(item.requests))]
    if kind == "loglikelihood_rolling":
        return [pairs[0].numerator]
    return [(pair.numerator, bool(pair.denominator)) for pair in pairs]


def _result(name: str, found: Mapping[str, Any], recipe: Mapping[str, Any]) -> Result:
    """A task's scores as the report holds them."""
    values = {
        key: value
        for key, value in found["results"][name].items()
        if isinstance(value, float | int) and "_stderr" not in key and "," in key
    }
    samples = found["samples"][name]
    filters = dict.fromkeys(sample.get("filter", "none") for sample in samples)
    parted = {}
    for key, value in values.items():
        metric, _, chosen = key.partition(",")
        kept = [s[metric] for s in samples if s.get("filter", "none") == chosen and metric in s]
        title = metric if len(filters) == 1 else f"{metric}, {chosen}"
        parted[title] = _parted(title, kept, float(value))
    return _report(name, found, recipe, parted)


_Parted: TypeAlias = tuple[Metric, list[Ratio], bool]
"""A metric, what its items add, and whether that is what the harness computes of them."""


def _parted(name: str, values: Sequence[Any], whole: float) -> _Parted:
    """A metric of the harness in parts: the form under which they give its number again."""
    try:
        ratios = [
            Ratio(*map(float, value)) if isinstance(value, tuple | list) else Ratio(float(value))
            for value in values
        ]
        x = math.fsum(r.numerator for r in ratios) / math.fsum(r.denominator for r in ratios)
        forms: tuple[Form, ...] = ("mean", "perplexity", "bits")
        for form in forms:
            if math.isclose(form_value(form, x), whole, rel_tol=_EXACT, abs_tol=_EXACT):
                return Metric(name, f"{name}, as lm-evaluation-harness", form), ratios, True
    except (TypeError, ValueError, ZeroDivisionError):
        pass
    return Metric(name, f"{name}, as lm-evaluation-harness"), [Ratio(whole)], False


def _report(
    name: str, found: Mapping[str, Any], recipe: Mapping[str, Any], parted: Mapping[str, _Parted]
) -> Result:
    samples = found["samples"][name]
    ids = list(dict.fromkeys((s["doc_id"], s["doc_hash"][:16]) for s in samples))
    exact = {title: p for title, p in parted.items() if p[2] and len(p[1]) == len(ids)}
    main = next(iter(exact or parted))
    used = exact or {main: (parted[main][0], parted[main][1] * len(ids), False)}

    class FromHarness(_Likelihoods):
        metrics: ClassVar[tuple[Metric, ...]] = tuple(metric for metric, _, _ in used.values())
        join = "as lm-evaluation-harness puts it"

    task = FromHarness()
    counts = found.get("n-samples", {}).get(name, {})
    data = TaskData(
        task,
        (Item(()),) * len(ids),
        tuple(f"{number}-{content}" for number, content in ids),
        "harness",
        f"lm-evaluation-harness {_version()}",
        digest(sorted(sample["doc_hash"] for sample in samples))[:16],
    )
    scores = [
        ItemScore({title: ratios[n] for title, (_, ratios, _) in used.items()})
        for n in range(len(ids))
    ]
    result = task_result(data, counts.get("original", len(ids)), scores, recipe)
    result["recipe"] |= {
        "task": key_of(name),
        "task_version": found.get("versions", {}).get(name),
        "few_shot": found.get("n-shot", {}).get(name),
    }
    result |= {"title": f"{name} (lm-evaluation-harness)", "form": task.metrics[0].form}
    result["metrics"] |= {t: p[1][0].numerator for t, p in parted.items() if t not in used}
    higher = found.get("higher_is_better", {}).get(name, {}).get(main.partition(",")[0])
    result["lower"] = result["lower"] if higher is None else not higher
    if not exact:  # a number of the whole set alone: its items say nothing
        result |= {"items": {}, "interval": [None, None], "intervals": {main: [None, None]}}
    return result


def key_of(name: str) -> str:
    """How results name a task of the harness: never as one of ours."""
    return f"harness:{name}"


def main_metric(result: Result) -> Metric:
    """The first metric of a result of the harness."""
    return Metric(result["main"], result["main"], result["form"])


def _library() -> Any:
    try:
        return importlib.import_module("lm_eval")
    except ImportError as error:
        raise UsageError(
            "--harness needs the package lm-eval.",
            found=f"{type(error).__name__}: {error}",
            remedy='install it: pip install -e ".[eval]", or use our own tasks: --tasks NAMES',
        ) from error


def _tasks(options: BenchmarkOptions) -> Any:
    """What the harness knows, the YAML files below the folders of --data included."""
    _library()
    folders = [str(Path(path).resolve()) for path in options.data or () if path.is_dir()]
    manager: Any = importlib.import_module("lm_eval.tasks").TaskManager
    return manager(include_path=folders or None)


def _version() -> str:
    return str(getattr(_library(), "__version__", "unknown"))
