"""Results as a table that can be sorted: its columns, its order, its cells. Knows no widgets."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from pipeline.runs.results import Best, Result
from pipeline.runs.validations import sparkline
from utils.units import human_count, human_seconds

CURVE = 12  # cells


class Column(NamedTuple):
    """`key` orders the rows, `shown` is a cell; `lower` says that less is better, and so comes
    first; a smaller `rank` stays longer where room is short."""

    title: str
    width: int
    rank: int
    key: Callable[[Result], float | str | None]
    shown: Callable[[Result], str]
    lower: bool = False


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


COLUMNS = (
    Column("run", 28, 0, lambda r: r.name, lambda r: r.name, lower=True),
    Column("val loss", 9, 1, lambda r: r.val_loss, lambda r: _number(r.val_loss, ".4f"), True),
    Column("bits/byte", 10, 2, lambda r: r.bits_per_byte, lambda r: _number(r.bits_per_byte, ".4f"),
           True),
    Column("course", CURVE, 3, lambda r: len(r.curve), lambda r: course(r, CURVE)),
    Column("params", 7, 4, lambda r: r.parameters, lambda r: _count(r.parameters)),
    Column("tokens", 7, 5, lambda r: r.tokens, lambda r: _count(r.tokens)),
    Column("steps", 8, 9, lambda r: r.steps, lambda r: _number(r.steps, ",")),
    Column("tok/s", 8, 8, lambda r: r.tokens_per_second,
           lambda r: _number(r.tokens_per_second, ",.0f")),
    Column("time", 11, 10, lambda r: r.seconds,
           lambda r: human_seconds(r.seconds) if r.seconds else ""),
    Column("tokenizer", 10, 6, lambda r: r.tokenizer, lambda r: r.tokenizer, True),
    Column("data", 12, 7, lambda r: r.data, lambda r: r.data, True),
)  # fmt: skip


def fitting(columns: Sequence[Column], width: int) -> list[Column]:
    """The columns that `width` cells hold with two between each, the important ones first."""
    left, chosen = width + 2, set[str]()
    for column in sorted(columns, key=lambda column: column.rank):
        if column.width + 2 > left and chosen:
            continue
        left -= column.width + 2
        chosen.add(column.title)
    shown = [column for column in columns if column.title in chosen]
    return [shown[0]._replace(width=shown[0].width + max(0, left - 2)), *shown[1:]]


def ordered(results: Sequence[Result], column: Column, *, worst_first: bool) -> list[Result]:
    """Rows by a column, the best first; those that have no value there come last."""
    there = [result for result in results if column.key(result) not in (None, "")]
    absent = [result for result in results if column.key(result) in (None, "")]
    there.sort(key=column.key, reverse=column.lower == worst_first)  # type: ignore[arg-type]
    return there + absent


def course(result: Result, width: int) -> str:
    """The validation losses of a run as blocks, falling from left to right."""
    return sparkline([point.loss for point in result.curve], width)


def winners(bests: Sequence[Best]) -> set[tuple[str, str]]:
    """Titles of columns and names of runs that are best."""
    titles = {"val_loss": "val loss", "bits_per_byte": "bits/byte"}
    return {(titles[best.column], best.name) for best in bests}


def in_words(best: Best) -> str:
    """Who is best at what, and among whom."""
    what = {"val_loss": "val loss", "bits_per_byte": "bits per byte"}[best.column]
    return f"{best.name} has the best {what}, {best.value:.4f}, of {best.runs} ({best.scope})"


def _count(value: int | None) -> str:
    return "" if value is None else human_count(value)
