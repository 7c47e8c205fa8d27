"""config.json as the app changes it: the settings in it one by one, or its text as a whole."""

import json
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from app.commands.settings import CONFIG_FILE
from app.tui.forms.draft import Draft, without
from app.tui.forms.field_spec import fields_of
from pipeline.options.config import Config
from utils.config import Layer, merge, nest, read_layers, resolve
from utils.errors import HatcheryError, UsageError
from utils.files import write_file
from utils.strict_json import parse_json_object, read_json_object

_TOLD = 3  # settings that a notice names


class TextPosition(NamedTuple):
    """A place in a text, both counted from 0."""

    line: int
    column: int


def layers() -> list[Layer]:
    """What config.json and the files it extends say, weakest first; none where it is not there.

    Raises:
        UsageError: it is no strict JSON.
    """
    return read_layers(CONFIG_FILE) if CONFIG_FILE.exists() else []


def reread(draft: Draft) -> bool:
    """Let a draft's changes stand over the files as they are now; whether these are others than
    before. What cannot be read changes nothing: the settings screen tells."""
    try:
        now = layers()
    except UsageError:
        return False
    if changed := now != draft.below:
        draft.move(now)
    return changed


class Save(NamedTuple):
    """What a save did to config.json: its bytes before and after, None where there was no file,
    and the settings that were changed and taken out."""

    before: bytes | None
    after: bytes
    changes: Mapping[str, Any]
    removed: Collection[str] = ()


def save_changes(changes: Mapping[str, Any], removed: Collection[str] = ()) -> Save:
    """Write settings (by section.name) into config.json, leaving the rest as it is, in its order.

    A preset or depth starts its section anew, as it does on the command line.

    Raises:
        UsageError: the file is broken, or would be no valid configuration.
        HatcheryError: it cannot be written.
    """
    before = CONFIG_FILE.read_bytes() if CONFIG_FILE.exists() else None
    values = read_json_object(CONFIG_FILE) if before is not None else {}
    kept = without(values, set(removed))
    new, _ = merge([Layer("", kept), Layer("", nest(changes))])
    _check(new)
    _write(_ended(json.dumps(new, indent=2, allow_nan=False, ensure_ascii=False)))
    return Save(before, CONFIG_FILE.read_bytes(), dict(changes), tuple(removed))


def undo_save(save: Save) -> None:
    """Make config.json what it was before a save, byte for byte.

    Raises:
        HatcheryError: the file has been changed since, or cannot be written.
    """
    try:
        now = CONFIG_FILE.read_bytes()
    except OSError:
        now = None
    if now != save.after:
        raise HatcheryError(
            f"{CONFIG_FILE} has been changed since it was saved here.",
            remedy="the save is not undone; Settings shows what the file says now",
        )
    if save.before is None:
        CONFIG_FILE.unlink()
    else:
        _write(save.before)


def saved_words(below: Sequence[Layer], save: Save) -> str:
    """What a save wrote, over the layers before it, in one sentence: `train.batch_size 16 → 8`."""
    old, new = Draft(below), Draft(below, save.changes)
    told = []
    for path in save.changes:
        section = path.partition(".")[0]
        field = next((one for one in fields_of(section) if one.path == path), None)
        if field is not None:
            told.append(f"{path} {old.text(field) or 'none'} → {new.text(field) or 'none'}")
    told += [f"{path} taken out" for path in save.removed]
    more = f" and {len(told) - _TOLD} more" if len(told) > _TOLD else ""
    return f"{', '.join(told[:_TOLD])}{more}"


def save_text(text: str) -> Save:
    """Replace config.json by a text that is valid.

    Raises:
        UsageError: it is not.
        HatcheryError: it cannot be written.
    """
    check_text(text)
    before = CONFIG_FILE.read_bytes() if CONFIG_FILE.exists() else None
    _write(_ended(text))
    return Save(before, CONFIG_FILE.read_bytes(), {})


def _ended(text: str) -> bytes:
    return (text.rstrip("\n") + "\n").encode()


def _write(data: bytes) -> None:
    path = CONFIG_FILE.resolve()  # a link stays a link
    try:
        write_file(path, data)
    except OSError as error:
        raise HatcheryError(
            f"{CONFIG_FILE} could not be written: {error.strerror}.",
            remedy=f"check the rights of {path.parent}",
        ) from error


def check_text(text: str) -> Config:
    """The configuration that a text would be.

    Raises:
        UsageError: it is no strict JSON, or holds a setting that is not valid.
    """
    return _check(parse_json_object(text, CONFIG_FILE))


def _check(values: dict[str, Any]) -> Config:
    parent = values.get("extends")
    if parent is not None and not isinstance(parent, str):
        raise UsageError('"extends" must be a file name.', found=json.dumps(parent)[:80])
    below = read_layers(CONFIG_FILE.parent / parent) if parent else []
    if any(os.path.realpath(layer.origin) == os.path.realpath(CONFIG_FILE) for layer in below):
        raise UsageError(f"{CONFIG_FILE} extends itself.", remedy='remove one "extends"')
    own = {name: value for name, value in values.items() if name != "extends"}
    return resolve(Config, [*below, Layer(str(CONFIG_FILE), own)])


def read_text() -> str:
    """The text of config.json whatever it is; bytes that are no UTF-8 become U+FFFD.

    Empty where there is none or it cannot be read.
    """
    try:
        return Path(CONFIG_FILE).read_bytes().decode("utf-8-sig", errors="replace")
    except OSError:
        return ""


def position_of(error: UsageError, text: str, paths: Collection[str] = ()) -> TextPosition:
    """Where in the text the fault is: as the JSON parser says, else at the setting's name."""
    cause = error.__cause__
    if isinstance(cause, json.JSONDecodeError):
        return TextPosition(cause.lineno - 1, cause.colno - 1)
    for path in paths:
        at = 0
        for name in path.split("."):
            at = max(at, text.find(json.dumps(name), at))
        if at:
            before = text[:at]
            return TextPosition(before.count("\n"), at - (before.rfind("\n") + 1))
    return TextPosition(0, 0)
