"""What a benchmark's report says: a table a task, who is better, and what cannot be told apart.

Works on JSON values, as `benchmark_results/benchmark_*.json` and the last event hold them, and
loads neither torch nor numpy, so that screens can show reports of any age.
"""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pipeline.benchmark.wording import amount, seen_said
from pipeline.benchmark.wording import is_share as is_share
from pipeline.benchmark.wording import metric_title as metric_title
from pipeline.benchmark.wording import shown as shown
from pipeline.benchmark.wording import span as span
from pipeline.events import Scored
from pipeline.runs.folders import short_name
from utils.units import counted

_NO_RUN = "(no run)"
_NAMED = 3  # checkpoints that a sentence lists
_GAP = 2  # cells between columns


class Score(NamedTuple):
    """A checkpoint's main metric with its interval, None where it is not finite, and its `others`;
    `name` is short, `best` says that it is significantly better than all that stand beside it."""

    checkpoint: str
    name: str
    value: float | None
    low: float | None
    high: float | None
    others: Mapping[str, float | None]
    best: bool = False


@dataclass(frozen=True)
class TaskTable:
    """A task with its scores, the best first; `failed` holds the reasons of checkpoints that have
    none, `verdict` who is better in sentences, `tied` that the first cannot be told from another,
    `recipe` and `left_out` are of the first score; `parts` are the groups of its items, each with
    the score of every checkpoint in a line."""

    task: str
    title: str
    metric: str
    lower: bool
    chance: float | None
    scope: str
    where: str
    items: int
    of: int
    scores: tuple[Score, ...]
    failed: Mapping[str, str] = field(default_factory=dict)
    verdict: tuple[str, ...] = ()
    tied: bool = False
    recipe: Mapping[str, Any] = field(default_factory=dict)
    left_out: Mapping[str, int] = field(default_factory=dict)
    parts: tuple[str, ...] = ()

    @property
    def asked(self) -> str:
        """What was asked of whom, in a line."""
        chance = "" if not self.chance else f", guessing {shown(self.metric, self.chance)}"
        better = ", less is better" if self.lower else ""
        items = f"all {counted(self.of, 'item')}"
        if self.items < self.of:
            items = f"{self.items:,} of {counted(self.of, 'item')}"
        return f"{metric_title(self.metric)}{chance}{better} · {items} · {self.scope}"


def scope(result: Mapping[str, Any]) -> str:
    """What a score is of, so that only like is put beside like: a real set, one of ours or a text
    of the user's own, whole or not."""
    of = "embedded sets of ours" if result.get("origin") == "embedded" else "real sets"
    of = "text of your own" if result.get("own") else of
    recipe = result["recipe"]
    asked = recipe.get("asked", recipe["items"])  # of which some may have been left out
    return of if asked >= recipe["of"] else f"{of}, samples"


def scored_line(event: Scored) -> str:
    """A score as it comes, in a line."""
    ends = span(event.metric, event.low, event.high)
    between = f" ({ends})" if ends else ""
    value = f"{metric_title(event.metric)} {shown(event.metric, event.value)}{between}"
    return f"{event.checkpoint} at {event.task}: {value}"


def names_of(report: Mapping[str, Any]) -> dict[str, str]:
    """A short name for every checkpoint: what a program called it, else its run as it was called
    and its step, where that is enough to tell it from the others."""
    known: Mapping[str, Any] = report.get("checkpoints") or {}
    found = {}
    for name in report["results"]:
        origin = known.get(name) or {}
        run = origin.get("run") or _NO_RUN
        own = run == _NO_RUN or origin.get("called")
        found[name] = name if own else f"{short_name(run)} {origin.get('name', '')}"
    taken = list(found.values())
    return {name: short if taken.count(short) == 1 else name for name, short in found.items()}


def tables(report: Mapping[str, Any]) -> list[TaskTable]:
    """Every task of a report with what its checkpoints got."""
    results, names = report["results"], names_of(report)
    order = dict.fromkeys(task for by_task in results.values() for task in by_task)
    return [_table(task, report, names) for task in order]


