"""The settings that every model answers with."""

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.message import Message

from app.client.client import Sampling
from app.tui.forms.draft import Draft
from app.tui.forms.field_panel import FieldPanel
from app.tui.forms.sampling import sampling_fields, sampling_of


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
        return sampling_of(self._draft.config.inference)

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
