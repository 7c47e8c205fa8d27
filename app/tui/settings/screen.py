"""config.json: every setting by section, with where its value comes from."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

from textual import events, on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from app.commands.settings import CONFIG_FILE
from app.tui.forms import config_file
from app.tui.forms.draft import CHANGED, DEFAULT, Draft
from app.tui.forms.field import ChoiceLine, TextLine
from app.tui.forms.field_panel import FieldPanel
from app.tui.forms.field_spec import fields_of
from app.tui.forms.saving import SavingScreen
from app.tui.forms.setting_finder import SettingFinder
from app.tui.widgets.text import MUTED, joined, plain
from pipeline.options.config import Config
from utils.config import Layer
from utils.errors import HatcheryError, UsageError

_SECTIONS = tuple(Config.model_fields)
_KNOWN = {field.path for section in _SECTIONS for field in fields_of(section)}
_DRAFT, _REMOVED = "settings", "settings taken out"  # what is kept while the screen is closed


class SettingsScreen(SavingScreen):
    """An editor of config.json; where that cannot be understood, the way to mend it."""

    HELP = (
        "Every setting there is, by section of config.json; beside it, which file its value comes "
        "from. Enter goes into a section and is done with a field, s writes config.json, u takes "
        "the last change or save back. An emptied field is taken out of the file, so that its "
        "default holds again (d for a choice). "
        "t shows the file as text, / finds a setting of any section by name, flag or meaning.\n\n"
        "A file that cannot be understood opens as text, at the place of the fault."
    )
    CSS = """
    SettingsScreen {
        #editor { height: 1fr; }
        #sections { width: 26; height: 1fr; }
        #fields { width: 1fr; height: 1fr; }
        #verdict { height: auto; max-height: 4; padding: 0 2; color: $error; }
    }
    SettingsScreen.-narrow {
        #sections { width: 24; }
        .field { padding: 0 0 0 26; }
        TextLine.-named { padding: 0 2 0 26; }
    }
    """
    AUTO_FOCUS = "#section-list"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s,ctrl+s", "save", "Save", id="settings.save"),
        Binding("m", "more", "More", id="settings.more"),
        Binding("slash,ctrl+f", "find", "Find", id="settings.find"),
        Binding("d", "remove", "Default", id="settings.default"),
        Binding("u,ctrl+z", "undo", "Undo this change", show=False, id="settings.undo"),
        Binding("t", "text", "As text", id="settings.text"),
    ]

    def __init__(self) -> None:
        super().__init__("settings")
        self._section = _SECTIONS[0]
        self._fault: HatcheryError | None = None
        self.draft = Draft([])

    def content(self) -> ComposeResult:
        with Horizontal(id="editor"):
            with Vertical(id="sections", classes="panel"):
                yield OptionList(
                    *(Option(name, id=name) for name in _SECTIONS), id="section-list", compact=True
                )
            yield Vertical(id="fields", classes="panel")
        yield Static(id="verdict")

    async def on_mount(self) -> None:
        self.query_one("#sections").border_title = "Sections"
        drafts = self.hatchery.drafts
        await self._read(drafts.pop(_DRAFT, {}), drafts.pop(_REMOVED, {}))
        if self._fault is not None:
            self.action_text()

    @on(events.ScreenResume)
    async def _back_again(self) -> None:
        """The file may have been changed as text in between."""
        if self.query(FieldPanel) and self._layers() != self.draft.below:
            await self._read(self.draft.changes, self.draft.removed)

    # What it shows.

    def _layers(self) -> list[Layer]:
        """What the files say; where they cannot be understood, nothing, and `_fault` says why."""
        self._fault = None
        try:
            return config_file.layers()
        except UsageError as error:
            self._fault = error
            return []

    async def _read(self, changes: Mapping[str, Any], removed: Iterable[str]) -> None:
        """Begin with the files as they are, changed so; go to the first wrong setting."""
        self.draft = Draft(self._layers(), changes, owned=True)
        for path in set(removed):
            self.draft.remove(path)
        faults = self.draft.faults
        wrong = next((path for path in faults if path in _KNOWN), None)
        if wrong is not None:
            self._section = wrong.partition(".")[0]
        elif faults and self._fault is None:
            self._fault = self.hatchery.config_fault  # a key that is no setting: only text shows it
        await self._show_section()
        with self.prevent(OptionList.OptionHighlighted):
            sections = self.query_one("#section-list", OptionList)
            sections.highlighted = _SECTIONS.index(self._section)
        if wrong is not None:
            self.query_one(FieldPanel).focus_path(wrong)

    async def _show_section(self) -> None:
        fields = self.query_one("#fields")
        fields.border_title = self._section
        await fields.remove_children()
        groups = [(self._section, fields_of(self._section))]
        await fields.mount(FieldPanel(self.draft, groups, origins=True))
        self._changed()

    @on(FieldPanel.Changed)
    def _changed(self) -> None:
        sections = self.query_one("#section-list", OptionList)
        for section in _SECTIONS:
            sections.replace_option_prompt(section, self._line(section))
        unsaved = self.draft.unsaved
        file = str(CONFIG_FILE) if CONFIG_FILE.exists() else f"no {CONFIG_FILE} yet"
        count = f" · {unsaved} change{'s' * (unsaved != 1)} unsaved" if unsaved else ""
        self.header.fact(file + count)
        verdict = self.query_one("#verdict", Static)
        verdict.update(plain(self._verdict()))
        verdict.display = bool(self._verdict())
        self.refresh_bindings()

    def _verdict(self) -> str:
        """What is wrong, in one sentence."""
        if self._fault is not None:
            parts = (self._fault.problem, self._fault.found, "t opens the text")
            return "✕ " + " · ".join(part for part in parts if part)
        return "".join(f"✕ {path}: {words}" for path, words in [*self.draft.faults.items()][:1])

    def _line(self, section: str) -> Content:
        draft, paths = self.draft, [field.path for field in fields_of(section)]
        changed = any(path in draft.changes or path in draft.removed for path in paths)
        sign = ("• " if changed else "  ", "$accent")
        if any(path in draft.faults for path in paths):
            sign = ("✕ ", "$error")
        given = sum(draft.origin(path) != DEFAULT for path in paths)
        return joined(sign, f"{section:<12}", (f"{given} set" if given else "", MUTED))

    @on(OptionList.OptionHighlighted, "#section-list")
    async def _moved(self) -> None:
        highlighted = self.query_one("#section-list", OptionList).highlighted
        if highlighted is not None and _SECTIONS[highlighted] != self._section:
            self._section = _SECTIONS[highlighted]
            await self._show_section()

    @on(OptionList.OptionSelected, "#section-list")
    def _entered(self) -> None:
        self.query_one(FieldPanel).focus_first()

    # What it does.

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "remove":  # a text is emptied instead
            return isinstance(self.focused, ChoiceLine)
        return True

    def action_done(self) -> None:
        """Done with a field."""
        self.query_one("#section-list").focus()

    def action_back(self) -> None:
        """Out of a field first, then out of the screen, which keeps what was changed."""
        if isinstance(self.focused, TextLine | ChoiceLine):
            self.action_done()
            return
        self.hatchery.drafts[_DRAFT] = dict(self.draft.changes)
        self.hatchery.drafts[_REMOVED] = dict.fromkeys(self.draft.removed)
        self.app.pop_screen()

    def action_more(self) -> None:
        self.query_one(FieldPanel).toggle()

    @work
    async def action_find(self) -> None:
        """Search the settings of all sections, and go to one."""
        groups = [(section, fields_of(section)) for section in _SECTIONS]
        path = await self.app.push_screen_wait(SettingFinder(self.draft, groups))
        if path is not None:
            await self._go_to(path)

    def action_undo(self) -> None:
        """Take back what was done to the setting with the focus; where nothing was, the last
        save."""
        line = self.query_one(FieldPanel).focused_line
        if line is not None and self.draft.origin(line.margins.field.path) == CHANGED:
            self._at_focus(self.draft.undo)
        elif not isinstance(line, TextLine):
            self.undo_save()

    def action_remove(self) -> None:
        self._at_focus(self.draft.remove)

    def _at_focus(self, act: Callable[[str], None]) -> None:
        panel = self.query_one(FieldPanel)
        line = panel.focused_line
        if line is None:
            self.hatchery.note("go to a setting first: Enter, then ↑ and ↓")
            return
        act(line.margins.field.path)
        panel.refill(forced=True)
        self._changed()

    def action_text(self) -> None:
        from app.tui.settings.text_editor import ConfigTextScreen  # Textual's editor, 40 ms

        self.app.push_screen(ConfigTextScreen())

    async def action_save(self) -> None:
        wrong = next((path for path in self.draft.faults if path in _KNOWN), None)
        if wrong is not None:
            await self._go_to(wrong)
            return
        self.save()

    @property
    def edited(self) -> Draft:
        return self.draft

    def rebase(self) -> None:
        self.draft.rebase(self._layers())

    def redraw(self) -> None:
        self._changed()

    async def _go_to(self, path: str) -> None:
        section = path.partition(".")[0]
        if section != self._section:
            self._section = section
            self.query_one("#section-list", OptionList).highlighted = _SECTIONS.index(section)
            await self._show_section()
        self.query_one(FieldPanel).focus_path(path)