def _table(task: str, report: Mapping[str, Any], names: Mapping[str, str]) -> TaskTable:
    found = {name: by[task] for name, by in report["results"].items() if task in by}
    failed = {names[name]: r["error"] for name, r in found.items() if "error" in r}
    scored = {name: r for name, r in found.items() if "metrics" in r}
    if not scored:
        return TaskTable(task, task, "", False, None, "", "", 0, 0, (), failed)
    first = next(iter(scored.values()))
    main, recipe = first["main"], first["recipe"]
    lower = first.get("lower", not is_share(main))
    order = sorted(scored, key=lambda name: _rank(scored[name]["metrics"][main], lower=lower))
    rows = [row for row in report.get("comparisons") or () if row["task"] == task]
    best, tied, verdict = _verdict(order, rows, names)
    scores = tuple(_score(name, names[name], scored[name], best=name == best) for name in order)
    return TaskTable(
        task,
        first.get("title", task),
        main,
        lower,
        first.get("chance"),
        scope(first),
        first.get("where", ""),
        recipe["items"],
        recipe["of"],
        scores,
        failed,
        verdict,
        tied,
        recipe,
        first.get("left_out") or {},
        tuple(_parts(order, scored, names)),
    )


def _parts(
    order: Sequence[str], scored: Mapping[str, Any], names: Mapping[str, str]
) -> Iterator[str]:
    """The groups of a task's items, such as the phenomena of BLiMP, with their scores."""
    main = scored[order[0]]["main"]
    groups = dict.fromkeys(group for name in order for group in scored[name].get("groups") or {})
    for group in groups:
        found = {name: (scored[name].get("groups") or {}).get(group) for name in order}
        values = [
            f"{names[name]} {shown(main, part.get(main))}{_between(main, part)}"
            for name, part in found.items()
            if part is not None
        ]
        items = next(part["n"] for part in found.values() if part is not None)
        yield f"{group.replace('_', ' ')}, {counted(items, 'item')}: {', '.join(values)}"


def _between(metric: str, part: Mapping[str, Any]) -> str:
    """The interval behind a value; nothing where it has no ends, as that of one document has."""
    ends = span(metric, *(part.get("interval") or (None, None)))
    return f" ({ends})" if ends else ""


def _rank(value: float | None, *, lower: bool) -> tuple[bool, float]:
    """Best first; what has no value last."""
    return value is None, (value or 0.0) * (1 if lower else -1)


def _score(checkpoint: str, name: str, result: Mapping[str, Any], *, best: bool) -> Score:
    main = result["main"]
    others = {metric: value for metric, value in result["metrics"].items() if metric != main}
    low, high = result.get("interval") or (None, None)
    return Score(checkpoint, name, result["metrics"][main], low, high, others, best)


def _verdict(
    order: Sequence[str], rows: Sequence[Mapping[str, Any]], names: Mapping[str, str]
) -> tuple[str | None, bool, tuple[str, ...]]:
    """Which checkpoint is better than all others, whether the first is not told from one of those
    that it was compared with, and how it stands to them in words."""
    first = order[0]
    beside = {row["first"] if row["second"] == first else row["second"]: row
              for row in rows if first in (row["first"], row["second"])}  # fmt: skip
    others = [name for name in order[1:] if name in beside]
    if not others:
        return None, False, ()
    beaten = [name for name in others if beside[name]["better"] == first]
    tied = [name for name in others if name not in beaten]
    if not tied:
        rest = "" if len(others) == 1 else "all others; than the next, "
        next_one = f"{names[others[0]]}, " if rest else f"{names[others[0]]} "
        by = _by(beside[others[0]])
        sentence = f"{names[first]} is better than {rest}{next_one}by {by}."
        return (first if len(others) == len(order) - 1 else None), False, (sentence,)
    least = [row["smallest"] for row in map(beside.get, tied) if row and row["smallest"]]
    row = beside[tied[0]]
    could = f": {counted(row['n'], 'item')} can show "
    could += f"differences from about {amount(row['metric'], max(least))}" if least else "none"
    alike = listed([names[name] for name in (first, *tied)])
    sentences = [f"No significant difference between {alike}{could}."]
    if beaten:
        worse = listed([names[name] for name in beaten])
        sentences.append(f"{names[first]} is better than {worse}.")
    return None, True, tuple(sentences)


