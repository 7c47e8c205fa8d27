"""The panel with the curves of a run: which of them, on which axis, how smooth."""

from textual.app import ComposeResult
from textual.containers import Vertical

from app.tui.watch.event_summary import Snapshot
from app.tui.watch.wording import CHARTS, SMOOTHING, Shown, series_of
from app.tui.widgets.curve_chart import CurveChart
from app.tui.widgets.text import MUTED, plain


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
        names = list(SMOOTHING)
        self._smoothing = names[(names.index(self._smoothing) + 1) % len(names)]
        self.show(self._view)

    def next(self) -> None:
        """The next of the charts that there are values for."""
        self._number += 1
        self.show(self._view)

    def show(self, view: Snapshot) -> None:
        """Draw the curves of a view."""
        self._view = view
        charts = [c for c in CHARTS if any(metric in view.curves for metric in c.metrics)]
        shown: Shown = (charts or CHARTS)[self._number % len(charts or CHARTS)]
        series, colours = series_of(view, shown)
        self.border_title = plain(f"{shown.title.capitalize()} (t: next)")
        axis = "log axis" if self._log_axis else "linear axis"
        self.border_subtitle = plain(f"{axis} · smoothing {self._smoothing}", MUTED)
        self.query_one(CurveChart).show(
            series,
            colours=colours,
            log=self._log_axis,
            smoothing=SMOOTHING[self._smoothing],
            until=view.total if view.unit == "steps" else None,
            number=shown.number,
        )
