"""One setting on one line: its name, its value, where that comes from; below, what is wrong.

An editor draws the name in its own left margin. So a form of sixty settings is sixty widgets and
not three times as many, which at 3 ms each is what opening it costs.
"""

from pathlib import Path
from typing import ClassVar, TypeAlias

from rich.segment import Segment
from textual import events, on, work
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.geometry import Region
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget
from textual.widgets import Input, Static

from app.tui.forms.draft import CHANGED, DEFAULT, PROPOSED, Draft
from app.tui.forms.field_spec import Field, as_text
from app.tui.forms.folder_listing import places_to_begin, put_in, typed_path, wanted
from app.tui.forms.suggestions import TASKS_FIELD, namer
from app.tui.widgets.completion import Choices, Completer, matching
from app.tui.widgets.text import MUTED, joined, plain
from utils.text import safe

_ARROW = 2  # columns at the end of a field of names
_MOVES: list[BindingType] = [
    Binding("enter", "screen.done", "Done"),
    Binding("down", "app.focus_next", show=False),
    Binding("up", "app.focus_previous", show=False),
]


class Edited(Message):
    """The user has typed or chosen."""

    def __init__(self, field: Field, text: str) -> None:
        super().__init__()
        self.field = field
        self.text = text


class Margins:
    """What surrounds the value of `field` in the widget that edits it: the name in the padding
    on its left, the origin in that on its right, the fault in a line below."""

    def __init__(self, owner: Widget, field: Field, draft: Draft) -> None:
        self.field = field
        self.draft = draft
        self._owner = owner
        self._fault: Static | None = None
        self._shown: tuple[str | None, str] = None, draft.origin(field.path)

    @property
    def fault(self) -> str | None:
        """What is wrong with the setting now."""
        return self.draft.faults.get(self.field.path)

    @property
    def _name(self) -> Content:
        origin, sign = self.draft.origin(self.field.path), ("  ", "")
        if self.fault is not None:
            sign = ("✕ ", "$error")
        elif origin == CHANGED:
            sign = ("• ", "$accent")
        return joined(sign, (self.field.label, "bold $accent" if self._owner.has_focus else ""))

    def _right(self, width: int) -> Content:
        """The origin where there is room for it, and last the arrow of a field of names."""
        arrow = joined((" ▼", "$accent" if self._owner.has_focus else MUTED))
        arrow = arrow if self._owner.has_class("-named") else Content("")
        room = width - arrow.cell_length
        if room < _ARROW:
            return arrow
        origin = plain(self.draft.origin(self.field.path), MUTED)
        origin = origin.truncate(room - 1, ellipsis=True)
        return Content.assemble(" " * (room - origin.cell_length), origin, arrow)

    def refill(self) -> None:
        """Draw again what has changed, and tell below what is wrong."""
        fault, parent = self.fault, self._owner.parent
        state = fault, self.draft.origin(self.field.path)
        if state == self._shown:
            return
        self._shown = state
        if self._fault is not None and fault is None:
            self._fault.remove()
            self._fault = None
        elif self._fault is not None:
            self._fault.update(plain(fault))
        elif fault is not None and isinstance(parent, Widget):
            self._fault = Static(plain(fault), classes="fault")
            parent.mount(self._fault, after=self._owner)
        self._owner.refresh()

    def drawn(self, strips: list[Strip], crop: Region) -> list[Strip]:
        """The editor's lines with name and origin in them."""
        parent = self._owner.parent
        if crop.y > 0 or not strips or not isinstance(parent, Widget):  # removed meanwhile
            return strips
        padding, width = self._owner.styles.padding, self._owner.outer_size.width
        name = self._strip(self._name, padding.left).crop(crop.x)
        line = Strip.join([name, strips[0].crop(name.cell_length)])
        if padding.right and crop.right == width and crop.width > padding.right:
            kept = line.crop(0, line.cell_length - padding.right)
            line = Strip.join([kept, self._strip(self._right(padding.right), padding.right)])
        return [line, *strips[1:]]

    def _strip(self, text: Content, width: int) -> Strip:
        """A text of that many cells in the colours of what lies below the editor."""
        fitted = text.truncate(width, ellipsis=True, pad=True)
        parent = self._owner.parent
        assert isinstance(parent, Widget)
        parse = self._owner.app.stylesheet.parse_style
        rendered = fitted.render(parent.visual_style, "", parse)
        return Strip([Segment(part, style.rich_style) for part, style in rendered], width)