def listed(names: Sequence[str]) -> str:
    """Names in a sentence; of many the first ones, and how many more there are."""
    shown_names = list(names[:_NAMED])
    if len(names) > _NAMED:
        shown_names.append(f"{len(names) - _NAMED} more")
    *before, last = shown_names
    return f"{', '.join(before)} and {last}" if before else last


def _by(row: Mapping[str, Any]) -> str:
    """How much better, with the interval and the p."""
    metric, (low, high) = row["metric"], row["interval"]
    ends = sorted(abs(end) for end in (low, high) if end is not None)
    between = ""
    if len(ends) == 2:
        unit = 100.0 if is_share(metric) else 1.0
        digits = ".1f" if is_share(metric) else ".3g"
        between = f"{unit * ends[0]:{digits}} to {unit * ends[1]:{digits}}, "
    return f"{amount(metric, row['difference'] or 0.0)} ({between}{_p(row)})"


def _p(row: Mapping[str, Any]) -> str:
    p = row.get("p_holm", row["p"])
    return "p < 0.001" if p < 0.001 else f"p {p:.2g}"


def said(row: Mapping[str, Any], names: Mapping[str, str] | None = None) -> str:
    """A comparison in a sentence."""
    first, second = ((names or {}).get(row[one], row[one]) for one in ("first", "second"))
    if row["better"] is None:
        least = row["smallest"]
        items = counted(row["n"], "item")
        could = f"; they can show about {amount(row['metric'], least)}" if least else ""
        return (
            f"{row['task']}: no significant difference between {first} and {second} "
            f"over {items}{could}"
        )
    better, worse = (first, second) if row["better"] == row["first"] else (second, first)
    return f"{row['task']}: {better} is better than {worse} by {_by(row)}"


def format_benchmark_results(report: Mapping[str, Any], width: int | None = None) -> str:
    """Every task as a table of checkpoints with intervals, the best first, then a ranking.

    `report` is what `benchmark_results/benchmark_*.json` holds. In `width` characters only what
    decides is shown; without one also every metric, recipe and comparison.
    """
    names = names_of(report)
    lines = ["Stopped: what was not scored whole is left out.", ""] if report.get("stopped") else []
    for table in tables(report):
        lines += _task_lines(table, width)
        for score in table.scores:
            of_task = report["results"][score.checkpoint][table.task]
            for sentence in seen_said(of_task, whole=width is None):
                lines += _wrapped(f"{score.name}: {sentence}", width, "  ")
        lines.append("")
    if report.get("ranking"):
        lines += [*_ranking(report, names, width), ""]
    for row in report.get("trends") or ():
        lines += [*_wrapped(row["said"], width, "→ "), ""]
    if width is None and report.get("comparisons"):
        lines.append("Every comparison, p corrected for their number (Holm):")
        lines += [f"  {said(row, names)}" for row in report["comparisons"]]
    return "\n".join(lines).rstrip() + "\n"


def _task_lines(table: TaskTable, width: int | None) -> Iterator[str]:
    yield f"{table.title} ({table.task})" if table.title != table.task else table.task
    if table.scores:
        yield from _wrapped(table.asked, width, "  ")
        yield from (f"  {line}".rstrip() for line in _rows(table, width))
    yield from (f"  ✕ {name}: no score: {error}" for name, error in table.failed.items())
    for reason, count in table.left_out.items():
        yield f"  left out: {counted(count, 'item')}: {reason}"
    for sentence in table.verdict:
        yield from _wrapped(sentence, width, "  → ")
    if width is None and table.scores:
        yield from (f"  {part}" for part in table.parts)
        yield f"  recipe: {recipe_line(table.recipe)}; from {table.where}"


