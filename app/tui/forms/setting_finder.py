"""The search among settings: by name, flag, choice and help text, also among those that a form
hides at first."""

from collections.abc import Collection, Sequence

from textual.content import Content

from app.tui.forms.draft import Draft
from app.tui.forms.field import about
from app.tui.forms.field_panel import Group
from app.tui.forms.field_spec import Field
from app.tui.widgets.meter import columns
from app.tui.widgets.picker import PickDialog, marked
from app.tui.widgets.text import MUTED, joined, plain

LABEL, VALUE = 28, 16  # columns
_AT_LABEL, _IN_LABEL, _IN_FLAG, _IN_CHOICE, _IN_HELP = range(5)  # where a word is found, best first


def flag_of(field: Field, bare: Collection[str]) -> str:
    """The flag that sets it; settings of the sections `bare` are typed without their section."""
    section, _, name = field.path.partition(".")
    name = name.replace("_", "-")
    return f"--{name}" if section in bare else f"--{section.replace('_', '-')}.{name}"


def found(fields: Sequence[Field], typed: str) -> list[Field]:
    """Those in which each word that was typed occurs, those with it in their name first."""
    words = typed.casefold().split()
    ranks = [_rank(field, words) for field in fields]
    fitting = [(rank, n) for n, rank in enumerate(ranks) if rank is not None]
    return [fields[n] for _, n in sorted(fitting)]


def _rank(field: Field, words: Sequence[str]) -> int | None:
    places = [_place(field, word) for word in words]
    return None if None in places else sum(place for place in places if place is not None)


def _place(field: Field, word: str) -> int | None:
    label = field.label.casefold()
    flags = f"{field.path} {flag_of(field, ())} {flag_of(field, (field.section,))}"
    if any(part.startswith(word) for part in label.split()):
        return _AT_LABEL
    if word in label:
        return _IN_LABEL
    if word in flags:
        return _IN_FLAG
    if any(word in choice.casefold() for choice in field.choices):
        return _IN_CHOICE
    return _IN_HELP if word in field.help.casefold() else None


class SettingFinder(PickDialog):
    """Ends with the path of the setting to go to. `bare` are the sections whose settings are typed
    without their section."""

    def __init__(self, draft: Draft, groups: Sequence[Group], bare: Collection[str] = ()) -> None:
        super().__init__(
            "Find a setting",
            "/ ",
            "↑ ↓ the setting   Enter goes to it   Esc back to where you were",
            placeholder="a name, a flag, or what it is about",
        )
        self._draft = draft
        self._fields = [field for _, fields in groups for field in fields]
        self._by_path = {field.path: field for field in self._fields}
        self._bare = bare
        self._words: Sequence[str] = ()

    def keys_for(self, typed: str) -> Sequence[str]:
        self._words = typed.casefold().split()
        return [field.path for field in found(self._fields, typed)]

    def row(self, key: str, width: int) -> Content:
        field, words = self._by_path[key], self._words
        flag = flag_of(field, self._bare)
        flags = max(len(flag_of(one, self._bare)) for one in self._fields)
        rest = width - LABEL - VALUE - flags - 6
        cells = [
            marked(field.label, words, "bold"),
            plain(self._draft.text(field)),
            marked(flag, words, MUTED),
        ]
        if rest < 12:
            return columns(cells, [LABEL, VALUE, width - LABEL - VALUE - 4])
        return columns([*cells, marked(field.help, words, MUTED)], [LABEL, VALUE, flags, rest])

    def count(self, shown: int) -> str:
        return f"{shown} of {len(self._fields)} settings"

    def about(self, key: str | None) -> Content:
        if key is None:
            return plain("No setting has these words in its name, its flag or its description.")
        return joined((f"{key}  ", "$accent"), about(self._by_path[key], self._draft))
