"""A chart of curves over optimizer steps, with a cursor for keys and mouse."""

from bisect import bisect_left
from collections.abc import Sequence
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.reactive import reactive
from textual.widget import Widget

from app.charts.canvas import AXIS
from app.charts.chart import FAINT, Drawing, Number, Series, draw, legend
from app.tui.widgets.text import MUTED, joined, plain

_STYLES = ("$accent", "$secondary", "$success", "$error", "$warning", "$foreground")


class CurveChart(Widget, can_focus=True):
    """Draws what it is shown, in the room it has. `cursor` is the step it stands on."""

    DEFAULT_CSS = "CurveChart { height: 1fr; width: 1fr; }"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "move(-1)", "Earlier step", show=False),
        Binding("right", "move(1)", "Later step", show=False),
    ]
    cursor: reactive[float | None] = reactive(None)

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._series: Sequence[Series] = ()
        self._owners: Sequence[int] = ()
        self._drawing: Drawing | None = None
        self._log, self._smoothing = False, 0.0
        self._until: int | None = None
        self._number: Number = "{:.3g}".format

    def show(
        self,
        series: Sequence[Series],
        *,
        colours: Sequence[int] = (),
        log: bool = False,
        smoothing: float = 0.0,
        until: int | None = None,
        number: Number = "{:.3g}".format,
    ) -> None:
        """Show these curves; see `app.charts.chart.draw`. `colours` are small numbers, one per
        series, so that the curves of one run share theirs."""
        self._series, self._owners = series, colours or range(len(series))
        self._log, self._smoothing, self._until, self._number = log, smoothing, until, number
        self.refresh()

    def render(self) -> Content:
        drawing = draw(
            self._series,
            self.size.width,
            self.size.height - 1,
            log=self._log,
            smoothing=self._smoothing,
            until=self._until,
            cursor=self.cursor,
            number=self._number,
        )
        self._drawing = drawing
        if drawing is None:
            return plain("nothing to draw yet" if self.size.height > 3 else "", MUTED)
        lines = [Content.assemble(" " * drawing.left, self._heading(drawing))]
        lines += [
            Content.assemble(*((text, self._style(owner)) for text, owner in row))
            for row in drawing.rows
        ]
        return Content("\n").join(lines)

    def _style(self, owner: int) -> str:
        if owner == AXIS:
            return MUTED
        style = _STYLES[self._owners[owner % FAINT] % len(_STYLES)]
        return f"{style} 40%" if owner >= FAINT else style

    def _heading(self, drawing: Drawing) -> Content:
        """The legend, or the values under the cursor."""
        if self.cursor is None:
            pieces = [plain(text, self._style(owner)) for text, owner in legend(self._series)]
        else:
            pieces = [plain(f"step {self.cursor:,.0f}", "bold")]
            for owner, series in enumerate(self._series):
                value = _value_at(series, self.cursor)
                if value is not None and series.name:
                    text = f"{series.name} {self._number(value)}"
                    pieces.append(plain(text, self._style(owner)))
        return joined("   ").join(pieces).truncate(drawing.width, ellipsis=True)

    def on_mouse_move(self, event: events.MouseMove) -> None:
        self._point_at(event.x)

    def on_click(self, event: events.Click) -> None:
        self._point_at(event.x)

    def on_leave(self) -> None:
        if not self.has_focus:
            self.cursor = None

    def on_blur(self) -> None:
        self.cursor = None

    def _point_at(self, column: int) -> None:
        drawing = self._drawing
        inside = drawing is not None and 0 <= column - drawing.left < drawing.width
        self.cursor = self._snapped(drawing.step_at(column)) if drawing and inside else None

    def _snapped(self, step: float) -> float:
        """The nearest step of the first curve."""
        points = next((s.points for s in self._series if s.points), [])
        at = bisect_left(points, step, key=lambda point: point.step)
        near = points[max(0, at - 1) : at + 1]
        return min((p.step for p in near), key=lambda s: abs(s - step), default=round(step))

    def action_move(self, columns: int) -> None:
        drawing = self._drawing
        if drawing is None:
            return
        per_column = (drawing.last - drawing.first) / max(1, drawing.width - 1)
        points = next((s.points for s in self._series if s.points), [])
        start = self.cursor if self.cursor is not None else float(points[-1].step)
        moved = start if self.cursor is None else start + columns * per_column
        snapped = self._snapped(moved)
        if snapped == self.cursor and points:  # values are further apart than columns
            at = bisect_left(points, snapped, key=lambda p: p.step) + columns
            snapped = points[max(0, min(len(points) - 1, at))].step
        self.cursor = snapped


def _value_at(series: Series, step: float) -> float | None:
    """The value of the last point up to `step`, or of the first one."""
    if not series.points:
        return None
    at = bisect_left(series.points, step, key=lambda point: point.step)
    return series.points[min(at, len(series.points) - 1)].mean