def _wrapped(sentence: str, width: int | None, lead: str) -> list[str]:
    return textwrap.wrap(
        sentence,
        width or 100,
        initial_indent=lead,
        subsequent_indent="    ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _rows(table: TaskTable, width: int | None) -> Iterator[str]:
    """A line a checkpoint: sign, name, main metric, interval, as many others as there is room."""
    heads = ["", metric_title(table.metric), "95 % interval"]
    rows = [
        [score.name, shown(table.metric, score.value), span(table.metric, score.low, score.high)]
        for score in table.scores
    ]
    for metric in table.scores[0].others:
        heads.append(metric_title(metric))
        for row, score in zip(rows, table.scores, strict=True):
            row.append(shown(metric, score.others.get(metric)))
    widths = [max(len(row[n]) for row in [heads, *rows]) for n in range(len(heads))]
    if width is not None:
        _fit(widths, width - 4)
    signs = ["  ", *("★ " if score.best else "  " for score in table.scores)]
    for sign, row in zip(signs, [heads, *rows], strict=True):
        cells = [
            f"{cell:>{size}}" if n else _cut(cell, size)
            for n, (cell, size) in enumerate(zip(row, widths, strict=False))
        ]
        yield sign + (" " * _GAP).join(cells)


def _fit(widths: list[int], room: int) -> None:
    """Leave out the last columns until three are left, then shorten the names."""

    def over() -> int:
        return sum(widths) + _GAP * (len(widths) - 1) - room

    while over() > 0 and len(widths) > 3:
        widths.pop()
    widths[0] = max(8, widths[0] - max(0, over()))


def _cut(name: str, size: int) -> str:
    """A name in `size` characters: of a long one the end, where the step stands."""
    return f"{name:<{size}}" if len(name) <= size else f"…{name[1 - size :]}"


def recipe_line(recipe: Mapping[str, Any]) -> str:
    """How a score was made, as far as that changes it."""
    bos = "with BOS or EOS in front" if recipe.get("bos") else "without BOS"
    if recipe.get("endpoint"):
        bos = f"{recipe['model']} as {recipe['endpoint']} serves it"
    parts = [
        bos,
        f"window {recipe['window']} tokens" if recipe.get("window") else "",
        str(recipe.get("precision", "")),
        f"weights in {recipe['quantize']}" if recipe.get("quantize") not in (None, "none") else "",
        str(recipe.get("join", "")),
        f"data {recipe['data']}" if recipe.get("data") else "",
        f"commit {recipe['revision'][:12]}" if recipe.get("revision") else "",
    ]
    return ", ".join(part for part in parts if part)


def _ranking(
    report: Mapping[str, Any], names: Mapping[str, str], width: int | None
) -> Iterator[str]:
    yield "Ranking: mean of accuracies, guessing is 0, all right 100"
    titles = {table.task: table.title for table in tables(report)}
    rows = report["ranking"]
    for of in dict.fromkeys(row["scope"] for row in rows):
        own = [row for row in rows if row["scope"] == of]
        asked = ", ".join(titles.get(task, task) for task in own[0]["tasks"])
        yield from _wrapped(f"{of}: {asked}", width, "  ")
        longest = max(len(names[row["checkpoint"]]) for row in own)
        for row in own:
            sign = "★" if row.get("best") else " "
            ends = " to ".join(points(end) for end in row.get("interval") or ())
            yield (
                f"  {sign} {names[row['checkpoint']]:<{longest}}  "
                f"{points(row['centred_mean']):>6}  {ends}"
            ).rstrip()
        if len(own) > 1 and own[0].get("best") is False:
            over = counted(len(own[0]["tasks"]), "task")
            sentence = f"No significant difference between the first and the others over {over}."
            yield from _wrapped(sentence, width, "  → ")


def points(share: float) -> str:
    """A share in points of a hundred."""
    return f"{round(100 * share, 1) + 0.0:.1f}"
