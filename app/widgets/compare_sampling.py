"""The settings that every model answers with."""

from dataclasses import replace
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.message import Message

from app.client import Sampling
from app.views.draft import Draft
from app.views.form import fields_of
from app.widgets.fields import FieldPanel

_NAMES = (
    *("temperature", "top_k", "top_p", "min_p", "repetition_penalty", "max_length", "seed", "stop"),
)


class SamplingPanel(Vertical):
    """A panel at the side that `toggle` shows and hides; `Changed` comes with every valid edit."""

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
        known = {field.path.partition(".")[2]: field for field in fields_of("inference")}
        fields = [replace(known[name], essential=True) for name in _NAMES]
        panel = FieldPanel(self._draft, [("Sampling", fields)])
        panel.border_title = "The same settings for all"
        yield panel

    @property
    def sampling(self) -> Sampling:
        return sampling_of(self._draft)

    def ask(self) -> None:
        """Show it and go to its first line."""
        self.add_class("-shown")
        self.query_one(FieldPanel).focus_first()

    def action_close(self) -> None:
        self.remove_class("-shown")
        self.post_message(self.Closed())

    @on(FieldPanel.Changed)
    def _edited(self, event: FieldPanel.Changed) -> None:
        event.stop()
        if not self._draft.faults:
            self.post_message(self.Changed(self.sampling))


def sampling_of(draft: Draft) -> Sampling:
    """The settings of a draft of the section `inference`; the newest valid ones."""
    chosen = draft.config.inference
    return Sampling(
        temperature=chosen.temperature,
        top_k=chosen.top_k,
        top_p=chosen.top_p,
        min_p=chosen.min_p,
        repetition_penalty=chosen.repetition_penalty,
        max_tokens=chosen.max_length,
        seed=chosen.seed,
        stop=tuple(chosen.stop or ()),
    )
