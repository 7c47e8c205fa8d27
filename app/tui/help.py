"""Help: what the screen below shows, and every key that works there."""

from typing import Any

from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Static

from app.tui.screen import HatcheryScreen
from app.tui.widgets.text import block, joined, plain

_HERE, _EVERYWHERE, _WITHIN = "On this screen", "Everywhere", "In the list or field"


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
