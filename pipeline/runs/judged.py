"""The benchmarks there are: their files, newest first, and what they say of the steps of a run.

Reads `benchmark_results/benchmark_*.json` without the single items in them, and never fails:
what is damaged, or of another shape, is counted.
"""

import calendar
import csv
import io
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import msgspec

from utils import json_text
from utils.files import write_file

_Ends: TypeAlias = tuple[float | None, float | None]


class _Seen(msgspec.Struct, frozen=True):
    """The items of a task that stand in a training text, and the score without them."""

    checked: bool
    why: str = ""
    items: int = 0
    n_without: int = 0
    metrics_without: dict[str, float | None] = {}
    interval_without: _Ends | None = None
    too_short: int = 0
    rule: str = ""
    partly: str = ""


class _Result(msgspec.Struct, frozen=True, omit_defaults=True):
    """A checkpoint at a task, without its items."""

    metrics: dict[str, float | None] | None = None
    interval: _Ends = (None, None)
    intervals: dict[str, _Ends] = {}
    recipe: dict[str, Any] = {}
    n: int = 0
    origin: str = ""
    where: str = ""
    title: str = ""
    main: str = ""
    lower: bool | None = None
    chance: float | None = None
    cut: int = 0
    joined: int = 0
    left_out: dict[str, int] = {}
    groups: dict[str, dict[str, Any]] = {}
    contamination: _Seen | None = None
    error: str | None = None


class _Origin(msgspec.Struct, frozen=True):
    path: str = ""
    run: str = ""
    name: str = ""
    step: int | None = None


class _Compared(msgspec.Struct, frozen=True):
    first: str
    second: str
    task: str
    metric: str
    n: int
    p: float
    difference: float | None = None
    interval: _Ends = (None, None)
    p_holm: float | None = None
    smallest: float | None = None
    better: str | None = None


class _Ranked(msgspec.Struct, frozen=True):
    checkpoint: str
    scope: str
    centred_mean: float
    tasks: list[str]
    interval: tuple[float, float] | None = None
    best: bool | None = False


class _Trend(msgspec.Struct, frozen=True):
    task: str
    said: str


class _File(msgspec.Struct, frozen=True):
    results: dict[str, dict[str, _Result]]
    checkpoints: dict[str, _Origin] = {}
    ranking: list[_Ranked] = []
    comparisons: list[_Compared] = []
    made_by: dict[str, Any] = {}
    stopped: bool = False
    trends: list[_Trend] = []


@dataclass(frozen=True)
class Report:
    """A benchmark: `data` is its file as JSON values without single items, for
    `pipeline.benchmark.report`; `made` is in seconds since 1970."""

    path: Path
    made: float
    data: Mapping[str, Any] = field(hash=False)

    @property
    def results(self) -> Mapping[str, Mapping[str, Any]]:
        found: Mapping[str, Mapping[str, Any]] = self.data["results"]
        return found

    @property
    def tasks(self) -> list[str]:
        """The tasks of all checkpoints."""
        return list(dict.fromkeys(task for by_task in self.results.values() for task in by_task))

    @property
    def best_accuracy(self) -> tuple[float, int] | None:
        """The highest mean of accuracies that a checkpoint has over those of its tasks that have
        one, and how many these are; None where none has."""
        means = []
        for by_task in self.results.values():
            found = [result.get("metrics", {}).get("acc") for result in by_task.values()]
            values = [value for value in found if value is not None]
            means += [(sum(values) / len(values), len(values))] if values else []
        return max(means, default=None)

    @property
    def runs(self) -> set[str]:
        """The runs that its checkpoints are of."""
        return {origin["run"] for origin in self.data["checkpoints"].values()}


class Reports(NamedTuple):
    """All benchmarks, newest first, and how many files were none."""

    reports: tuple[Report, ...] = ()
    unreadable: int = 0


class Reader:
    """Reads a folder again and again; a file that has not changed is not read anew."""

    def __init__(self) -> None:
        self._known: dict[Path, tuple[tuple[int, int], Report | None]] = {}

    def reports(self, folder: Path) -> Reports:
        """What lies there now."""
        found: dict[Path, tuple[tuple[int, int], Report | None]] = {}
        for path in folder.glob("benchmark_*.json"):
            with suppress(OSError):  # deleted meanwhile
                status = path.stat()
                state = status.st_mtime_ns, status.st_size
                before = self._known.get(path)
                found[path] = before if before and before[0] == state else (state, read(path))
        self._known = found
        there = [report for _, report in found.values() if report is not None]
        there.sort(key=lambda report: (report.made, report.path.name), reverse=True)
        return Reports(tuple(there), len(found) - len(there))


