"""What a conversation is, and a preference between two answers, before either is encoded."""

from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeVar

_Any = TypeVar("_Any")
Role = Literal["system", "user", "assistant"]


class Turn(NamedTuple):
    """What one side says. Its fields are those that a chat template reads of a message."""

    role: Role
    content: str


class Conversation(NamedTuple):
    """Turns in their order, and where they are from.

    `where` names the source for a person, as FILE:LINE or a document's title; `rule` the rule that
    found the conversation in a running text, empty where it was written as one.
    """

    turns: tuple[Turn, ...]
    where: str
    rule: str = ""


class Preference(NamedTuple):
    """Two answers to one prompt, of which a person or a judge liked `chosen` better.

    `prompt` ends with what the user said; its turns are shared by both answers.
    """

    prompt: tuple[Turn, ...]
    chosen: str
    rejected: str
    where: str


def evenly(items: Sequence[_Any], most: int) -> list[_Any]:
    """All items, or of more than `most` so many that lie evenly over them, in their order."""
    count = len(items)
    if count <= most:
        return list(items)
    return [
        item
        for place, item in enumerate(items)
        if (place + 1) * most // count > place * most // count
    ]
