"""What cleaning rejected: reasons, examples, and the raw text of one."""

from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from app.tui.data.documents import View
from app.tui.data.wording import PART
from app.tui.widgets.meter import columns
from app.tui.widgets.text import MUTED, block, joined, plain
from utils.units import human_count

if TYPE_CHECKING:
    from pipeline.cleaner.steps import Rejection
    from pipeline.inspection.rejected import Reason


class Reasons(OptionList):
    """Why documents were left out; Enter is in the footer."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "select", "Examples")]


class Examples(OptionList):
    """Where rejected documents stand; Enter is in the footer."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "select", "As a document")]


class RejectedView(View):
    """Reasons, examples of the one under the cursor, and the example under the cursor."""

    DEFAULT_CSS = """
    RejectedView {
        #lists { height: 1fr; }
        #reasons { width: 36; height: 1fr; }
        #examples { width: 1fr; height: 1fr; }
        #example { height: 1fr; }
        #example:focus { border: round $accent; }
    }
    """

    class Pointed(Message):
        """The cursor is on an example."""

        def __init__(self, example: "Rejection") -> None:
            super().__init__()
            self.example = example

    class Opened(Pointed):
        """It should be shown as a document."""

    def __init__(self) -> None:
        super().__init__(id="rejected")
        self._reasons: list[Reason] = []
        self._reason = 0

    def compose(self) -> ComposeResult:
        with Horizontal(id="lists"):
            with Vertical(id="reasons", classes="panel") as reasons:
                reasons.border_title = "Reasons"
                yield Reasons(id="reason-list", compact=True)
            with Vertical(id="examples", classes="panel") as examples:
                examples.border_title = "Examples"
                yield Examples(id="example-list", compact=True)
        with VerticalScroll(id="example", classes="panel") as example:
            example.border_title = "Raw"
            yield Static(plain("reading …", "italic"), id="example-text")

    def focus_text(self) -> None:
        self.query_one("#reason-list").focus()

    def show(self, reasons: "list[Reason]") -> None:
        """Show the reasons, the commonest first."""
        self._reasons = reasons
        total = sum(reason.documents for reason in reasons) or 1
        listed = self.query_one("#reason-list", OptionList)
        listed.clear_options()
        width = max(8, listed.size.width - 15)
        for reason in reasons:
            name, share = reason.name.replace("_", " "), f"{reason.documents / total:.0%}"
            cells = [plain(name), plain(human_count(reason.documents)), plain(share, MUTED)]
            listed.add_option(Option(columns(cells, [width, -6, -4])))
        if reasons:
            listed.highlighted = 0
        else:
            self.query_one("#example-list", OptionList).clear_options()
            text = "Nothing was rejected, or nothing cleaned yet: 2 on the board cleans."
            self.say(plain(text, MUTED))

    @on(OptionList.OptionHighlighted, "#reason-list")
    def _reason_chosen(self, event: OptionList.OptionHighlighted) -> None:
        self._reason = event.option_index
        examples = self._examples()
        listed = self.query_one("#example-list", OptionList)
        listed.clear_options()
        width = max(20, listed.size.width - 1)
        lines = [joined(e.where, "  ", (e.detail, MUTED)) for e in examples]
        listed.add_options([Option(one.truncate(width, ellipsis=True)) for one in lines])
        count = self._reasons[self._reason].documents
        shown = (
            f"the first {len(examples):,} of {count:,}" if count > len(examples) else f"{count:,}"
        )
        self.query_one("#examples").border_title = plain(f"Examples: {shown}")
        if examples:
            listed.highlighted = 0

    @on(OptionList.OptionSelected, "#reason-list")
    def _reason_opened(self) -> None:
        self.query_one("#example-list").focus()

    def _examples(self) -> "list[Rejection]":
        return self._reasons[self._reason].examples if self._reasons else []

    @on(OptionList.OptionHighlighted, "#example-list")
    def _example_chosen(self, event: OptionList.OptionHighlighted) -> None:
        if event.option_index < len(self._examples()):
            self.post_message(self.Pointed(self._examples()[event.option_index]))

    @on(OptionList.OptionSelected, "#example-list")
    def _example_opened(self, event: OptionList.OptionSelected) -> None:
        if event.option_index < len(self._examples()):
            self.post_message(self.Opened(self._examples()[event.option_index]))

    def show_example(self, example: "Rejection", text: str) -> None:
        """Show the raw text of an example."""
        self.query_one("#example").border_title = plain(f"Raw: {example.where}")
        shown = block(text[:PART])
        if len(text) > PART:
            shown = Content.assemble(
                shown, plain(f"\n… {len(text) - PART:,} more characters", MUTED)
            )
        self.query_one("#example-text", Static).update(shown)
        self.query_one("#example").scroll_home(animate=False)

    def say(self, text: Content) -> None:
        """Show a message in place of an example."""
        self.query_one("#example-text", Static).update(text)
