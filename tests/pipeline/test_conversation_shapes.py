"""Rows of other programs: each shape is known by its fields, and each fault has a name."""

from typing import Any

import pytest

from pipeline.conversations.conversation import Conversation, Preference, Turn
from pipeline.conversations.shapes import parse
from pipeline.sources.records import RejectedError

ASK, ANSWER = Turn("user", "a"), Turn("assistant", "b")
SYSTEM = Turn("system", "s")


def chat(*said: tuple[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": content} for role, content in said]}


def shared(*said: tuple[str, Any]) -> dict[str, Any]:
    return {"conversations": [{"from": role, "value": value} for role, value in said]}


@pytest.mark.parametrize(
    ("row", "shape", "turns"),
    [
        (chat(("user", "a"), ("assistant", "b")), "chat", [ASK, ANSWER]),
        (chat(("system", "s"), ("user", "a"), ("assistant", "b")), "chat", [SYSTEM, ASK, ANSWER]),
        (chat(("system", " "), ("user", "a"), ("assistant", "b")), "chat", [ASK, ANSWER]),
        (chat(("user", [{"text": "a"}]), ("assistant", ["b", ""])), "chat", [ASK, ANSWER]),
        (chat(("user", "a"), ("assistant", "b"))["messages"], "chat", [ASK, ANSWER]),
        (chat(*[("user", "a"), ("assistant", "b")] * 3), "chat", [ASK, ANSWER] * 3),
        (shared(("human", "a"), ("gpt", "b")), "sharegpt", [ASK, ANSWER]),
        (shared(("human", "a"), ("gpt", "b")) | {"system": "s"}, "sharegpt", [SYSTEM, ASK, ANSWER]),
        ({"conversations": ["a", "b"], "source": "x"}, "lima", [ASK, ANSWER]),
        ({"conversations": ["a", "b", "a", "b"]}, "lima", [ASK, ANSWER] * 2),
        ({"instruction": "a", "input": "", "output": "b"}, "alpaca", [ASK, ANSWER]),
        ({"instruction": "a", "output": "b"}, "alpaca", [ASK, ANSWER]),
        ({"instruction": "a", "input": "x", "output": "b"}, "alpaca",
         [Turn("user", "a\n\nx"), ANSWER]),
        ({"instruction": "a", "response": "b"}, "instruction and response", [ASK, ANSWER]),
        ({"prompt": "a", "completion": "b"}, "prompt and completion", [ASK, ANSWER]),
        ({"question": "a", "answer": "b", "id": 3}, "question and answer", [ASK, ANSWER]),
        ({"system_prompt": "s", "question": "a", "response": "b"}, "question and response",
         [SYSTEM, ASK, ANSWER]),
        ({"prompt": chat(("user", "a"))["messages"],
          "completion": chat(("assistant", "b"))["messages"]}, "prompt and completion",
         [ASK, ANSWER]),
    ],
)  # fmt: skip
def test_a_row_is_known_by_its_fields(row: Any, shape: str, turns: list[Turn]) -> None:
    assert parse(row, "f:1") == (Conversation(tuple(turns), "f:1"), shape)


@pytest.mark.parametrize(
    ("row", "prompt"),
    [
        ({"prompt": "a", "chosen": "b", "rejected": "c"}, [ASK]),
        ({"system": "s", "prompt": "a", "chosen": "b", "rejected": "c"}, [SYSTEM, ASK]),
        ({"prompt": [{"role": "user", "content": "a"}], "chosen": "b", "rejected": "c"}, [ASK]),
        ({"prompt": "a", "chosen": chat(("user", "a"), ("assistant", "b"))["messages"],
          "rejected": chat(("user", "a"), ("assistant", "c"))["messages"]}, [ASK]),
        ({"prompt": "a", "chosen": chat(("assistant", "b"))["messages"],
          "rejected": chat(("assistant", "c"))["messages"]}, [ASK]),
        ({"chosen": chat(*[("user", "a"), ("assistant", "b")] * 2)["messages"],
          "rejected": chat(("user", "a"), ("assistant", "b"), ("user", "a"),
                           ("assistant", "c"))["messages"]}, [ASK, ANSWER, ASK]),
        ({"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: a\n\nAssistant: c"},
         [ASK]),
    ],
)  # fmt: skip
def test_answers_are_compared_to_one_prompt(row: Any, prompt: list[Turn]) -> None:
    assert parse(row, "f:1") == (Preference(tuple(prompt), "b", "c", "f:1"), "preference")


@pytest.mark.parametrize(
    ("row", "reason", "detail"),
    [
        ("a", "not_object", "str"),
        (3, "not_object", "int"),
        ({}, "unknown_shape", "none"),
        ({"text": "a"}, "unknown_shape", "text"),
        ({"prompt": "a"}, "unknown_shape", "prompt"),
        ({"messages": []}, "no_turns", ""),
        ({"messages": "a"}, "unknown_shape", "messages"),
        ({"conversations": ["a"]}, "no_answer", "question"),
        ({"conversations": ["a", "b", "c"]}, "no_answer", "question"),
        ({"conversations": ["a", 3]}, "not_text", "turn 2"),
        ({"conversations": ["a", ""]}, "empty_answer", "turn 2"),
        (chat(("user", "a"), ("assistant", " \n")), "empty_answer", "turn 2"),
        (chat(("user", ""), ("assistant", "b")), "empty_question", "turn 1"),
        (chat(("user", "a"), ("assistant", None)), "not_text", "None"),
        (chat(("user", "a"), ("assistant", {"x": 1})), "not_text", "content"),
        (chat(("assistant", "b"), ("user", "a")), "roles_out_of_order", "turn 1"),
        (chat(("user", "a"), ("user", "a")), "roles_out_of_order", "turn 2"),
        (chat(("user", "a"), ("system", "s"), ("assistant", "b")), "roles_out_of_order", "turn 2"),
        (chat(("system", "s")), "no_turns", ""),
        (chat(("user", "a"), ("tool", "b")), "unknown_role", "tool"),
        (chat((None, "a")), "unknown_role", "None"),
        (shared(("alien", "a")), "unknown_role", "alien"),
        ({"instruction": "a", "input": 3, "output": "b"}, "not_text", "input"),
        ({"prompt": "a", "completion": ""}, "empty_answer", "turn 2"),
        ({"prompt": "a", "chosen": "b"}, "not_text", "rejected"),
        ({"prompt": "a", "chosen": "b", "rejected": "b"}, "same_answers", ""),
        ({"prompt": "a", "chosen": "b", "rejected": " "}, "empty_answer", ""),
        ({"chosen": "b", "rejected": "c"}, "unknown_shape", "without a prompt"),
        ({"chosen": [], "rejected": []}, "more_than_one_answer", ""),
        ({"prompt": [{"role": "assistant", "content": "a"}], "chosen": "b", "rejected": "c"},
         "roles_out_of_order", "turn 1"),
        ({"prompt": "a", "chosen": chat(("user", "b"))["messages"],
          "rejected": chat(("user", "c"))["messages"]}, "roles_out_of_order", "user"),
        ({"chosen": "\n\nHuman: a\n\nAssistant: b",
          "rejected": "\n\nHuman: x\n\nAssistant: c"}, "more_than_one_answer", "2"),
    ],
)  # fmt: skip
def test_a_row_that_nothing_can_be_learned_from_is_given_a_reason(
    row: Any, reason: str, detail: str
) -> None:
    with pytest.raises(RejectedError) as rejected:
        parse(row, "f:1")
    assert rejected.value.reason == reason
    assert detail in rejected.value.detail


def test_a_blank_that_belongs_to_a_text_stays() -> None:
    item = parse({"prompt": " a ", "completion": "  b\n"}, "f:1").item
    assert item == Conversation((Turn("user", " a "), Turn("assistant", "  b\n")), "f:1")
