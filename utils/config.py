"""Settings from files and flags into one validated model; knows no setting by name.

Layers are nested dictionaries, weakest first: `extends`, the config file, `--config`, typed flags.
What none of them says is the model's own default. Every error names where the value came from,
its dotted path and what would be valid.
"""

import difflib
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError

from utils.errors import UsageError
from utils.strict_json import read_json_object

Model = TypeVar("Model", bound=BaseModel)

COMMAND_LINE = "the command line"
# Keys that set many others of their section, which therefore starts anew where they are given; also
# in a file of such a section alone.
STARTING_ANEW = ("model.preset", "model.depth", "preset", "depth")
# Keys that ask for the same thing in two ways: the second is meant only where the first is not
# given, so a layer that gives the second alone forgets the first of weaker layers.
ALTERNATIVES = (("max_steps", "epochs"), ("samples", "preset"))


class Layer(NamedTuple):
    """Values and where they came from: a file name, or `COMMAND_LINE`."""

    origin: str
    values: dict[str, Any]


def read_layers(path: Path) -> list[Layer]:
    """The layer of a JSON file, preceded by those it extends; their paths count from the file.

    Raises:
        UsageError: missing, not strict JSON, duplicate keys, or extending itself.
    """
    return _read_layers(path, seen=())


def _read_layers(path: Path, seen: tuple[str, ...]) -> list[Layer]:
    real = os.path.realpath(path)  # unlike Path.resolve it survives a loop of links
    if real in seen:
        names = " → ".join(Path(name).name for name in (*seen, real))
        raise UsageError(f"{path} extends itself.", found=names, remedy='remove one "extends"')
    values = read_json_object(path, named_by=seen[-1] if seen else "")
    parent = values.pop("extends", None)
    if parent is None:
        return [Layer(str(path), values)]
    if not isinstance(parent, str):
        raise UsageError(
            f'{path}: "extends" must be a file name.',
            found=json.dumps(parent)[:80],
            remedy='write "extends": "other.json"',
        )
    return [*_read_layers(path.parent / parent, (*seen, real)), Layer(str(path), values)]


def nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    """{"train.seed": 1} -> {"train": {"seed": 1}}."""
    result: dict[str, Any] = {}
    for dotted, value in flat.items():
        *sections, key = dotted.split(".")
        target = result
        for section in sections:
            target = target.setdefault(section, {})
        target[key] = value
    return result


def merge(layers: Iterable[Layer]) -> tuple[dict[str, Any], dict[str, str]]:
    """All layers in one, and the origin of each dotted path.

    A section that names a preset or depth starts anew: what weaker layers said in it would
    otherwise override what was just asked for. Of `ALTERNATIVES` the strongest layer decides.
    """
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for layer in layers:
        _overlay(values, layer.values, "", layer.origin, origins)
    return values, origins


def _overlay(
    below: dict[str, Any], above: Mapping[str, Any], path: str, origin: str, origins: dict[str, str]
) -> None:
    if any(above.get(key) is not None for key in above if f"{path}{key}" in STARTING_ANEW):
        below.clear()
        for forgotten in [name for name in origins if path and name.startswith(path)]:
            del origins[forgotten]
    for first, second in ALTERNATIVES:
        if second in above and first not in above and below.pop(first, None) is not None:
            del origins[f"{path}{first}"]
    for key, value in above.items():
        dotted = f"{path}{key}"
        origins[dotted] = origin
        if isinstance(value, dict):
            section = below.get(key)
            if not isinstance(section, dict):
                section = below[key] = {}
            _overlay(section, value, f"{dotted}.", origin, origins)
        else:
            below[key] = value


def resolve(schema: type[Model], layers: Sequence[Layer]) -> Model:
    """Validate the merged layers as `schema`.

    Raises:
        UsageError: the first fault, with its origin, dotted path and the valid names or values.
    """
    values, origins = merge(layers)
    for layer in layers:
        _require_text(layer.values, layer.origin)
    try:
        return schema.model_validate_json(
            json.dumps(values, ensure_ascii=True, default=str), strict=True
        )
    except ValidationError as error:
        raise _explain(error, schema, origins) from error


