"""The commands in what a stage advised when it could not go on."""

import re
import shlex
from collections.abc import Iterator

from pipeline.events import Failed
from utils.errors import HatcheryError


def advised(failed: Failed) -> Iterator[tuple[str, ...]]:
    """The whole commands in the failure's own advice; one with a word to be filled in is none."""
    from app.commands.parser import parse_stage

    for text in failed.remedy.split("python main.py ")[1:]:
        words = _words(text)
        while words:
            try:
                parse_stage(words)
            except HatcheryError:  # the last words are of the sentence around it
                words.pop()
            else:
                if not any(re.fullmatch(r"[A-Z_]{2,}|\S*\.\.\.\S*", word) for word in words):
                    yield tuple(words)
                break


def _words(text: str) -> list[str]:
    sentence = re.split(r"[;,)]\s|[;,).]$|\n", text, maxsplit=1)[0]
    try:
        return shlex.split(sentence)[:12]
    except ValueError:  # an apostrophe
        return sentence.split()[:12]


def stages_named(failed: Failed) -> list[str]:
    """The stages that the failure's own advice names."""
    return [command[0] for command in advised(failed)]
