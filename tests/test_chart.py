"""The loss chart."""

from app.chart import decimate, loss_chart


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


def test_decimation_keeps_the_means_and_the_last_step() -> None:
    points = [(step, float(step % 2)) for step in range(1, 10_001)]
    few = decimate(points, 100)
    assert len(few) == 100
    assert few[-1][0] == 10_000
    assert {value for _, value in few} == {0.5}
