"""What a benchmark says: the scores of every checkpoint and task with their intervals and recipes,
who is better at what, and a ranking; as JSON values, and as text.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, TypeAlias

from pipeline.evaluation import statistics
from pipeline.evaluation.data import TaskData
from pipeline.evaluation.metrics import Metric, Ratio
from pipeline.evaluation.scoring import ItemScore
from utils.units import counted

Result: TypeAlias = dict[str, Any]
"""One checkpoint at one task, as JSON values; see `task_result`."""
Results: TypeAlias = dict[str, dict[str, Result]]
"""By checkpoint, then by task."""


def task_result(
    data: TaskData, whole: int, scores: Sequence[ItemScore], recipe: Mapping[str, Any]
) -> Result:
    """A checkpoint's metrics over the items of `data`, of which the set has `whole`.

    `interval` is that of the first metric, the main one; ends that are not finite are None. `items`
    holds what every item adds, by its key. Items that cannot be scored are left out, with reasons;
    `cut` items lost the beginning of their context, in `joined` ones a token lies over its end.
    """
    task = data.task
    kept = [n for n, score in enumerate(scores) if not score.reason]
    metrics, intervals = {}, {}
    for metric in task.metrics:
        ratios = [scores[n].ratios[metric.name] for n in kept]
        metrics[metric.name] = _finite(metric.of(ratios)) if kept else None
        intervals[metric.name] = _interval(metric, ratios)
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
            "metrics": {metric.name: metric.title for metric in task.metrics},
            **recipe,
            "items": len(kept),
            "of": whole,
            "data": data.fingerprint,
        },
        "origin": data.origin,
        "where": data.where,
        "main": main,
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
    }


def _interval(metric: Metric, ratios: Sequence[Ratio]) -> list[float | None]:
    numerators = [ratio.numerator for ratio in ratios]
    denominators = [ratio.denominator for ratio in ratios]
    found = statistics.interval(metric.form, numerators, denominators)
    return [_finite(found.low), _finite(found.high)]


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


def comparisons(results: Results, metrics: Mapping[str, Metric]) -> list[Result]:
    """Every two checkpoints at every task that both were asked, by the main metric, over the items
    that both scored; `p_holm` is corrected for the number of comparisons (Holm 1979)."""
    found = []
    for first, second in combinations(results, 2):
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


def said(row: Result) -> str:
    """A comparison in a sentence."""
    named = f"{row['task']}: {row['first']} and {row['second']}"
    if row["better"] is None:
        least = "" if row["smallest"] is None else f"; less than {row['smallest']:.3g} cannot show"
        items = counted(row["n"], "item")
        return f"{named}: no significant difference in {row['metric']} over {items}{least}"
    low, high = row["interval"]
    return (
        f"{row['task']}: {row['better']} is better, {row['metric']} differs by "
        f"{abs(row['difference']):.3g} ({min(abs(low), abs(high)):.3g} to "
        f"{max(abs(low), abs(high)):.3g}, p {row['p_holm']:.2g})"
    )


def scope(result: Result) -> str:
    """What a score is of, so that only like is put beside like: real or embedded, whole or not."""
    of = "embedded sets of ours" if result["origin"] == "embedded" else "real sets"
    recipe = result["recipe"]
    return of if recipe["items"] >= recipe["of"] else f"{of}, samples"


def ranking(results: Results) -> list[Result]:
    """Checkpoints by their mean of centred accuracies, best first, for every scope apart.

    An accuracy is centred so that guessing is 0 and all right is 1, and the plain mean is taken
    over the tasks that all checkpoints were scored at, as in CORE (Li et al. 2024, DataComp-LM).
    """
    rows: list[Result] = []
    scopes = [scope(result) for by_task in results.values() for result in by_task.values()]
    for of in dict.fromkeys(scopes):
        tasks = [_accuracies(by_task, of) for by_task in results.values()]
        shared = sorted(set.intersection(*(set(accuracies) for accuracies in tasks)))
        if shared:
            for name, accuracies in zip(results, tasks, strict=True):
                mean = math.fsum(accuracies[task] for task in shared) / len(shared)
                rows.append(
                    {"checkpoint": name, "scope": of, "centred_mean": mean, "tasks": shared}
                )
    return sorted(rows, key=lambda row: (row["scope"], -row["centred_mean"]))


def _accuracies(by_task: Mapping[str, Result], of: str) -> dict[str, float]:
    """The centred accuracies of a checkpoint within a scope."""
    return {
        task: statistics.centred(value, result["chance"])
        for task, result in by_task.items()
        if scope(result) == of
        and result["chance"] is not None
        and (value := result["metrics"][result["main"]]) is not None
    }
