"""The panels of a watched job or run: those that there is something for, in the room there is."""

from collections.abc import Sequence

from rich.cells import cell_len
from rich.segment import Segment
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.widgets import Static

from app.jobs.job import Job
from app.tui.watch import wording
from app.tui.watch.event_summary import Snapshot
from app.tui.watch.overlays import Overlays
from app.tui.watch.run_chart import RunChart
from app.tui.widgets.text import plain
from utils.text import safe

_NO_LOG = ("no output",)


class RunPanels(Vertical):
    """Shows views; below the curves lie notes or the log, narrow also the end, one at a time."""

    DEFAULT_CSS = """
    RunPanels {
        #progress { height: 1; padding: 0 2; text-wrap: nowrap; }
        #upper { height: 1fr; }
        #chart, #text { width: 1fr; height: 1fr; }
        #aside { width: 50; height: 1fr; }
        #now { height: auto; max-height: 12; }
        #sample, #overlays { height: 1fr; }
        #bottom { height: 12; }
        #bottom.-alone { height: 1fr; }
        #ending, #rejected, #below { width: 1fr; height: 1fr; }
    }
    RunPanels.-narrow {
        #upper { layout: vertical; }
        #aside { width: 1fr; height: auto; max-height: 50%; }
        #overlays { height: 6; }
        #bottom { height: 6; }
        #bottom.-alone { height: 1fr; layout: vertical; }
        #bottom.-alone #ending, #bottom.-alone #rejected { height: auto; max-height: 10; }
    }
    """

    def __init__(self) -> None:
        super().__init__()
        self._turned = 0
        self._put: dict[str, Content] = {}
        self._shown: tuple[Snapshot, Job | None, str] = (Snapshot(), None, "running")

    def compose(self) -> ComposeResult:
        yield Static(id="progress")
        with Horizontal(id="upper"):
            yield RunChart(id="chart")
            with VerticalScroll(id="text", classes="panel"):
                yield Static(id="texts")
            with Vertical(id="aside"):
                with Vertical(id="now", classes="panel"):
                    yield Static(id="figures")
                with VerticalScroll(id="sample", classes="panel"):
                    yield Static(id="sample-text")
                yield Overlays(id="overlays")
        with Horizontal(id="bottom"):
            with VerticalScroll(id="ending", classes="panel"):
                yield Static(id="ended")
            with VerticalScroll(id="rejected", classes="panel"):
                yield Static(id="rules")
            with Vertical(id="below", classes="panel"):
                with VerticalScroll(id="notes"):
                    yield Static(id="noted")
                yield LogView(id="log")

    def on_mount(self) -> None:
        titles = {"#now": "Now", "#rejected": "Left out", "#text": "Text", "#ending": "The end"}
        for selector, title in titles.items():
            self.query_one(selector).border_title = plain(title)

    def turn(self) -> None:
        """Show the next of what takes turns below."""
        self._turned += 1
        self.show(*self._shown)

    def show(self, view: Snapshot, job: Job | None, state: str) -> None:
        """Show a view of a job or run in this state."""
        self._shown = view, job, state
        ending = wording.ending(view, job, state)
        self._update("#progress", wording.progress(view, state, self.size.width - 4))
        self._lay_out(view, over=ending.cell_length > 0)
        if view.curves:
            self.query_one(RunChart).show(view)
            self._update("#figures", wording.figures(view, self.query_one("#figures").size.width))
        if view.samples:
            step = view.samples[-1].step
            self.query_one("#sample").border_title = plain(f"Sample at {step:,}")
            self._update("#sample-text", wording.sample(view))
        if view.texts:
            self._update("#texts", wording.texts(view))
            self.query_one("#text", VerticalScroll).scroll_end(animate=False)
        self._update("#rules", wording.rejected(view))
        self._update("#noted", wording.notes(view))
        self._update("#ended", ending)
        if self.query_one("#log").display:
            self.query_one(LogView).show(view.log or _NO_LOG)

    def _update(self, selector: str, content: Content) -> None:
        before = self._put.get(selector)
        if before != content:
            self._put[selector] = content
            single = selector == "#progress" and before is not None  # never changes its height
            self.query_one(selector, Static).update(content, layout=not single)

    def _lay_out(self, view: Snapshot, *, over: bool) -> None:
        charted = bool(view.curves)
        written = bool(view.texts) and not charted
        alone = not charted and not written
        narrow = self.screen.has_class("-narrow")
        self.set_class(narrow, "-narrow")
        choices = ["ending", "notes", "log"] if over and narrow and not alone else ["notes", "log"]
        below = choices[self._turned % len(choices)]
        visible = {
            "#upper": charted or written,
            "#chart": charted,
            "#text": written,
            "#aside": charted,
            "#now": charted,
            "#rejected": bool(view.rejected) and not (narrow and charted),
            "#sample": bool(view.samples) and not narrow,
            "#ending": over and (below == "ending" or not narrow or alone),
            "#below": below != "ending",
            "#notes": below == "notes",
            "#log": below == "log",
        }
        changed = [name for name, shown in visible.items() if self.query_one(name).display != shown]
        for name in changed:
            self.query_one(name).display = visible[name]
        if changed:  # the figures fit the width they have then
            self.call_after_refresh(lambda: self.show(*self._shown))
        self.query_one("#bottom").set_class(alone, "-alone")
        other = "log" if below == "notes" else "notes"
        self.query_one("#below").border_title = plain(f"{below.capitalize()} (g: {other})")


class LogView(ScrollView, can_focus=True):
    """Shows a sequence of lines and stays at their end until it is scrolled up."""

    DEFAULT_CSS = """
    LogView { height: 1fr; width: 1fr; background: transparent; }
    """

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._lines: Sequence[str] = ()
        self._at_end = True

    def on_mount(self) -> None:
        self.styles.scrollbar_size_horizontal = 0  # the arrow keys do without

    def show(self, lines: Sequence[str]) -> None:
        """Take other lines in place of the ones before."""
        if lines is self._lines:
            return
        self._lines = lines
        self.virtual_size = Size(max(map(len, lines), default=0), len(lines))
        if self._at_end:
            self.scroll_end(animate=False)
        self.refresh()

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_y(old_value, new_value)
        self._at_end = new_value >= self.max_scroll_y

    def render_line(self, y: int) -> Strip:
        left, top = self.scroll_offset
        number = top + y
        if number >= len(self._lines):
            return Strip.blank(self.size.width, self.rich_style)
        text = safe(self._lines[number], lines=False)
        strip = Strip([Segment(text, self.rich_style)], cell_len(text))
        return strip.crop_extend(left, left + self.size.width, self.rich_style)
