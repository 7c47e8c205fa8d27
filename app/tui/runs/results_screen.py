"""What was measured, run beside run."""

import time
from typing import ClassVar

from textual import events, on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from app.tui.runs.results_table import (
    COLUMNS,
    Column,
    course,
    fitting,
    in_words,
    ordered,
    winners,
)
from app.tui.screen import HatcheryScreen
from app.tui.widgets.meter import columns
from app.tui.widgets.text import MUTED, joined, plain
from pipeline.runs.results import BENCHMARKS, Reader, Result, best_of, caution, export
from utils.errors import HatcheryError
from utils.units import human_count, human_seconds

_TEXTS = ("run", "tokenizer", "data", "course")


class Table(OptionList):
    """The rows; Enter is in the footer, since it is the way in."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "select", "Charts")]


class Heading(Static):
    """The names of the columns, which a click sorts by."""

    class Clicked(Message):
        """A click at cell `x`."""

        def __init__(self, x: int) -> None:
            super().__init__()
            self.x = x

    def on_click(self, event: events.Click) -> None:
        self.post_message(self.Clicked(event.x))


class ResultsScreen(HatcheryScreen):
    """All runs in a table, which compares what can be compared."""

    HELP = (
        "One line per run: the best validation loss in nats per token, bits per byte of text, the "
        "course of the validation loss, and what it took. ★ marks the best of the runs that "
        "compare with each other: a loss needs the same tokenizer and the same text, bits per "
        "byte only the same text.\n\n"
        "s sorts by the next column, o turns the order round; a click on a column's name does the "
        "same. e writes all of it as CSV and JSON into benchmark_results/.\n\n"
        "b shows what checkpoints got at tasks, v what the votes between models say."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s,right", "sort(1)", "Sort", key_display="s", id="results.sort"),
        Binding("left", "sort(-1)", "Sort by the column before", show=False),
        Binding("o", "turn", "Order", id="results.order"),
        Binding("e", "export", "Export", id="results.export"),
        Binding("c", "app.runs", "Runs", id="results.runs"),
        Binding("b", "scores", "Benchmarks", id="results.scores"),
        Binding("v", "votes", "Votes", id="results.votes"),
    ]
    DEFAULT_CSS = """
    ResultsScreen {
        #table { height: 2fr; }
        #heading { height: 1; }
        #words { height: auto; padding: 0 2; }
        #more { height: auto; max-height: 9; }
    }
    """

    def __init__(self) -> None:
        super().__init__("results")
        self._reader = Reader()
        self._results: list[Result] | None = None
        self._rows: list[Result] = []
        self._sort, self._turned = "run", True

    def content(self) -> ComposeResult:
        with Vertical(id="table", classes="panel") as table:
            table.border_title = "Results"
            yield Heading(id="heading")
            yield Table(id="list", compact=True)
        yield Static(plain("reading …", "italic"), id="words")
        with Vertical(id="more", classes="panel"):
            yield Static(id="about")

    def on_mount(self) -> None:
        self._list.focus()
        self.set_interval(self.hatchery.intervals.artefacts, self._look)
        self._look()

    def on_resize(self) -> None:
        self.call_after_refresh(self._show)

    @property
    def _list(self) -> Table:
        return self.query_one("#list", Table)

    @property
    def _row(self) -> Result | None:
        number = self._list.highlighted
        return self._rows[number] if number is not None and number < len(self._rows) else None

    @work(thread=True, group="results", exclusive=True, exit_on_error=False)
    def _look(self) -> None:
        found = self._reader.results(self.hatchery.config.paths.checkpoints_dir)
        self.app.call_from_thread(self._looked, found)

    def _looked(self, found: list[Result]) -> None:
        if found != self._results:
            self._results = found
            self._show()

    def _show(self) -> None:
        """Draw the table again; the cursor stays on its run."""
        if self._results is None:
            return
        before = self._row
        width = max(30, self._list.size.width - 1)
        shown = fitting(COLUMNS, width)
        self._rows = ordered(self._results, self._column(), worst_first=self._turned)
        best = best_of(self._results)
        starred = winners(best)
        self._list.clear_options()
        self._list.add_options([Option(_line(row, shown, starred)) for row in self._rows])
        places = [n for n, r in enumerate(self._rows) if before and r.path == before.path]
        if self._rows:
            self._list.highlighted = places[0] if places else 0
        else:
            self.query_one("#about", Static).update()
        self.query_one("#heading", Heading).update(self._heading(shown))
        words = [joined(("★ ", "$success"), in_words(one)) for one in best]
        words += [plain(text, MUTED) for text in [caution(self._results)] if text]
        empty = "There is nothing measured yet: every run appears here once it was validated."
        self.query_one("#words", Static).update(
            Content("\n").join(words) if self._results else plain(empty)
        )
        self.header.fact(f"{len(self._results)} measured")

    def _column(self) -> Column:
        known = COLUMNS
        return next((column for column in known if column.title == self._sort), known[0])

    def _heading(self, shown: list[Column]) -> Content:
        cells, widths = [], []
        for column in shown:
            arrow = ("▼" if column.lower == self._turned else "▲") * (column.title == self._sort)
            style = "bold $accent" if arrow else MUTED
            cells.append(plain(column.title + arrow, style))
            widths.append(column.width if column.title in _TEXTS else -column.width)
        return columns(cells, widths)

    @on(OptionList.OptionHighlighted, "#list")
    def _moved(self) -> None:
        row = self._row
        if row is not None:
            width = max(20, self.query_one("#about").size.width)
            self.query_one("#about", Static).update(_about(row, width))

    @on(OptionList.OptionSelected, "#list")
    def _opened(self) -> None:
        row = self._row
        if row is not None and row.path.is_dir():
            self.hatchery.open("run", row.path)

    @on(Heading.Clicked)
    def _heading_clicked(self, event: Heading.Clicked) -> None:
        at = 0
        for column in fitting(COLUMNS, self._list.size.width - 1):
            at += column.width + 2
            if event.x < at:
                if column.title == self._sort:
                    self._turned = not self._turned
                self._sort = column.title
                break
        self._show()

    def action_sort(self, by: int) -> None:
        titles = [column.title for column in COLUMNS]
        place = titles.index(self._sort) if self._sort in titles else 0
        self._sort, self._turned = titles[(place + by) % len(titles)], False
        self._show()

    def action_turn(self) -> None:
        self._turned = not self._turned
        self._show()

    def action_scores(self) -> None:
        self.hatchery.open("scores")

    def action_votes(self) -> None:
        self.hatchery.open("votes")

    @work(thread=True, group="export", exclusive=True, exit_on_error=False)
    def action_export(self) -> None:
        stamp = time.strftime("%Y_%m_%d_%H_%M_%S")
        try:
            table, _ = export(self._rows, BENCHMARKS, stamp)
        except (HatcheryError, OSError) as error:
            message = error if isinstance(error, HatcheryError) else HatcheryError(
                f"The results could not be written to {BENCHMARKS}: {error.strerror}."
            )  # fmt: skip
            self.app.call_from_thread(self.hatchery.tell, message)
        else:
            self.app.call_from_thread(self.hatchery.note, f"Wrote {table} and .json beside it")


def _line(row: Result, shown: list[Column], starred: set[tuple[str, str]]) -> Content:
    cells, widths = [], []
    for column in shown:
        text = column.shown(row)
        best = (column.title, row.name) in starred
        style = "bold $success" if best else "" if column.title in ("run", "val loss") else MUTED
        style = "$accent" if column.title == "course" else style
        cells.append(joined((f"{'★ ' * best}{text}", style)))
        widths.append(column.width if column.title in _TEXTS else -column.width)
    return columns(cells, widths)


def _about(row: Result, width: int) -> Content:
    """A result with all its figures, however narrow the table is."""
    lines = [plain(row.name, "bold")]
    if row.curve:
        first, last = row.curve[0], row.curve[-1]
        line = course(row, min(60, width - 34))
        ends = f"{first.loss:.3f} at step {first.step:,}", f"{last.loss:.3f} at {last.step:,}"
        lines.append(joined((ends[0], MUTED), " ", (line, "$accent"), " ", (ends[1], MUTED)))
    facts = [
        ("val loss", "" if row.val_loss is None else f"{row.val_loss:.4f}"),
        ("bits per byte", "" if row.bits_per_byte is None else f"{row.bits_per_byte:.4f}"),
        ("parameters", "" if row.parameters is None else human_count(row.parameters)),
        ("tokens", "" if row.tokens is None else human_count(row.tokens)),
        ("steps", "" if row.steps is None else f"{row.steps:,}"),
        ("tokens/s", f"{row.tokens_per_second:,.0f}" if row.tokens_per_second else ""),
        ("time", human_seconds(row.seconds) if row.seconds else ""),
        ("data", row.data),
        ("tokenizer", row.tokenizer),
    ]
    parts = [joined((f"{name} ", MUTED), value) for name, value in facts if value]
    lines.append(Content(" · ").join(parts))
    return Content("\n").join(lines)
