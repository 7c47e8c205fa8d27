"""The panes of a comparison side by side, as many at a time as fit, and what they say together."""

from collections.abc import Callable, Sequence
from typing import ClassVar, TypeAlias

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.message import Message
from textual.widgets import Static

from app.tui.compare.pane import Drawing, Pane
from app.tui.compare.round import Round, summary
from app.tui.compare.selection import Candidate
from app.tui.compare.wording import (
    body,
    conclusion,
    edge,
    figures,
    footnote,
    legend,
    losses,
    ruler,
    title,
    trouble,
)
from app.tui.widgets.text import joined, plain
from utils.errors import HatcheryError

_NARROWEST = 38  # cells of a pane

Course: TypeAlias = Callable[[Candidate], Sequence[Candidate]]
"""The checkpoints of the same run, by steps."""


class Pages(Static):
    """`‹ 1/3 ›`; a click on either half turns."""

    class Turned(Message):
        """To the pane group before or after."""

        def __init__(self, by: int) -> None:
            super().__init__()
            self.by = by

    def on_click(self, event: events.Click) -> None:
        self.post_message(self.Turned(-1 if event.x < self.size.width / 2 else 1))


class AnswerPanes(Vertical):
    """`begin` makes room for a round, `draw` shows how far it is."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left_square_bracket", "page(-1)", "Panes before", show=False, key_display="["),
        Binding("right_square_bracket", "page(1)", "Panes after", show=False, key_display="]"),
    ]
    DEFAULT_CSS = """
    AnswerPanes {
        height: 1fr;
        & .panes { height: 1fr; }
        & .below { height: auto; max-height: 4; padding: 0 1; }
        & .below Pages { width: auto; color: $accent; text-style: bold; padding-right: 2; }
        & .below .summary { width: 1fr; height: auto; max-height: 4; }
    }
    """

    def __init__(self, course: Course) -> None:
        super().__init__(id="answer-panes")
        self._course = course
        self._page = 0
        self._panes: list[Pane] = []

    def compose(self) -> ComposeResult:
        yield Horizontal(classes="panes")
        with Horizontal(classes="below"):
            yield Pages()
            yield Static(classes="summary")

    @property
    def per_page(self) -> int:
        """How many panes stand side by side."""
        return max(1, min(len(self._panes), self.size.width // _NARROWEST))

    @property
    def pages(self) -> int:
        return -(-len(self._panes) // self.per_page) if self._panes else 1

    @property
    def current(self) -> int:
        """The pane with the focus, else the first that is shown."""
        focused = [pane.place for pane in self._panes if pane.has_focus_within]
        return focused[0] if focused else self._page * self.per_page

    async def begin(self, count: int) -> None:
        """Have so many panes, at their beginning."""
        while len(self._panes) > count:
            await self._panes.pop().remove()
        new = [Pane(place) for place in range(len(self._panes), count)]
        self._panes += new
        await self.query_one(".panes").mount(*new)
        for pane in self._panes:
            pane.to_top()
        self.turn(0)

    def on_resize(self) -> None:
        self.turn(0)

    def turn(self, by: int) -> None:
        """To another page."""
        self._page = max(0, min(self._page + by, self.pages - 1))
        first = self._page * self.per_page
        first = max(0, min(first, len(self._panes) - self.per_page))
        for pane in self._panes:
            pane.display = first <= pane.place < first + self.per_page

    def action_page(self, by: int) -> None:
        self.turn(by)
        self.focus_pane(self.current)

    @on(Pages.Turned)
    def _turned(self, event: Pages.Turned) -> None:
        event.stop()
        self.action_page(event.by)

    def focus_pane(self, place: int) -> None:
        """Go to a pane, on whatever page."""
        if 0 <= place < len(self._panes):
            self._page = place // self.per_page
            self.turn(0)
            self.call_after_refresh(self._panes[place].focus_text)

    def draw(self, found: Round, *, coloured: bool, fault: HatcheryError | None) -> None:
        """Show the round as it is now; why the server ended takes the place of the summary."""
        if len(found.answers) != len(self._panes):
            return  # its panes are about to be made
        names, best = found.names(), summary(found.answers)
        for pane, answer, name in zip(self._panes, found.answers, names, strict=True):
            if not pane.display or not pane.is_mounted:
                continue
            pane.show(
                Drawing(
                    title(found, pane.place, name),
                    Content("") if found.hidden else self._ruler(answer.candidate, pane.inner),
                    body(found, answer, coloured=coloured),
                    figures(found, answer, best, pane.inner),
                    edge(found, pane.place),
                    answer is found.winner,
                )
            )
        pages = joined(f"‹ {self._page + 1}/{self.pages} ›") if self.pages > 1 else Content("")
        self.query_one(Pages).display = self.pages > 1
        self.query_one(Pages).update(pages)
        if fault is not None:
            lines = [trouble(fault, "r starts it again and asks those that failed")]
        else:
            lines = [conclusion(found, names, best), footnote(found)]
        lines.insert(0, legend() if coloured else Content(""))
        text = Content("\n").join([line for line in lines if line])
        self.query_one(".summary", Static).update(text)

    def say(self, text: str) -> None:
        """What is waited for while there are no panes."""
        self.query_one(Pages).display = False
        self.query_one(".summary", Static).update(plain(text, "italic"))

    def _ruler(self, candidate: Candidate, width: int) -> Content:
        course = self._course(candidate)
        if not course:
            return Content("")
        line = ruler(course, candidate, width)
        above = losses(course, width) if len(self._panes) == 1 else Content("")
        return Content("\n").join([above, line]) if above else line
