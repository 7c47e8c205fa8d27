"""What all screens share: the header, the footer, the way back, help, and the way to the app."""

from typing import TYPE_CHECKING, ClassVar, cast

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import Screen

from app.tui.widgets.footer import KeyLine
from app.tui.widgets.header import Header
from app.tui.widgets.too_small import TooSmall

if TYPE_CHECKING:
    from app.tui.app import HatcheryApp


class HatcheryScreen(Screen[None]):
    """A full screen. `places` are its steps from home, `HELP` says in a few sentences what it
    shows and what one does here."""

    HELP: ClassVar[str] = ""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "back", "Back", id="back"),
    ]

    def __init__(self, *places: str) -> None:
        super().__init__()
        self._places = places
        self._new = True

    @property
    def hatchery(self) -> "HatcheryApp":
        """The app, by its own type."""
        return cast("HatcheryApp", self.app)

    @property
    def header(self) -> Header:
        return self.query_one(Header)

    def compose(self) -> ComposeResult:
        # Textual sets this class once all is there, and then makes every style anew.
        known = self.app.HORIZONTAL_BREAKPOINTS or [(0, "-narrow")]
        self.add_class(max(one for one in known if one[0] <= self.app.size.width)[1])
        yield Header(*self._places)
        yield from self.content()
        yield KeyLine()
        yield TooSmall()

    @on(events.Unmount)
    def _unsubscribe(self) -> None:
        for signal in self.hatchery.signals:  # which would keep it in memory until they are sent
            signal.unsubscribe(self)

    def on_resize(self) -> None:
        self.query_one(TooSmall).measure(self.app.size)

    @on(events.ScreenResume)
    def _resumed(self, event: events.ScreenResume) -> None:
        if self._new:  # its styles were just made
            event.refresh_styles = self._new = False
        self.query_one(TooSmall).measure(self.app.size)

    def content(self) -> ComposeResult:
        """What lies between header and footer."""
        raise NotImplementedError

    def action_back(self) -> None:
        """One step towards home."""
        if len(self.app.screen_stack) > 1:
            self.app.pop_screen()