def read(path: Path) -> Report | None:
    """The benchmark in a file; None where there is none that could be shown."""
    try:
        read = json_text.decode(path.read_bytes(), _File)
        made = _made(read, path)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None
    return Report(path, made, msgspec.to_builtins(read)) if _is_report(read) else None


def checked(summary: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the last event of a benchmark says, without what is no part of a report; None where it
    is none."""
    try:
        read = msgspec.convert(summary, _File)
    except msgspec.ValidationError:
        return None
    found: dict[str, Any] = msgspec.to_builtins(read)
    return found if _is_report(read) else None


def _is_report(read: _File) -> bool:
    results = [result for by_task in read.results.values() for result in by_task.values()]
    ranked = all(row.checkpoint in read.results and row.tasks for row in read.ranking)
    return bool(results) and all(map(_whole, results)) and ranked


def _whole(result: _Result) -> bool:
    """Whether a result is a score with all that says what it is of, or the reason for none."""
    if result.metrics is None:
        return result.error is not None
    counts = [result.recipe.get("items"), result.recipe.get("of")]
    counts += [part.get("n") for part in result.groups.values()]
    whole = result.main in result.metrics and all(isinstance(count, int) for count in counts)
    return whole and all(_is_part(part, result.main) for part in result.groups.values())


def _is_part(part: Mapping[str, Any], main: str) -> bool:
    """Whether a group of items has a score, and the ends of an interval."""
    ends = part.get("interval")
    values = [part.get(main), *ends] if isinstance(ends, list) and len(ends) == 2 else [ends, ""]
    return all(value is None or isinstance(value, int | float) for value in values)


def _made(read: _File, path: Path) -> float:
    """When it was made: as it says, else as its file does."""
    with suppress(KeyError, ValueError, TypeError, OverflowError):
        return float(calendar.timegm(time.strptime(read.made_by["time"], "%Y-%m-%dT%H:%M:%SZ")))
    return path.stat().st_mtime


class StepScore(NamedTuple):
    """The main metric of a task at a step of a run, with its interval."""

    step: int
    value: float
    low: float | None
    high: float | None


def history(
    reports: Sequence[Report], report: Report, task: str
) -> dict[tuple[str, str], list[StepScore]]:
    """What the checkpoints of the runs in `report` got at a task over their steps, in this and all
    other benchmarks that asked them the same in the same way; by run and by what was asked, which
    matters where one run was asked differently."""
    wanted = {(run, asked) for run, asked, _ in _points(report, task)}
    found: dict[tuple[str, str], dict[int, StepScore]] = {}
    for one in sorted(reports, key=lambda one: one.made):
        for run, asked, score in _points(one, task):
            if (run, asked) in wanted:
                found.setdefault((run, asked), {})[score.step] = score
    return {key: [by_step[step] for step in sorted(by_step)] for key, by_step in found.items()}


def _points(report: Report, task: str) -> list[tuple[str, str, StepScore]]:
    """Run, recipe and score of every checkpoint that is a step of a run."""
    found = []
    for name, by_task in report.results.items():
        result = by_task.get(task, {})
        origin = report.data["checkpoints"].get(name, {})
        value = (result.get("metrics") or {}).get(result.get("main"))
        if value is not None and origin.get("step") is not None and origin["run"]:
            asked = repr(sorted(result["recipe"].items(), key=lambda item: item[0]))
            low, high = result.get("interval", (None, None))
            found.append((origin["run"], asked, StepScore(origin["step"], value, low, high)))
    return found


_COLUMNS = (
    *("task", "checkpoint", "run", "step", "metric", "value", "low", "high", "items", "of"),
    *("origin", "chance", "data", "where"),
)


def export(report: Report, folder: Path, stamp: str) -> Path:
    """Write every metric of every checkpoint and task as a line of `scores_<stamp>.csv`.

    Raises:
        OSError, DiskFullError: it cannot be written.
    """
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(_COLUMNS)
    for name, by_task in report.results.items():
        origin = report.data["checkpoints"].get(name, {})
        for task, result in by_task.items():
            recipe, intervals = result.get("recipe", {}), result.get("intervals", {})
            for metric, value in (result.get("metrics") or {}).items():
                ends = intervals.get(metric) or (None, None)
                row = [task, name, origin.get("run"), origin.get("step"), metric, value, *ends]
                row += [recipe.get("items"), recipe.get("of"), result.get("origin")]
                row += [result.get("chance"), recipe.get("data"), result.get("where")]
                table.writerow(["" if cell is None else cell for cell in row])
    path = folder / f"scores_{stamp}.csv"
    write_file(path, text.getvalue().encode(errors="replace"))
    return path
