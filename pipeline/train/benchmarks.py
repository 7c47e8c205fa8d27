"""What a training measures of itself beside the loss: a few items of tasks, the same each time.

Nothing of the training is touched: no random number is drawn, and the model is left as it was.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from threading import Event as StopSignal

from model.gpt import GPT
from pipeline.evaluation import hub
from pipeline.evaluation.data import TaskData, embedded_data
from pipeline.evaluation.embedded import embedded_set
from pipeline.evaluation.scoring import Judge, NoScoreError
from pipeline.evaluation.tasks import TASKS
from pipeline.evaluation.tasks.task import Task
from pipeline.runs.text_bounds import bounds_in_training
from pipeline.tokenizer.tokenizer import Tokenizer
from utils.errors import UsageError

_USUAL = ("embedded_grammar", "embedded_python_text")
_ITEMS, _DOCUMENTS = 200, 10
_BATCH_TOKENS = 4096


class StepBenchmark:
    """A fixed set of items, asked of a model as it is.

    `tasks` are names; without any it is our grammar pairs, and texts of Python's library where
    this Python has it.

    Raises:
        UsageError: there is no such task, or its data is not here.
    """

    def __init__(
        self, name: str, tokenizer: Tokenizer, tasks: Sequence[str] | None, data_dir: Path
    ) -> None:
        self._name, self._tokenizer = name, tokenizer
        self._data = [
            _data(task, data_dir).sample(_DOCUMENTS if task.kind == "documents" else _ITEMS)
            for task in tasks_here(tasks, data_dir)
        ]

    def measure(self, model: GPT) -> dict[str, float]:
        """The main metric of every task by `task/metric`; NaN where the model computes NaN."""
        training = model.training
        model.eval()
        try:
            bounds = bounds_in_training(self._tokenizer)
            judge = Judge(
                self._name, model, self._tokenizer, bounds.before, batch_tokens=_BATCH_TOKENS
            )
            return {
                f"{data.task.name}/{data.task.metrics[0].name}": _value(judge, data)
                for data in self._data
            }
        finally:
            model.train(training)


def _value(judge: Judge, data: TaskData) -> float:
    metric = data.task.metrics[0]
    try:
        scores = [score for _, score in judge.scores(data.task, data.items, StopSignal())]
    except NoScoreError:
        return math.nan
    ratios = [score.ratios[metric.name] for score in scores if not score.reason]
    return metric.of(ratios) if ratios else math.nan


def tasks_here(names: Sequence[str] | None, data_dir: Path) -> list[Task]:
    """The tasks that are meant by `names`, the usual ones where there are none.

    Raises:
        UsageError: there is no such task, or its data is not here.
    """
    if names is None:
        usual = [TASKS[name] for name in _USUAL]
        return [task for task in usual if task.embedded and embedded_set(task.embedded).rows]
    typed = [name.strip() for some in names for name in some.split(",") if name.strip()]
    known = [n for n, task in TASKS.items() if not task.of_own_text and task.kind != "completions"]
    unknown = [name for name in typed if name not in known]
    if unknown or not typed:
        raise UsageError(
            f"A training asks no task {unknown[0]}." if unknown else "No task is named.",
            found=f"known: {', '.join(known)}",
            remedy="choose some of these: --benchmark-tasks embedded_grammar",
        )
    tasks = [TASKS[name] for name in dict.fromkeys(typed)]
    absent = [t for t in tasks if t.embedded is None and not hub.is_here(t, data_dir)]
    if absent:
        raise UsageError(
            f"The data of {absent[0].name} is not here.",
            found="a training fetches none; a benchmark that asks the task does, once",
            remedy="choose embedded ones: --benchmark-tasks embedded_grammar",
        )
    return tasks


def _data(task: Task, data_dir: Path) -> TaskData:
    return embedded_data(task) if task.embedded else hub.read_cached(task, data_dir)
