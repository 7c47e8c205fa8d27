"""Charts of braille characters."""

from collections.abc import Sequence

import pytest

from app.charts.canvas import AXIS
from app.charts.chart import FAINT, Drawing, Series, draw, legend, loss_chart
from app.charts.curve import Point
from utils.units import human_count


def points(values: Sequence[float], *, every: int = 1) -> list[Point]:
    return [Point(every * (n + 1), v, v, v, 1) for n, v in enumerate(values)]


def text(drawing: Drawing | None) -> list[str]:
    assert drawing is not None
    return ["".join(piece for piece, _ in row) for row in drawing.rows]


FALLING = [8.0 - step / 100 for step in range(500)]


def test_a_chart_has_the_asked_size_its_legend_and_no_escape_sequences() -> None:
    falling = [(step, 8.0 - step / 100) for step in range(1, 500)]
    chart = loss_chart({"training": falling, "validation": falling[::100]}, width=70, height=14)
    lines = chart.split("\n")
    assert len(lines) <= 14
    assert max(map(len, lines)) <= 70
    assert "training" in chart
    assert "validation" in chart
    assert "\x1b" not in chart


def test_nothing_to_draw_is_an_empty_chart() -> None:
    assert loss_chart({"training": [], "validation": [(1, 2.0)]}, width=60) == ""
    assert draw([Series("training", [])], 60, 20) is None


def test_a_chart_fits_any_room_or_is_left_out() -> None:
    series = [Series("a", points(FALLING)), Series("b", points(FALLING[::50], every=50), "marks")]
    for width in range(0, 60, 3):
        for height in range(14):
            drawing = draw(series, width, height, smoothing=0.5, cursor=100)
            if drawing is not None:
                assert [len(line) for line in text(drawing)] == [width] * height


def test_a_line_falls_from_the_upper_left_to_the_lower_right() -> None:
    drawing = draw([Series("loss", points([9.0 - n / 100 for n in range(800)]))], 60, 12)
    rows = text(drawing)
    assert drawing is not None
    curve = [[c for c in range(drawing.left, 60) if row[c] > "\u2800"] for row in rows[:10]]
    middles = [sum(columns) / len(columns) for columns in curve]
    assert middles == sorted(middles)


def test_how_the_training_began_does_not_flatten_the_rest_and_is_marked() -> None:
    values = [1000.0] * 5 + [3.0 + n / 1000 for n in range(500)]
    rows = text(draw([Series("loss", points(values))], 60, 12))
    assert rows[0].count("▲") >= 1
    assert sum(any(char > "\u2800" for char in row) for row in rows[:10]) == 10


def test_a_lone_spike_is_marked_at_the_upper_edge() -> None:
    values = [3.0 + 0.1 * (n % 7) for n in range(2000)]
    values[1500] = 400.0
    rows = text(draw([Series("loss", points(values))], 60, 12))
    assert rows[0].count("▲") == 1


def test_a_logarithmic_axis_shows_all_positive_values() -> None:
    values = [0.0, -1.0] + [10.0 ** (3 - n / 100) for n in range(500)]
    rows = text(draw([Series("loss", points(values))], 60, 16, log=True))
    assert "▲" not in "".join(rows)
    assert any(row.lstrip().startswith("100 ┤") for row in rows)


def test_smoothing_keeps_the_values_as_a_faint_band_and_does_not_lag() -> None:
    values = [8.0 - n / 100 + (0.5 if n % 2 else -0.5) for n in range(500)]
    drawing = draw([Series("loss", points(values))], 60, 16, smoothing=0.9)
    assert drawing is not None
    owners = {owner for row in drawing.rows for _, owner in row}
    assert owners == {AXIS, 0, FAINT}


def test_marks_lie_over_lines_and_dotted_lines_under_them() -> None:
    same = points([3.0] * 100)
    looks = [Series("a", same), Series("b", same, "marks"), Series("c", same, "dotted")]
    drawing = draw(looks, 60, 8)
    assert drawing is not None
    owners = {owner for row in drawing.rows for _, owner in row}
    assert owners == {AXIS, 0, 1}


def test_constant_huge_and_tiny_values_can_be_drawn() -> None:
    for value in (0.0, 5.0, -3.0, 1e300, 1e-300, 123456789.0):
        for log in (False, True):
            drawing = draw([Series("x", points([value] * 9))], 50, 10, log=log)
            assert (drawing is not None) == (value < 1e100 and not (log and value <= 0))
    assert draw([Series("x", [Point(10**12, 1.0, 1.0, 1.0, 1)])], 50, 10) is not None


def test_the_axis_ends_where_the_training_will_end() -> None:
    drawing = draw([Series("loss", points(FALLING))], 60, 12, until=1000)
    assert drawing is not None
    assert "1,000" in text(drawing)[-1]
    assert drawing.step_at(drawing.left) == 0
    assert drawing.step_at(59) == 1000
    line = "".join(row[drawing.left + 32 :] for row in text(drawing)[:10])
    assert not line.strip()


def test_the_legend_tells_curves_apart_without_colours() -> None:
    some = points(FALLING)
    series = [Series("training", some), Series("validation", some, "marks"), Series("", some)]
    assert [piece for piece, _ in legend(series)] == ["── training", "● validation"]


@pytest.mark.parametrize(
    ("low", "high"), [(7.9, 8.0), (3.0, 9.0), (0.001, 0.0042), (-2.5, 2.5), (3.05, 3.3), (99, 101)]
)
def test_the_values_beside_the_axis_have_as_many_decimals(low: float, high: float) -> None:
    values = [high - (high - low) * n / 300 for n in range(301)]
    for height in (8, 14, 24):
        rows = text(draw([Series("loss", points(values))], 60, height, number="{:.4g}".format))
        labels = [row.split("┤")[0].strip() for row in rows if "┤" in row]
        assert len(labels) > 1
        assert len({len(label.partition(".")[2]) for label in labels}) == 1, labels
        assert [float(label) for label in labels] == sorted(map(float, labels), reverse=True)


def test_values_with_units_beside_the_axis_stay_as_they_are() -> None:
    values = [500.0 + 10 * n for n in range(300)]
    rows = text(draw([Series("speed", points(values))], 60, 14, number=human_count))
    labels = [row.split("┤")[0].strip() for row in rows if "┤" in row]
    assert {"1 k", "2 k", "3 k"} <= set(labels)
