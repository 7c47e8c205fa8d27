"""Reports of benchmarks as the stage writes them, made without models."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.benchmark.results import comparisons, ranking, task_result
from pipeline.evaluation.data import TaskData
from pipeline.evaluation.metrics import Ratio
from pipeline.evaluation.scoring import ItemScore
from pipeline.evaluation.tasks import TASKS
from pipeline.evaluation.tasks.task import Item
from pipeline.runs.results import BENCHMARKS

_GROUPS = ("island_effects", "ellipsis")
RUN = "run_2026_11_21_11_20_first"


def report(
    answers: Mapping[str, Mapping[str, Sequence[float]]], *, of: int = 400, run: str = RUN
) -> dict[str, Any]:
    """A report of checkpoints that are steps of `run`, by their names such as "step 100".

    `answers` hold what the first metric of every task gets of each item: a share of right answers,
    or where it is no accuracy the log-likelihood of 100 bytes.
    """
    results: dict[str, dict[str, Any]] = {}
    for name, by_task in answers.items():
        results[f"{run} {name}"] = {
            task: _result(task, values, of) for task, values in by_task.items()
        }
    compared = comparisons(results, {name: task.metrics[0] for name, task in TASKS.items()})
    return {
        "version": 1,
        "made_by": {"command": "benchmark", "time": "2026-11-21T11:58:00Z"},
        "checkpoints": {
            name: {
                "path": f"checkpoints/{run}/checkpoint_step_{_step(name):06}",
                "run": run,
                "name": f"step {_step(name):,}",
                "step": _step(name),
            }
            for name in results
        },
        "results": results,
        "ranking": ranking(results, compared),
        "comparisons": compared,
    }


def write(
    made: Mapping[str, Any], stamp: str = "2026_11_21_11_58_00", when: float | None = None
) -> Path:
    """Put a report where benchmarks lie."""
    path = BENCHMARKS / f"benchmark_{stamp}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(made))
    if when is not None:
        os.utime(path, (when, when))
    return path


def _step(name: str) -> int:
    return int(name.rpartition(" ")[2].replace(",", ""))


def _result(name: str, values: Sequence[float], of: int) -> dict[str, Any]:
    task = TASKS[name]
    items = tuple(
        Item((("", f"{name} {n}"),), group=_GROUPS[n % 2] if name == "blimp" else "")
        for n in range(len(values))
    )
    origin: Any = "embedded" if task.embedded is not None else "local"
    keys = tuple(item.key for item in items)
    data = TaskData(task, items, keys, origin, f"{name}.jsonl", "0123456789abcdef")
    main = task.metrics[0]
    scores = [
        ItemScore(
            {main.name: Ratio(value, 1.0 if main.form == "mean" else 100.0)}
            | {other.name: Ratio(value / 2, 1.0) for other in task.metrics[1:]}
        )
        for value in values
    ]
    recipe = {"bos": True, "before": [0], "prefix": "<s>", "window": 256, "precision": "float32",
              "quantize": "none"}  # fmt: skip
    return task_result(data, of, scores, recipe)
