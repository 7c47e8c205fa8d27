"""Conversations and preferences as examples for one model: what fits, and what is learned of it."""

from collections.abc import Sequence
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np

from pipeline.chat.encoder import ChatEncoder, ChatTemplateError
from pipeline.conversations.conversation import Conversation, Preference, Turn
from pipeline.conversations.example_set import Example, Item
from pipeline.sources.rejection import Rejection
from pipeline.tokenizer.tokenizer import Tokenizer
from utils.errors import RefusedError, UsageError

_TRIED = (Turn("user", "Hello"), Turn("assistant", "Good day"))


class Encoded(NamedTuple):
    """One example, or two of a preference; `length` is the tokens of the longest."""

    examples: tuple[Example, ...]
    length: int


class Part(NamedTuple):
    """A stretch of a conversation as text, and whether it is learned."""

    text: str
    learned: bool


class ExampleEncoder:
    """Encodes with the chat template of one tokenizer, which is tried first.

    Raises:
        RefusedError: the template cannot be read, never ends, or does not take a question and its
            answer.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        try:
            self._chat = ChatEncoder(tokenizer)
            ids, learned = self._chat.encode_example(_TRIED)
        except UsageError as error:
            raise _unusable(tokenizer, error) from error
        last = [i for i, now in zip(ids, learned, strict=True) if now][-1:]
        self.ends_answers = not tokenizer.controls.isdisjoint(last)

    def encode(self, item: Item) -> Encoded | Rejection:
        """The examples of an item, however long, or why it has none."""
        try:
            if isinstance(item, Conversation):
                examples = [self._example(item.turns)]
            else:
                examples = [self._answer(item, text) for text in (item.chosen, item.rejected)]
        except ChatTemplateError as error:
            found = f"{error.problem} {error.found}".strip()
            return Rejection("chat_template", item.where, found)
        if not all(example.learned.any() for example in examples):
            return Rejection("nothing_learned", item.where, "no token of an answer is left")
        return Encoded(tuple(examples), max(len(example.ids) for example in examples))

    def _example(self, turns: Sequence[Turn]) -> Example:
        ids, learned = self._chat.encode_example(turns)
        return Example(np.array(ids, self._tokenizer.token_dtype), np.array(learned, np.uint8))

    def _answer(self, item: Preference, text: str) -> Example:
        """The prompt with one of its answers, which alone is learned."""
        whole = self._example([*item.prompt, Turn("assistant", text)])
        asked = self._chat.encode(item.prompt)
        shared = min(len(asked), len(whole.ids))
        same = np.array(asked[:shared]) == whole.ids[:shared]
        begin = shared if same.all() else int(same.argmin())
        whole.learned[:begin] = 0
        return whole


def _unusable(tokenizer: Tokenizer, error: UsageError) -> RefusedError:
    return RefusedError(
        f"No conversation can be written with the chat template of {tokenizer.name}.",
        found=f"{error.problem} {error.found}".strip(),
        remedy="mend its template, in chat_template.jinja or tokenizer_config.json, or take "
        "another tokenizer: {}",
        commands=[("tokenize", "--train", "bpe")],
    )


def marked_parts(tokenizer: Tokenizer, example: Example) -> list[Part]:
    """An example as text, control tokens by their names, cut where learning begins and ends."""
    parts: list[Part] = []
    fresh = True
    pairs = zip(example.ids.tolist(), example.learned.tolist(), strict=True)
    for learned, run in groupby(pairs, key=lambda pair: bool(pair[1])):
        text = ""
        for control, ids in groupby((i for i, _ in run), key=tokenizer.controls.__contains__):
            held: list[Any] = list(ids)
            said, fresh = tokenizer.text_bytes(held, fresh=fresh)
            text += (
                "".join(map(tokenizer.piece, held)) if control else said.decode("utf-8", "replace")
            )
        parts.append(Part(text, learned))
    return parts
