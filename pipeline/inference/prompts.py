"""Prompts as they are typed: the text itself, a file of it, or standard input."""

import sys

from utils.errors import UsageError
from utils.files import home_path
from utils.units import human_bytes

FILE = "FILE:"
STANDARD_INPUT = "FILE:-"
_LARGEST = 64 << 20


def read_prompt(prompt: str) -> str:
    """`prompt` itself, or the text of the file after FILE:, without its last line break.

    FILE:- is standard input.

    Raises:
        UsageError: the file is missing, empty, too large or not UTF-8.
    """
    if not prompt.startswith(FILE):
        return prompt
    if prompt == STANDARD_INPUT:
        return _decoded(sys.stdin.buffer.read(_LARGEST), "standard input")
    path = home_path(prompt.removeprefix(FILE))
    try:
        if path.stat().st_size > _LARGEST:
            raise UsageError(
                f"{path} is too large for a prompt.",
                found=human_bytes(path.stat().st_size),
                remedy="a model reads only the last few thousand words: give a shorter file",
            )
        return _decoded(path.read_bytes(), str(path))
    except OSError as error:
        raise UsageError(
            f"The prompt file {path} cannot be read: {error.strerror}.",
            remedy="check the path after FILE:",
        ) from error


def _decoded(data: bytes, origin: str) -> str:
    """UTF-8 `data` as a prompt; editors and `echo` end it with a line break that is not meant.

    Raises:
        UsageError: it is empty or not UTF-8; names `origin`.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"The prompt in {origin} is not UTF-8 text.",
            found=f"byte {data[error.start]:#04x} at offset {error.start:,}",
            remedy="save it as UTF-8",
        ) from error
    text = text.removesuffix("\n").removesuffix("\r")
    if not text:
        raise UsageError(
            f"There is no prompt in {origin}.",
            found="nothing" if not data else "a line break only",
            remedy='--prompt "" begins a new document',
        )
    return text
