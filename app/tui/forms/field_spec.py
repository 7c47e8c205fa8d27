"""One setting as a line of a form, made from its pydantic field, and text as typed turned into
a value and back. Knows no widgets; limits and contradictions are left to the model itself."""

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeAlias, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from pipeline.options.config import Config
from utils.config import nested_model

Kind: TypeAlias = Literal["switch", "choice", "number", "text", "path", "paths", "texts", "json"]

ON, OFF, NONE = "on", "off", "none"
_THOUSANDS = re.compile(r"[+-]?\d{1,3}(,\d{3})+")
_COUNT = re.compile(r"[+-]?(\d+|\d{1,3}(,\d{3})+)")
_WHEN_EMPTY = re.compile(r"\b(?:default:|null:|empty means|empty:) *([^;]+)")
_FLAG = re.compile(r"(?<!\S)--([a-z][a-z-]*)")
_BEYOND_NEED = 1 << 40  # a limit this high is the machine's, and no help to anyone

_INITIALS = {"kv": "KV", "qk": "QK", "lr": "LR", "mlp": "MLP", "mib": "MiB", "url": "URL"}


class _NameOrCount(str):
    """The type of a setting that is a whole number or a name such as all."""


class Unset(Enum):
    """The type of `UNSET`."""

    UNSET = "unset"


UNSET: Final = Unset.UNSET
"""An emptied field: as if nothing had been typed."""


@dataclass(frozen=True)
class Field:
    """A setting: `path` is section.name, `bounds` are in words, `choices` are texts. `default` is
    also None where nothing means what other things are, such as the tokenizer's vocabulary."""

    path: str
    label: str
    kind: Kind
    help: str
    default: Any
    optional: bool
    whole: bool = False
    choices: tuple[str, ...] = ()
    bounds: str = ""
    common: bool = False
    positional: bool = False

    @property
    def section(self) -> str:
        return self.path.partition(".")[0]

    @property
    def when_empty(self) -> str:
        """What holds where nothing is given, in the words of the help; a flag there is the field
        that it sets."""
        found = _WHEN_EMPTY.search(self.help)
        said = found[1].rstrip(".") if found else ""
        return _FLAG.sub(lambda flag: _label(flag[1].replace("-", "_")), said)


@cache
def fields_of(section: str) -> tuple[Field, ...]:
    """Every setting of a section of config.json, in the order of its model; 0.5 ms the first
    time."""
    model = nested_model(Config.model_fields[section].annotation)
    assert model is not None
    common = getattr(model, "common_fields", ())
    return tuple(
        replace(_field(section, name, info), common=name in common)
        for name, info in model.model_fields.items()
    )


def _field(section: str, name: str, info: FieldInfo) -> Field:
    inner, optional = _unwrapped(info.annotation)
    kind = _kind(inner)
    choices: tuple[str, ...] = ()
    if kind == "switch":
        choices = (OFF, ON)
    elif kind == "choice":
        choices = (*([NONE] if optional else []), *map(str, get_args(inner)))
    extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
    follows = not optional and "null:" in (info.description or "")
    return Field(
        path=f"{section}.{name}",
        label=_label(name),
        kind=kind,
        help=str(info.description or "").rstrip("."),
        default=None if follows else info.get_default(call_default_factory=True),
        optional=optional,
        whole=inner in (int, _NameOrCount),
        choices=choices,
        bounds=_bounds(info),
        positional=bool(extra.get("positional")),
    )


def _label(name: str) -> str:
    words = name.split("_")
    words[0] = words[0].capitalize()
    return " ".join(_INITIALS.get(word.lower(), word) for word in words)


def _unwrapped(annotation: Any) -> tuple[Any, bool]:
    """The type without None and without annotations, and whether None was among its parts."""
    parts = [annotation] if get_origin(annotation) in (Literal, list) else _members(annotation)
    kinds = [part for part in parts if part is not type(None)]
    if len(kinds) > 1 and any(get_args(part)[:1] == (int,) for part in kinds):
        return _NameOrCount, type(None) in parts
    inner = kinds[0]
    if get_origin(inner) is Annotated:
        inner = get_args(inner)[0]
    return inner, type(None) in parts


def _members(annotation: Any) -> list[Any]:
    if get_origin(annotation) is Annotated or isinstance(annotation, type):
        return [annotation]
    return list(get_args(annotation)) or [annotation]


def _kind(inner: Any) -> Kind:
    if get_origin(inner) is Literal:
        return "choice"
    if get_origin(inner) is list:
        return "paths" if Path in get_args(inner) else "texts"
    if isinstance(inner, type) and issubclass(inner, BaseModel):
        return "json"
    kinds: Mapping[Any, Kind] = {bool: "switch", int: "number", float: "number", Path: "path"}
    return kinds.get(inner, "text")


_BOUNDS = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}


def _bounds(info: FieldInfo) -> str:
    limits = {
        name: getattr(limit, name)
        for limit in _metadata(info)
        for name in _BOUNDS
        if abs(getattr(limit, name, None) or 0) < _BEYOND_NEED and hasattr(limit, name)
    }
    return ", ".join(
        f"{words} {_digits(limits[n], ',')}" for n, words in _BOUNDS.items() if n in limits
    )


def _digits(number: float, thousands: Literal["", ","] = "") -> str:
    """The shortest text that means exactly this number."""
    return f"{number:{thousands}}".removesuffix(".0")


def _metadata(info: FieldInfo) -> Iterator[Any]:
    """Limits of a field, also those inside `Annotated[int, Field(ge=1)] | None`."""
    yield from info.metadata
    for part in get_args(info.annotation):
        for inner in get_args(part)[1:] if get_origin(part) is Annotated else ():
            yield from getattr(inner, "metadata", [inner])


def as_text(field: Field, value: Any) -> str:
    """A value as the form shows it."""
    if field.kind == "switch":
        return ON if value else OFF
    if value is None:
        return NONE if field.kind == "choice" else ""
    if isinstance(value, list | tuple):
        return shlex.join(str(item) for item in value)
    if field.kind == "json":
        return json.dumps(value.model_dump() if isinstance(value, BaseModel) else value)
    if isinstance(value, int | float):
        return _digits(value, "," if field.whole and abs(value) >= 10_000 else "")
    return str(value)


def as_value(field: Field, text: str) -> Any:
    """What a text means, as JSON would hold it; `UNSET` where an empty one means nothing.

    Raises:
        ValueError: it is no such value; says in one line what is needed.
    """
    if field.kind == "switch":
        return text == ON
    if field.kind == "choice":
        return None if text == NONE and field.optional else text
    if not text.strip() and not (field.kind == "text" and field.default == ""):
        return None if field.optional else UNSET
    if field.kind == "number":
        return _number(field, text.strip())
    if field.kind in ("paths", "texts"):
        return _words(text)
    if field.kind == "json":
        return _json(text)
    if field.kind == "text" and field.whole and _COUNT.fullmatch(text.strip()):
        return int(text.strip().replace(",", ""))
    return text.strip() if field.kind == "path" else text


def _number(field: Field, text: str) -> int | float:
    digits = text.replace(",", "") if _THOUSANDS.fullmatch(text) else text
    try:
        return int(digits) if field.whole else float(digits)
    except ValueError:
        needed = "a whole number, such as 16" if field.whole else "a number, such as 0.5 or 3e-4"
        raise ValueError(f"needs {needed}") from None


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:
        raise ValueError("a quotation mark is not closed") from None


def _json(text: str) -> Any:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise ValueError('needs JSON, such as {"kind": "linear", "factor": 2.0}')
    return value
