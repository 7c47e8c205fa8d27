"""Settings while they are edited: what lies below, what was proposed, what was changed on top,
and what is wrong with it in words. Knows no widgets and reads no files."""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails, to_jsonable_python

from app.tui.forms.field_spec import UNSET, Field, as_text, as_value
from pipeline.options.config import Config
from utils.config import COMMAND_LINE, Layer, merge, nest, resolve, valid_names
from utils.errors import UsageError

DEFAULT, CHANGED, PROPOSED = "default", "changed", "proposed"

_WORDS = {
    "greater_than_equal": "must be at least {ge}",
    "greater_than": "must be more than {gt}",
    "less_than_equal": "must be at most {le}",
    "less_than": "must be less than {lt}",
    "literal_error": "must be one of {expected}",
    "missing": "is missing",
    "extra_forbidden": "is no setting",
    "bool_type": "must be true or false",
    "string_type": "must be text",
    "float_type": "must be a number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "list_type": "must be a list",
    "path_type": "must be a path",
    "string_pattern_mismatch": "must be of the form in the help below",
}


class Draft:
    """`below` are layers of files, weakest first; `proposed` is filled in where the command alone
    would ask; `changes` are what the user did. All three are keyed by section.name, with values
    as JSON would hold them. `removed` are settings taken out of the strongest layer below, which
    happens to an emptied one where that layer is `owned`.

    `config` is the newest valid state, `faults` what is wrong now, by path; `check` finds more of
    those than the settings themselves know."""

    def __init__(
        self,
        below: Sequence[Layer],
        changes: Mapping[str, Any] | None = None,
        proposed: Mapping[str, Any] | None = None,
        *,
        owned: bool = False,
        check: Callable[[Config], Mapping[str, str]] = lambda _: {},
    ) -> None:
        self.below = list(below)
        self.changes = dict(changes or {})
        self.proposed = dict(proposed or {})
        self.removed: set[str] = set()
        self.config = Config()
        self.faults: dict[str, str] = {}
        self._owned = owned
        self._check = check
        self._texts: dict[str, tuple[str, str]] = {}  # what is no value: the text and the fault
        self._settle()

    def enter(self, field: Field, text: str) -> None:
        """Take over what was typed or chosen."""
        self._texts.pop(field.path, None)
        self.removed.discard(field.path)
        try:
            value = as_value(field, text)
        except ValueError as error:
            self._texts[field.path] = text, str(error)
            self._settle()
            return
        emptied = not text.strip() and field.path in self.proposed
        self.changes.pop(field.path, None)
        if value is not UNSET and not emptied and value != _plain(self._without_change(field.path)):
            self.changes[field.path] = value
        if value is UNSET and self._owned:
            self.remove(field.path)
        self._settle()

    def apply(self, changes: Mapping[str, Any]) -> None:
        """Take over changes made elsewhere."""
        for path in changes:
            self._texts.pop(path, None)
        self.changes |= changes
        self._settle()

    def propose(self, proposed: Mapping[str, Any]) -> None:
        """Fill in other values where nothing was changed."""
        if proposed != self.proposed:
            self.proposed = dict(proposed)
            self._settle()

    def undo(self, path: str) -> None:
        """Take back what was done to one setting."""
        self._texts.pop(path, None)
        self.changes.pop(path, None)
        self.removed.discard(path)
        self._settle()

    def remove(self, path: str) -> None:
        """Take a setting out of the strongest layer below."""
        self.undo(path)
        if self.below and _inside(self.below[-1].values, path):
            self.removed.add(path)
        self._settle()

    def rebase(self, below: Sequence[Layer]) -> None:
        """Begin anew over other files, as after saving."""
        self.changes, self.removed, self._texts = {}, set(), {}
        self.move(below)

    def move(self, below: Sequence[Layer]) -> None:
        """Go on with the same changes over other files."""
        self.below = list(below)
        self._settle()

    @property
    def typed(self) -> dict[str, Any]:
        """What a command line must say to mean this."""
        values, _ = merge(self._files())
        needless = {p for p, v in self.changes.items() if p in self.proposed and v is None}
        given = self.proposed | self.changes
        return {p: v for p, v in given.items() if p not in needless or _inside(values, p)}

    @property
    def unsaved(self) -> int:
        """How many settings differ from the files."""
        return len(self.changes.keys() | self._texts.keys() | self.removed)

    def text(self, field: Field) -> str:
        """What the form shows in a field."""
        if field.path in self._texts:
            return self._texts[field.path][0]
        section, _, name = field.path.partition(".")
        given = self._values.get(section)
        if isinstance(given, dict) and name in given:
            return _shown(field, given[name])
        if field.default is None and not field.optional:
            return ""
        return as_text(field, getattr(getattr(self.config, section), name))

    def origin(self, path: str) -> str:
        """Where a value comes from: `CHANGED`, `PROPOSED`, a file, or `DEFAULT`."""
        if path in self._texts:
            return CHANGED
        origin = self._origins.get(path, DEFAULT)
        return CHANGED if origin == COMMAND_LINE or path in self.removed else origin

    def _files(self) -> list[Layer]:
        if not self.removed:
            return self.below
        *weaker, top = self.below
        return [*weaker, Layer(top.origin, without(top.values, self.removed))]

    def _layers(self, changes: Mapping[str, Any]) -> list[Layer]:
        proposed, typed = Layer(PROPOSED, nest(self.proposed)), Layer(COMMAND_LINE, nest(changes))
        return [*self._files(), proposed, typed]

    def _settle(self) -> None:
        layers = self._layers(self.changes)
        self._values, self._origins = merge(layers)
        try:
            self.config = resolve(Config, layers)
            self.faults = dict(self._check(self.config))
        except UsageError as error:
            self.faults = faults_of(error, self.changes)
        self.faults |= {path: fault for path, (_, fault) in self._texts.items()}

    def _without_change(self, path: str) -> Any:
        """The value that would hold had `path` not been changed; `UNSET` where none would."""
        layers = self._layers({p: v for p, v in self.changes.items() if p != path})
        section, _, name = path.partition(".")
        given, _ = merge(layers)
        if _inside(given, path):
            return given[section][name]
        try:
            return getattr(getattr(resolve(Config, layers), section), name)
        except UsageError:
            return UNSET


