"""JSON read strictly: what others would guess about is an error with a place and a remedy."""

import json
import math
from pathlib import Path
from typing import Any, NoReturn

from utils.errors import UsageError

_DEEPEST = 32


def read_json_object(path: Path, *, named_by: str = "") -> dict[str, Any]:
    """The object in a UTF-8 file, with or without a byte order mark.

    `named_by` is the file that mentions this one, for the message.

    Raises:
        UsageError: unreadable, not UTF-8, not JSON, NaN or overflowing numbers, a key that stands
            twice, more than 32 levels, or not an object.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UsageError(
            f"{path} cannot be read: {error.strerror}.",
            found=f"{named_by} extends it" if named_by else "",
            remedy=f"correct the name in {named_by}" if named_by else "check its name and rights",
        ) from error
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{path} is not UTF-8 text.",
            found=f"byte {error.object[error.start]:#04x} at {error.start}",
            remedy=f"save {path} as UTF-8",
        ) from error
    return parse_json_object(text, path)


def parse_json_object(text: str, path: Path) -> dict[str, Any]:
    """The object in a text that is or will be the content of `path`, which the message names.

    Raises:
        UsageError: as for `read_json_object`.
    """
    value = _parse(text, path)
    if not isinstance(value, dict):
        raise UsageError(
            f"{path} must hold a JSON object.",
            found=type(value).__name__,
            remedy='write {"section": {"key": value}}',
        )
    return value


def _parse(text: str, path: Path) -> Any:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) != len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise UsageError(
                f'{path}: the key "{twice}" stands twice in the same object.',
                remedy="remove one of them",
            )
        return result

    def refuse(number: str) -> NoReturn:
        raise UsageError(
            f"{path}: {number} is no JSON number that fits.", remedy="write a finite number"
        )

    def finite(digits: str) -> float:
        number = float(digits)
        return number if math.isfinite(number) else refuse(digits[:20])

    try:
        value = json.loads(
            text, object_pairs_hook=unique, parse_constant=refuse, parse_float=finite
        )
    except json.JSONDecodeError as error:
        raise UsageError(
            f"{path} is not valid JSON: {error.msg}.",
            found=f"line {error.lineno}, column {error.colno}",
            remedy=f"correct line {error.lineno} of {path}",
        ) from error
    except RecursionError as error:
        raise _too_deep(path) from error
    except ValueError:  # more digits than Python turns into an integer
        refuse("a number of thousands of digits")
    if _deeper_than(value, _DEEPEST):
        raise _too_deep(path)
    return value


def _too_deep(path: Path) -> UsageError:
    return UsageError(
        f"{path} is nested too deeply to be a config file.",
        found=f"more than {_DEEPEST} levels",
        remedy="settings need three levels at most",
    )


def _deeper_than(value: Any, levels: int) -> bool:
    if not isinstance(value, dict | list):
        return False
    nested = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_deeper_than(item, levels - 1) for item in nested)
