"""What a comparison is given: the address of a remote server, the prompt, and the settings of
sampling."""

from typing import ClassVar
from urllib.parse import urlsplit

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Input, Static

from app.client.client import Endpoint, Sampling
from app.tui.forms.draft import Draft
from app.tui.forms.field_panel import FieldPanel
from app.tui.forms.sampling import sampling_fields
from app.tui.widgets.prompt_area import PromptArea
from app.tui.widgets.text import MUTED, joined, plain
from utils.text import safe

_FIELDS = (
    ("address", "Address", "http://127.0.0.1:8000, with or without /v1", False),
    ("model", "Model", "its name there; empty: all that the server lists", False),
    ("token", "Key", "if it wants one; kept in memory only, never written", True),
)
_CONTINUE = "a text that every model goes on with, or FILE:path; ↑ brings back earlier ones"
_CHAT = "a message that every model answers; ↑ brings back earlier ones"


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


class Prompt(PromptArea):
    """↑ in the first line and ↓ in the last go through `history`, oldest first, which grows."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("tab", "leave", "To the answers", priority=True),
        Binding("up", "earlier", "Earlier"),
        Binding("down", "later", "Later", show=False),
    ]
    DEFAULT_CSS = """
    Prompt, Prompt:focus {
        width: 1fr; min-height: 1; max-height: 4; border: none; padding: 0;
    }
    Prompt:focus { background: $surface; }
    """

    def __init__(self, history: list[str]) -> None:
        super().__init__()
        self.remove_class("panel")
        self.placeholder = _CONTINUE
        self._history = history
        self._at = len(history)
        self._typed = ""

    def ask_for(self, *, chat: bool) -> None:
        """Say what is to be written."""
        self.placeholder = _CHAT if chat else _CONTINUE

    def on_focus(self) -> None:
        if self._history[-1:] == [self.text]:  # it was sent, so what is typed is another
            self.select_all()

    def _send(self) -> None:
        if self.text and self._history[-1:] != [self.text]:
            self._history.append(self.text)
        self._at = len(self._history)
        super()._send()

    def action_earlier(self) -> None:
        if self.cursor_location[0] or not self._at:
            self.action_cursor_up()
            return
        if self._at == len(self._history):
            self._typed = self.text
        self._recall(self._at - 1)

    def action_later(self) -> None:
        last = self.cursor_location[0] == self.document.line_count - 1
        if not last or self._at == len(self._history):
            self.action_cursor_down()
        else:
            self._recall(self._at + 1)

    def _recall(self, place: int) -> None:
        self._at = place
        self.fill(self._history[place] if place < len(self._history) else self._typed)


class SamplingPanel(Vertical):
    """A panel at the side that `ask` shows; `Changed` comes with every valid edit."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "close", "Done")]
    DEFAULT_CSS = """
    SamplingPanel {
        display: none; width: 56; height: 1fr;
        &.-shown { display: block; }
        & FieldPanel { border: round $accent; padding: 0 1; }
    }
    """

    class Changed(Message):
        """Other settings hold from now on."""

        def __init__(self, sampling: Sampling) -> None:
            super().__init__()
            self.sampling = sampling

    class Closed(Message):
        """The panel is hidden again."""

    def __init__(self, draft: Draft) -> None:
        super().__init__()
        self._draft = draft

    def compose(self) -> ComposeResult:
        panel = FieldPanel(self._draft, [("Sampling", sampling_fields())])
        panel.border_title = "The same settings for all"
        yield panel

    @property
    def sampling(self) -> Sampling:
        return Sampling.from_options(self._draft.config.inference)

    def ask(self) -> None:
        """Show it and go to its first line."""
        self._show(True)
        self.query_one(FieldPanel).focus_first()

    def refill(self) -> None:
        """Show what the draft says now."""
        self.query_one(FieldPanel).refill()

    def action_close(self) -> None:
        self._show(False)
        self.post_message(self.Closed())

    def _show(self, on: bool) -> None:
        self.set_class(on, "-shown")
        self.screen.set_class(on, "-settings")  # a narrow one then hides the panes

    @on(FieldPanel.Changed)
    def _edited(self, event: FieldPanel.Changed) -> None:
        event.stop()
        if not self._draft.faults:
            self.post_message(self.Changed(self.sampling))
