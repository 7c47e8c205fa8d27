"""The panel with the curves of a run: which of them, on which axis, how smooth."""

from collections.abc import Sequence
from typing import NamedTuple

from textual.app import ComposeResult
from textual.containers import Vertical

from app.charts.chart import Look, Number, Series
from app.charts.curve import Point
from app.tui.watch.event_summary import Curves, Snapshot
from app.tui.widgets.curve_chart import CurveChart
from app.tui.widgets.text import MUTED, plain
from pipeline.runs import folders
from utils.units import human_bytes, human_count


class ChartSpec(NamedTuple):
    """A chart that can be chosen: its curves by metric, and how to write their values."""

    title: str
    metrics: tuple[str, ...]
    number: Number


_CHARTS = (
    ChartSpec("loss", ("loss", "val_loss"), "{:.4g}".format),
    ChartSpec("log-probability", ("chosen_logprob", "rejected_logprob"), "{:.4g}".format),
    ChartSpec("margin", ("margin", "val_margin"), "{:.3g}".format),
    ChartSpec("learning rate", ("learning_rate",), "{:.2g}".format),
    ChartSpec("gradient norm", ("grad_norm",), "{:.3g}".format),
    ChartSpec("tokens per second", ("tokens_per_second",), human_count),
    ChartSpec("memory", ("memory",), human_bytes),
    ChartSpec("model FLOPs utilization", ("mfu",), "{:.1%}".format),
)
_SMOOTHING = {"off": 0.0, "light": 0.8, "strong": 0.95}

_IN_WORDS = {
    "loss": "training",
    "val_loss": "validation",
    "chosen_logprob": "chosen",
    "rejected_logprob": "rejected",
    "margin": "training",
    "val_margin": "validation",
}


class RunChart(Vertical):
    """Shows a view's curves the way it was last asked to."""

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id, classes="panel")
        self._view = Snapshot()
        self._log_axis, self._smoothing, self._number = False, "light", 0

    def compose(self) -> ComposeResult:
        yield CurveChart(id="curves")

    @property
    def cursor(self) -> float | None:
        """The step the cursor stands on."""
        return self.query_one(CurveChart).cursor

    def take_focus(self) -> None:
        self.query_one(CurveChart).focus()

    def toggle_log_axis(self) -> None:
        self._log_axis = not self._log_axis
        self.show(self._view)

    def smooth(self) -> None:
        """The next degree of smoothing."""
        names = list(_SMOOTHING)
        self._smoothing = names[(names.index(self._smoothing) + 1) % len(names)]
        self.show(self._view)

    def next(self) -> None:
        """The next of the charts that there are values for."""
        self._number += 1
        self.show(self._view)

    def show(self, view: Snapshot) -> None:
        """Draw the curves of a view."""
        self._view = view
        scores = [
            ChartSpec(name.replace("/", " "), (name,), "{:.4g}".format)
            for name in view.curves
            if "/" in name  # of tasks: see `Metric`
        ]
        charts = [c for c in _CHARTS if any(metric in view.curves for metric in c.metrics)]
        charts = [*charts[:1], *scores, *charts[1:]]
        shown: ChartSpec = (charts or _CHARTS)[self._number % len(charts or _CHARTS)]
        series, colours = curves_of(view, shown)
        self.border_title = plain(f"{shown.title.capitalize()} (t: next)")
        axis = "log axis" if self._log_axis else "linear axis"
        self.border_subtitle = plain(f"{axis} · smoothing {self._smoothing}", MUTED)
        self.query_one(CurveChart).show(
            series,
            colours=colours,
            log=self._log_axis,
            smoothing=_SMOOTHING[self._smoothing],
            until=view.total if view.unit == "steps" else None,
            number=shown.number,
        )


def curves_of(view: Snapshot, shown: ChartSpec = _CHARTS[0]) -> tuple[list[Series], list[int]]:
    """The curves of a chart, the loss if not told another, with those of the overlaid runs; and a
    colour number for each."""
    series = [
        Series(
            _IN_WORDS.get(metric, shown.title),
            view.curves.get(metric, []),
            "marks" if _is_validation(metric) else "line",
        )
        for metric in shown.metrics
    ]
    colours = list(range(len(series)))
    for number, (name, curves) in enumerate(view.overlays.items(), start=2):
        overlaid = _overlaid(name, curves, shown)
        series += overlaid
        colours += [number] * len(overlaid)
    return series, colours


def _overlaid(name: str, curves: Curves, shown: ChartSpec) -> list[Series]:
    """Another run: its curve dotted, and its validations as marks without a name of their own."""
    found: list[Series] = []
    measured = any(_is_validation(metric) and metric in curves for metric in shown.metrics)
    several = sum(not _is_validation(metric) for metric in shown.metrics) > 1
    for metric in shown.metrics:
        points: Sequence[Point] = curves.get(metric, [])
        called = "◇ " * measured + folders.short_name(name)
        called += f" {_IN_WORDS[metric]}" * several
        validation = _is_validation(metric)
        look: Look = "marks" if validation else "dotted"
        found.append(Series("" if validation else called, points, look, "◇"))
    return found


def _is_validation(metric: str) -> bool:
    return metric.startswith("val_")
