"""Charts in a terminal's characters: braille lines, marks, axes. Knows no widgets and no colours.

A drawing says for each character which series it belongs to, so
that a screen can colour it; without colours solid lines, dotted lines and marks tell them apart.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal, NamedTuple, TypeAlias

from app.charts.canvas import AXIS, Canvas, Piece
from app.charts.curve import Point
from utils.units import human_count

Look: TypeAlias = Literal["line", "dotted", "marks"]
Number: TypeAlias = Callable[[float], str]

FAINT = 1000
"""Owners of characters: `AXIS`, and series i as `i`, its unsmoothed values as `FAINT + i`."""

_BEYOND = "▲"
_OUTLIER = 4.0  # a value this many times beyond the spread of the usual ones is cut off
_LARGEST = 1e100  # no measurement is larger, and differences stay finite
_STEEP_START = 10  # the first tenth does not set the scale
_DECADES = 1.5  # a logarithmic axis over fewer has round values in place of powers of ten
_DECIMAL = re.compile(r"-?\d+(\.\d+)?")
_ORDER: dict[Look, int] = {"dotted": 0, "line": 1, "marks": 2}


class Series(NamedTuple):
    """A curve with its name; `mark` is its character among marks and in the legend."""

    name: str
    points: Sequence[Point]
    look: Look = "line"
    mark: str = "●"


class Drawing(NamedTuple):
    """`rows` of pieces of text with their owners. `left` is the column where the curves begin,
    `first` and `last` are the steps at both ends."""

    rows: list[list[Piece]]
    left: int
    width: int
    first: float
    last: float

    def step_at(self, column: int) -> float:
        """The step under a column of the drawing."""
        share = (column - self.left) / max(1, self.width - 1)
        return self.first + max(0.0, min(1.0, share)) * (self.last - self.first)


class _Scale(NamedTuple):
    """From values to rows of dots; `low` and `high` are logarithms where `log` is set."""

    low: float
    high: float
    dots: int
    log: bool

    def value(self, number: float) -> float:
        return math.log10(number) if self.log else number

    def at(self, number: float) -> int:
        share = (self.value(number) - self.low) / (self.high - self.low)
        return round(min(2.0, max(0.0, share)) * (self.dots - 1))


def draw(
    series: Sequence[Series],
    width: int,
    height: int,
    *,
    log: bool = False,
    smoothing: float = 0.0,
    until: int | None = None,
    cursor: float | None = None,
    number: Number = lambda value: f"{value:.3g}",
) -> Drawing | None:
    """Curves over optimizer steps with both axes, in `height` rows of `width` columns.

    smoothing: share of the mean that each column keeps, in [0, 1); above 0 the values themselves
    stay as a faint band. until: the step at the right end, where the curves end earlier. cursor:
    a step to mark. number: writes the values beside the axis. None where there is nothing to draw
    or no room for it.
    """
    floor = 0.0 if log else -_LARGEST
    trimmed = [
        s._replace(points=[p for p in s.points if floor < p.low and p.high < _LARGEST])
        for s in series
    ]
    kept = {owner: s for owner, s in enumerate(trimmed) if s.points}
    rows = height - 2
    if not kept or rows < 2 or width < 16:
        return None
    first = min(s.points[0].step for s in kept.values())
    last = max(until or 0, *(s.points[-1].step for s in kept.values()))
    first = 0 if first < last / 4 else first
    last = max(last, first + 1)
    scale = _scale([s.points for s in kept.values()], 4 * rows, log)
    ticks = _ticks(scale, rows, number)
    left = max(len(text) for _, text in ticks) + 2
    canvas = Canvas(width - left, rows)
    if canvas.width < 4:
        return None
    per_step = (2 * canvas.width - 1) / (last - first)
    columns = {owner: _columns(s.points, first, per_step) for owner, s in kept.items()}
    for owner, s in kept.items():
        if s.look == "line":
            _band(canvas, columns[owner], scale, FAINT + owner if smoothing else owner)
    for owner, s in sorted(kept.items(), key=lambda item: (_ORDER[item[1].look], -item[0])):
        if s.look == "marks":
            _marks(canvas, columns[owner], scale, owner, s.mark)
        else:
            _line(canvas, columns[owner], scale, owner, smoothing, dotted=s.look == "dotted")
    if cursor is not None and first <= cursor <= last:
        canvas.upright(round((cursor - first) / (last - first) * (canvas.width - 1)))
    labels = dict(ticks)
    out = []
    for row in range(rows):
        label = f"{labels.get(row, ''):>{left - 2}} {'┤' if row in labels else '│'}"
        out.append([(label, AXIS), *canvas.row(row)])
    out += _step_axis(first, last, left, canvas.width)
    return Drawing(out, left, canvas.width, first, last)


def _columns(points: Sequence[Point], first: float, per_step: float) -> list[tuple[int, Point]]:
    """The points that fall on one column of dots as one, by column."""
    columns: list[tuple[int, Point]] = []
    for point in points:
        x = round((point.step - first) * per_step)
        if columns and columns[-1][0] == x:
            _, low, high, total, number = columns[-1][1]
            merged = Point(
                point.step,
                min(low, point.low),
                max(high, point.high),
                total + point.total,
                number + point.number,
            )
            columns[-1] = (x, merged)
        else:
            columns.append((x, point))
    return columns


def _band(canvas: Canvas, columns: Sequence[tuple[int, Point]], scale: _Scale, owner: int) -> None:
    """From the lowest to the highest value of each column, so that no spike hides in a mean."""
    for x, point in columns:
        canvas.rise(x, scale.at(point.low), scale.at(point.high), owner)


def _line(
    canvas: Canvas,
    columns: Sequence[tuple[int, Point]],
    scale: _Scale,
    owner: int,
    smoothing: float,
    *,
    dotted: bool,
) -> None:
    before: tuple[int, int] | None = None
    for (x, point), value in zip(columns, _smoothed(columns, smoothing), strict=True):
        y = scale.at(value)
        _segment(canvas, before or (x, y), (x, y), owner, dotted)
        before = x, y
        if scale.at(point.high) > scale.dots - 1:
            canvas.sign(min(canvas.width - 1, x >> 1), 0, _BEYOND, owner)


def _marks(
    canvas: Canvas, columns: Sequence[tuple[int, Point]], scale: _Scale, owner: int, mark: str
) -> None:
    """One mark in every second character at most, the last one always."""
    free = canvas.width
    for x, point in reversed(columns):
        column = min(canvas.width - 1, x >> 1)
        if column > free:
            continue
        row = canvas.height - 1 - min(scale.dots - 1, scale.at(point.mean)) // 4
        canvas.sign(column, row, mark, owner)
        free = column - 2


def _segment(
    canvas: Canvas, start: tuple[int, int], end: tuple[int, int], owner: int, dotted: bool
) -> None:
    """A line between two dots, without a gap unless it is dotted."""
    (x0, y0), (x1, y1) = start, end
    before = y0
    for x in range(x0, x1 + 1):
        y = y0 + round((y1 - y0) * (x - x0) / (x1 - x0)) if x1 > x0 else y1
        if not dotted:
            canvas.rise(x, min(before, y), max(before, y), owner)
        elif not x & 2:
            canvas.rise(x, y, y, owner)
        before = y


def _smoothed(columns: Sequence[tuple[int, Point]], smoothing: float) -> list[float]:
    """The mean of both exponential moving means, from the left and from the right, so that a
    falling curve does not lag."""
    means = [point.mean for _, point in columns]
    ahead, back = _moving(means, smoothing), _moving(means[::-1], smoothing)[::-1]
    return [(left + right) / 2 for left, right in zip(ahead, back, strict=True)]


def _moving(values: Iterable[float], smoothing: float) -> list[float]:
    """Exponential moving mean with bias correction."""
    mean = weight = 0.0
    out = []
    for value in values:
        mean = smoothing * mean + (1 - smoothing) * value
        weight = smoothing * weight + (1 - smoothing)
        out.append(mean / weight)
    return out


def _scale(curves: Sequence[Sequence[Point]], dots: int, log: bool) -> _Scale:
    """The range of values. Linear, it leaves out how the training began and lone outliers, which
    would flatten all the rest; what lies above it is marked at the upper edge."""
    low = min(point.low for points in curves for point in points)
    high = max(point.high for points in curves for point in points)
    if log:
        low, high = math.log10(low), math.log10(high)
    else:
        later = sorted(p.high for points in curves for p in points[len(points) // _STEEP_START :])
        usual = later[int(0.98 * (len(later) - 1))]
        spread = _OUTLIER * (usual - low)
        high = min(high, later[-1] if later[-1] <= low + spread or not spread else low + spread)
    if high <= low:
        margin = abs(low) * 0.05 or 0.5
        low, high = low - margin, high + margin
    return _Scale(low, high, dots, log)


def _ticks(scale: _Scale, rows: int, number: Number) -> list[tuple[int, str]]:
    """Labelled rows from top to bottom, about every fourth one."""
    count = max(2, min(6, rows // 3))
    numbers = _tick_values(scale, count)
    if len(numbers) < 2:
        numbers = _tick_values(scale, 2 * count)
    ticks: dict[int, str] = {}
    for tick in numbers:
        share = (tick - scale.low) / (scale.high - scale.low)
        row = rows - 1 - round(share * (scale.dots - 1)) // 4
        text = number(10**tick if scale.log else tick)
        if 0 <= row < rows and text not in ticks.values():
            ticks[row] = text
    if not ticks:
        return [(rows - 1, number(10**scale.low if scale.log else scale.low))]
    rounded = ticks if scale.log else dict(zip(ticks, _aligned(list(ticks.values())), strict=True))
    return sorted(rounded.items())


def _aligned(texts: Sequence[str]) -> list[str]:
    """Decimal numbers with as many places as the one that has most; others as they are."""
    if not all(map(_DECIMAL.fullmatch, texts)):
        return list(texts)
    places = max(len(text.partition(".")[2]) for text in texts)
    return [f"{float(text):.{places}f}" for text in texts]


def _tick_values(scale: _Scale, count: int) -> list[float]:
    """About `count` round numbers, on the scale."""
    if scale.log and scale.high - scale.low < _DECADES:
        values = _round_numbers(10**scale.low, 10**scale.high, count)
        return [math.log10(value) for value in values if value > 0]
    return _round_numbers(scale.low, scale.high, count)


def _round_numbers(low: float, high: float, count: int) -> list[float]:
    """About `count` multiples of 1, 2 or 5 times a power of ten within the range."""
    rough = (high - low) / count
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(size * times for times in (1, 2, 5, 10) if size * times >= rough * 0.999)
    begin, end = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [number * step for number in range(begin, min(end, begin + 20) + 1)]


def _step_axis(first: float, last: float, left: int, width: int) -> list[list[Piece]]:
    """The line below the curves and the steps below it."""
    line, labels = ["─"] * width, [" "] * (left + width)
    free = 0
    for tick in _round_numbers(first, last, max(2, width // 14)):
        column = round((tick - first) / (last - first) * (width - 1))
        text = f"{tick:,.0f}" if last < 1e6 else human_count(tick)
        begin = max(0, min(left + width - len(text), left + column - len(text) // 2))
        if begin < free or not tick.is_integer():
            continue
        line[column] = "┬"
        labels[begin : begin + len(text)] = text
        free = begin + len(text) + 2
    return [[(" " * (left - 1) + "└" + "".join(line), AXIS)], [("".join(labels), AXIS)]]


def legend(series: Sequence[Series]) -> list[tuple[str, int]]:
    """What each series looks like, in words, as pieces with their owners; one without a name
    belongs to the one before it."""
    looks = {"line": "──", "dotted": "╌╌"}
    return [
        (f"{looks.get(s.look, s.mark)} {s.name}", owner)
        for owner, s in enumerate(series)
        if s.points and s.name
    ]


def loss_chart(
    series: Mapping[str, Sequence[tuple[int, float]]], *, width: int, height: int = 16
) -> str:
    """Curves over optimizer steps as `height` lines of `width` columns, without colours.

    The first is a line, the others are marks. Curves of one or no point are left out; an empty
    string where nothing is left.
    """
    curves = [
        Series(name, [Point(step, value, value, value, 1) for step, value in points], look)
        for (name, points), look in zip(series.items(), _looks(), strict=False)
        if len(points) > 1
    ]
    drawing = draw(curves, width, height - 1)
    if drawing is None:
        return ""
    rows = [[(" " * drawing.left, AXIS), ("   ".join(text for text, _ in legend(curves)), AXIS)]]
    lines = ("".join(text for text, _ in row).rstrip() for row in rows + drawing.rows)
    return "\n".join(lines).rstrip()


def _looks() -> Iterable[Look]:
    yield "line"
    while True:
        yield "marks"
