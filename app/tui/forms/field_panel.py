"""A panel of settings in groups, those that matter first; what is edited goes into a draft."""

from collections.abc import Iterator, Sequence
from typing import ClassVar, cast

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.message import Message
from textual.widgets import Static

from app.tui.forms.draft import CHANGED, DEFAULT, PROPOSED, Draft
from app.tui.forms.field import Edited, FieldLine, about, field_line
from app.tui.forms.field_spec import Field, as_text
from app.tui.widgets.text import MUTED, joined, plain

Group = tuple[str, Sequence[Field]]

_ABOUT = "↑ and ↓ walk through the settings. Every one has a value that works already."


class More(Static, can_focus=True):
    """`▸ 21 more`: opens and closes the rest of the settings."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter,space", "screen.more", "More"),
        Binding("down", "app.focus_next", show=False),
        Binding("up", "app.focus_previous", show=False),
    ]

    def show(self, count: int, *, opened: bool) -> None:
        """Say how many there are."""
        text = "▾ fewer" if opened else f"▸ {count} more"
        self.update(joined(text, (" (m)", MUTED)))

    async def on_click(self) -> None:
        await self.run_action("screen.more")


class FieldPanel(Vertical):
    """The settings of one or several sections; `origins` shows which file each comes from."""

    DEFAULT_CSS = """
    FieldPanel {
        & .fields { height: 1fr; }
        & .field { height: 1; width: 1fr; padding: 0 0 0 30; }
        & TextLine.field { background: $surface; border: none; }
        & TextLine.-named { padding: 0 2 0 30; }
        & ChoiceLine:focus { background: $block-cursor-background; }
        & .fault { height: auto; color: $error; padding-left: 2; }
        & .group { height: 1; color: $text-muted; text-style: bold; }
        & .group.-later { height: 2; padding-top: 1; }
        & More { height: 2; padding-top: 1; color: $text-muted; width: auto; }
        & More:focus, & More:hover { color: $accent; text-style: bold; }
        & .rest { height: auto; }
        & .about { height: auto; max-height: 4; color: $text-muted; border-top: solid $panel; }
        &.-origins .field { padding: 0 14 0 30; }
        &.-origins TextLine.-named { padding: 0 16 0 30; }
    }
    """

    class Changed(Message):
        """The draft has been edited."""

    def __init__(
        self, draft: Draft, groups: Sequence[Group], *, origins: bool = False, name: str = ""
    ) -> None:
        super().__init__(id=name or None, classes="panel" if name else "")
        self.set_class(origins, "-origins")
        self.draft = draft
        self._origins = origins
        self._first: list[Group] = [
            (title, [f for f in fields if self._matters(f)] or fields) for title, fields in groups
        ]
        self._rest: list[Group] = [
            (title, [f for f in fields if f not in first])
            for (title, fields), (_, first) in zip(groups, self._first, strict=True)
        ]
        self._opened = False

    def _matters(self, field: Field) -> bool:
        path, draft = field.path, self.draft
        if field.common or path in draft.faults or draft.origin(path) in (CHANGED, PROPOSED):
            return True
        if self._origins and draft.origin(path) != DEFAULT:
            return True
        return draft.text(field) != as_text(field, field.default)

    def compose(self) -> ComposeResult:
        with VerticalScroll(classes="fields", can_focus=False):
            yield from self._lines(self._first)
            if self.hidden:
                yield More()
        yield Static(plain(_ABOUT), classes="about")

    def on_mount(self) -> None:
        if self.hidden:
            self.query_one(More).show(self.hidden, opened=False)
        if self.draft.faults:
            self.call_after_refresh(self.refill)

    @property
    def hidden(self) -> int:
        """How many settings are behind `more`."""
        return sum(len(fields) for _, fields in self._rest)

    def _lines(self, groups: Sequence[Group], *, later: bool = False) -> ComposeResult:
        for title, fields in groups:
            if fields and len(groups) > 1:
                yield Static(plain(title), classes="group -later" if later else "group")
                later = True
            for field in fields:
                yield field_line(field, self.draft)

    @property
    def lines(self) -> Iterator[FieldLine]:
        """The settings that are shown."""
        return cast(Iterator[FieldLine], iter(self.query(".field")))

    @property
    def focused_line(self) -> FieldLine | None:
        """The setting that has the focus."""
        return next((line for line in self.lines if line.has_focus), None)

    def toggle(self) -> None:
        """Show the rest, or hide it again."""
        if not self.hidden:
            return
        self._opened = not self._opened
        self.query_one(More).show(self.hidden, opened=self._opened)
        if self._opened:
            rest = Vertical(*self._lines(self._rest, later=True), classes="rest")
            self.query_one(".fields").mount(rest)
        else:
            self.query(".rest").remove()

    def refill(self, *, forced: bool = False) -> None:
        """Show the draft as it is now; `forced`, also in the field that is being typed in."""
        for line in self.lines:
            line.refill(forced=forced)
        self._explain()

    def focus_first(self) -> None:
        """Go to the first setting."""
        next(self.lines).focus()

    def focus_last(self) -> None:
        """Go to the last setting that is shown."""
        *_, last = self.lines
        last.focus()

    def focus_path(self, path: str) -> None:
        """Go to a setting, opening the rest where it is there."""
        behind = {field.path for _, fields in self._rest for field in fields}
        if path in behind and not self._opened:
            self.toggle()
        self.call_after_refresh(self._focus, path)

    def _focus(self, path: str) -> None:
        for line in self.lines:
            if line.margins.field.path == path:
                line.focus(scroll_visible=False)
                # What was just opened has no place before the layout after this one.
                self.call_after_refresh(line.scroll_visible, animate=False)

    @on(Edited)
    def _edited(self, event: Edited) -> None:
        event.stop()
        self.draft.enter(event.field, event.text)
        self.refill()
        self.post_message(self.Changed())

    @on(events.DescendantFocus)
    @on(events.DescendantBlur)
    def _explain(self) -> None:
        line = self.focused_line
        text = about(line.margins.field, self.draft) if line is not None else plain(_ABOUT)
        self.query_one(".about", Static).update(text)
