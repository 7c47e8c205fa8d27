"""The conversations by which chat templates are compared: plain ones, and such as break templates.

They are fixed, so that a proof says the same whenever and wherever it is made, and short, so that
it takes no time. Each is a name and its turns, of which the last is an answer.
"""

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias


class Turn(NamedTuple):
    """Who speaks ("system", "user" or "assistant"), and what is said."""

    role: str
    content: str


Turns: TypeAlias = list[Turn]

_CODE = 'def f(x):\n    if x < 1:\n\t\treturn {"a": [1, 2]}\n    return f(x - 1)  # <b>\n'
_TABLE = "| a | b |\n|---|---|\n| 1 | 2 |\n"
_LETTER = "Dear Ada,\n\nthank you for your letter.\n\n    Yours,\n    Charles\n"


def _asked(*contents: str) -> Turns:
    """Questions and answers in turn."""
    return [Turn("assistant" if n % 2 else "user", text) for n, text in enumerate(contents)]


def _told(system: str, *contents: str) -> Turns:
    """The same below a system prompt."""
    return [Turn("system", system), *_asked(*contents)]


_FIXED: dict[str, Turns] = {
    "a question": _asked("What is a hen?", "A bird that lays eggs."),
    "one letter": _asked("a", "b"),
    "digits": _asked("12345678 + 1,234.50?", "12346912.5"),
    "two turns": _asked("Who are you?", "A model.", "Of what size?", "A small one."),
    "six turns": _asked(*"abcdefghijkl"),
    "a system prompt": _told("Be short.", "Why is the sky blue?", "Light scatters."),
    "a system prompt of lines": _told("Be short.\nBe kind.\n", "Hi", "Hello!"),
    "a system prompt and two turns": _told("You are a hen.", "Hi", "Cluck.", "Again", "Cluck!"),
    "an empty system prompt": _told("", "Hi", "Hello."),
    "a system prompt of spaces": _told("  ", "Hi", "Hello."),
    "an empty question": _asked("", "You said nothing."),
    "an empty answer": _asked("Say nothing.", ""),
    "all empty": _asked("", ""),
    "an empty answer before another question": _asked("Hm", "", "Well?", "Yes."),
    "a space": _asked(" ", " "),
    "spaces before": _asked("  two spaces", "   three spaces"),
    "spaces behind": _asked("two spaces  ", "three spaces   "),
    "many spaces within": _asked("a  b   c    d", "e" + " " * 40 + "f"),
    "a line break behind": _asked("What?\n", "That.\n"),
    "a line break before": _asked("\nWhat?", "\nThat."),
    "line breaks alone": _asked("\n", "\n\n"),
    "empty lines within": _asked("One.\n\n\nTwo.", "Three.\n\n\n\nFour."),
    "line breaks of Windows": _asked("One.\r\nTwo.\r\n", "Three.\r\n\r\nFour."),
    "tabs": _asked("\ta\tb\t", "\t\tc"),
    "code": _asked("Write code.", _CODE),
    "code in a fence": _asked("Explain:\n```python\n" + _CODE + "```", "It ends.\n```\nf(0)\n```"),
    "a table": _asked("Make a table.", _TABLE),
    "a letter": _asked("Write to Ada.", _LETTER),
    "JSON": _asked('{"role": "user", "content": "x"}', '[{"a": null}, "\\n", "\\u00e9"]'),
    "markup": _asked("<p class='a'>&amp;</p>", "<think>no</think><br/>"),
    "Jinja": _asked("{{ bos_token }}{% raw %}", "{% for m in messages %}{{ m }}{% endfor %}{# #}"),
    "backslashes and quotes": _asked("\\n \\t \\\\ \"q\" 'q'", "it's 'LL don't \\0"),
    "marks of the default template": _asked(
        "User: hi\nAssistant: hello", "Assistant: User: x\nUser: y\nAssistant:"
    ),
    "a mark of a turn alone": _asked("Assistant:", "User:"),
    "a mark of a turn as the system prompt": _told("User: x\nAssistant:", "Hi", "Hello."),
    "marks of other templates": _asked(
        "### Instruction:\nx\n### Response:", "Human: y\n\nSystem: z ### End"
    ),
    "a long word": _asked("a" * 600, "ab" * 300),
    "a long word of marks": _asked("=" * 200 + "-" * 100, "!?" * 150),
    "many short words": _asked("a b " * 150, "no yes " * 100),
    "accents": _asked("Où est l’élève? Straße, naïve, Ærø", "À l’école – «là-bas»…"),
    "letters taken apart": _asked("e\u0301a\u0308", "n\u0303 o\u0302"),
    "Chinese, Japanese and Korean": _asked("北京在哪里?", "東京は日本の首都です。 서울은요?"),
    "Cyrillic and Greek": _asked("Что это?", "Ένα αυγό – яйцо."),
    "right to left": _asked("مرحبا، كيف حالك؟ ١٢٣", "שלום \u202eabc\u202c"),
    "Devanagari and Thai": _asked("नमस्ते दुनिया", "สวัสดีชาวโลก"),
    "emoji": _asked("🙂 👩\u200d🚀 🇫🇷", "👍🏽❤️🐣"),
    "spaces that are none": _asked("a\u00a0b\u3000c\u200bd", "\u2003x\u2028y"),
    "characters for control": _asked("a\x00b\x07c", "\x1b[2J\x7f"),
    "characters for private use": _asked("\U000f0000a\U000f0001", "\ue000\U000f0002"),
}  # fmt: skip


def conversations(controls: Sequence[str]) -> dict[str, Turns]:
    """All by name; in the last one the texts of the tokenizer's own `controls` are spelled out."""
    spelled = " ".join(controls[:8]) or "</s>"
    name = "control tokens spelled out"
    return _FIXED | {name: _told(spelled, f"a{spelled}b", f"{spelled} c", spelled, f"\n{spelled}")}
