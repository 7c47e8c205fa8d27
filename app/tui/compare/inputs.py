"""The form that a remote server is added with."""

from typing import ClassVar
from urllib.parse import urlsplit

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Input, Static

from app.client.client import Endpoint
from app.tui.widgets.text import MUTED, joined, plain
from utils.text import safe

_FIELDS = (
    ("address", "Address", "http://127.0.0.1:8000, with or without /v1", False),
    ("model", "Model", "its name there; empty: all that the server lists", False),
    ("token", "Key", "if it wants one; kept in memory only, never written", True),
)


class _Line(Input):
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Leave"),
        Binding("up", "app.focus_previous", show=False),
        Binding("down", "app.focus_next", show=False),
    ]

    def validate_value(self, value: str) -> str:
        return safe(value, lines=False)

    def action_leave(self) -> None:
        form = next(one for one in self.ancestors if isinstance(one, EndpointForm))
        form.close()


class EndpointForm(Vertical):
    """`ask` shows it; Enter in the last field posts `Given`. What was typed as a key is forgotten
    as soon as it is handed on."""

    DEFAULT_CSS = """
    EndpointForm {
        display: none; height: auto; border: round $accent; padding: 0 1;
        &.-shown { display: block; }
        & Horizontal { height: 1; }
        & Horizontal Static { width: 10; }
        & _Line { width: 1fr; height: 1; border: none; padding: 0 1; background: $surface; }
        & .verdict { height: auto; max-height: 3; }
    }
    """

    class Given(Message):
        """A server, and the name of a model there; empty for all."""

        def __init__(self, endpoint: Endpoint, model: str) -> None:
            super().__init__()
            self.endpoint, self.model = endpoint, model

    def __init__(self) -> None:
        super().__init__()
        self.border_title = "A server that speaks the OpenAI protocol"
        self._before: Widget | None = None

    def compose(self) -> ComposeResult:
        for name, label, hint, secret in _FIELDS:
            with Horizontal():
                yield Static(plain(label))
                yield _Line(placeholder=hint, password=secret, id=f"remote-{name}", compact=True)
        yield Static(classes="verdict")

    def ask(self) -> None:
        """Show the form with what was typed last, but the key."""
        self._before = self.screen.focused
        self.say("Enter goes on and adds it · Esc leaves")
        self.add_class("-shown")
        self._line("address").focus()

    def close(self) -> None:
        """Hide the form."""
        self._line("token").value = ""
        self.remove_class("-shown")
        if self._before is not None and self._before.is_attached:
            self._before.focus()

    def say(self, text: str, *, wrong: bool = False) -> None:
        """A line below the fields."""
        shown = joined(("✕ ", "$error"), (text, "$error")) if wrong else plain(text, MUTED)
        self.query_one(".verdict", Static).update(shown)

    def _line(self, name: str) -> _Line:
        return self.query_one(f"#remote-{name}", _Line)

    @on(Input.Submitted)
    def _entered(self, event: Input.Submitted) -> None:
        event.stop()
        names = [name for name, *_ in _FIELDS]
        at = names.index((event.input.id or "").removeprefix("remote-"))
        if at + 1 < len(names):
            self._line(names[at + 1]).focus()
            return
        address, model, token = (self._line(name).value.strip() for name in names)
        if not _is_address(address):
            self.say("an address such as http://127.0.0.1:8000 is needed", wrong=True)
            self._line("address").focus()
            return
        self.post_message(self.Given(Endpoint(address, token or None), model))

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        event.stop()


def _is_address(text: str) -> bool:
    try:
        found = urlsplit(text)
        return found.scheme in ("http", "https") and bool(found.hostname) and found.port != 0
    except ValueError:
        return False
