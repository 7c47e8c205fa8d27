"""The report of a benchmark and its files: `benchmark_results/benchmark_<time>.json`, and beside
it the same as text.

The JSON comes first and is the report: a text that a kill or a full disk kept from being written is
made from it by the next benchmark.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import msgspec

from pipeline.benchmark.harness import main_metric
from pipeline.benchmark.report import format_benchmark_results, names_of, said
from pipeline.benchmark.results import Results, comparisons, ranking, trends
from pipeline.evaluation.tasks import TASKS
from pipeline.events import Event, Failed, Finished, Saved
from pipeline.options.config import BenchmarkOptions
from pipeline.runs import judged
from pipeline.runs.inventory import Checkpoint
from pipeline.runs.results import BENCHMARKS
from utils.artefacts import made_by
from utils.errors import RefusedError
from utils.files import TEMPORARY, FolderLock, unique_name, write_file, write_json

_SINGLE = ("items", "documents", "completions")  # parts of a result that grow with its items
_PATIENCE = 30.0  # seconds; who writes here takes a fraction of one
_ALL_PAIRS = 5  # checkpoints of a run that are still compared each with each


def published(
    checkpoints: Mapping[str, Any],
    results: Results,
    options: BenchmarkOptions,
    stopped: bool,
    *,
    failure: Failed | None = None,
) -> Iterator[Event]:
    """Write the report of what is complete, and end; `checkpoints` are the `origins`. A `failure`
    is the last event, and holds the results as well, unless the benchmark was stopped."""
    complete = {name: by_task for name, by_task in results.items() if by_task}
    if not complete:
        yield Finished(stopped=stopped)
        return
    scored = {n: {t: r for t, r in by.items() if "error" not in r} for n, by in complete.items()}
    scored = {name: by_task for name, by_task in scored.items() if by_task}
    typed = options.model_dump(mode="json", exclude_unset=True)
    steps = _steps(checkpoints) if options.every_checkpoint is not None else {}
    many = len(scored) > _ALL_PAIRS
    last = max(steps, key=lambda name: steps[name], default=None) if many else None
    metrics = {name: t.metrics[0] for name, t in TASKS.items()}
    metrics |= {
        task: main_metric(result)
        for by_task in scored.values()
        for task, result in by_task.items()
        if result["origin"] == "harness"
    }
    compared = comparisons(scored, metrics, last)
    report: dict[str, Any] = {
        "version": 1,
        "stopped": stopped,
        "made_by": msgspec.to_builtins(made_by("benchmark", typed)),
        "checkpoints": dict(checkpoints),
        "results": complete,
        "ranking": ranking(scored, compared),
        "comparisons": compared,
        "trends": trends(scored, steps, compared) if steps else [],
    }
    path, text = _write_report(BENCHMARKS, report)
    yield Saved(kind="benchmark", path=str(path), facts={"text": str(text)})
    summary = _summary(report)
    yield Finished(summary=summary, path=str(path), stopped=stopped)
    if failure is not None and not stopped:
        yield msgspec.structs.replace(failure, summary=summary)


def origins(chosen: Mapping[str, Checkpoint], *, called: bool) -> dict[str, Any]:
    """Where every checkpoint is, and of which run and step, as JSON values; `called` says that a
    program gave them their names."""
    return {
        name: {"path": str(c.path), "run": c.run, "name": c.name, "step": c.step}
        | ({"called": True} if called else {})
        for name, c in chosen.items()
    }


def _steps(checkpoints: Mapping[str, Any]) -> dict[str, int]:
    """The step of every checkpoint of the run that was judged over its steps, by name."""
    *_, last = checkpoints.values()  # of that run
    return {
        name: origin["step"]
        for name, origin in checkpoints.items()
        if origin["run"] == last["run"] and origin["step"] is not None
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
        "trends": report["trends"],
        "said": [said(row, names_of(report)) for row in report["comparisons"]],
        "checkpoints": report["checkpoints"],
    }


def _write_report(folder: Path, report: Mapping[str, Any]) -> tuple[Path, Path]:
    """Write `report` under a name of its own; returns the JSON file and the text.

    Raises:
        DiskFullError: there is no room.
        RefusedError: another process has kept the folder locked for half a minute.
    """
    with _alone_in(folder):
        for left in folder.glob(f".benchmark_*{TEMPORARY}"):
            left.unlink(missing_ok=True)  # of one that was killed as it wrote
        for path in folder.glob("benchmark_*.json"):
            if not path.with_suffix(".txt").exists() and (found := judged.read(path)):
                _write_text(path, found.data)
        path = unique_name(folder, f"benchmark_{time.strftime('%Y_%m_%d_%H_%M_%S')}.json")
        write_json(path, report)
        return path, _write_text(path, report)


def _write_text(path: Path, report: Mapping[str, Any]) -> Path:
    text = path.with_suffix(".txt")
    write_file(text, format_benchmark_results(report))
    return text


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """As the only one that writes reports: two that end in the same second take two names."""
    deadline = time.monotonic() + _PATIENCE
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(FolderLock(folder))
                break
            except RefusedError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
        yield
