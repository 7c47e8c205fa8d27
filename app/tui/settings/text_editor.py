"""config.json as text, checked as it is typed."""

from collections.abc import Sequence
from json import JSONDecodeError
from typing import ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import Static, TextArea

from app.commands.settings import CONFIG_FILE
from app.tui.forms import config_file
from app.tui.forms.draft import faults_of
from app.tui.screen import HatcheryScreen
from app.tui.widgets.text import joined
from utils.errors import HatcheryError, UsageError
from utils.text import safe


class Editor(TextArea):
    """Text in which no character is obeyed by the terminal."""

    def get_line(self, line_index: int) -> Text:
        return Text(safe(self.document.get_line(line_index)), end="", no_wrap=True)


class ConfigTextScreen(HatcheryScreen):
    """The whole file; the cursor begins at what is wrong with it."""

    HELP = (
        "config.json as it is on the disk. It is checked as you type; what is wrong is said at "
        "the bottom with its line and column. Ctrl+S saves it once it is valid."
    )
    CSS = """
    ConfigTextScreen {
        #file { height: 1fr; }
        Editor { height: 1fr; border: none; padding: 0; background: transparent; }
        #verdict { height: auto; max-height: 6; padding: 0 2; margin-bottom: 1; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+s", "save", "Save", id="text.save"),
        Binding("f3", "fault", "Go to the fault", id="text.fault"),
    ]

    def __init__(self) -> None:
        super().__init__("settings", str(CONFIG_FILE))

    def content(self) -> ComposeResult:
        with Vertical(id="file", classes="panel"):
            yield Editor(config_file.read_text(), show_line_numbers=True, soft_wrap=False)
        yield Static(id="verdict")

    def on_mount(self) -> None:
        self.query_one("#file").border_title = str(CONFIG_FILE)
        self._before = self._editor.text
        self._judge()
        self.call_after_refresh(self.action_fault)

    @property
    def _editor(self) -> Editor:
        return self.query_one(Editor)

    @property
    def _position(self) -> config_file.TextPosition | None:
        """Where the fault is, None where there is none."""
        if self._fault is None:
            return None
        paths: Sequence[str] = [*faults_of(self._fault)]
        return config_file.position_of(self._fault, self._editor.text, paths)

    @on(TextArea.Changed)
    def _judge(self) -> None:
        """Say whether the text is a valid config.json, and where it is not."""
        self._fault: UsageError | None = None
        text = self._editor.text
        try:
            config_file.check_text(text)
            verdict = joined(("● valid", "$success"))
        except UsageError as error:
            self._fault = error
            place = config_file.position_of(error, text, [*faults_of(error)])
            where = f"✕ line {place.line + 1}, column {place.column + 1}: "
            more = (
                () if isinstance(error.__cause__, JSONDecodeError) else (error.remedy, error.found)
            )
            sentence = " · ".join(part for part in (error.problem, *more) if part)
            verdict = joined((where, "bold $error"), (sentence, "$error"))
        self.query_one("#verdict", Static).update(verdict)
        self.header.fact("unsaved" if text != self._before else "saved")
        self.refresh_bindings()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return action != "fault" or (self.is_mounted and self._fault is not None)

    def action_fault(self) -> None:
        if (place := self._position) is not None:
            self._editor.move_cursor((place.line, place.column), center=True)

    def action_save(self) -> None:
        try:
            self.hatchery.last_save = config_file.save_text(self._editor.text)
        except HatcheryError as error:
            self.hatchery.tell(error)
            self.action_fault()
            return
        self.hatchery.reload_config()
        self.hatchery.survey()
        self.hatchery.note(f"{CONFIG_FILE} is written; u takes it back")
        self.app.pop_screen()
