"""What all screens share: header, footer, the way back, the way to the app; and the help screen,
which says what the one below shows and every key that works there."""

from typing import Any, ClassVar, cast

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Static

from app.tui.core import AppCore
from app.tui.widgets.frame import Header, KeyFooter, TooSmall
from app.tui.widgets.text import block, joined, plain

_HERE, _EVERYWHERE, _WITHIN = "On this screen", "Everywhere", "In the list or field"


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
    def hatchery(self) -> AppCore:
        """The app, by its own type."""
        return cast(AppCore, self.app)

    @property
    def job_id(self) -> str | None:
        """The job that it is about, None where it is about no single one."""
        return None

    @property
    def header(self) -> Header:
        return self.query_one(Header)

    def compose(self) -> ComposeResult:
        # Textual sets this class once all is there, and then makes every style anew.
        known = self.app.HORIZONTAL_BREAKPOINTS or [(0, "-narrow")]
        self.add_class(max(one for one in known if one[0] <= self.app.size.width)[1])
        yield Header(*self._places)
        yield from self.content()
        yield KeyFooter()
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


class HelpScreen(HatcheryScreen):
    """Beside the keys stands what they do."""

    CSS = "HelpScreen #help { padding: 1 2; }"

    def __init__(self, about: Screen[Any]) -> None:
        super().__init__("help")
        self._about = about

    def content(self) -> ComposeResult:
        with VerticalScroll(id="help"):
            if isinstance(self._about, HatcheryScreen) and self._about.HELP:
                yield Static(block(self._about.HELP), classes="prose")
            yield Static(self._keys())

    def on_mount(self) -> None:
        self.query_one("#help").focus()

    def _keys(self) -> Content:
        """First what belongs to the screen, then to the whole app, last to list or field."""
        groups: dict[str, dict[str, str]] = {_HERE: {}, _EVERYWHERE: {}, _WITHIN: {}}
        for node, binding, _, _ in self._about.active_bindings.values():
            group = _HERE if node is self._about else _EVERYWHERE if node is self.app else _WITHIN
            if binding.description and not binding.action.startswith("app.focus_"):  # see below
                key = self.app.get_key_display(binding)
                groups[group].setdefault(binding.description, key)
        groups[_EVERYWHERE] |= {"Next panel or field": "tab", "The one before": "shift+tab"}
        lines = []
        for title, keys in groups.items():
            lines += [plain(""), plain(title, "bold $accent")] if keys else []
            lines += [joined((f"  {key:<12}", "$accent"), what) for what, key in keys.items()]
        return Content("\n").join(lines)
