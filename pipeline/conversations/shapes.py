"""Rows of other programs as conversations or preferences: which shape a row has, and what is wrong
with it.

A row says by its fields what it is. Roles are called by many names; who speaks when is checked in
one place, so that a set holds only what a model can learn from: the user asks, the assistant
answers, and no turn is empty.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pipeline.conversations.conversation import Conversation, Preference, Role, Turn
from pipeline.sources.records import RejectedError

_ROLES: Mapping[str, Role] = {
    **dict.fromkeys(("user", "human", "prompter"), "user"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "bing", "bard", "model", "bot"), "assistant"),
    **dict.fromkeys(("system", "developer"), "system"),
}
_ASKED, _ANSWERED = ("prompt", "instruction", "question"), ("completion", "response", "answer")
_SYSTEM = ("system", "system_prompt")
_SHAPES = (
    "messages; conversations (of texts, or of from and value); prompt and completion; instruction, "
    "input and output; question and answer; prompt, chosen and rejected"
)
_TURN = re.compile(r"(?:^|\n\n)(Human|Assistant): ?")
_SHOWN = 60  # characters of a value in a reason


class Parsed(NamedTuple):
    """What a row holds, and the name of its shape."""

    item: Conversation | Preference
    shape: str


def parse(row: Any, where: str) -> Parsed:
    """The conversation or preference in a row, which was found at `where`.

    Raises:
        RejectedError: it has none of the shapes; a role is unknown or out of order; a turn is
            empty or no text; the answers of a preference are the same.
    """
    if isinstance(row, list):
        row = {"messages": row}
    if not isinstance(row, dict):
        raise RejectedError("not_object", f"a JSON {type(row).__name__}")
    if "chosen" in row or "rejected" in row:
        return Parsed(_preference(row, where), "preference")
    shape, turns = _shape(row)
    turns = [*_system(row), *turns]
    rule = row.get("rule")
    return Parsed(
        Conversation(_checked(turns), where, rule if isinstance(rule, str) else ""), shape
    )


def _shape(row: Mapping[str, Any]) -> tuple[str, list[Turn]]:
    for field in ("messages", "conversations", "conversation"):
        if isinstance(turns := row.get(field), list):
            if turns and isinstance(turns[0], str):
                return "lima", _alternating(turns)
            shared = any(isinstance(turn, dict) and "from" in turn for turn in turns)
            return "sharegpt" if shared else "chat", _turns(turns)
    if "instruction" in row and "output" in row:
        asked = _text(row, "instruction")
        more = _text(row, "input") if row.get("input") else ""
        turns = [Turn("user", f"{asked}\n\n{more}" if more.strip() else asked)]
        return "alpaca", [*turns, Turn("assistant", _text(row, "output"))]
    asks = next((name for name in _ASKED if name in row), None)
    answers = next((name for name in _ANSWERED if name in row), None)
    if asks is not None and answers is not None:
        return f"{asks} and {answers}", [
            *_said(row, asks, "user"),
            *_said(row, answers, "assistant"),
        ]
    fields = ", ".join(map(str, list(row)[:8])) or "none"
    raise RejectedError("unknown_shape", f"fields: {fields[:200]}; known are {_SHAPES}")


def _alternating(texts: Sequence[Any]) -> list[Turn]:
    """Turns that only say what was said: the user begins."""
    roles: tuple[Role, Role] = ("user", "assistant")
    for number, text in enumerate(texts, 1):
        if not isinstance(text, str):
            raise RejectedError("not_text", f"turn {number} is {repr(text)[:_SHOWN]}")
    return [Turn(roles[at % 2], text) for at, text in enumerate(texts)]


def _system(row: Mapping[str, Any]) -> list[Turn]:
    """What a field of the whole row tells the model; an empty one tells nothing."""
    name = next((name for name in _SYSTEM if isinstance(row.get(name), str)), None)
    return [] if name is None or not row[name].strip() else [Turn("system", row[name])]


def _said(row: Mapping[str, Any], field: str, role: Role) -> list[Turn]:
    """The turns of a field that holds a text, or messages."""
    return _turns(row[field]) if isinstance(row[field], list) else [Turn(role, _text(row, field))]


def _text(row: Mapping[str, Any], field: str) -> str:
    """The text of a field, which may come in parts."""
    value = row.get(field)
    if isinstance(value, list) and value:
        parts = [part.get("text") if isinstance(part, dict) else part for part in value]
        texts = [part for part in parts if isinstance(part, str)]
        if len(texts) == len(parts):
            return "".join(texts)
    if not isinstance(value, str):
        raise RejectedError("not_text", f"{field}: {repr(value)[:_SHOWN]}")
    return value


def _turns(messages: Sequence[Any]) -> list[Turn]:
    """Turns of messages, with `role` and `content` or with `from` and `value`."""
    turns = []
    for number, message in enumerate(messages, 1):
        if not isinstance(message, dict):
            raise RejectedError("not_text", f"turn {number} is {repr(message)[:_SHOWN]}")
        names = ("from", "value") if "from" in message else ("role", "content")
        said = message.get(names[0])
        role = _ROLES.get(said.strip().lower()) if isinstance(said, str) else None
        if role is None:
            raise RejectedError("unknown_role", f"turn {number}: {repr(said)[:_SHOWN]}")
        turns.append(Turn(role, _text(message, names[1])))
    return turns


def _checked(turns: Sequence[Turn], *, answered: bool = True) -> tuple[Turn, ...]:
    """The turns, where what is first said to the model may be followed by questions and answers
    in turn; the last is an answer, or a question where it is not `answered`.

    Raises:
        RejectedError: they are not so.
    """
    if turns and turns[0].role == "system" and not turns[0].content.strip():
        turns = turns[1:]
    spoken = turns[1:] if turns and turns[0].role == "system" else turns
    if not spoken:
        raise RejectedError("no_turns", "nobody says anything")
    first = len(turns) - len(spoken) + 1
    for number, turn in enumerate(spoken):
        due = ("user", "assistant")[number % 2]
        if turn.role != due:
            detail = f"turn {first + number} is of the {turn.role}, where the {due} would speak"
            raise RejectedError("roles_out_of_order", detail)
        if not turn.content.strip():
            reason = "empty_answer" if turn.role == "assistant" else "empty_question"
            raise RejectedError(reason, f"turn {first + number}")
    if (len(spoken) % 2 == 0) != answered:
        if answered:
            raise RejectedError("no_answer", "the last turn is a question")
        raise RejectedError("roles_out_of_order", "the prompt ends with an answer")
    return tuple(turns)


def _preference(row: Mapping[str, Any], where: str) -> Preference:
    """Two answers to what they share, or to the prompt of the row."""
    before = _said(row, "prompt", "user") if row.get("prompt") else []
    sides = []
    for name in ("chosen", "rejected"):
        value = row.get(name)
        if isinstance(value, list):
            sides.append(_turns(value))
        elif before:
            sides.append([Turn("assistant", _text(row, name))])
        else:
            sides.append(_written_out(_text(row, name)))
    if before:
        sides = [
            turns[len(before) :] if turns[: len(before)] == before else turns for turns in sides
        ]
    chosen, rejected = sides
    shared = 0
    while shared < min(map(len, sides)) - 1 and chosen[shared] == rejected[shared]:
        shared += 1
    if len(chosen) != shared + 1 or len(rejected) != shared + 1:
        detail = f"{len(chosen) - shared} and {len(rejected) - shared} turns differ"
        raise RejectedError("more_than_one_answer", detail)
    prompt = _checked([*_system(row), *before, *chosen[:shared]], answered=False)
    for turn in (chosen[-1], rejected[-1]):
        if turn.role != "assistant":
            raise RejectedError("roles_out_of_order", f"an answer of the {turn.role}")
        if not turn.content.strip():
            raise RejectedError("empty_answer", "one of the two")
    if chosen[-1].content == rejected[-1].content:
        raise RejectedError("same_answers", "neither can be better")
    return Preference(prompt, chosen[-1].content, rejected[-1].content, where)


def _written_out(text: str) -> list[Turn]:
    """The turns of a dialogue in one text, with `Human:` and `Assistant:` before them."""
    _, *parts = _TURN.split(text.strip())
    if not parts or _TURN.match(text.strip()) is None:
        raise RejectedError("unknown_shape", "chosen and rejected without a prompt")
    roles = {"Human": "user", "Assistant": "assistant"}
    names, texts = parts[::2], parts[1::2]
    return [Turn(_ROLES[roles[name]], said) for name, said in zip(names, texts, strict=True)]
