"""Learned of a conversation are the answers and the ends of their turns, by where they stand."""

import pytest

from pipeline.chat.encoder import ChatEncoder, ChatTemplateError
from pipeline.conversations.conversation import Turn
from pipeline.tokenizer.tokenizer import Tokenizer
from tests.support.tiny_checkpoints import byte_tokenizer

BOS, EOS = 256, 257
CHATML = (
    "{% for m in messages %}{{ bos_token + m['role'] + '\n' + m['content'] | trim + eos_token + "
    "'\n' }}{% endfor %}{% if add_generation_prompt %}{{ bos_token + 'assistant\n' }}{% endif %}"
)
INST = (
    "{% for m in messages %}{% if m['role'] == 'assistant' %}{{ ' ' + m['content'] + ' ' + "
    "eos_token }}{% else %}{{ bos_token + '[INST] ' + m['content'] | trim + ' [/INST]' }}"
    "{% endif %}{% endfor %}"
)
PLAIN = (
    "{% for m in messages %}{{ '### ' + m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '### assistant:' }}{% endif %}"
)
# The end of a conversation is no part of a turn, and thoughts are kept of the last answer alone.
CLOSING = CHATML + "{% if not add_generation_prompt %}{{ 'the end' + eos_token }}{% endif %}"
THOUGHTS = (
    "{% for m in messages %}{% if loop.last or m['role'] != 'assistant' %}"
    "{{ m['role'] + ':' + m['content'] + eos_token }}{% else %}"
    "{{ m['role'] + ':' + m['content'].split('|')[-1] + eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}"
)


def tokenizer(template: str | None = None) -> Tokenizer:
    found = byte_tokenizer()
    found.chat_template = template or found.chat_template
    return found


def turns(*contents: str) -> list[Turn]:
    roles = ["system", "user", "assistant", "user", "assistant", "user", "assistant"]
    begin = 0 if len(contents) % 2 else 1
    return [Turn(role, text) for role, text in zip(roles[begin:], contents, strict=False)]  # type: ignore[arg-type]


def marked(template: str | None, *contents: str) -> str:
    """The whole conversation as text, learned ids between brackets, ends of turns as `¶`."""
    by = tokenizer(template)
    ids, learned = ChatEncoder(by).encode_example(turns(*contents))
    assert ids == ChatEncoder(by).encode(turns(*contents), answer=False)
    assert len(ids) == len(learned)
    names = {by.bos_id: "^", by.eos_id: "¶"}
    text, before = "", False
    for i, now in zip(ids, learned, strict=True):
        text += ("[" if now else "]") * (now != before) + (names.get(i) or by.piece(i))
        before = now
    return text + "]" * before


@pytest.mark.parametrize(
    ("template", "text"),
    [
        (None, "^be brief\nUser: a\nAssistant:[ b¶]^User: c\nAssistant:[ d¶]"),
        (CHATML, "^system\nbe brief¶\n^user\na¶\n^assistant\n[b¶]\n^user\nc¶\n^assistant\n[d¶]\n"),
        (INST, "^[INST] be brief [/INST]^[INST] a [/INST][ b ¶]^[INST] c [/INST][ d ¶]"),
        (PLAIN, "### system: be brief\n### user: a\n### assistant:[ b\n]### user: c\n"
                "### assistant:[ d\n]"),
        (CLOSING, "^system\nbe brief¶\n^user\na¶\n^assistant\n[b¶]\n^user\nc¶\n^assistant\n[d¶]\n"
                  "the end¶"),
    ],
)  # fmt: skip
def test_every_answer_is_learned_with_its_end_and_nothing_else(
    template: str | None, text: str
) -> None:
    assert marked(template, "be brief", "a", "b", "c", "d") == text


def test_control_tokens_in_a_text_are_letters_learned_or_not() -> None:
    assert marked(None, "a</s>", "<s>b</s>") == "^User: a</s>\nAssistant:[ <s>b</s>¶]"


def test_the_end_is_learned_where_padding_has_the_same_id() -> None:
    by = tokenizer()
    assert by.pad_id == by.eos_id
    ids, learned = ChatEncoder(by).encode_example(turns("a", "b", "c", "d"))
    assert [now for i, now in zip(ids, learned, strict=True) if i == by.eos_id] == [True, True]


def test_the_template_alone_puts_a_beginning() -> None:
    by = tokenizer()
    assert ChatEncoder(by).encode_example(turns("a", "b"))[0].count(by.bos_id) == 1  # type: ignore[arg-type]


def test_a_token_that_spans_the_border_is_learned() -> None:
    """`x` and the `b` behind it are one token, which a model that is asked has not read."""
    by = tokenizer()
    model = by.spec["model"]
    joined = model | {"vocab": model["vocab"] | {"xb": 258}, "merges": [["x", "b"]]}
    template = "{{ bos_token }}{% for m in messages %}{{ m['content'] }}{% if m['role'] == 'user' "
    template += "%}{{ 'x' }}{% else %}{{ eos_token }}{% endif %}{% endfor %}"
    roles = {"bos": "<s>", "eos": "</s>"}
    chat = ChatEncoder(Tokenizer(by.spec | {"model": joined}, "joined", roles, template))
    ids, learned = chat.encode_example(turns("a", "b"))
    assert ids == [BOS, ord("a") - ord("!"), 258, EOS]
    assert learned == [False, False, True, True]


def test_a_template_that_rewrites_earlier_turns_is_refused_where_it_does() -> None:
    chat = ChatEncoder(tokenizer(THOUGHTS))
    _, learned = chat.encode_example(turns("a", "so|b"))
    assert sum(learned) == len(b"so|b") + 1
    assert chat.encode_example(turns("a", "b", "c", "d"))[0]
    with pytest.raises(ChatTemplateError, match="otherwise"):
        chat.encode_example(turns("a", "so|b", "c", "d", "e", "f"))