def _shown(field: Field, value: Any) -> str:
    """A value of a file, which may be of any type."""
    try:
        return as_text(field, value)
    except (TypeError, ValueError):
        return str(value)


def _plain(value: Any) -> Any:
    """A value as JSON would hold it."""
    return value if value is UNSET else to_jsonable_python(value)


def _inside(values: Mapping[str, Any], path: str) -> bool:
    section, _, name = path.partition(".")
    inner = values.get(section)
    return isinstance(inner, dict) and name in inner


def without(values: Mapping[str, Any], paths: set[str]) -> dict[str, Any]:
    """Nested settings less some of them."""
    kept = {}
    for section, inner in values.items():
        if isinstance(inner, dict):
            inner = {n: v for n, v in inner.items() if f"{section}.{n}" not in paths}
        kept[section] = inner
    return kept


def faults_of(error: UsageError, changed: Collection[str] = ()) -> dict[str, str]:
    """Everything that is wrong, by the path of the setting; under "" what belongs to none.

    A contradiction is told at the `changed` settings it names, else at all it names.
    """
    if not isinstance(error.__cause__, ValidationError):
        return {"": error.problem}
    found: dict[str, str] = {}
    for fault in error.__cause__.errors(include_url=False):
        words, paths = _in_words(fault), _named(fault)
        for path in [path for path in paths if path in changed] or paths:
            found.setdefault(path, words)
    return found


def _in_words(fault: ErrorDetails) -> str:
    words = fault["msg"].removeprefix("Value error, ")
    if template := _WORDS.get(fault["type"]):
        words = template.format(**fault.get("ctx", {}))
        if not isinstance(fault["input"], dict | list):
            words += f", not {fault['input']}"
    elif fault["type"] != "value_error":
        words = words[:1].lower() + words[1:]
    return words


def _named(fault: ErrorDetails) -> list[str]:
    """The settings a fault is about: its own, or those of its section that its message names."""
    path = ".".join(str(part) for part in fault["loc"][:2])
    if "." in path or not path:
        return [path]
    names = [n for n in valid_names(Config, [path]) if re.search(rf"\b{n}\b", fault["msg"])]
    return [f"{path}.{name}" for name in names] or [path]
