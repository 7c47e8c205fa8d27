"""The data, looked at: before and after cleaning, left out, in tokens, in training windows."""

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.message import Message
from textual.widgets import ContentSwitcher
from textual.worker import get_current_worker

from app.tui.data.conversations import ConversationsView
from app.tui.data.documents import VIEWS, DocumentsView, TabBar, View
from app.tui.data.rejected import RejectedView
from app.tui.data.session import Batch, DataSession, Move, OpenDocument
from app.tui.data.tokens import TokensView
from app.tui.data.windows import WindowsView
from app.tui.screen import HatcheryScreen
from app.tui.widgets.find_bar import FindBar
from app.tui.widgets.text import MUTED, block, joined, plain
from utils.errors import HatcheryError

if TYPE_CHECKING:
    from pipeline.cleaner.steps import Rejection
    from pipeline.inspection.conversations import InspectedSet
    from pipeline.inspection.tokens import Tokens
    from pipeline.inspection.windows import Window
    from pipeline.sources.documents import Document

_LABELS = {"number": "document number ", "title": "search titles ", "step": "step ",
           "item": "conversation number "}  # fmt: skip


class DocumentRead(Message):
    """A document was found and cleaned."""

    def __init__(self, shown: OpenDocument) -> None:
        super().__init__()
        self.shown = shown