class TextLine(Input):
    """A value as text, in which no character is obeyed by the terminal. Names and paths are
    completed while they are typed. A field of names has a ▼ at its end: the names there are come
    as a list while one types, or when it is asked for; Up and Down walk in a list that is open,
    and from setting to setting else."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "take", "Done"),
        Binding("down", "choose(1)", show=False),
        Binding("up", "choose(-1)", show=False),
        Binding("escape", "close", show=False),
        Binding("alt+down,ctrl+space,ctrl+@", "names", "Names", key_display="alt+↓"),
        Binding("ctrl+o", "browse", "Files"),
        Binding("ctrl+o", "mark", "Choose"),
    ]

    class _Named(Message):
        def __init__(self, typed: str, texts: list[str], *, asked: bool) -> None:
            super().__init__()
            self.typed, self.texts, self.asked = typed, texts, asked

    def __init__(self, field: Field, draft: Draft) -> None:
        self._text = safe(draft.text(field), lines=False)
        self._many = field.kind in ("paths", "texts")
        self._namer = namer(field)
        self._wanted = wanted(field)
        self._choices: Choices | None = None
        self._taken = self._text  # from the list, or from the start
        completes = self._namer is not None or field.kind in ("path", "paths")
        super().__init__(
            self._text,
            placeholder=field.when_empty or ("none" if field.optional else ""),
            suggester=Completer(self._names, many=self._many) if completes else None,
            validate_on=(),  # the draft knows what is wrong
            classes="field -named" if self._namer is not None else "field",
        )
        self.margins = Margins(self, field, draft)
        self.tooltip = about(field, draft)

    def validate_value(self, value: str) -> str:
        """Control characters, pasted or from a file, become their pictures."""
        return safe(value, lines=False)

    def render_lines(self, crop: Region) -> list[Strip]:
        return self.margins.drawn(super().render_lines(crop), crop)

    def refill(self, *, forced: bool = False) -> None:
        """Show what the draft says; what is being typed stays as it is typed unless `forced`."""
        text = safe(self.margins.draft.text(self.margins.field), lines=False)
        if text != self.value and (forced or not self.has_focus):
            self._text = text
            with self.prevent(Input.Changed):
                self.value = text
        self.margins.refill()

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        if event.value != self._text:
            self._text = event.value
            self.post_message(Edited(self.margins.field, event.value))
            if event.value != self._taken and self._namer is not None:
                self._look(event.value, asked=False)

    # The names to choose from.

    def _names(self) -> list[str]:
        return [] if self._namer is None else self._namer(self.margins.draft.config)

    def check_consume_key(self, key: str, character: str | None) -> bool:
        """Textual knows no character of the name slash."""
        return key == "slash" or super().check_consume_key(key, character)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "browse":
            return self._wanted is not None
        if action == "mark":
            return self.margins.field.path == TASKS_FIELD
        if action == "names":
            return self._namer is not None
        return action != "close" or self._choices is not None

    def action_browse(self) -> None:
        """Pick a path from the files and folders there are."""
        from app.tui.forms.file_picker import FilePicker

        assert self._wanted is not None
        field, config = self.margins.field, self.margins.draft.config
        places = places_to_begin(field, self.value, config, Path.cwd())
        self.app.push_screen(FilePicker(self._wanted, places), self._picked)

    def action_mark(self) -> None:
        """Mark tasks in a list that says what each asks."""
        from app.tui.forms.task_picker import TaskPicker

        chosen = self.value.replace(",", " ").split()
        data_dir = self.margins.draft.config.paths.data_dir

        def marked(names: str | None) -> None:
            if names is not None:
                self.take(names)

        self.app.push_screen(TaskPicker(chosen, data_dir), marked)

    def _picked(self, picked: str | None) -> None:
        if picked is None or self._wanted is None:
            return
        field = self.margins.field
        text = typed_path(field, Path(picked), Path.cwd())
        if text is None:
            self.notify("its name has characters that cannot be typed: rename it", markup=False)
            return
        self.take(put_in(field, self.value, self._wanted.prefix + text))

    def action_choose(self, by: int) -> None:
        """Through the list where it is open; out of it, or without it, to the next setting or the
        one before."""
        if self._choices is None or not self._choices.move(by):
            self.action_close()
            self.screen.focus_next() if by > 0 else self.screen.focus_previous()

    def action_names(self) -> None:
        """List the names that go on like what is typed; a second time, close the list."""
        if self._choices is not None:
            self.action_close()
        else:
            self._look(self.value, asked=True)

    def on_click(self, event: events.Click) -> None:
        if self._namer is not None and event.x >= self.outer_size.width - _ARROW:
            self.action_names()

    @work(thread=True, group="names", exclusive=True, exit_on_error=False)
    def _look(self, typed: str, *, asked: bool) -> None:
        found = matching(self._names(), typed, many=self._many)
        texts = [text for text in found if text != typed]
        self.post_message(self._Named(typed, texts, asked=asked))

    @on(_Named)
    def _named(self, message: _Named) -> None:
        """Show the list below the field; what was only typed is not chosen from it yet."""
        message.stop()
        self.action_close()
        if not self.has_focus or message.typed != self.value:
            return
        if message.texts and isinstance(self.parent, Widget):
            self._choices = Choices(message.texts, self.take, chosen=message.asked)
            self.parent.mount(self._choices, after=self)
        elif message.asked:
            nothing = "nothing goes on like this" if self.value else "there is none yet"
            self.notify(nothing, markup=False)

    def action_take(self) -> None:
        """Take the name under the cursor; without one the field is done."""
        if self._choices is not None and self._choices.current is not None:
            self.take(self._choices.current)
        else:
            self.call_next(self.run_action, "screen.done")

    def take(self, text: str) -> None:
        """Fill in a name from the list."""
        self.action_close()
        self._taken = text
        self.value = text
        self.cursor_position = len(text)
        self.focus()

    def action_close(self) -> None:
        """Close the list."""
        if self._choices is not None:
            self._choices.remove()
            self._choices = None

    def on_blur(self) -> None:
        self.action_close()


class ChoiceLine(Widget, can_focus=True):
    """`‹ one of a few ›`, changed by the arrow keys, Space or a click on its ends."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("right,space", "change(1)", "Change", key_display="← →"),
        Binding("left", "change(-1)", show=False),
        *_MOVES,
    ]

    def __init__(self, field: Field, draft: Draft) -> None:
        super().__init__(classes="field")
        self.value = draft.text(field)
        self.margins = Margins(self, field, draft)
        self.tooltip = about(field, draft)

    def render(self) -> Content:
        arrows = "$accent" if self.has_focus else MUTED
        return joined(("‹ ", arrows), self.value, (" ›", arrows))

    def render_lines(self, crop: Region) -> list[Strip]:
        return self.margins.drawn(super().render_lines(crop), crop)

    def refill(self, *, forced: bool = False) -> None:
        """Show what the draft says; `forced` makes no difference to a choice."""
        self.value = self.margins.draft.text(self.margins.field)
        self.refresh()
        self.margins.refill()

    def action_change(self, by: int) -> None:
        """The next choice or the one before; the first, where a file says what is none."""
        choices = self.margins.field.choices
        place = choices.index(self.value) + by if self.value in choices else 0
        self.value = choices[place % len(choices)]
        self.refresh()
        self.post_message(Edited(self.margins.field, self.value))

    def on_click(self, event: events.Click) -> None:
        at = event.get_content_offset(self)
        if at is not None and at.x < len(self.value) + 4:
            self.action_change(-1 if at.x < 2 else 1)


FieldLine: TypeAlias = TextLine | ChoiceLine


def field_line(field: Field, draft: Draft) -> FieldLine:
    """The editor for a setting."""
    return ChoiceLine(field, draft) if field.choices else TextLine(field, draft)


def about(field: Field, draft: Draft) -> Content:
    """What a setting means, its default and limits, and where its value comes from."""
    default = as_text(field, field.default)
    notes = [f"default {default}"] if default and f"default {default}" not in field.help else []
    notes += [field.bounds] if field.bounds else []
    origin = draft.origin(field.path)
    if origin == PROPOSED:
        notes.append("proposed here")
    elif origin not in (DEFAULT, CHANGED):
        notes.append(f"from {origin}")
    told = " · ".join(notes)
    return joined(f"{field.help}. ", (told[:1].upper() + told[1:], MUTED))
