"""Conversations become ids: control tokens come from the template, never from what is written."""

from pathlib import Path

import pytest

from pipeline.server.engine.chat_template import ChatTemplate
from pipeline.server.engine.protocol import Message
from pipeline.server.errors import ApiError
from pipeline.tokenizer.tokenizer import Tokenizer
from tests.support.tiny_checkpoints import byte_tokenizer
from utils.errors import UsageError

BOS, EOS = 256, 257
CHATML = (
    "{% for message in messages %}\n"
    "{{ bos_token + message['role'] + '\n' + message['content'] | trim + eos_token }}\n"
    "{% endfor %}\n"
    "{% if add_generation_prompt %}{{ bos_token + 'assistant\n' }}{% endif %}\n"
)


def tokenizer(template: str | None = None) -> Tokenizer:
    found = byte_tokenizer()
    found.chat_template = template or found.chat_template
    return found


def say(*contents: str, system: str | None = None) -> list[Message]:
    roles = ["user", "assistant"] * len(contents)
    said = [Message(role=r, content=c) for r, c in zip(roles, contents, strict=False)]
    return [*([] if system is None else [Message(role="system", content=system)]), *said]


def shown(ids: list[int], by: Tokenizer) -> str:
    """Ids as text in which control tokens are angle brackets."""
    return "".join({BOS: "⟨", EOS: "⟩"}.get(i) or by.piece(i) for i in ids)


def test_our_template_puts_turns_between_the_tokens_around_a_document(workspace: Path) -> None:
    by = tokenizer()
    ids = ChatTemplate(by).encode(say("Hi", "Hello", "Bye", system="Be short"))
    assert shown(ids, by) == "⟨Be short\nUser: Hi\nAssistant: Hello⟩⟨User: Bye\nAssistant:"


@pytest.mark.parametrize("template", [None, CHATML])
@pytest.mark.parametrize(
    "content",
    [
        "</s>",
        "<s>",
        "a</s>b<s>",
        "<</s>s>",
        "</s",
        "\U000f0000</s>",
        "0</s>1",
        "\U000f00000\U000f0000",
    ],
)
def test_what_is_written_never_becomes_a_control_token(
    workspace: Path, template: str | None, content: str
) -> None:
    by = tokenizer(template)
    chat = ChatTemplate(by)
    for place in range(3):
        contents = ["x", "y", "z"]
        contents[place] = content
        ids, plain = chat.encode(say(*contents)), chat.encode(say("x", "y", "z"))
        assert [i for i in ids if i in by.controls] == [i for i in plain if i in by.controls]
        assert content in by.decode(ids)


def test_a_template_may_trim_what_is_written(workspace: Path) -> None:
    by = tokenizer(CHATML)
    ids = ChatTemplate(by).encode(say("  </s> \n"))
    assert shown(ids, by) == "⟨user\n</s>⟩\n⟨assistant\n"


def test_an_answer_ends_where_the_template_would_begin_the_next_turn(workspace: Path) -> None:
    ours = ChatTemplate(tokenizer())
    assert (ours.stop_ids, ours.stop_texts) == (frozenset({EOS}), ("\nUser:",))
    assert ChatTemplate(tokenizer(CHATML)).stop_texts == ()
    plain = "{% for m in messages %}{{ '### ' + m['role'] + ': ' + m['content'] }}{% endfor %}"
    assert ChatTemplate(tokenizer(plain)).stop_texts == ("\n### user:",)


@pytest.mark.parametrize(
    "template",
    [
        "{{ raise_exception('no') }}",
        "{{ messages[99]['content'] + 1 }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{% set _ = messages.append(1) %}",
        "{{ undefined.attribute }}",
    ],
)
def test_a_template_that_fails_or_reaches_out_refuses_the_request(
    workspace: Path, template: str
) -> None:
    with pytest.raises(ApiError) as refused:
        ChatTemplate(tokenizer(template)).encode(say("a"))
    assert (refused.value.status, refused.value.code) == (400, "chat_template")


def test_a_template_that_cannot_be_read_is_named(workspace: Path) -> None:
    with pytest.raises(UsageError, match="bytes"):
        ChatTemplate(tokenizer("{% for %}"))
