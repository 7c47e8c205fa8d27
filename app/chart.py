"""A loss chart for the terminal."""

from collections.abc import Mapping, Sequence

Series = Sequence[tuple[int, float]]

_FEW_POINTS = 30


def loss_chart(series: Mapping[str, Series], *, width: int, height: int = 16) -> str:
    """Curves over optimizer steps as `height` lines of `width` columns, without colours.

    Curves of one or no point are left out; an empty string where nothing is left. The upper end
    of the scale is cut at the highest value after the first tenth, or the start of a training
    would flatten all the rest.
    """
    most = max(2, width // 2)
    curves = {name: decimate(points, most) for name, points in series.items() if len(points) > 1}
    if not curves:
        return ""
    import plotext  # 50 ms that only a chart costs

    plotext.clear_figure()
    plotext.theme("clear")
    plotext.plot_size(width, height)
    for name, points in curves.items():
        steps, values = zip(*points, strict=True)
        draw = plotext.plot if len(points) > _FEW_POINTS else plotext.scatter
        draw(steps, values, label=name, marker="braille" if draw is plotext.plot else "●")
    last = max(points[-1][0] for points in curves.values())
    ticks = [round(last * part / 4) for part in range(5)]
    plotext.xticks(ticks, [f"{tick:,}" for tick in ticks])
    lows = [value for points in curves.values() for _, value in points]
    later = [v for p in curves.values() for _, v in p[len(p) // 10 :]]
    plotext.ylim(min(lows), max(later))
    plotext.xlabel("step")
    return str(plotext.uncolorize(plotext.build())).rstrip()


def decimate(points: Series, most: int) -> Series:
    """At most `most` points: means over equal stretches, so that noise shrinks and no dip hides."""
    if len(points) <= most:
        return points
    size = -(-len(points) // most)
    groups = (points[i : i + size] for i in range(0, len(points), size))
    return [(g[-1][0], sum(value for _, value in g) / len(g)) for g in groups]
