"""What a benchmark says: the scores of every checkpoint and task with their intervals and recipes,
who is better at what, and a ranking; as JSON values.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple, TypeAlias

from pipeline.benchmark.report import scope
from pipeline.benchmark.training_text import Seen
from pipeline.benchmark.wording import shown
from pipeline.evaluation import statistics
from pipeline.evaluation.contamination import is_seen
from pipeline.evaluation.data import TaskData
from pipeline.evaluation.metrics import Metric, Ratio
from pipeline.evaluation.scoring import ItemScore
from pipeline.evaluation.tasks.task import Task
from utils.units import counted

Result: TypeAlias = dict[str, Any]
"""One checkpoint at one task, as JSON values; see `task_result`."""
Results: TypeAlias = dict[str, dict[str, Result]]
"""By checkpoint, then by task."""


def task_result(
    data: TaskData,
    whole: int,
    scores: Sequence[ItemScore],
    recipe: Mapping[str, Any],
    seen: Seen | None = None,
) -> Result:
    """A checkpoint's metrics over the items of `data`, of which the set has `whole`.

    `interval` is that of the first metric, the main one; ends that are not finite are None. `items`
    holds what every item adds, by its key, `documents` the metrics of each that has a name,
    `completions` what was written behind which prompt, `contamination` the score without the items
    that were `seen` in training. Items that cannot be scored are left out, with reasons; `cut`
    items lost the beginning of their context, in `joined` ones a token lies over its end.
    """
    task = data.task
    kept = [n for n, score in enumerate(scores) if not score.reason]
    metrics, intervals = _measured(task, scores, kept)
    main = task.metrics[0].name
    groups = {data.items[n].group for n in kept if data.items[n].group}
    return {
        "metrics": metrics,
        "n": len(kept),
        "interval": intervals[main],
        "intervals": intervals,
        "recipe": {
            "task": task.name,
            "join": task.join,
            "metrics": {m.name: m.title for m in task.metrics}
            | {m.name: m.title for m in task.corpus_metrics},
            **task.recipe,
            **recipe,
            "items": len(kept),
            "asked": len(scores),
            "of": whole,
            "data": data.fingerprint,
            "revision": data.revision or None,
        },
        "origin": data.origin,
        "own": task.of_own_text,
        "where": data.where,
        "title": task.title,
        "main": main,
        "lower": not task.metrics[0].higher_is_better,
        "chance": task.chance,
        "cut": sum(score.cut for score in scores),
        "joined": sum(score.joined for score in scores),
        "left_out": _counted(score.reason for score in scores if score.reason),
        "groups": {
            group: _of_group(task.metrics[0], data, scores, kept, group) for group in sorted(groups)
        },
        "items": {
            data.keys[n]: {name: [*ratio] for name, ratio in scores[n].ratios.items()} for n in kept
        },
        "documents": _documents(data, scores, kept),
        "completions": _completions(data, scores, kept),
        "contamination": _contamination(data, scores, kept, seen or Seen(why="it was not asked")),
    }


def _measured(
    task: Task, scores: Sequence[ItemScore], kept: Sequence[int]
) -> tuple[dict[str, float | None], dict[str, list[float | None]]]:
    """Every metric over the scores that are kept, and its interval."""
    metrics: dict[str, float | None] = {}
    intervals: dict[str, list[float | None]] = {}
    for metric in task.metrics:
        ratios = [scores[n].ratios[metric.name] for n in kept]
        metrics[metric.name] = _finite(metric.of(ratios)) if kept else None
        intervals[metric.name] = _interval(metric, ratios)
    for corpus in task.corpus_metrics:
        items = [scores[n].ratios for n in kept]
        metrics[corpus.name] = _finite(corpus.of(items)) if kept else None
        intervals[corpus.name] = _ends(corpus.interval(items))
    return metrics, intervals


def _contamination(
    data: TaskData, scores: Sequence[ItemScore], kept: Sequence[int], seen: Seen
) -> Result:
    """How many items stand in the training text, and the metrics without them."""
    shares = seen.shares.get(data.task.name)
    if shares is None:
        return {"checked": False, "why": seen.why}
    of_items = {n: shares.get(data.items[n].key) for n in kept}
    unseen = [n for n, share in of_items.items() if not is_seen(data.task, share or 0.0)]
    metrics, intervals = _measured(data.task, scores, unseen) if unseen else ({}, {})
    return {
        "checked": True,
        "items": len(kept) - len(unseen),
        "share": (len(kept) - len(unseen)) / len(kept) if kept else 0.0,
        "n_without": len(unseen),
        "metrics_without": metrics,
        "interval_without": intervals.get(data.task.metrics[0].name),
        "too_short": sum(share is None for share in of_items.values()),
        "rule": seen.rule,
        "training": seen.where,
        "partly": seen.partly,
    }


def _documents(data: TaskData, scores: Sequence[ItemScore], kept: Sequence[int]) -> list[Result]:
    return [
        {"name": data.items[n].name}
        | {m.name: _finite(m.of([scores[n].ratios[m.name]])) for m in data.task.metrics}
        for n in kept
        if data.items[n].name
    ]


def _completions(data: TaskData, scores: Sequence[ItemScore], kept: Sequence[int]) -> list[Result]:
    if data.task.kind != "completions":
        return []
    return [
        {
            "prompt": data.items[n].requests[0][0],
            "reference": data.items[n].answers[0],
            "written": scores[n].text,
        }
        for n in kept
    ]


def _interval(metric: Metric, ratios: Sequence[Ratio]) -> list[float | None]:
    numerators = [ratio.numerator for ratio in ratios]
    denominators = [ratio.denominator for ratio in ratios]
    return _ends(statistics.interval(metric.form, numerators, denominators))


def _ends(interval: statistics.Interval) -> list[float | None]:
    return [_finite(interval.low), _finite(interval.high)]


def _of_group(
    metric: Metric, data: TaskData, scores: Sequence[ItemScore], kept: Sequence[int], group: str
) -> Result:
    ratios = [scores[n].ratios[metric.name] for n in kept if data.items[n].group == group]
    interval = _interval(metric, ratios)
    return {metric.name: _finite(metric.of(ratios)), "n": len(ratios), "interval": interval}


def _counted(reasons: Any) -> dict[str, int]:
    counts: dict[str, int] = {}
    for reason in reasons:
        counts[reason] = counts.get(reason, 0) + 1
    return counts


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def comparisons(
    results: Results, metrics: Mapping[str, Metric], last: str | None = None
) -> list[Result]:
    """Every two checkpoints at every task that both were asked, by the main metric, over the items
    that both scored; `p_holm` is corrected for the number of comparisons (Holm 1979).

    Of the many checkpoints of a run each is compared with its `last` alone: all pairs of them are
    so many that none could be told apart.
    """
    found = []
    pairs = [*combinations(results, 2)]
    if last in results:
        pairs = [(name, last) for name in results if name != last]
    for first, second in pairs:
        for task in results[first]:
            a, b = results[first][task], results[second].get(task)
            if b is None or "items" not in a or "items" not in b:
                continue
            shared = [key for key in a["items"] if key in b["items"]]
            if shared:
                found.append(_compared(first, second, metrics[task], a, b, shared))
    for row, p in zip(found, statistics.holm([row["p"] for row in found]), strict=True):
        row["p_holm"] = float(p)
        row["significant"] = bool(p < 1 - statistics.LEVEL)
        row["better"] = row["better"] if row["significant"] else None
    return found


def _compared(
    first: str, second: str, metric: Metric, a: Result, b: Result, shared: Sequence[str]
) -> Result:
    ours = [a["items"][key][metric.name] for key in shared]
    theirs = [b["items"][key][metric.name] for key in shared]
    compared = statistics.compare(
        [ratio[0] for ratio in ours],
        [ratio[0] for ratio in theirs],
        [ratio[1] for ratio in ours],
        metric.form,
    )
    return {
        "first": first,
        "second": second,
        "task": a["recipe"]["task"],
        "metric": metric.name,
        "n": compared.n,
        "difference": _finite(compared.difference),
        "interval": [_finite(compared.low), _finite(compared.high)],
        "p": compared.p,
        "smallest": _finite(compared.smallest),
        "better": {"first": first, "second": second, None: None}[compared.better],
    }


def ranking(results: Results, compared: Sequence[Result]) -> list[Result]:
    """Checkpoints by their mean of centred accuracies, best first, for every scope apart.

    An accuracy is centred so that guessing is 0 and all right is 1, and the plain mean is taken
    over the tasks that all checkpoints were scored at, as in CORE (Li et al. 2024, DataComp-LM).
    Its `interval` is put together from those of the tasks, which share no items (MOVER, Zou and
    Donner 2008); 93 to 96 % of them held the truth over 400 sets of 2 to 5 simulated models at 3 or
    6 tasks of 20 to 1,000 items, and of two equal models one led in 3 to 6 % of sets. `best` is a
    first one that leads each of the others by more than chance: the same of the paired differences
    in `compared`; None where not all were compared with it.
    """
    rows: list[Result] = []
    scopes = [scope(result) for by_task in results.values() for result in by_task.values()]
    for of in dict.fromkeys(scopes):
        tasks = [_accuracies(by_task, of) for by_task in results.values()]
        shared = sorted(set.intersection(*(set(accuracies) for accuracies in tasks)))
        if shared:
            own: list[Result] = [
                {"checkpoint": name, "scope": of, "tasks": shared, "best": False}
                | _centred_mean([accuracies[task] for task in shared])
                for name, accuracies in zip(results, tasks, strict=True)
            ]
            own.sort(key=lambda row: -row["centred_mean"])
            first, *others = own
            chances = {task: next(iter(results.values()))[task]["chance"] for task in shared}
            leads = [
                _leads(first["checkpoint"], other["checkpoint"], chances, compared)
                for other in others
            ]
            first["best"] = None if None in leads else bool(leads) and all(leads)
            rows += own
    return sorted(rows, key=lambda row: row["scope"])


class _Centred(NamedTuple):
    """A difference or accuracy in units of what lies between guessing and all right."""

    value: float
    low: float
    high: float


def _centred_mean(parts: Sequence[_Centred]) -> Result:
    """The plain mean of independent values, and its interval."""
    mean = math.fsum(part.value for part in parts) / len(parts)
    below = math.hypot(*(part.value - part.low for part in parts)) / len(parts)
    above = math.hypot(*(part.high - part.value for part in parts)) / len(parts)
    return {"centred_mean": mean, "interval": [mean - below, mean + above]}


def _leads(
    first: str, other: str, chances: Mapping[str, float], compared: Sequence[Result]
) -> bool | None:
    """Whether the mean of `first` is above that of `other` by more than chance; None where they
    were not compared."""
    parts = []
    for row in compared:
        if row["task"] in chances and {row["first"], row["second"]} == {first, other}:
            values = [row["difference"], *row["interval"]]
            if None in values:
                return False
            scale = (1 if row["first"] == first else -1) / (1 - chances[row["task"]])
            value, low, high = (scale * part for part in values)
            parts.append(_Centred(value, min(low, high), max(low, high)))
    if len(parts) < len(chances):
        return None
    return bool(_centred_mean(parts)["interval"][0] > 0)


def _accuracies(by_task: Mapping[str, Result], of: str) -> dict[str, _Centred]:
    """The centred accuracies of a checkpoint within a scope."""
    found = {}
    for task, result in by_task.items():
        values = [result["metrics"][result["main"]], *result["interval"]]
        if scope(result) == of and result["chance"] is not None and None not in values:
            centred = (statistics.centred(value, result["chance"]) for value in values)
            found[task] = _Centred(*centred)
    return found


def trends(results: Results, steps: Mapping[str, int], compared: Sequence[Result]) -> list[Result]:
    """How every task went over the checkpoints of a run, whose `steps` are given by name: which was
    best, and whether the last is worse by more than chance."""
    found = []
    last = max(steps, key=lambda name: steps[name])
    for task, of_last in results.get(last, {}).items():
        scored = {n: results[n][task] for n in steps if task in results.get(n, {})}
        values = {n: r["metrics"][r["main"]] for n, r in scored.items() if "metrics" in r}
        values = {name: value for name, value in values.items() if value is not None}
        if last not in values or len(values) < 2:
            continue
        sign = -1 if of_last["lower"] else 1
        best = max(values, key=lambda name: (sign * values[name], steps[name]))
        rows = [row for row in compared if row["task"] == task]
        row = next((r for r in rows if {r["first"], r["second"]} == {best, last}), None)
        trend = {
            "task": task,
            "metric": of_last["main"],
            "steps": len(values),
            "best": {"checkpoint": best, "step": steps[best], "value": values[best]},
            "last": {"checkpoint": last, "step": steps[last], "value": values[last]},
            "p": row and row["p_holm"],
            "worse": row is not None and row["better"] == best,
            "alike": len(set(values.values())) == 1,
        }
        found.append(trend | {"said": _trend_said(trend)})
    return found


def _trend_said(row: Mapping[str, Any]) -> str:
    """How a task went over the steps of a run, in a sentence."""
    best, last, metric = row["best"], row["last"], row["metric"]
    over = f"{row['task']} over {counted(row['steps'], 'step')}"
    at_best = f"step {best['step']:,} ({shown(metric, best['value'])})"
    at_last = f"step {last['step']:,} ({shown(metric, last['value'])})"
    if row["alike"]:
        return f"{over}: all alike, {shown(metric, last['value'])}."
    if best["step"] == last["step"]:
        return f"{over}: the last one is best, {at_last}."
    if row["worse"]:
        p = "p < 0.001" if row["p"] < 0.001 else f"p {row['p']:.2g}"
        return f"{over}: best at {at_best}; the last, {at_last}, is significantly worse ({p})."
    return f"{over}: best at {at_best}; the last, {at_last}, is not significantly worse."
