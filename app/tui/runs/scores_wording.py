"""How a benchmark reads on the screen: lines of tasks, checkpoints with intervals, what is better.
Knows no widgets."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from textual.content import Content

from app.charts.chart import Series
from app.charts.curve import Point
from app.tui.widgets.meter import columns
from app.tui.widgets.text import MUTED, joined, plain
from pipeline.benchmark.report import Score, TaskTable, names_of, points, recipe_line
from pipeline.benchmark.wording import metric_title, shown, span
from pipeline.runs.folders import short_name
from pipeline.runs.judged import StepScore
from utils.units import counted

_PICTURE = 21  # cells of an interval
_METRIC, _VALUE, _INTERVAL, _ITEMS = 16, 8, 16, 16
_NAME = 22


def task_heading(width: int) -> Content:
    """The names of the columns of `task_line`."""
    names = ("task", "measured by", "best", "95 % interval", "by", "items")
    return _row([plain(name, MUTED) for name in names], width)


def task_line(table: TaskTable, width: int) -> Content:
    """A task: the best score, and whether it is better than all others by more than chance."""
    if not table.scores:
        return _row([plain(table.title), plain("no score", "$warning")] + [plain("")] * 4, width)
    best = table.scores[0]
    who = joined(("★ ", "$success"), best.name) if best.best else plain(best.name)
    if table.tied:
        who = plain("≈ not told apart", MUTED)
    items = f"{table.items:,}" if table.items >= table.of else f"{table.items:,} of {table.of:,}"
    cells = [
        plain(table.title),
        plain(metric_title(table.metric), MUTED),
        plain(shown(table.metric, best.value), "bold $success" if best.best else "bold"),
        plain(span(table.metric, best.low, best.high), MUTED),
        who,
        plain(items, MUTED),
    ]
    return _row(cells, width)


def _row(cells: list[Content], width: int) -> Content:
    """A line of the upper list, of which narrow windows leave out the less important."""
    sizes = [_NAME, _METRIC, -_VALUE, -_INTERVAL, 18, -_ITEMS]
    kept = [0, 1, 2, 3, 4, 5] if width >= 110 else [0, 2, 3, 4] if width >= 72 else [0, 2, 4]
    cells, sizes = [cells[n] for n in kept], [sizes[n] for n in kept]
    rest = width - sum(abs(size) + 2 for size in sizes) + 2
    wide = kept.index(4)
    sizes[wide] = max(8, sizes[wide] + rest)
    return columns(cells, sizes)


def about_task(
    table: TaskTable, width: int, trend: str = "", seen: Sequence[str] = (), *, recipe: bool
) -> Content:
    """The checkpoints of a task with their intervals as pictures, and in sentences who is better,
    the `trend` over steps and what of it was `seen` in training; with `recipe` also every metric
    and how it was scored."""
    lines = [plain(table.asked, MUTED), plain("")] if table.scores else []
    lines += _scores(table, width)
    lines += [
        joined(("✕ ", "$error"), f"{name}: no score: {error}")
        for name, error in table.failed.items()
    ]
    lines += [plain(""), *(joined(("→ ", "$accent"), sentence) for sentence in table.verdict)]
    if trend:
        lines.append(joined(("→ ", "$accent"), f"Over its steps: {trend.partition(': ')[2]}"))
    lines += [plain(sentence, "$warning") for sentence in seen]
    if len(table.scores) == 1 and not table.failed:
        lines.append(
            plain("Alone: c leads to Runs: Space chooses several, b judges them together.", MUTED)
        )
    for reason, count in table.left_out.items():
        lines.append(plain(f"left out: {counted(count, 'item')}: {reason}", "$warning"))
    if recipe and table.scores:
        lines += [plain(""), *_recipe(table)]
    return Content("\n").join(lines)


def _scores(table: TaskTable, width: int) -> Iterator[Content]:
    ends = [end for s in table.scores for end in (s.low, s.high, s.value) if end is not None]
    floor, ceiling = (min(ends), max(ends)) if ends else (0.0, 1.0)
    longest = max((len(score.name) for score in table.scores), default=0)
    pictured = width >= longest + _VALUE + _INTERVAL + _PICTURE + 8
    rest = [-_VALUE, -_INTERVAL, *[_PICTURE] * pictured]
    name = max(10, min(longest, width - 2 - sum(2 + abs(size) for size in rest)))
    for score in table.scores:
        style = "bold $success" if score.best else ""
        cells = [
            plain(_end_of(score.name, name), style),
            plain(shown(table.metric, score.value), style or "bold"),
            plain(span(table.metric, score.low, score.high), MUTED),
            *[interval(score, floor, ceiling)] * pictured,
        ]
        sign = ("★ ", "$success") if score.best else ("  ", "")
        yield joined(sign, columns(cells, [name, *rest]))


def _end_of(name: str, width: int) -> str:
    """A name, or where it is too long its end, where the step stands."""
    return name if len(name) <= width else f"…{name[1 - width :]}"


def interval(score: Score, floor: float, ceiling: float) -> Content:
    """Between the ends of all intervals: where the true value lies; `●` is the score itself."""
    if score.value is None or score.low is None or score.high is None:
        return plain("")
    reach = (ceiling - floor) or 1.0
    low, at, high = (
        min(_PICTURE - 1, max(0, round((value - floor) / reach * (_PICTURE - 1))))
        for value in (score.low, score.value, score.high)
    )
    style = "$success" if score.best else "$accent"
    return joined(
        ("·" * low, MUTED),
        ("─" * (at - low), style),
        ("●", f"bold {style}"),
        ("─" * (high - at), style),
        ("·" * (_PICTURE - 1 - max(at, high)), MUTED),
    )


def _recipe(table: TaskTable) -> Iterator[Content]:
    yield plain("All metrics", "bold")
    titles = table.recipe.get("metrics") or {}
    for metric in (table.metric, *table.scores[0].others):
        values = [
            f"{score.name} {shown(metric, score.value if metric == table.metric else other)}"
            for score in table.scores
            for other in [score.others.get(metric)]
        ]
        title = titles.get(metric, metric_title(metric))
        yield joined((f"{title}: ", MUTED), ", ".join(values))
    if table.parts:
        yield plain("")
        yield plain("By parts", "bold")
        yield from (plain(part) for part in table.parts)
    yield plain("")
    yield plain("How it was scored", "bold")
    yield plain(f"{recipe_line(table.recipe)}; from {table.where}")


def ranking_line(report: Mapping[str, Any], width: int) -> Content:
    """The last line of the upper list: who is best at all accuracies together."""
    rows, names = report["ranking"], names_of(report)
    first = rows[0]
    name = names[first["checkpoint"]]
    who = joined(("★ ", "$success"), name) if first.get("best") else plain(name)
    if len(names) > 1 and first.get("best") is False:
        who = plain("≈ not told apart", MUTED)
    elif len(names) > 1 and not first.get("best"):
        who = joined(name, ("  not compared", MUTED))
    cells = [
        plain("All accuracies", "bold"),
        plain("mean, guessing 0", MUTED),
        plain(points(first["centred_mean"]), "bold"),
        plain(_ends(first), MUTED),
        who,
        plain(counted(len(first["tasks"]), "task"), MUTED),
    ]
    return _row(cells, width)


def _ends(row: Mapping[str, Any]) -> str:
    return " to ".join(points(end) for end in row.get("interval") or ())


def about_ranking(report: Mapping[str, Any], titles: Mapping[str, str]) -> Content:
    """Every scope by itself: the checkpoints by their mean."""
    names, lines = names_of(report), []
    lines.append(plain("Mean of accuracies: guessing is 0, all right is 100", MUTED))
    for of in dict.fromkeys(row["scope"] for row in report["ranking"]):
        own = [row for row in report["ranking"] if row["scope"] == of]
        lines += [plain(""), plain(f"{of[:1].upper()}{of[1:]}", "bold")]
        lines.append(plain(", ".join(titles.get(task, task) for task in own[0]["tasks"]), MUTED))
        longest = max(len(names[row["checkpoint"]]) for row in own)
        for row in own:
            sign = ("★ ", "$success") if row.get("best") else ("  ", "")
            name = plain(names[row["checkpoint"]], "bold $success" if row.get("best") else "")
            value = plain(points(row["centred_mean"]), "bold")
            cells = columns([name, value, plain(_ends(row), MUTED)], [longest, -_VALUE, -16])
            lines.append(joined(sign, cells))
        if len(own) > 1 and own[0].get("best") is False:
            sentence = "No significant difference between the first and the others."
            lines.append(joined(("→ ", "$accent"), sentence))
    return Content("\n").join(lines)


def curves(
    history: Mapping[tuple[str, str], Sequence[StepScore]],
) -> tuple[list[Series], list[int]]:
    """Scores over the steps of runs, with the interval dotted where there is one run; and a colour
    number for each."""
    drawn = {key: found for key, found in history.items() if len(found) > 1}
    series: list[Series] = []
    colours: list[int] = []
    for number, ((run, _), found) in enumerate(drawn.items()):
        course = [_point(one.step, one.value) for one in found]
        series += [Series(short_name(run), course), Series("", course, "marks")]
        colours += [2 * number] * 2
        if len(drawn) == 1:
            for name, ends in (
                ("95 % interval", [(one.step, one.low) for one in found]),
                ("", [(one.step, one.high) for one in found]),
            ):
                bounds = [_point(step, end) for step, end in ends if end is not None]
                series.append(Series(name, bounds, "dotted"))
                colours.append(1)
    return series, colours


def _point(step: int, value: float) -> Point:
    return Point(step, value, value, value, 1)
