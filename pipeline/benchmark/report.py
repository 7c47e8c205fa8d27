"""A benchmark's results as a text to read."""

from collections.abc import Mapping
from typing import Any

from pipeline.benchmark.results import said, scope


def format_benchmark_results(report: Mapping[str, Any]) -> str:
    """Every task as a table of checkpoints with intervals, the best first; then comparisons and
    ranking. `report` is what `benchmark_results/benchmark_*.json` holds."""
    lines: list[str] = []
    results = report["results"]
    for task in dict.fromkeys(task for by_task in results.values() for task in by_task):
        scored = {name: by[task] for name, by in results.items() if "metrics" in by.get(task, {})}
        failed = {name: by[task] for name, by in results.items() if "error" in by.get(task, {})}
        lines += _task(task, scored) if scored else [task]
        lines += [f"  {name}: no score: {found['error']}" for name, found in failed.items()]
        lines.append("")
    lines += [said(row) for row in report.get("comparisons", ())]
    if report.get("ranking"):
        lines += ["", "Mean of accuracies, guessing 0 and all right 1:"]
        lines += [
            f"  {row['scope']}: {row['checkpoint']} {row['centred_mean']:.3f} over "
            f"{', '.join(row['tasks'])}"
            for row in report["ranking"]
        ]
    return "\n".join(lines).rstrip() + "\n"


def _task(task: str, scored: Mapping[str, Any]) -> list[str]:
    first = next(iter(scored.values()))
    recipe, main = first["recipe"], first["main"]
    of = f"{recipe['items']:,} of {recipe['of']:,} items"
    chance = "" if first["chance"] is None else f", guessing {first['chance']:.2f}"
    lines = [f"{task}: {main}{chance}; {of} ({scope(first)}: {first['where']})"]
    lower = main != "acc" and not main.startswith("top_")
    for name, found in sorted(
        scored.items(), key=lambda pair: pair[1]["metrics"][main] or 0.0, reverse=not lower
    ):
        low, high = found["interval"]
        ends = "" if low is None or high is None else f" ({low:.4g} to {high:.4g})"
        others = ", ".join(
            f"{metric} {value:.4g}"
            for metric, value in found["metrics"].items()
            if metric != main and value is not None
        )
        value = found["metrics"][main]
        shown = "none" if value is None else f"{value:.4g}"
        lines.append(f"  {name}: {shown}{ends}{'; ' if others else ''}{others}")
    return lines
