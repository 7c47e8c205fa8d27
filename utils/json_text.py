"""JSON of values that may hold names of files, which need not be UTF-8.

Python has a byte of such a name as half of a surrogate pair. It is written as that half's escape
(`\\udce9`), which JSON allows and UTF-8 can hold, and comes back as it was.
"""

import json
import re
from typing import Any, TypeVar

import msgspec

ValueT = TypeVar("ValueT")

_HALF_PAIRS = re.compile("[\ud800-\udfff]")
_ESCAPED = re.compile(rb"\\u[dD][89a-fA-F]")


def encode(value: Any) -> bytes:
    """One line of JSON, without the newline."""
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        text = json.dumps(msgspec.to_builtins(value), separators=(",", ":"), allow_nan=False)
        return text.encode()


def encode_indented(value: Any) -> bytes:
    """Indented JSON with a newline at its end; NaN and infinity are refused, they are not JSON.

    Raises:
        ValueError: there is one.
    """
    text = json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    return _HALF_PAIRS.sub(lambda half: f"\\u{ord(half[0]):04x}", text).encode()


def decode(data: bytes, kind: type[ValueT]) -> ValueT:
    """The value of a `kind` that `encode` or `encode_indented` wrote.

    Raises:
        msgspec.DecodeError: it is no JSON, or of another kind.
    """
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError as error:
        if not _ESCAPED.search(data):
            raise
        try:
            value = json.loads(data)
        except (ValueError, RecursionError):
            raise error from None
    return msgspec.convert(value, type=kind)