def _require_text(values: Any, origin: str, path: str = "") -> None:
    """Refuse strings that were bytes outside UTF-8 (lone surrogates), which no file could hold."""
    if isinstance(values, dict):
        for name, nested in values.items():
            _require_text(name, origin, path)
            _require_text(nested, origin, f"{path}.{name}".removeprefix("."))
    elif isinstance(values, list | tuple):
        for nested in values:
            _require_text(nested, origin, path)
    elif isinstance(values, str | Path) and any("\ud800" <= c <= "\udfff" for c in str(values)):
        raise UsageError(
            f"{path}, from {origin}: the text is not valid UTF-8.",
            found=ascii(str(values))[:120],
            remedy="write it as UTF-8, or give the file a name that is",
        )


def _explain(
    error: ValidationError, schema: type[BaseModel], origins: Mapping[str, str]
) -> UsageError:
    faults = error.errors(include_url=False)
    fault = faults[0]
    location = [part for part in fault["loc"] if isinstance(part, str)]
    dotted = ".".join(location)
    while location and ".".join(location) not in origins:
        location.pop()  # a union's branch names are in the location, but are no keys
    path = ".".join(location) or dotted
    origin = origins.get(path, next(iter(origins.values()), "the settings"))
    if fault["type"] == "extra_forbidden":
        return _unknown_key(schema, dotted, origin)
    if fault["type"] == "missing":
        return UsageError(
            f"{dotted}, from {origin}: this value is missing.", remedy=f"give {dotted}"
        )
    message = fault["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:] if fault["type"] != "value_error" else message
    given = fault["input"]
    close = _close_choice(given, str(fault.get("ctx", {}).get("expected", "")))
    return UsageError(
        f"{path or 'the settings'}, from {origin}: {message.rstrip('.')}.",
        found="" if isinstance(given, dict) else json.dumps(given, default=str)[:120],
        remedy=f"write {close}"
        if close
        else "correct " + _culprits(schema, path, message, origins),
    )


def _culprits(schema: type[BaseModel], path: str, message: str, origins: Mapping[str, str]) -> str:
    """The setting at fault: those of a section that the message names, else `path` itself."""
    origin = origins.get(path, next(iter(origins.values()), "the settings"))
    named = [n for n in valid_names(schema, path.split(".")) if re.search(rf"\b{n}\b", message)]
    places = [f"{path}.{name}" for name in named] if path in origins else []
    return " or ".join(_in_words(p, origins.get(p, origin)) for p in places or [path])


def _close_choice(given: object, expected: str) -> str:
    choices = expected.replace(" or ", ", ").replace("'", "").split(", ")
    close = difflib.get_close_matches(str(given), choices, n=1)
    return close[0] if close else ""


def _in_words(path: str, origin: str) -> str:
    if origin == COMMAND_LINE:
        return "--" + path.replace("_", "-")
    return f"{path} in {origin}"


def _unknown_key(schema: type[BaseModel], dotted: str, origin: str) -> UsageError:
    *sections, key = dotted.split(".")
    valid = valid_names(schema, sections)
    close = difflib.get_close_matches(key, valid, n=1, cutoff=0.5)
    where = ".".join(sections) or "the top level"
    return UsageError(
        f"{dotted}, from {origin}: there is no such setting.",
        found=f"{where} knows {', '.join(valid)}" if valid else f"{where} knows no settings",
        remedy=f"write {'.'.join([*sections, close[0]])}" if close else f"remove {dotted}",
    )


def valid_names(schema: type[BaseModel], sections: Sequence[str]) -> list[str]:
    """Names of the fields in the nested section of `schema`."""
    for section in sections:
        field = schema.model_fields.get(section)
        nested = nested_model(field.annotation) if field else None
        if nested is None:
            return []
        schema = nested
    return list(schema.model_fields)


def nested_model(annotation: object) -> type[BaseModel] | None:
    """The pydantic model in an annotation such as `Rope` or `Rope | None`, else None."""
    candidates = [annotation, *getattr(annotation, "__args__", ())]
    return next(
        (c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)),
        None,
    )