class NotFound(Message):
    """A document was not found, or there is nothing to look into."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


class TokensRead(Message):
    """A text was encoded by every tokenizer."""

    def __init__(self, title: str, found: "list[Tokens]") -> None:
        super().__init__()
        self.title, self.found = title, found


class DataScreen(HatcheryScreen):
    """Documents, rejected documents, tokens and training windows; `run` and `step` open the
    windows of that step, `examples` a set of conversations."""

    HELP = (
        "1 Documents: raw beside clean. What a rule removed is struck through in its colour, and "
        "the list below names the rules. n and p leaf, x jumps anywhere, g goes to a number, / "
        "searches titles, [ and ] turn the parts of a long document.\n"
        "2 Rejected: what cleaning left out, by reason, and the raw text of each example.\n"
        "3 Tokens: the clean document as every tokenizer sees it; every other token is "
        "underlined. i shows ids, b makes blanks visible.\n"
        "4 Windows: exactly what a run is trained on at a step, with the borders of the documents. "
        "v shows what it is validated on, u takes another run.\n"
        "5 Conversations: what a model is tuned on, as it reads it. What it learns is underlined; "
        "all else is only read. ◇ is held out. v shows what was left out, u takes another set."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        *(
            Binding(str(number), f"view('{view}')", view.capitalize(), show=False)
            for number, view in enumerate(VIEWS, 1)
        ),
    ]
    DEFAULT_CSS = """
    DataScreen {
        ContentSwitcher { height: 1fr; }
        &.-narrow #uses { max-height: 6; }
        &.-narrow #reasons { width: 30; }
        &.-narrow #numbers { width: 19; }
        &.-narrow #items { width: 30; }
        &.-narrow #columns { layout: vertical; overflow-x: hidden; overflow-y: auto; }
        &.-narrow TokenColumn { min-width: 20; width: 1fr; height: 9; }
    }
    """

    def __init__(
        self, run: Path | None = None, step: int | None = None, examples: Path | None = None
    ) -> None:
        super().__init__("data")
        self._set = examples
        self._run, self._step, self._validation = run, step or 1, False
        self._view = "windows" if run is not None else "documents"
        self._view = "conversations" if examples is not None else self._view
        self._session: DataSession | None = None
        self._shown: OpenDocument | None = None
        self._batch: Batch | None = None
        self._words = ""
        self._read: set[str] = set()

    def content(self) -> ComposeResult:
        yield TabBar()
        with ContentSwitcher(initial=self._view):
            yield DocumentsView()
            yield RejectedView()
            yield TokensView()
            yield WindowsView()
            yield ConversationsView()
        yield FindBar()

    def on_mount(self) -> None:
        self.header.fact(f"corpus {self.hatchery.config.source}")
        self._session = DataSession(self.hatchery.config, Random())
        self.action_view(self._view)

    def action_view(self, view: str) -> None:
        """Open one of the views and read what it needs."""
        self._view = view
        self.query_one(ContentSwitcher).current = view
        self.query_one(TabBar).mark(view)
        self.header.place("data", view)
        if view in ("documents", "tokens") and self._shown is None:
            self._open_document("number", 1)
        elif view == "tokens":
            self._tokenize()
        elif view == "rejected" and view not in self._read:
            self._read_rejected()
        elif view == "windows" and self._batch is None:
            self._open_batch(0)
        elif view == "conversations" and view not in self._read:
            self._open_set()
        self.query_one(f"#{view}", View).focus_text()

    @on(TabBar.Chosen)
    def _view_chosen(self, event: TabBar.Chosen) -> None:
        self.action_view(event.view)

    # Documents and their tokens.

    def action_document(self, by: int) -> None:
        self._open_document("by", by)

    def action_random(self) -> None:
        self._open_document("random", 0)

    def action_search_on(self) -> None:
        if self._words:
            self._open_document("title", self._words)

    @work(thread=True, group="documents", exclusive=True, exit_on_error=False)
    def _open_document(self, move: Move, value: "int | str | Rejection") -> None:
        worker = get_current_worker()
        assert self._session is not None
        try:
            shown = self._session.document(move, value, lambda: not worker.is_cancelled)
        except (HatcheryError, OSError) as error:
            self.post_message(NotFound(error))
            return
        if shown is not None:
            self.post_message(DocumentRead(shown))

    @on(DocumentRead)
    def _document_read(self, event: DocumentRead) -> None:
        shown = self._shown = event.shown
        self.query_one(DocumentsView).show(shown.look, shown.uses, shown.where)
        if self._view == "tokens":
            self._tokenize()
        if shown.note:
            self.hatchery.note(shown.note)

    @on(NotFound)
    async def _no_document(self, event: NotFound) -> None:
        error = event.error
        if self._shown is None:
            self.query_one(DocumentsView).say(_problem_text(error))
            await self.query_one(TokensView).say(_problem_text(error))
        elif isinstance(error, HatcheryError):
            self.hatchery.note(f"{error.problem} {error.found}".strip())
        else:
            self.hatchery.note(str(error))

    @work(thread=True, group="tokens", exclusive=True, exit_on_error=False)
    def _tokenize(self) -> None:
        worker = get_current_worker()
        if self._session is None or self._shown is None:
            return
        look = self._shown.look
        found = self._session.tokens(look.text or look.raw)
        if worker.is_cancelled:
            return
        self.post_message(TokensRead(look.title, found))

    @on(TokensRead)
    async def _tokens_read(self, event: TokensRead) -> None:
        view = self.query_one(TokensView)
        if event.found:
            await view.show(event.title, event.found)
        else:
            await view.say(plain("There is no tokenizer yet: 3 on the board trains one.", MUTED))

    # Rejected documents.

    @work(thread=True, group="rejected", exclusive=True, exit_on_error=False)
    def _read_rejected(self) -> None:
        assert self._session is not None
        reasons = self._session.reasons()
        self._read.add("rejected")
        self.app.call_from_thread(self.query_one(RejectedView).show, reasons)

    @on(RejectedView.Pointed)
    def _example_pointed(self, event: RejectedView.Pointed) -> None:
        if not isinstance(event, RejectedView.Opened):
            self._read_example(event.example)

    @on(RejectedView.Opened)
    def _example_opened(self, event: RejectedView.Opened) -> None:
        self._open_document("where", event.example)
        self.action_view("documents") if self._shown else self._show_documents()

    def _show_documents(self) -> None:
        """Open the documents without reading the first: another is on its way."""
        self._view = "documents"
        self.query_one(ContentSwitcher).current = "documents"
        self.query_one(TabBar).mark("documents")
        self.query_one(DocumentsView).focus_text()

    @work(thread=True, group="example", exclusive=True, exit_on_error=False)
    def _read_example(self, example: "Rejection") -> None:
        worker = get_current_worker()
        assert self._session is not None
        try:
            text = self._session.raw_of(example)
        except (HatcheryError, OSError) as error:
            text = error.problem if isinstance(error, HatcheryError) else str(error)
        if not worker.is_cancelled:
            self.app.call_from_thread(self.query_one(RejectedView).show_example, example, text)

    # Windows.

    def action_step(self, by: int) -> None:
        self._step = max(1, self._step + by)
        self._open_batch(0)

    def action_validation(self) -> None:
        self._validation = not self._validation
        self._step = 1 if self._validation else self._step
        self._open_batch(0)

    @work(thread=True, group="windows", exclusive=True, exit_on_error=False)
    def action_next_run(self) -> None:
        assert self._session is not None
        runs = self._session.runs()
        if self._run in runs and len(runs) > 1:
            self._run = runs[(runs.index(self._run) + 1) % len(runs)]
            self._step = 1
            self.app.call_from_thread(self._open_batch, 0)
        else:
            self.app.call_from_thread(self.hatchery.note, "There is no other run with a record")

    @work(thread=True, group="windows", exclusive=True, exit_on_error=False)
    def _open_batch(self, place: int) -> None:
        """Read the batch of the step, then window `place` of it, then the titles in that."""
        worker = get_current_worker()
        session = self._session
        assert session is not None
        run = self._run or next(iter(session.runs()), None)
        try:
            if run is None:
                raise HatcheryError("There is no run yet.", remedy="5 on the board trains one")
            self._run = run
            batch = session.batch(run, self._step, validation=self._validation)
            window = session.window(run, batch.numbers[place], validation=batch.validation)
            self._call(worker.is_cancelled, self._batch_read, batch, window, place)
            titles = session.titles(run, window, lambda: not worker.is_cancelled)
            self._call(worker.is_cancelled, self._window_read, batch, window, titles)
        except (HatcheryError, OSError) as error:
            self._call(worker.is_cancelled, self.query_one(WindowsView).say, _problem_text(error))

    def _call(self, too_late: bool, do: Callable[..., None], *values: object) -> None:
        if not too_late:
            self.app.call_from_thread(do, *values)

    def _batch_read(self, batch: Batch, window: "Window", place: int) -> None:
        self._batch, self._step = batch, batch.step
        about = joined(
            (batch.run, "bold"), (f"  {batch.about} · {len(batch.numbers)} windows of "
                                  f"{batch.size:,} tokens", MUTED),
        )  # fmt: skip
        if batch.remade:
            warning = "↻ its tokens have been made anew since: it was not trained on these windows"
            about = Content("\n").join([about, plain(warning, "$warning")])
        view = self.query_one(WindowsView)
        view.show_batch(about, batch.numbers, place)
        view.show_window(window, {}, batch.size)

    def _window_read(self, batch: Batch, window: "Window", titles: "dict[int, Document]") -> None:
        self.query_one(WindowsView).show_window(window, titles, batch.size)

    @on(WindowsView.Pointed)
    def _window_pointed(self, event: WindowsView.Pointed) -> None:
        if self._batch is not None and event.place < len(self._batch.numbers):
            self._open_batch(event.place)

    # Conversations.

    @work(thread=True, group="conversations", exclusive=True, exit_on_error=False)
    def _open_set(self, other: bool = False) -> None:
        """Read the set that was asked for, else the newest; or the next `other` one."""
        session, cancelled = self._session, get_current_worker()
        assert session is not None
        view = self.query_one(ConversationsView)
        sets = session.example_sets()
        chosen = self._set or next(iter(sets), None)
        if other and chosen in sets:
            if len(sets) < 2:
                self.app.call_from_thread(self.hatchery.note, "There is no other set")
                return
            chosen = sets[(sets.index(chosen) + 1) % len(sets)]
        try:
            if chosen is None:
                advice = "Conversations on the board makes a set of them"
                raise HatcheryError("There are no conversations yet.", remedy=advice)
            found, left_out = session.open_set(chosen)
        except (HatcheryError, OSError) as error:
            self._call(cancelled.is_cancelled, view.say, _problem_text(error))
            return
        self._set = chosen
        self._read.add("conversations")
        self._call(cancelled.is_cancelled, self._set_read, found, left_out)

    def _set_read(self, found: "InspectedSet", left_out: "list[Rejection]") -> None:
        self.query_one(ConversationsView).show(found, left_out)

    def action_next_set(self) -> None:
        self._open_set(other=True)

    @on(ConversationsView.Pointed)
    def _conversation_pointed(self, event: ConversationsView.Pointed) -> None:
        self._read_item(event.number, event.left_out)

    @work(thread=True, group="conversation", exclusive=True, exit_on_error=False)
    def _read_item(self, number: int, left_out: "Rejection | None") -> None:
        worker, view = get_current_worker(), self.query_one(ConversationsView)
        assert self._session is not None
        try:
            if left_out is not None:
                row = self._session.row_of(left_out, lambda: not worker.is_cancelled)
                self._call(worker.is_cancelled, view.show_left_out, left_out, row)
            elif (item := self._session.item(number)) is not None:
                self._call(worker.is_cancelled, view.show_item, item)
        except (HatcheryError, OSError, ValueError) as error:  # damaged since it was opened
            self._call(worker.is_cancelled, view.say, _problem_text(error))

    # Numbers and words.

    def action_ask(self, purpose: str) -> None:
        self.query_one(FindBar).ask(purpose, _LABELS[purpose])

    @on(FindBar.Asked)
    def _asked(self, event: FindBar.Asked) -> None:
        text = event.text.strip()
        digits = text.replace(",", "").replace("_", "")
        if event.purpose == "title" and text:
            self._words = text
            self._open_document("title", text)
        elif digits.isascii() and digits.isdigit() and len(digits) < 16:
            if event.purpose == "number":
                self._open_document("number", int(digits))
            elif event.purpose == "item":
                self.query_one(ConversationsView).go_to(max(0, int(digits) - 1))
            else:
                self._step = max(1, int(digits))
                self._open_batch(0)
        elif text:
            self.hatchery.note(f"{text} is not a number")


def _problem_text(error: Exception) -> Content:
    """An error as text in place of what could not be read."""
    if not isinstance(error, HatcheryError):
        return plain(str(error), "$warning")
    found = f"\nFound: {error.found}" if error.found else ""
    remedy = f"\n\n{error.remedy}" if error.remedy else ""
    return joined((error.problem, "$warning"), block(found + remedy))
